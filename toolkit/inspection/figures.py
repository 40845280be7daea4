"""The figures of an analysis: heat maps with the tokens themselves at their axes, and curves.

Each function takes findings and gives a matplotlib figure in the style of the package's other
figures. Where tokens stand too close to be read, every second, third, … is labelled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toolkit.inspection.findings import (
    AblationFinding,
    Contribution,
    EmbeddingFinding,
    HeadFinding,
    LensRow,
    ParameterGradient,
    Redundancy,
    SparsityFinding,
    VectorStatistics,
)
from toolkit.inspection.patterns import KINDS
from toolkit.reporting.figures import (
    GREY,
    PALETTE,
    WIDTH,
    legend_below,
    new_figure,
    paper_style,
    plain,
    plain_numbers,
)
from toolkit.reporting.labels import label_points

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

_PER_TOKEN = 0.09  # inches that a label of 5.5 points needs
_WIDEST = 18.0
_LENS_COLUMNS = 20
_FEW_NAMES, _MOST_NAMES = 25, 60
_SEQUENTIAL, _DIVERGING = "Blues", "RdBu_r"


# -- tokens at axes ---------------------------------------------------------------------------


def _token_axis(axis: Any, tokens: Sequence[str], inches: float, *, rotate: bool) -> None:
    every = max(1, math.ceil(len(tokens) * _PER_TOKEN / inches))
    places = range(0, len(tokens), every)
    axis.set_ticks(places, [plain(tokens[place], most=14) for place in places])
    axis.set_tick_params(labelsize=5.5, length=1.5, pad=1.5, labelrotation=90 if rotate else 0)


def _side(n_tokens: int, smallest: float = 2.2, largest: float = _WIDEST) -> float:
    """Inches for an axis of so many tokens."""
    return min(max(n_tokens * _PER_TOKEN, smallest), largest)


def _two_digits(value: float, *, signed: bool = False) -> str:
    """A number in a cell; what rounds to 0 has no sign."""
    if abs(value) < 0.005:
        return "0.00"
    return f"{value:{'+' if signed else ''}.2f}".replace("-", "−")


def _from_zero(axes: Any, values: Sequence[float]) -> None:
    """An axis that begins at 0 and leaves room above the largest."""
    axes.set_ylim(0, 1.1 * max(values, default=1.0) or 1.0)


def _bare(axes: Any) -> None:
    axes.grid(False)
    axes.spines[:].set_visible(True)


def _heat_map(figure: Figure, axes: Any, values: Any, label: str, **options: Any) -> None:
    image = axes.imshow(values, aspect="auto", interpolation="nearest", **options)
    bar = figure.colorbar(image, ax=axes, pad=0.02, fraction=0.05, aspect=30)
    bar.set_label(label, fontsize=6.5)
    bar.ax.tick_params(labelsize=6)
    bar.outline.set_linewidth(0.5)


def embedding_figure(vectors: Tensor, tokens: Sequence[str]) -> Figure:
    """(T, C) as a heat map: tokens along x, channels along y."""
    largest = float(vectors.abs().max()) or 1.0
    with paper_style():
        width = _side(len(tokens))
        figure = new_figure(2.6, width=width + 1.1)
        axes: Any = figure.subplots()
        limits = {"vmin": -largest, "vmax": largest, "cmap": _DIVERGING}
        _heat_map(figure, axes, vectors.T.numpy(), "value", **limits)
        _bare(axes)
        _token_axis(axes.xaxis, tokens, width, rotate=True)
        axes.set(ylabel="channel")
    return figure


def attention_figure(weights: Tensor, tokens: Sequence[str], title: str) -> Figure:
    """One head, (T, S): queries down, keys across."""
    with paper_style():
        side = _side(len(tokens))
        figure = new_figure(side + 0.7, width=side + 1.2)
        axes: Any = figure.subplots()
        _heat_map(figure, axes, weights.numpy(), "attention weight", vmin=0, vmax=1, cmap="Blues")
        _bare(axes)
        _token_axis(axes.xaxis, tokens, side, rotate=True)
        _token_axis(axes.yaxis, tokens, side, rotate=False)
        axes.set(title=title, xlabel="key: the token that is read", ylabel="query")
    return figure


def heads_figure(
    weights: Sequence[Tensor], tokens: Sequence[str], titles: Sequence[str], columns: int = 4
) -> Figure:
    """Several heads, (T, S) each, in a grid; every panel has the same colours and the same axes,
    which are labelled at the left and at the bottom."""
    columns = min(columns, len(weights))
    rows = -(-len(weights) // columns)
    side = _side(len(tokens), 1.5, 3.2)
    with paper_style():
        figure = new_figure(rows * (side + 0.3) + 0.5, width=columns * (side + 0.2) + 1.0)
        grid: Any = figure.subplots(rows, columns, squeeze=False)
        image = None
        for number, axes in enumerate(grid.flat):
            if number >= len(weights):
                axes.set_visible(False)
                continue
            image = axes.imshow(
                weights[number].numpy(), vmin=0, vmax=1, cmap=_SEQUENTIAL, interpolation="nearest"
            )
            _bare(axes)
            at_bottom, at_left = number + columns >= len(weights), number % columns == 0
            _token_axis(axes.xaxis, tokens if at_bottom else (), side, rotate=True)
            _token_axis(axes.yaxis, tokens if at_left else (), side, rotate=False)
            axes.set_title(titles[number], fontsize=7)
        assert image is not None
        bar = figure.colorbar(image, ax=grid, pad=0.01, fraction=0.03, aspect=30)
        bar.set_label("attention weight", fontsize=6.5)
        bar.ax.tick_params(labelsize=6)
    return figure


# -- heads ------------------------------------------------------------------------------------


def comparison_figure(heads: Sequence[HeadFinding]) -> Figure:
    """Every head's scores above chance, with its class at the right."""
    kinds = [kind.name for kind in KINDS]
    rows = [[head.scores[kind].above_chance for kind in kinds] for head in heads]
    values = [[math.nan if value is None else value for value in row] for row in rows]
    with paper_style():
        figure = new_figure(0.17 * len(heads) + 1.3, width=4.6)
        axes: Any = figure.subplots()
        axes.imshow(values, aspect="auto", vmin=0, vmax=1, cmap=_SEQUENTIAL)
        _bare(axes)
        for row, numbers in enumerate(values):
            for column, value in enumerate(numbers):
                color = "white" if value > 0.6 else "black"
                shown = "–" if math.isnan(value) else _two_digits(value)
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


