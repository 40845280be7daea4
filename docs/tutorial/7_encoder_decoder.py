# %% [markdown]
# # 7. Encoder and decoder: one text in, another text out
#
# A GPT continues a text. To translate, there are two texts: a *source* that is there from the beginning, and a *target* that is to be written. The transformer was invented for this. It has two halves:
#
# - the *encoder* reads the source. All of it is known, so there is no mask: each position may look at every other.
# - the *decoder* writes the target, token by token, with the mask of page 4. In each layer it has a second attention whose keys and values come from the encoder: *cross-attention*.
#
# ## Attention to another text
#
# It is the attention of page 5; only the queries come from one text and the keys and values from another. So the scores are no square any more: T rows, one for each position of the target, and S columns, one for each of the source.

# %%
import torch

q = torch.tensor([[1.0, 0.0], [0.0, 2.0]])  # (T, D): two tokens of the target ask
k = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])  # (S, D): three of the source are asked
v = torch.tensor([[10.0, 0.0], [0.0, 10.0], [5.0, 5.0]])  # (S, D): and give

scores = q @ k.T / 2**0.5
print(scores)
print(scores.softmax(dim=1))
print(scores.softmax(dim=1) @ v)

# %% [markdown]
# No −∞ anywhere, for the source is no secret. The result has one row for each position of the *target*.
#
# ## Padding
#
# Sources have different lengths, and a batch is a rectangle. Short rows are filled up with a *padding* id, which means nothing and must not be read. So there is a mask after all, of another kind: columns, not a triangle.

# %%
seen = torch.tensor([True, True, False])  # the third token of this source is padding
weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=1)
print(weights)

# %% [markdown]
# Targets are padded too, and there the loss must not count the padding. Its targets are −100 by convention, and the mean is over all others:

# %%
losses = torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, 7.0]])
targets = torch.tensor([[5, 6, 7], [8, -100, -100]])
print(f"{losses.mean():.2f} with padding, {losses[targets != -100].mean():.2f} without")

# %% [markdown]
# ## Where to begin, where to end
#
# What does the decoder read before it has written anything? A *begin* id of its own. And how does it say that it is done? With an *end* id. So the decoder reads `begin c b a` and should say `c b a end`: the same shift by one as on page 2.

# %%
letters, begin, end = "abc", 3, 4
target = [letters.index(letter) for letter in "cba"]
print("reads", [begin, *target])
print("says ", [*target, end])

# %% [markdown]
# ## A task
#
# To see such a model learn in seconds, let it do something simple that needs both texts: write a word backwards. `--task reverse:6` of the toolkit makes pairs of up to 6 letters without end, and keeps some aside that are never trained on.

# %%
from toolkit.tasks import load_task

for pair in load_task("reverse:6").held_out[:4]:
    print(f"{pair.source} → {pair.target}")

# %% tags=["trained"]
import toolkit

run = toolkit.train(
    task="reverse:6",
    max_steps=300,
    eval_every=100,
    sample_every=0,
    seed=0,
    device="cpu",
    out="runs/reverse",
)
print(f"{run.model.num_params():,} numbers")
print(f"right to the last letter: {run.info.result['scores']['exact_match']:.2f}")

# %% [markdown]
# That is the share of the words kept aside that it writes backwards without a mistake. A `Translator` is for sources and targets what a `Generator` is for texts that go on:

# %% tags=["sampled"]
translator = toolkit.Translator(run.model, run.tokenizer, run.source_tokenizer)
print(translator.translate(["abc", "stream", "token"]))

# %% [markdown]
# ## What it looks at
#
# To write the first letter it has to look at the last one, then at the one before. If that is what it does, the cross-attention should be a diagonal that runs the wrong way. The model takes what the decoder reads, and the source, which has an end id too:

# %%
from toolkit import Tracer

config = run.model.config
source = [*run.tokenizer.encode("stream"), config.source_end_id]
reads = [config.begin_id, *run.tokenizer.encode("maerts")]
with Tracer(run.model, "decoder.blocks.*.cross.weights") as trace:
    run.model(torch.tensor([reads]), source=torch.tensor([source]))
for name, weights in trace.items():
    print(name, tuple(weights.shape))

# %%
import matplotlib.pyplot as plt

figure, panels = plt.subplots(1, 2, figsize=(6, 3))
for axes, (name, weights) in zip(panels, trace.items(), strict=True):
    axes.imshow(weights[0].mean(dim=0).numpy(), vmin=0, cmap="Blues")  # the mean of its heads
    axes.set(title=f"layer {name.split('.')[2]}", xlabel="the source that is read")
    axes.set_xticks(range(7), [*"stream", "end"])
    axes.set_yticks(range(7), [*"maerts", "end"])
panels[0].set_ylabel("what is written")
plt.show()

# %% [markdown]
# Nobody told it where to look. It was shown words and their reverses, and the loss did the rest. The same model, larger and with pairs of sentences, is what "Attention is all you need" translated with: [encoder-decoder.md](../encoder-decoder.md).
#
# ## Exercises
#
# `toolkit learn start 7`, then `toolkit learn check 7`.
#
# 1. `decoder_rows(target, begin_id, end_id)`: what the decoder reads, and what it should say.
# 2. `cross_attend(q, k, v, seen)`: attention to a source with padding.
# 3. `masked_loss(losses, targets)`: the mean without the padding.
#
# This is the end of the path. All the parts in their real size: [models.md](../models.md), [training.md](../training.md).
