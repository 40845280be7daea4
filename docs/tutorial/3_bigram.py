# %% [markdown]
# # 3. The bigram: a table of pairs
#
# The simplest model looks at one token, the current one, and says what comes next. It needs a table: a row for each current token, a column for each next one. Let us fill it by counting, on a text of three different letters.

# %%
from itertools import pairwise

import torch

letters = "abc"
text = "abacabacab"
ids = torch.tensor([letters.index(letter) for letter in text])

counts = torch.zeros(3, 3, dtype=torch.long)
for current, following in pairwise(ids):
    counts[current, following] += 1
print(counts)

# %% [markdown]
# Row 0 belongs to `a`: it was followed by `b` three times and by `c` twice, never by `a`. Divide each row by its sum, and the counts become probabilities:

# %%
probabilities = counts / counts.sum(dim=1, keepdim=True)
print(probabilities)

# %% [markdown]
# `dim=1` is the axis along which one adds: for each row, over its columns. With `dim=0` the columns would sum to 1, which answers another question ("what was before?"). `keepdim=True` keeps the sums below each other, a column (3, 1), so that each row is divided by its own. Each row must be a distribution: nothing negative, sum 1.
#
# ## How good is it?
#
# A good model gives a high probability to what really comes next. One number for that is the *loss*: minus the logarithm of that probability, averaged over all positions. It is 0 when the model was sure and right, and it grows the more surprised the model is. The logarithm is the natural one; its unit is called *nat*. (Two rows of ids as an index, `probabilities[rows, columns]`, pick one number for each pair of them.)

# %%
of_what_came = probabilities[ids[:-1], ids[1:]]
print([round(p, 2) for p in of_what_came.tolist()])
print(f"loss {-of_what_came.log().mean():.4f} nats a token")
print(f"a blind guess of three: {torch.tensor(3.0).log():.4f}")

# %% [markdown]
# ## Training instead of counting
#
# Counting works for pairs. It does not for what comes on the next pages, so let us find the same table in the way that will: start with anything, see how the loss changes with each number of the table, and change every number a little so that the loss falls.
#
# Numbers that may change freely cannot be probabilities, because those must stay between 0 and 1. So the table holds *logits*, any numbers at all, and a *softmax* makes probabilities of a row: raise e to each number, divide by the sum.

# %%
logits = torch.tensor([2.0, 1.0, 0.0])
powers = logits.exp()
print(powers)
print(powers / powers.sum())
print(logits.softmax(dim=0))

# %% [markdown]
# Now the training. `loss.backward()` computes, for each number of the table, how the loss would change with it (its *gradient*); then each number goes a step in the other direction. `requires_grad` says that torch shall keep account of how the loss came from these numbers, and `no_grad` that the step itself is no part of that account.

# %%
table = torch.zeros(3, 3, requires_grad=True)
for step in range(201):
    log_probabilities = table[ids[:-1]].log_softmax(dim=1)  # (9, 3)
    loss = -log_probabilities[torch.arange(9), ids[1:]].mean()
    loss.backward()
    with torch.no_grad():
        table -= 5.0 * table.grad
        table.grad = None
    if step in (0, 1, 10, 200):
        print(f"step {step:3}  loss {loss.item():.3f}")
print(table.softmax(dim=1).detach().round(decimals=2))

# %% [markdown]
# The same table as by counting, nearly (a probability of exactly 0 would need a logit of −∞). Nobody told it to count: the least loss is where the probabilities are those of the text.
#
# ## On the story
#
# The same with all the characters of the story, in batches. The toolkit's `bigram` is this table as a model; it takes ids (B, T) and gives logits (B, T, V), one row of the table for each token, and with targets the loss too.

# %%
from toolkit import BatchLoader, CharTokenizer, TokenDataset, create_model
from toolkit.learning import story

text = story()
tokenizer = CharTokenizer.train([text])
all_ids = tokenizer.encode(text)
cut = len(all_ids) * 9 // 10
dataset = TokenDataset.from_ids(all_ids[:cut], all_ids[cut:], tokenizer.vocab_size)
loader = BatchLoader(dataset, batch_size=32, block_size=32, seed=0)

model = create_model("bigram", tokenizer.vocab_size)
print(f"{model.num_params():,} numbers in the table, {tokenizer.vocab_size}²")

# %% tags=["trained"]
optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
for step in range(301):
    x, y = loader.next_batch()
    logits, loss = model(x, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:3}  loss {loss.item():.2f}")

# %% [markdown]
# It begins at ln V, the loss of a blind guess. AdamW is a way to take the steps that chooses a size for each number by itself; the loop is the same as above.
#
# What has it learned? The rows and columns of the small letters, dark where a pair is likely:

# %%
import matplotlib.pyplot as plt

small = "abcdefghijklmnopqrstuvwxyz"
places = tokenizer.encode(small)
learned = model(torch.tensor([places])).logits[0].softmax(dim=1)[:, places]  # (26, 26)

figure, axes = plt.subplots(figsize=(4.2, 4.2))
axes.imshow(learned.detach().numpy(), vmin=0, vmax=0.5, cmap="Blues")
axes.set(xlabel="the next letter", ylabel="the current letter")
axes.set_xticks(range(26), list(small), fontsize=7)
axes.set_yticks(range(26), list(small), fontsize=7)
plt.show()

# %% [markdown]
# `q` is followed by `u`, `v` by `e`, and `b` most often by `y`: there are many goodbyes.
#
# A model of probabilities can write: draw the next token from its distribution, then go on from that one.

# %% tags=["sampled"]
generator = torch.Generator().manual_seed(0)
token = torch.tensor([[tokenizer.encode("\n")[0]]])
written = []
for _ in range(120):
    distribution = model(token).logits[0, -1].softmax(dim=0)
    token = torch.multinomial(distribution, 1, generator=generator).view(1, 1)
    written.append(token.item())
print(tokenizer.decode(written))

# %% [markdown]
# Not words, but pairs of letters as they occur: vowels after consonants, a space after a comma, a new line after a colon. It cannot do better, however long it trains: it sees one letter and forgets it at once. The next page looks back.
#
# ## Exercises
#
# `toolkit learn start 3`, then `toolkit learn check 3`.
#
# 1. `pair_table(ids, vocab_size)`: the table of counts.
# 2. `softmax(logits)`: by hand, and so that logits of 1000 do no harm.
# 3. `loss(logits, targets)`: the mean of −log(probability of the target).
#
# Next: [4. Averaging](4_averaging.md).
