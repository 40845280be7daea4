"""Figures of heads: how they compare, how spread out they are, which tokens they read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toolkit.inspection.figures import (
    DIVERGING,
    SEQUENTIAL,
    bare,
    from_zero,
    heat_map,
    side_of,
    token_axis,
    two_digits,
)
from toolkit.inspection.findings import HeadFinding, Redundancy, VectorStatistics
from toolkit.inspection.patterns import KINDS
from toolkit.reporting.figures import (
    GREY,
    PALETTE,
    legend_below,
    new_figure,
    paper_style,
    plain_numbers,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from toolkit.inspection.pairs import PairHead


def comparison_figure(heads: Sequence[HeadFinding]) -> Figure:
    """Every head's scores above chance, with its class at the right."""
    kinds = [kind.name for kind in KINDS]
    rows = [[head.scores[kind].above_chance for kind in kinds] for head in heads]
    values = [[math.nan if value is None else value for value in row] for row in rows]
    with paper_style():
        figure = new_figure(0.17 * len(heads) + 1.3, width=4.6)
        axes: Any = figure.subplots()
        axes.imshow(values, aspect="auto", vmin=0, vmax=1, cmap=SEQUENTIAL)
        bare(axes)
        for row, numbers in enumerate(values):
            for column, value in enumerate(numbers):
                color = "white" if value > 0.6 else "black"
                shown = "–" if math.isnan(value) else two_digits(value)
                axes.text(column, row, shown, ha="center", va="center", fontsize=6, color=color)
        axes.set_xticks(range(len(kinds)), kinds, rotation=35, ha="right", rotation_mode="anchor")
        names = [f"{head.layer}.{head.head}" for head in heads]
        axes.set_yticks(range(len(heads)), names, fontsize=6)
        axes.set_ylabel("layer.head")
        right = axes.secondary_yaxis("right")
        right.set_yticks(range(len(heads)), [head.kind for head in heads], fontsize=6)
        right.tick_params(length=0)
        right.spines[:].set_visible(False)
    return figure


def entropy_figure(heads: Sequence[HeadFinding | PairHead], even: float) -> Figure:
    """Entropy of each head by layer, their mean, and what even attention would have."""
    layers = sorted({head.layer for head in heads})
    means = [
        sum(h.entropy for h in heads if h.layer == layer)
        / sum(1 for h in heads if h.layer == layer)
        for layer in layers
    ]
    with paper_style():
        figure = new_figure(2.4)
        axes: Any = figure.subplots()
        axes.axhline(even, color=GREY, linestyle=(0, (4, 2)), linewidth=0.9, label="even attention")
        axes.plot(layers, means, color=PALETTE[0], label="mean of the heads", zorder=2)
        axes.plot(
            [h.layer for h in heads], [h.entropy for h in heads], "o",
            color=PALETTE[1], label="a head", alpha=0.8, zorder=3,
        )  # fmt: skip
        axes.set(xlabel="layer", ylabel="entropy, nats")
        from_zero(axes, [even, *(h.entropy for h in heads)])
        axes.set_xlim(-0.4, max(layers) + 0.4)
        plain_numbers(axes.xaxis, most=8, whole=True)
        legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def redundancy_figure(redundancy: Redundancy) -> Figure:
    """How differently each two heads attend."""
    names = [f"{layer}.{head}" for layer, head in redundancy.heads]
    with paper_style():
        side = min(max(0.16 * len(names), 2.0), 12.0)
        figure = new_figure(side + 0.6, width=side + 1.2)
        axes: Any = figure.subplots()
        limits = {"vmin": 0, "vmax": 1, "cmap": "Blues_r"}
        heat_map(figure, axes, redundancy.divergence, "divergence, bits", **limits)
        bare(axes)
        token_axis(axes.xaxis, names, side, rotate=True)
        token_axis(axes.yaxis, names, side, rotate=False)
        axes.set(xlabel="layer.head", ylabel="layer.head")
    return figure


def received_figure(heads: Sequence[HeadFinding | PairHead], tokens: Sequence[str]) -> Figure:
    """How much each position is attended to, against even attention, by every head."""
    values = [[math.log2(max(v, 2**-6)) for v in head.received_above_even] for head in heads]
    with paper_style():
        width = side_of(len(tokens))
        figure = new_figure(0.14 * len(heads) + 1.2, width=width + 1.3)
        axes: Any = figure.subplots()
        limits = {"vmin": -4, "vmax": 4, "cmap": DIVERGING}
        heat_map(figure, axes, values, "log2 of even", **limits)
        bare(axes)
        token_axis(axes.xaxis, tokens, width, rotate=True)
        names = [f"{head.layer}.{head.head}" for head in heads]
        axes.set_yticks(range(len(heads)), names, fontsize=6)
        axes.set(ylabel="layer.head")
    return figure


def qkv_figure(statistics: Sequence[VectorStatistics]) -> Figure:
    """Mean length of queries, keys and values of each head by layer."""
    with paper_style():
        figure = new_figure(2.2, width=5.2)
        panels: Any = figure.subplots(1, 3)
        for axes, which, name in zip(panels, "qkv", ("queries", "keys", "values"), strict=True):
            found = [s for s in statistics if s.which == which]
            axes.plot(
                [s.layer for s in found], [s.norm for s in found], "o", color=PALETTE[0], alpha=0.8
            )
            axes.set(title=name, xlabel="layer")
            from_zero(axes, [s.norm for s in found])
            axes.set_xlim(-0.5, max((s.layer for s in statistics), default=0) + 0.5)
            plain_numbers(axes.xaxis, most=5, whole=True)
        panels[0].set_ylabel("mean length")
    return figure
