"""Figures of a training seen from inside: attention, entropy, queries and keys over the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from toolkit.inspection.figures import color_bar, from_zero, show_attention, side_of
from toolkit.inspection.snapshots import AttentionAtStep, Snapshot
from toolkit.reporting.figures import (
    GREY,
    PALETTE,
    WIDTH,
    legend_below,
    new_figure,
    number_label,
    paper_style,
    plain_numbers,
    series_style,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Item = TypeVar("Item")
STEPS_SHOWN = 6
_HEADS_SHOWN = 8
_MOST_LAYERS = 12  # beyond that a legend says nothing


def spread_out(snapshots: Sequence[Item], most: int = STEPS_SHOWN) -> list[Item]:
    """So many of them, evenly, the first and the last among them.

    >>> spread_out(range(11), 3)
    [0, 5, 10]
    """
    most = min(most, len(snapshots))
    if most < 2:
        return list(snapshots)
    return [snapshots[round(i * (len(snapshots) - 1) / (most - 1))] for i in range(most)]


def attention_evolution_figure(
    snapshots: Sequence[Snapshot], tokens: Sequence[str], heads: Sequence[tuple[int, int]]
) -> Figure:
    """A row of heat maps for each of the first 8 `heads` (layer, head), from step to step."""
    shown, heads = spread_out(snapshots), heads[:_HEADS_SHOWN]
    side = min(side_of(len(tokens), 1.3), 1.8)
    with paper_style():
        width = len(shown) * (side + 0.08) + 1.2
        figure = new_figure(len(heads) * (side + 0.1) + 1.0, width=width)
        grid: Any = figure.subplots(len(heads), len(shown), squeeze=False)
        image = None
        for row, (layer, head) in enumerate(heads):
            for column, snapshot in enumerate(shown):
                axes = grid[row, column]
                at_bottom, at_left = row == len(heads) - 1, column == 0
                weights = snapshot.weights(layer, head)
                image = show_attention(
                    axes, weights, tokens, side, at_left=at_left, at_bottom=at_bottom
                )
                if row == 0:
                    axes.set_title(f"step {snapshot.step:,}", fontsize=7)
            grid[row, 0].set_ylabel(f"head {layer}.{head}")
        color_bar(figure, image, grid, "attention weight", fraction=0.02)
    return figure


def entropy_evolution_figure(snapshots: Sequence[AttentionAtStep]) -> Figure:
    """The entropy of every head over the steps, its layer by colour, and that of even attention."""
    steps = [snapshot.step for snapshot in snapshots]
    n_layer = len(snapshots[-1].entropy)
    with paper_style():
        figure = new_figure(2.6)
        axes: Any = figure.subplots()
        even = snapshots[-1].even_entropy
        line = axes.axhline(even, color=GREY, linestyle=(0, (4, 2)), label="even attention")
        handles = [line]
        for layer in range(n_layer):
            for head in range(len(snapshots[-1].entropy[layer])):
                values = [snapshot.entropy[layer][head] for snapshot in snapshots]
                (line,) = axes.plot(
                    steps, values, color=_color(layer, n_layer), label=f"layer {layer}",
                    linestyle=_line(layer), alpha=0.85,
                )  # fmt: skip
            handles.append(line)
        axes.set(xlabel="step", ylabel="entropy, nats")
        from_zero(axes, [even, *(v for s in snapshots for row in s.entropy for v in row)])
        plain_numbers(axes.xaxis, most=5)
        if n_layer <= _MOST_LAYERS:
            legend_below(figure, handles)
    return figure


def qkv_evolution_figure(snapshots: Sequence[AttentionAtStep]) -> Figure:
    """Mean length of queries, keys and values of each layer over the steps, one panel each."""
    steps = [snapshot.step for snapshot in snapshots]
    n_layer = len(snapshots[-1].entropy)
    with paper_style():
        figure = new_figure(2.4, width=5.4)
        panels: Any = figure.subplots(1, 3)
        handles = []
        for axes, which, name in zip(panels, "qkv", ("queries", "keys", "values"), strict=True):
            everything = []
            for layer in range(n_layer):
                values = [_mean_length(snapshot, layer, which) for snapshot in snapshots]
                (line,) = axes.plot(
                    steps, values, color=_color(layer, n_layer), label=f"layer {layer}",
                    linestyle=_line(layer),
                )  # fmt: skip
                everything += [value for value in values if not math.isnan(value)]
                if which == "v":
                    handles.append(line)
            axes.set(title=name, xlabel="step")
            from_zero(axes, everything)
            plain_numbers(axes.xaxis, most=4)
        panels[0].set_ylabel("mean length")
        if n_layer <= _MOST_LAYERS:
            legend_below(figure, handles)
    return figure


def head_frame(snapshot: Snapshot, tokens: Sequence[str], layer: int, head: int) -> Figure:
    """One head at one step: a frame of the animation, the same in size whatever is in it."""
    with paper_style():
        side = min(max(side_of(len(tokens)), 2.4), WIDTH)
        figure = new_figure(side + 0.9, width=side + 0.9)
        axes: Any = figure.subplots()
        show_attention(axes, snapshot.weights(layer, head), tokens, side)
        axes.set_title(f"head {layer}.{head}, step {number_label(snapshot.step)}")
        axes.set(xlabel="key: the token that is read", ylabel="query")
    return figure


def _mean_length(snapshot: AttentionAtStep, layer: int, which: str) -> float:
    found = [s.norm for s in snapshot.qkv if s.layer == layer and s.which == which]
    return sum(found) / len(found) if found else math.nan


def _color(layer: int, n_layer: int) -> Any:
    """Few layers have the package's colours; many go from dark to light."""
    if n_layer <= len(PALETTE):
        return PALETTE[layer]
    from matplotlib import colormaps

    return colormaps["viridis"](layer / (n_layer - 1))


def _line(layer: int) -> Any:
    return series_style(layer).line
