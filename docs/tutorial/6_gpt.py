# %% [markdown]
# # 6. GPT: a transformer, trained, inspected, exported
#
# Attention moves information between positions. A transformer adds three plain things: several heads, a small network that works on each position alone (the *MLP*), and many layers of both. This page builds one layer by hand, then trains a model of two layers, looks inside, and writes it out for other programs.
#
# ## The stream
#
# Think of each position as a row of C numbers that is carried from layer to layer, the *stream*. No layer replaces it. Each part reads the stream, and *adds* what it has found:
#
#     x = x + attention(norm(x))
#     x = x + mlp(norm(x))
#
# A part that has nothing to say adds zeros, and nothing is lost. So many layers can be put on top of each other.
#
# ## The norm
#
# What is added again and again grows. Before a part reads the stream, each position is brought to the same size: divided by the root of the mean of its squares (RMSNorm).

# %%
import torch


def rms_norm(x):
    return x / (x.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()


x = torch.tensor([[3.0, 4.0], [30.0, 40.0], [0.0, 1.0]])
print(rms_norm(x))

# %% [markdown]
# The first two rows point in the same direction, and become the same. It is the direction that carries meaning.
#
# ## One layer by hand
#
# C = 8 channels, H = 2 heads of D = 4. All weights come by chance; training will change them. Follow the shapes in the comments.

# %%
T, C, H, D = 5, 8, 2, 4
generator = torch.Generator().manual_seed(0)


def matrix(rows, columns):
    return torch.randn(rows, columns, generator=generator) / rows**0.5


W_q, W_k, W_v, W_o = (matrix(C, C) for _ in range(4))
W_up, W_down = matrix(C, 4 * C), matrix(4 * C, C)


def attention(x):
    q, k, v = x @ W_q, x @ W_k, x @ W_v  # (T, C) each
    q, k, v = (part.view(T, H, D).transpose(0, 1) for part in (q, k, v))  # (H, T, D)
    scores = q @ k.transpose(1, 2) / D**0.5  # (H, T, T)
    future = torch.ones(T, T).triu(diagonal=1).bool()
    weights = scores.masked_fill(future, -torch.inf).softmax(dim=-1)
    heads = weights @ v  # (H, T, D)
    return heads.transpose(0, 1).reshape(T, C) @ W_o  # heads side by side again


def mlp(x):
    return (x @ W_up).relu() @ W_down  # (T, C) to (T, 4C) and back


def layer(x):
    x = x + attention(rms_norm(x))
    return x + mlp(rms_norm(x))


stream = torch.randn(T, C, generator=generator)
print(tuple(layer(stream).shape))

# %% [markdown]
# Does it look into the future? Change the last token, and see at which positions something changes:

# %%
changed = stream.clone()
changed[4] += 1.0
print((layer(changed) - layer(stream)).abs().sum(dim=1) > 0)

# %% [markdown]
# Only at its own. A model that fails this test learns to copy the answer, has a wonderful loss, and cannot write.
#
# ## A model of two layers
#
# A GPT is: vectors of the tokens, some layers, a norm, and a matrix that makes logits. The toolkit's `gpt` has a few refinements that are described in [models.md](../models.md). Its parts are those from above:

# %%
import toolkit

model = toolkit.create_model("gpt", 48, size="nano", block_size=64)
for name, parameter in model.blocks[0].named_parameters():
    print(f"{name:20} {tuple(parameter.shape)}")
print(f"{model.num_params():,} numbers in all, {len(model.blocks)} layers")

# %% [markdown]
# Training is the loop of page 3. `toolkit.train` has it, and keeps everything in a *run folder*: the model, its tokenizer, what was done, and how the loss went. 300 steps take some seconds.

# %% tags=["trained"]
from toolkit.learning import story

run = toolkit.train(
    toolkit.Corpus.from_text(story()),
    "char",
    model="gpt",
    size="nano",
    block_size=64,
    batch_size=16,
    max_steps=300,
    eval_every=100,
    sample_every=0,
    seed=0,
    device="cpu",
    out="runs/tutorial",
)
print(f"held-out loss {run.info.result['best_val_loss']:.2f} nats a character")

# %% [markdown]
# A bigram reached 1.8, one head 1.1. The same model at the command line, for a file of your own: `toolkit train -c FILE -t char --size nano --max-steps 300`. And what does it write?

# %% tags=["sampled"]
generator = toolkit.Generator(run.model, run.tokenizer)
question = "Ada:\nOtto, where is Clara?\n\n"
print(generator.generate(question, max_new_tokens=150, temperature=0.7, seed=2).text)

# %% [markdown]
# After some seconds on 90,000 letters there are words and whole phrases; Otto, who was asked, answers, and he names who asked. What takes a longer look is not there yet: Clara is "he" in one line and "her" in the next. More text and more steps make more of it: the README's model learns from a text that is fifty times as long.
#
# ## Looking inside
#
# `Inspector` takes a model and a text, and has a method for each question. What kind of thing does each head do, and how much larger would the loss be without it? (A `focused` head reads mostly one place at a time; `mixed` is one that does nothing in particular.)

# %% tags=["sampled"]
line = "Ada:\nOtto, who has the key?\n\nOtto:\nI"
inspector = toolkit.Inspector(run.model, run.tokenizer.encode(line))
without = inspector.ablation().without_head
for head in inspector.heads():
    lost = without[head.layer][head.head]
    print(f"layer {head.layer} head {head.head}: {head.kind:15} without it {lost:+.2f} nats")

# %%
import matplotlib.pyplot as plt

shown = [letter.replace("\n", "⏎") for letter in line]
figure, panels = plt.subplots(1, 2, figsize=(10, 5.2))
for head, axes in enumerate(panels):
    axes.imshow(inspector.attention(1)[head].numpy(), vmin=0, cmap="Blues")
    axes.set(title=f"layer 1, head {head}", xlabel="what is read")
    axes.set_xticks(range(len(line)), shown, fontsize=7)
    axes.set_yticks(range(len(line)), shown, fontsize=7)
plt.show()

# %% [markdown]
# Each row is a distribution over the past. Most look a few letters back, but see head 1, in the two rows `⏎` after the question mark. What follows there is the name of who speaks next, and the head reads the `O` of `Otto`, who was asked, more than twenty letters before. The `⏎` after `Otto:` reads the `s` of `has`: how the answer begins depends on the question. `toolkit inspect "TEXT"` draws all of this and more as one page to explore: [inspection.md](../inspection.md).
#
# ## For other programs
#
# The run folder is a model of Hugging Face's as it is. `toolkit.export` writes other formats (`hf`, `gguf`, `onnx`, `torchscript`), reads the file back, and says how far its numbers are from the model's:

# %%
exported = toolkit.export(run, "hf", "exported")
print(exported.largest_difference)
print(sorted(path.name for path in exported.path.iterdir()))

# %% [markdown]
# ## Exercises
#
# `toolkit learn start 6`, then `toolkit learn check 6`.
#
# 1. `rms_norm(x, weight, eps)`: with a weight for each channel.
# 2. `block(x, attention, mlp, norm1, norm2)`: who reads what, and what is added where?
# 3. `top_k_probabilities(logits, k, temperature)`: what the next token is drawn from.
#
# Next: [7. Encoder and decoder](7_encoder_decoder.md). More: [training.md](../training.md), [generation.md](../generation.md), [export.md](../export.md).
