"""Figures of layers: what each part adds, what is lost without it, predictions, gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toolkit.inspection.figures import (
    DIVERGING,
    SEQUENTIAL,
    bare,
    color_bar,
    from_zero,
    heat_map,
    two_digits,
)
from toolkit.inspection.findings import (
    AblationFinding,
    Contribution,
    LensRow,
    ParameterGradient,
    SparsityFinding,
)
from toolkit.reporting.figures import (
    GREY,
    PALETTE,
    WIDTH,
    legend_below,
    new_figure,
    number_label,
    paper_style,
    plain,
    plain_numbers,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from toolkit.inspection.snapshots import GradientsAtStep

_LENS_COLUMNS = 20
_STEPS_LABELLED = 6


def contributions_figure(
    contributions: Sequence[Contribution], ablation: AblationFinding
) -> Figure:
    """What each part adds to the stream, and what the loss becomes without it."""
    parts = {
        "attn": ("attention", PALETTE[0], "o"),
        "cross": ("cross-attention", PALETTE[2], "^"),
        "mlp": ("MLP", PALETTE[1], "s"),
    }
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
            if part not in ablation.without_part[0]:  # only a decoder reads a source
                continue
            losses = [row[part] - ablation.loss for row in ablation.without_part]
            right.plot(range(len(losses)), losses, **style)
        right.axhline(0, color=GREY, linewidth=0.8)
        left.set(xlabel="layer", ylabel="length of update / stream")
        right.set(xlabel="layer", ylabel="loss without it, added nats")
        from_zero(left, [c.ratio for c in contributions])
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
        limits = {"vmin": -largest, "vmax": largest, "cmap": DIVERGING}
        heat_map(figure, axes, values, "added nats", **limits)
        bare(axes)
        for row, numbers in enumerate(values):
            for column, value in enumerate(numbers):
                color = "white" if abs(value) > 0.65 * largest else "black"
                shown = two_digits(value, signed=True)
                axes.text(column, row, shown, ha="center", va="center", fontsize=6, color=color)
        axes.set_xticks(range(heads))
        axes.set_yticks(range(len(values)))
        axes.set(xlabel="head", ylabel="layer")
    return figure


def gradient_figure(
    gradients: Sequence[ParameterGradient], snapshots: Sequence[GradientsAtStep] = ()
) -> Figure:
    """Gradient length and step length of each parameter, from the embedding to the head; and what
    the length was over the training, where snapshots know it."""
    rows = range(len(gradients))
    with paper_style():
        ratios = [1.0, 1.0, 1.3] if snapshots else [1.0, 1.0]
        figure = new_figure(0.15 * len(gradients) + 1.0, width=8.4 if snapshots else 5.6)
        panels: Any = figure.subplots(1, len(ratios), sharey=True, width_ratios=ratios)
        colors = {"": PALETTE[0], "dead": GREY, "exploding": PALETTE[1]}
        for axes, values in (
            (panels[0], [g.grad_norm for g in gradients]),
            (panels[1], [g.update_ratio or math.nan for g in gradients]),
        ):
            for row, value, gradient in zip(rows, values, gradients, strict=True):
                if value > 0 and math.isfinite(value):
                    axes.plot(value, row, "o", color=colors[gradient.flag])
            axes.set_xscale("log")
            axes.grid(axis="y", visible=True)
        if snapshots:
            _gradient_history(figure, panels[2], snapshots)
        names = [g.name + (f" ({g.flag})" if g.flag else "") for g in gradients]
        panels[0].set_yticks(rows, names, fontsize=5.5)
        panels[0].set_ylim(len(gradients) - 0.5, -0.5)
        panels[0].set_xlabel("length of the gradient")
        panels[1].set_xlabel("length of a step / of the weights")
    return figure


def _gradient_history(figure: Figure, axes: Any, snapshots: Sequence[GradientsAtStep]) -> None:
    """Parameters down, steps across, the length of the gradient as a power of ten; grey: none."""
    columns = [
        [math.log10(g.grad_norm) if g.grad_norm > 0 else math.nan for g in snapshot.gradients]
        for snapshot in snapshots
    ]
    values = [list(row) for row in zip(*columns, strict=True)]
    heat_map(figure, axes, values, "log10 of the gradient's length", cmap=SEQUENTIAL)
    bare(axes)
    axes.set_facecolor("#D0D0D0")
    every = max(1, -(-len(snapshots) // _STEPS_LABELLED))
    places = range(0, len(snapshots), every)
    axes.set_xticks(places, [number_label(snapshots[place].step) for place in places])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("step of the training")


def _depth(point: str) -> str:
    """`blocks.2.resid_post` in words."""
    if point in ("embed.sum", "decoder.blocks.0.resid_pre"):
        return "embedding"
    return f"layer {point.split('.')[-2]}"


def lens_figure(
    rows: Sequence[LensRow],
    tokens: Sequence[str],
    names: Sequence[Sequence[str]],
    label: str = "token that was read; in the cells, what would come next",
) -> Figure:
    """The likeliest next token at each depth and position, in strips of 20 positions.

    Args:
        rows: from the embedding up.
        tokens: of the text.
        names: for each row and position, the predicted token: names[row][position].
        label: of the tokens.
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
            image = axes.imshow(values, aspect="auto", vmin=0, vmax=1, cmap=SEQUENTIAL)
            bare(axes)
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
        color_bar(figure, image, grid, "probability", fraction=0.02)
        grid[-1, 0].set_xlabel(label)
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
