"""The named points of a forward pass, with their shapes: what `toolkit.inspection` listens to.

The names are the same for every model; one that lacks a part lacks its names. A layer is
`blocks.0`, `blocks.1`, …, also in the models below gpt on the ladder, whose one average or head is
layer 0. Where a model has two stacks, the name of the stack comes before that of the layer, and
attention to the other stack is `cross`: `encoder.blocks.0.attn.q`, `decoder.blocks.0.cross.q`; its
norm is `cross_norm`.
Letters: B batch, T queries, S keys (as many), C channels, H query heads, G key/value
heads, D head width, I hidden channels of the MLP, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from toolkit.models.anatomy import Anatomy, anatomy_of, stacks_of

LAYER = "blocks.*."
"""How the name of a point of every layer begins in `TAPS`."""


@dataclass(frozen=True)
class Tap:
    """One point.

    Attributes:
        name: with `*` for the number of the layer.
        shape: in the letters of this file.
        meaning: what it is.
    """

    name: str
    shape: str
    meaning: str


TAPS: tuple[Tap, ...] = (
    Tap("embed.token", "B, T, C", "the row of each token, as it goes into the sum"),
    Tap("embed.position", "T, C", "what is added for each position (learned, sinusoidal)"),
    Tap("embed.sum", "B, T, C", "their sum, before dropout"),
    Tap("blocks.*.resid_pre", "B, T, C", "the residual stream before the layer"),
    Tap("blocks.*.norm1.in", "B, T, C", "what the first norm reads"),
    Tap("blocks.*.norm1.out", "B, T, C", "what it gives"),
    Tap("blocks.*.attn.q", "B, H, T, D", "queries as used: normalised and rotated"),
    Tap("blocks.*.attn.k", "B, G, S, D", "keys as used: normalised and rotated"),
    Tap("blocks.*.attn.v", "B, G, S, D", "values"),
    Tap("blocks.*.attn.scores_raw", "B, H, T, S", "q · kᵀ"),
    Tap("blocks.*.attn.scores_scaled", "B, H, T, S", "q · kᵀ / √D"),
    Tap("blocks.*.attn.scores_masked", "B, H, T, S", "the same with biases, −∞ where not seen"),
    Tap("blocks.*.attn.weights", "B, H, T, S", "their softmax, before dropout"),
    Tap("blocks.*.attn.heads", "B, H, T, D", "weights · v: the output of each head"),
    Tap("blocks.*.attn.out", "B, T, C", "the heads mixed: what is added to the stream"),
    Tap("blocks.*.resid_mid", "B, T, C", "the residual stream between attention and MLP"),
    Tap("blocks.*.norm2.in", "B, T, C", "what the second norm reads"),
    Tap("blocks.*.norm2.out", "B, T, C", "what it gives"),
    Tap("blocks.*.mlp.pre", "B, T, I", "what the nonlinearity reads (the gate of a gated MLP)"),
    Tap("blocks.*.mlp.up", "B, T, I", "what the gate is multiplied with (gated MLPs)"),
    Tap("blocks.*.mlp.hidden", "B, T, I", "activations: what goes into the last matrix"),
    Tap("blocks.*.mlp.out", "B, T, C", "what the MLP adds to the stream"),
    Tap("blocks.*.resid_post", "B, T, C", "the residual stream after the layer"),
    Tap("norm.in", "B, T, C", "what the last norm reads"),
    Tap("norm.out", "B, T, C", "what it gives"),
    Tap("logits", "B, T, V", "one number for each token that could be next"),
)

_SINGLE_HEAD = (
    "resid_pre", "attn.q", "attn.k", "attn.v", "attn.scores_raw", "attn.scores_scaled",
    "attn.scores_masked", "attn.weights", "attn.heads", "attn.out", "resid_post",
)  # fmt: skip
_AVERAGE = ("resid_pre", "attn.v", "attn.weights", "attn.heads", "attn.out", "resid_post")


def tap_names(model: nn.Module | Anatomy) -> tuple[str, ...]:
    """The points that a model has, in the order in which the numbers are computed.

    >>> from toolkit.models import create_model
    >>> tap_names(create_model("average-loop", 9, n_embd=4))[:3]
    ('embed.token', 'embed.sum', 'blocks.0.resid_pre')

    Raises:
        UsageError: a class of models that is not known.
    """
    if not isinstance(model, Anatomy):
        stacks = stacks_of(model)
        if len(stacks) > 1:
            names = [stack + name for stack, of in stacks.items() for name in _of_stack(of)]
            return (*names, "logits")
    anatomy = model if isinstance(model, Anatomy) else anatomy_of(model)
    if anatomy.kind == "bigram":
        return ("logits",)
    names = [tap.name for tap in TAPS]
    in_layer = [name.removeprefix(LAYER) for name in names if name.startswith(LAYER)]
    if anatomy.kind == "single-head":
        in_layer = list(_SINGLE_HEAD)
    elif anatomy.kind == "average":
        in_layer = list(_AVERAGE)
    elif not anatomy.gated:
        in_layer.remove("mlp.up")
    found = ["embed.token", "embed.position", "embed.sum"]
    if anatomy.positions is None and anatomy.pos_emb is None:
        found.remove("embed.position")
    for layer in range(anatomy.n_layer):
        found += [f"blocks.{layer}.{name}" for name in in_layer]
    if anatomy.norm is not None:
        found += ["norm.in", "norm.out"]
    return (*found, "logits")


def tap_of(name: str) -> Tap:
    """What is known of a point, by its name in a model.

    >>> tap_of("blocks.3.attn.q").shape, tap_of("decoder.blocks.0.cross.weights").shape
    ('B, H, T, D', 'B, H, T, S')
    """
    stackless = name.removeprefix("encoder.").removeprefix("decoder.")
    # What a decoder has beside them is like its attention to itself, and the norm of that.
    stackless = stackless.replace(".cross.", ".attn.").replace(".cross_norm.", ".norm1.")
    pieces = stackless.split(".")
    general = ".".join(["blocks", "*", *pieces[2:]]) if pieces[0] == "blocks" else stackless
    return next(tap for tap in TAPS if tap.name == general)


def _of_stack(stack: Anatomy) -> list[str]:
    """The points of an encoder or a decoder: of its layers, and its norm."""
    in_layer = [tap.name.removeprefix(LAYER) for tap in TAPS if tap.name.startswith(LAYER)]
    if not stack.gated:
        in_layer.remove("mlp.up")
    if stack.layers[0].cross is not None:
        after = in_layer.index("attn.out") + 1
        of_cross = [name.replace("attn.", "cross.") for name in in_layer if "attn." in name]
        norms = [] if stack.layers[0].cross_norm is None else ["cross_norm.in", "cross_norm.out"]
        in_layer[after:after] = [*norms, *of_cross]
    found = [f"blocks.{layer}.{name}" for layer in range(stack.n_layer) for name in in_layer]
    return found if stack.norm is None else [*found, "norm.in", "norm.out"]
