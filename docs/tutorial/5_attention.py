# %% [markdown]
# # 5. Attention: weights that the tokens choose
#
# The last page ended with scores, one for each pair of positions, that were all 0. Here they come from the tokens. Each position does three things:
#
# - it *asks*: a vector q, the *query*, says what it looks for;
# - it *offers*: a vector k, the *key*, says what it is;
# - it *gives*: a vector v, the *value*, is what others take from it.
#
# A query fits a key when the two point in the same direction, and the number for that is their product: multiply channel by channel, and add. Three positions, with keys of width D = 2, made up by hand:

# %%
import torch

q = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
k = torch.tensor([[1.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
v = torch.tensor([[10.0, 0.0], [0.0, 10.0], [5.0, 5.0]])

scores = torch.zeros(3, 3)
for t in range(3):
    for s in range(3):
        scores[t, s] = (q[t] * k[s]).sum()
print(scores)
print(torch.equal(scores, q @ k.T))

# %% [markdown]
# Row t is who asks, column s who is asked. Again the loops are one product of matrices. Position 2 looks for both channels, and finds most of it at position 1: the score is 6.
#
# ## The scale
#
# A product of two vectors is a sum over D channels, so it is larger where D is larger. Large scores make a softmax hard: one weight is 1, the others are 0, and nothing can be learned from what has the weight 0. So scores are divided by √D. Why the root? Sums of D independent numbers grow like √D, not like D:

# %%
generator = torch.Generator().manual_seed(0)
for width in (4, 64, 1024):
    a, b = torch.randn(2, 500, width, generator=generator)
    products = (a * b).sum(dim=1)
    print(
        f"D {width:4}  spread {products.std():5.1f}  after / √D {products.std() / width**0.5:.1f}"
    )

# %% [markdown]
# ## All of it
#
# Scores, scale, mask, softmax, and the weighted sum of the values:

# %%
scaled = q @ k.T / 2**0.5
future = torch.ones(3, 3).triu(diagonal=1).bool()
weights = scaled.masked_fill(future, -torch.inf).softmax(dim=1)
print(weights)
print(weights @ v)

# %% [markdown]
# That is attention, whole. Line by line it is page 4, with scores that mean something. torch has it as one function, for batches (`q[None]` is a batch of one):

# %%
import torch.nn.functional as F

print(F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0])

# %% [markdown]
# ## Where q, k and v come from
#
# From the token's vector, by three matrices, and those are what is learned. If x is (T, C), then `q = x @ W_q` with W_q (C, D) is (T, D), and so on. One more thing is needed: attention does not see order. Shuffle the past, and the sum is the same. So each position has a vector of its own that is added to the token's.
#
# The toolkit's `single-head` is that: tokens and positions as vectors, one head, and a matrix that makes logits of the result.

# %%
from toolkit import BatchLoader, CharTokenizer, TokenDataset, create_model
from toolkit.learning import story

text = story()
tokenizer = CharTokenizer.train([text])
ids = tokenizer.encode(text)
cut = len(ids) * 9 // 10
dataset = TokenDataset.from_ids(ids[:cut], ids[cut:], tokenizer.vocab_size)
loader = BatchLoader(dataset, batch_size=32, block_size=32, seed=0)

model = create_model("single-head", tokenizer.vocab_size, n_embd=64, block_size=32)
for name, parameter in model.named_parameters():
    print(f"{name:16} {tuple(parameter.shape)}")

# %% tags=["trained"]
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
for step in range(301):
    x, y = loader.next_batch()
    logits, loss = model(x, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:3}  loss {loss.item():.2f}")

# %% [markdown]
# The loop is that of the bigram, word for word; only the model is another one, and the loss is 1.1 instead of 1.8. And what does the head look at? `Tracer` keeps the numbers of a forward pass by their names:

# %%
from toolkit import Tracer

line = "Otto, who has the key?\n\nOtto:\nI"
with Tracer(model, "blocks.0.attn.weights") as trace:
    model(torch.tensor([tokenizer.encode(line)]))
head = trace["blocks.0.attn.weights"][0, 0]
print(tuple(head.shape), "each row sums to", round(head[5].sum().item(), 3))

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(4.6, 4.6))
axes.imshow(head.numpy(), vmin=0, cmap="Blues")
axes.set(xlabel="what is read", ylabel="who reads")
shown = [letter.replace("\n", "⏎") for letter in line]
axes.set_xticks(range(len(line)), shown, fontsize=7)
axes.set_yticks(range(len(line)), shown, fontsize=7)
plt.show()

# %% [markdown]
# Above the diagonal there is nothing: the future. On it and below it the head has learned by itself where to look, because that lowers the loss: at the letter itself and the two or three before it, which is what it takes to spell. Both `t` of the second `Otto` read its `O`, and the `e` of `key` reads the `k`.
#
# One head can ask one question at a time. So a transformer has several, *side by side*: each gets its own share of the channels, C / H of them, and their results are put together again. Which numbers belong to which head is a matter of shapes, and the third exercise.
#
# ## Exercises
#
# `toolkit learn start 5`, then `toolkit learn check 5`.
#
# 1. `scaled_scores(q, k)`: products divided by √D.
# 2. `attend(q, k, v)`: all of the above, in four lines.
# 3. `split_heads(x, n_head)`: (B, T, C) to (B, H, T, D).
#
# Next: [6. GPT](6_gpt.md). More: [ladder.md](../ladder.md), [inspection.md](../inspection.md).
