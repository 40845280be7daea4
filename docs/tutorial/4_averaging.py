# %% [markdown]
# # 4. Averaging: three ways to look back
#
# To look back, a position has to take something from the positions before it. The simplest thing to take is the mean. On this page nothing is learned: it is about one computation, done in three ways that give the same. The third one is already attention, only without any thought in it.
#
# Each token is a vector now (a row of C numbers, its *channels*); a text of T tokens is a matrix (T, C). Four tokens with two channels:

# %%
import torch

x = torch.tensor([[2.0, 0.0], [4.0, 6.0], [0.0, 3.0], [6.0, 3.0]])
print(x)

# %% [markdown]
# ## In loops
#
# Row t of the result is the mean of the rows 0 to t. Never of the rows after t: those are what the model has to predict.

# %%
means = torch.zeros_like(x)
for t in range(len(x)):
    total = torch.zeros(2)
    for s in range(t + 1):
        total = total + x[s]
    means[t] = total / (t + 1)
print(means)

# %% [markdown]
# Row 0 is row 0 itself. Row 1 is (2 + 4) / 2 = 3 and (0 + 6) / 2 = 3. It is worth checking row 2 by hand.
#
# ## As a matrix
#
# A mean is a sum with weights: row 1 is ½ of row 0 plus ½ of row 1 plus nothing of the others. Write the weights of each row below each other:

# %%
ones = torch.ones(4, 4).tril()
print(ones)
weights = ones / ones.sum(dim=1, keepdim=True)
print(weights)

# %% [markdown]
# `tril` keeps the lower triangle, so that the future has the weight 0; the division makes each row sum to 1. And sums with weights, for all rows at once, are what a product of matrices computes:

# %%
print(weights @ x)
print(torch.allclose(weights @ x, means))

# %% [markdown]
# Two loops have become one product: (T, T) times (T, C) is (T, C). The result is the same and computers are very good at it. (`allclose` asks whether they are equal up to the last digits, which depend on the order of the additions.)
#
# ## As a softmax
#
# Now a detour that will turn out to be the road. Begin with *scores*: how much does position t want from position s? Nobody knows yet, so all are 0. In the future they are −∞. Then a softmax over each row:

# %%
scores = torch.zeros(4, 4)
future = torch.ones(4, 4).triu(diagonal=1).bool()
scores = scores.masked_fill(future, -torch.inf)
print(scores)
print(scores.softmax(dim=1))

# %% [markdown]
# e⁰ is 1 and e^(−∞) is 0, divided by the sum: the same weights as before. What is gained? The scores can be anything. Put other numbers in, and each row is still a distribution over the past:

# %%
scores[3] = torch.tensor([0.0, 2.0, 0.0, 1.0])
print(scores.softmax(dim=1)[3])

# %% [markdown]
# Position 3 now takes most from position 1. Two details are easily done wrong. `diagonal=1` begins *above* the diagonal: with 0 a position could not see itself, and the first row would have nothing left to divide by. And the softmax goes over `dim=1`, along the row of one position, so that *its* weights sum to 1.

# %%
wrong = torch.zeros(3, 3).masked_fill(torch.ones(3, 3).triu(diagonal=0).bool(), -torch.inf)
print(wrong.softmax(dim=1)[0])

# %% [markdown]
# ## A picture of the weights

# %%
import matplotlib.pyplot as plt

figure, (left, right) = plt.subplots(1, 2, figsize=(5, 2.4))
left.imshow(weights.numpy(), vmin=0, vmax=1, cmap="Blues")
left.set(title="the mean", xlabel="s, what is read", ylabel="t, who reads")
right.imshow(scores.softmax(dim=1).numpy(), vmin=0, vmax=1, cmap="Blues")
right.set(title="other scores in row 3", xlabel="s, what is read")
plt.show()

# %% [markdown]
# ## As models
#
# The toolkit has a model of each way; given the same weights, they compute the same up to the last digits. Around the mean are a table that turns tokens into vectors (V, C), and a matrix that turns vectors into logits:

# %%
from toolkit import create_model

ids = torch.tensor([[3, 1, 4, 1, 5]])
loop = create_model("average-loop", 10, n_embd=8)
matrix = create_model("average-matmul", 10, n_embd=8)
softmax = create_model("average-softmax", 10, n_embd=8)
matrix.load_state_dict(loop.state_dict())
softmax.load_state_dict(loop.state_dict())
print(tuple(loop(ids).logits.shape))
print(torch.allclose(loop(ids).logits, matrix(ids).logits, atol=1e-6))
print(torch.allclose(loop(ids).logits, softmax(ids).logits, atol=1e-6))

# %% [markdown]
# Is a mean of the past of any use? A little: [ladder.md](../ladder.md) trains them on the same text as a bigram, and the loss falls from 2.50 to 2.45. A mean does not know who of the past said what. For that, the scores have to depend on the tokens.
#
# ## Exercises
#
# `toolkit learn start 4`, then `toolkit learn check 4`.
#
# 1. `average_loop(x)`: in loops.
# 2. `average_matrix(x)`: the same without a loop. If the two differ, the check says so.
# 3. `causal_softmax(scores)`: weights from any scores.
#
# Next: [5. Attention](5_attention.md).