def entropy_figure(heads: Sequence[HeadFinding], even: float) -> Figure:
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
        _from_zero(axes, [even, *(h.entropy for h in heads)])
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
        _heat_map(figure, axes, redundancy.divergence, "divergence, bits", **limits)
        _bare(axes)
        _token_axis(axes.xaxis, names, side, rotate=True)
        _token_axis(axes.yaxis, names, side, rotate=False)
        axes.set(xlabel="layer.head", ylabel="layer.head")
    return figure


def received_figure(heads: Sequence[HeadFinding], tokens: Sequence[str]) -> Figure:
    """How much each position is attended to, against even attention, by every head."""
    values = [[math.log2(max(v, 2**-6)) for v in head.received_above_even] for head in heads]
    with paper_style():
        width = _side(len(tokens))
        figure = new_figure(0.14 * len(heads) + 1.2, width=width + 1.3)
        axes: Any = figure.subplots()
        limits = {"vmin": -4, "vmax": 4, "cmap": _DIVERGING}
        _heat_map(figure, axes, values, "log2 of even", **limits)
        _bare(axes)
        _token_axis(axes.xaxis, tokens, width, rotate=True)
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
            _from_zero(axes, [s.norm for s in found])
            axes.set_xlim(-0.5, max((s.layer for s in statistics), default=0) + 0.5)
            plain_numbers(axes.xaxis, most=5, whole=True)
        panels[0].set_ylabel("mean length")
    return figure


