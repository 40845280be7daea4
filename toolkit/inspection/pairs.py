"""The attention of an encoder–decoder on one pair: who reads what, on both sides and between them.

weights = pair_attention(model, source_ids, target_ids)
weights["decoder.blocks.0.cross.weights"]  # (H, T, S)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from toolkit.generation.decoding import evaluation_mode
from toolkit.inspection.figures import bare, color_bar, side_of, token_axis
from toolkit.inspection.tracer import Tracer
from toolkit.models import EncoderDecoderModel
from toolkit.reporting.figures import new_figure, paper_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

ATTENTIONS = {
    "encoder": "encoder.blocks.*.attn.weights",
    "decoder": "decoder.blocks.*.attn.weights",
    "cross": "decoder.blocks.*.cross.weights",
}
"""What there is to see, and the names of its points."""


@torch.no_grad()
def pair_attention(
    model: EncoderDecoderModel, source_ids: Sequence[int], target_ids: Sequence[int]
) -> dict[str, Tensor]:
    """The attention weights of every layer, (H, T, S) each, by the names of `ATTENTIONS`.

    Args:
        source_ids: what the encoder reads, with its end.
        target_ids: what the decoder writes; it reads its beginning, and all of them but the end.
    """
    config = model.config
    written = [*target_ids, config.end_id]
    ids = torch.tensor([[config.begin_id, *written[:-1]]], device=model.device)  # (1, T)
    source = torch.tensor([list(source_ids)], device=model.device)  # (1, S)
    with evaluation_mode(model), Tracer(model, *ATTENTIONS.values()) as trace:
        model(ids, None, source)
    return {name: tensor[0].cpu() for name, tensor in trace.items()}


def pair_attention_figure(
    weights: Mapping[str, Tensor],
    rows: Sequence[str],
    columns: Sequence[str],
    labels: tuple[str, str],
) -> Figure:
    """Layers down, heads across; in each panel the tokens that read, down, and those that are
    read, across.

    Args:
        weights: of one kind, (H, T, S) each, in the order of the layers.
        rows, columns: the T tokens and the S.
        labels: of the two axes.
    """
    from matplotlib.colors import PowerNorm

    n_head = next(iter(weights.values())).size(0)
    height, width = side_of(len(rows), 1.2, 3.0), side_of(len(columns), 1.2, 3.0)
    with paper_style():
        figure = new_figure(
            len(weights) * (height + 0.3) + 0.7, width=n_head * (width + 0.15) + 1.3
        )
        grid: Any = figure.subplots(len(weights), n_head, squeeze=False)
        image = None
        for layer, heads in enumerate(weights.values()):
            for head, axes in enumerate(grid[layer]):
                image = axes.imshow(
                    heads[head].numpy(),
                    norm=PowerNorm(0.5, vmin=0, vmax=1),
                    cmap="Blues",
                    aspect="auto",
                    interpolation="nearest",
                )
                bare(axes)
                last = layer == len(weights) - 1
                token_axis(axes.xaxis, columns if last else (), width, rotate=True)
                token_axis(axes.yaxis, rows if head == 0 else (), height, rotate=False)
                axes.set_title(f"layer {layer}, head {head}", fontsize=7)
        color_bar(figure, image, grid, "attention weight", fraction=0.03)
        figure.supylabel(labels[0], fontsize=7)
        figure.supxlabel(labels[1], fontsize=7)
    return figure


def focus(weights: Tensor) -> list[float]:
    """How far each head's attention (H, T, S) is from even, 0 to 1: one less its mean entropy over
    that of even attention to all that a position can read."""
    positive = weights.double().clamp(min=1e-12)
    entropies = -(positive * positive.log()).sum(dim=-1)  # (H, T)
    readable = (weights > 0).any(dim=0).sum(dim=-1)  # (T): all tokens, or those so far
    even = float(readable.double().log().mean())
    if not even:  # a single token
        return [0.0] * len(weights)
    return [1.0 - entropy / even for entropy in entropies.mean(dim=-1).tolist()]
