# %% [markdown]
# # 2. Batches: what goes in, and what should come out
#
# A language model has one task: given some tokens, say which one comes next. The text itself knows the answers. Take a line of the story and cut it anywhere: what is left of the cut is a question, the first token to the right is its answer.

# %%
import torch

from toolkit import CharTokenizer
from toolkit.learning import story

text = story()
tokenizer = CharTokenizer.train([text])
ids = torch.tensor(tokenizer.encode(text))
print(f"{len(ids):,} tokens, {tokenizer.vocab_size} different ones")
print(repr(text[:27]))
print(ids[:27].tolist())

# %%
for end in range(1, 7):
    print(f"{text[:end]!r:9} → {text[end]!r}")

# %% [markdown]
# Six tokens gave six questions. A model answers all of them at once: at each position it says what comes after that position, and it may look at everything up to there. So one example is two rows of the same length, the inputs x and the *targets* y, and the targets are the same text one token further:

# %%
length = 8
x = ids[0:length]
y = ids[1 : length + 1]
print("x", x.tolist(), repr(tokenizer.decode(x.tolist())))
print("y", y.tolist(), repr(tokenizer.decode(y.tolist())))

# %% [markdown]
# Read it by columns: after `A` (id 6) comes `d`, after `d` comes `a`. Note that 8 inputs take 9 tokens of the text, the last one only as a target. Forgetting that is the most common mistake of this page.
#
# The length is written T (for time), and it is as far as a model can look back.
#
# ## Several at once
#
# A computer needs far less time for one large product of matrices than for many small ones. So one takes several windows, from random places, and stacks them: a *batch*. Their number is written B. Random places, because windows that follow each other are alike, and what is learned from one would be learned again from the next.

# %%
generator = torch.Generator().manual_seed(1)
starts = torch.randint(len(ids) - length, (4,), generator=generator)
x = torch.stack([ids[start : start + length] for start in starts.tolist()])
y = torch.stack([ids[start + 1 : start + length + 1] for start in starts.tolist()])
print(starts.tolist())
print(x)
print(y)
print(tuple(x.shape))

# %% [markdown]
# x and y have the shape (B, T), here 4 windows of 8 tokens: 32 questions with their answers. `torch.Generator` holds the state of the chance; with the same seed it draws the same places.
#
# ## What is kept aside
#
# A model can learn a text by heart. To see whether it has learned more than that, the last tenth of the text is never trained on; it is *held out*, and only used to measure. The end of the text, not random windows: those would overlap with what was trained on.

# %%
n_train = len(ids) * 9 // 10
train, held_out = ids[:n_train], ids[n_train:]
print(f"{len(train):,} tokens to train on, {len(held_out):,} held out")

# %% [markdown]
# The toolkit's loader does all of this, for texts larger than memory too:

# %%
from toolkit import BatchLoader, TokenDataset

dataset = TokenDataset.from_ids(train, held_out, tokenizer.vocab_size)
loader = BatchLoader(dataset, batch_size=4, block_size=8, seed=0)
x, y = loader.next_batch()
print(tuple(x.shape), tuple(y.shape))
print(torch.equal(x[:, 1:], y[:, :-1]))

# %% [markdown]
# The last line says it again: the inputs without the first are the targets without the last.
#
# ## Exercises
#
# `toolkit learn start 2`, then `toolkit learn check 2`.
#
# 1. `window(ids, start, length)`: inputs and targets of one window.
# 2. `make_batch(ids, starts, length)`: of several, stacked.
# 3. `last_start(n_tokens, length)`: where the last whole window begins. Try it with a pencil first.
#
# Next: [3. The bigram](3_bigram.md). More about data: [data.md](../data.md).