# -- layers -----------------------------------------------------------------------------------


def contributions_figure(
    contributions: Sequence[Contribution], ablation: AblationFinding
) -> Figure:
    """What each part adds to the stream, and what the loss becomes without it."""
    parts = {"attn": ("attention", PALETTE[0], "o"), "mlp": ("MLP", PALETTE[1], "s")}
    with paper_style():
        figure = new_figure(2.5, width=5.2)
        left, right = figure.subplots(1, 2)
        handles = []
        for part, (name, color, marker) in parts.items():
            found = [c for c in contributions if c.part == part]
            style: dict[str, Any] = {"color": color, "marker": marker, "label": name}
            if found:
                line = left.plot([c.layer for c in found], [c.ratio for c in found], **style)
                handles += line
            losses = [row[part] - ablation.loss for row in ablation.without_part]
            right.plot(range(len(losses)), losses, **style)
        right.axhline(0, color=GREY, linewidth=0.8)
        left.set(xlabel="layer", ylabel="length of update / stream")
        right.set(xlabel="layer", ylabel="loss without it, added nats")
        _from_zero(left, [c.ratio for c in contributions])
        for axes in (left, right):
            plain_numbers(axes.xaxis, most=8, whole=True)
            axes.set_xlim(-0.4, max((c.layer for c in contributions), default=0) + 0.4)
        legend_below(figure, handles)
    return figure


def ablation_figure(ablation: AblationFinding) -> Figure:
    """What the loss becomes without each head."""
    values = [[loss - ablation.loss for loss in row] for row in ablation.without_head]
    largest = max(abs(value) for row in values for value in row) or 1.0
    with paper_style():
        heads = len(values[0])
        figure = new_figure(0.3 * len(values) + 0.9, width=min(max(0.42 * heads + 1.4, 2.8), 14))
        axes: Any = figure.subplots()
        limits = {"vmin": -largest, "vmax": largest, "cmap": _DIVERGING}
        _heat_map(figure, axes, values, "added nats", **limits)
        _bare(axes)
        for row, numbers in enumerate(values):
            for column, value in enumerate(numbers):
                color = "white" if abs(value) > 0.65 * largest else "black"
                shown = _two_digits(value, signed=True)
                axes.text(column, row, shown, ha="center", va="center", fontsize=6, color=color)
        axes.set_xticks(range(heads))
        axes.set_yticks(range(len(values)))
        axes.set(xlabel="head", ylabel="layer")
    return figure


def gradient_figure(gradients: Sequence[ParameterGradient]) -> Figure:
    """Gradient length and step length of each parameter, from the embedding to the head."""
    rows = range(len(gradients))
    with paper_style():
        figure = new_figure(0.15 * len(gradients) + 1.0, width=5.6)
        left, right = figure.subplots(1, 2, sharey=True)
        colors = {"": PALETTE[0], "dead": GREY, "exploding": PALETTE[1]}
        for axes, values in (
            (left, [g.grad_norm for g in gradients]),
            (right, [g.update_ratio or math.nan for g in gradients]),
        ):
            for row, value, gradient in zip(rows, values, gradients, strict=True):
                if value > 0 and math.isfinite(value):
                    axes.plot(value, row, "o", color=colors[gradient.flag])
            axes.set_xscale("log")
            axes.grid(axis="y", visible=True)
        names = [g.name + (f" ({g.flag})" if g.flag else "") for g in gradients]
        left.set_yticks(rows, names, fontsize=5.5)
        left.set_ylim(len(gradients) - 0.5, -0.5)
        left.set_xlabel("length of the gradient")
        right.set_xlabel("length of a step / of the weights")
    return figure


def _depth(point: str) -> str:
    """`blocks.2.resid_post` in words."""
    return "embedding" if point == "embed.sum" else f"layer {point.split('.')[1]}"


def lens_figure(
    rows: Sequence[LensRow], tokens: Sequence[str], names: Sequence[Sequence[str]]
) -> Figure:
    """The likeliest next token at each depth and position, in strips of 20 positions.

    Args:
        rows: from the embedding up.
        tokens: of the text.
        names: for each row and position, the predicted token: names[row][position].
    """
    strips = range(0, len(tokens), _LENS_COLUMNS)
    columns = min(len(tokens), _LENS_COLUMNS)
    with paper_style():
        height = len(strips) * (0.2 * len(rows) + 0.65) + 0.2
        figure = new_figure(height, width=max(0.42 * columns + 1.5, WIDTH))
        grid: Any = figure.subplots(len(strips), 1, squeeze=False)
        image = None
        for axes, start in zip(grid[:, 0], strips, strict=True):
            stop = min(start + _LENS_COLUMNS, len(tokens))
            values = [
                [*row.probabilities[start:stop], *[math.nan] * (columns - stop + start)]
                for row in rows[::-1]
            ]
            image = axes.imshow(values, aspect="auto", vmin=0, vmax=1, cmap=_SEQUENTIAL)
            _bare(axes)
            for line, row_names in enumerate(names[::-1]):
                for column, name in enumerate(row_names[start:stop]):
                    color = "white" if values[line][column] > 0.6 else "black"
                    axes.text(
                        column, line, plain(name, most=8), ha="center", va="center",
                        fontsize=5.5, color=color,
                    )  # fmt: skip
            places = range(stop - start)
            labels = [plain(token, most=8) for token in tokens[start:stop]]
            axes.set_xticks(places, labels, fontsize=6)
            points = [_depth(row.point) for row in rows]
            axes.set_yticks(range(len(rows)), points[::-1], fontsize=6)
            axes.tick_params(length=0)
        assert image is not None
        bar = figure.colorbar(image, ax=grid, pad=0.01, fraction=0.02, aspect=25)
        bar.set_label("probability", fontsize=6.5)
        bar.ax.tick_params(labelsize=6)
        grid[-1, 0].set_xlabel("token that was read; in the cells, what would come next")
    return figure


def sparsity_figure(found: Sequence[SparsityFinding]) -> Figure:
    """How much of each MLP is silent."""
    series = {
        "exactly 0": [s.zero for s in found],
        "near 0": [s.near_zero for s in found],
        "silent everywhere": [s.dead_units for s in found],
        "held by the strongest tenth": [s.top_tenth for s in found],
    }
    with paper_style():
        figure = new_figure(2.6)
        axes: Any = figure.subplots()
        for number, (name, values) in enumerate(series.items()):
            axes.plot(
                [s.layer for s in found], values, marker="os^D"[number], color=PALETTE[number],
                label=name,
            )  # fmt: skip
        axes.set(xlabel="layer", ylabel="share", ylim=(-0.03, 1.03))
        axes.set_xlim(-0.4, max((s.layer for s in found), default=0) + 0.4)
        plain_numbers(axes.xaxis, most=8, whole=True)
        legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def pca_figure(found: EmbeddingFinding, names: Sequence[str]) -> Figure:
    """The text's tokens on the first two principal components of the embedding."""
    with paper_style():
        # Many names need room.
        width = WIDTH if len(names) <= _FEW_NAMES else 2 * WIDTH
        figure = new_figure(0.9 * width, width=width)
        axes: Any = figure.subplots()
        x, y = zip(*found.coordinates, strict=True)
        axes.plot(x, y, "o", color=PALETTE[0], markersize=3)
        axes.margins(0.12)
        explained = [*found.explained, 0.0]
        axes.set(
            xlabel=f"first component, {explained[0]:.0%} of the variance",
            ylabel=f"second, {explained[1]:.0%}",
        )
        # Beyond some number there is no room for names.
        shown = list(zip(x, y, names, strict=True))[:_MOST_NAMES]
        label_points(axes, shown, avoid=found.coordinates[_MOST_NAMES:])
    return figure
