"""Heat maps with the tokens themselves at their axes: embeddings and attention.

Each function takes what an `Inspector` found and gives a matplotlib figure in the style of the
package's other figures. Where tokens stand too close to be read, every second, third, … is
labelled. What the figures of heads and of layers share with these is here, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toolkit.inspection.findings import EmbeddingFinding
from toolkit.reporting.figures import PALETTE, WIDTH, new_figure, paper_style, plain
from toolkit.reporting.labels import label_points

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

_PER_TOKEN = 0.09  # inches that a label of 5.5 points needs
_WIDEST = 18.0
_FEW_NAMES, _MOST_NAMES = 25, 60
SEQUENTIAL, DIVERGING = "Blues", "RdBu_r"


def token_axis(axis: Any, tokens: Sequence[str], inches: float, *, rotate: bool) -> None:
    every = max(1, math.ceil(len(tokens) * _PER_TOKEN / inches))
    places = range(0, len(tokens), every)
    axis.set_ticks(places, [plain(tokens[place], most=14) for place in places])
    axis.set_tick_params(labelsize=5.5, length=1.5, pad=1.5, labelrotation=90 if rotate else 0)


def side_of(n_tokens: int, smallest: float = 2.2, largest: float = _WIDEST) -> float:
    """Inches for an axis of so many tokens."""
    return min(max(n_tokens * _PER_TOKEN, smallest), largest)


def two_digits(value: float, *, signed: bool = False) -> str:
    """A number in a cell; what rounds to 0 has no sign."""
    if abs(value) < 0.005:
        return "0.00"
    return f"{value:{'+' if signed else ''}.2f}".replace("-", "−")


def from_zero(axes: Any, values: Sequence[float]) -> None:
    """An axis that begins at 0 and leaves room above the largest."""
    axes.set_ylim(0, 1.1 * max(values, default=1.0) or 1.0)


def bare(axes: Any) -> None:
    axes.grid(False)
    axes.spines[:].set_visible(True)


def heat_map(figure: Figure, axes: Any, values: Any, label: str, **options: Any) -> None:
    image = axes.imshow(values, aspect="auto", interpolation="nearest", **options)
    color_bar(figure, image, axes, label, fraction=0.05)


def color_bar(figure: Figure, image: Any, axes: Any, label: str, *, fraction: float) -> None:
    bar = figure.colorbar(image, ax=axes, pad=0.015, fraction=fraction, aspect=30)
    bar.set_label(label, fontsize=6.5)
    bar.ax.tick_params(labelsize=6)
    bar.outline.set_linewidth(0.5)


def show_attention(
    axes: Any,
    weights: Tensor,
    tokens: Sequence[str],
    inches: float,
    *,
    at_left: bool = True,
    at_bottom: bool = True,
) -> Any:
    """One head, (T, S): queries down, keys across, labelled where nothing else is at that side.

    The colour grows with the square root of a weight, lest the small ones of a long text be lost.
    """
    from matplotlib.colors import PowerNorm

    norm = PowerNorm(0.5, vmin=0, vmax=1)
    image = axes.imshow(weights.numpy(), norm=norm, cmap=SEQUENTIAL, interpolation="nearest")
    bare(axes)
    token_axis(axes.xaxis, tokens if at_bottom else (), inches, rotate=True)
    token_axis(axes.yaxis, tokens if at_left else (), inches, rotate=False)
    return image


def embedding_figure(vectors: Tensor, tokens: Sequence[str]) -> Figure:
    """(T, C) as a heat map: tokens along x, channels along y."""
    largest = float(vectors.abs().max()) or 1.0
    with paper_style():
        width = side_of(len(tokens))
        figure = new_figure(2.6, width=width + 1.1)
        axes: Any = figure.subplots()
        limits = {"vmin": -largest, "vmax": largest, "cmap": DIVERGING}
        heat_map(figure, axes, vectors.T.numpy(), "value", **limits)
        bare(axes)
        token_axis(axes.xaxis, tokens, width, rotate=True)
        axes.set(ylabel="channel")
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


def attention_figure(weights: Tensor, tokens: Sequence[str], title: str) -> Figure:
    """One head, (T, S): queries down, keys across."""
    with paper_style():
        side = side_of(len(tokens))
        figure = new_figure(side + 0.7, width=side + 1.2)
        axes: Any = figure.subplots()
        image = show_attention(axes, weights, tokens, side)
        color_bar(figure, image, axes, "attention weight", fraction=0.05)
        axes.set(title=title, xlabel="key: the token that is read", ylabel="query")
    return figure


def heads_figure(
    weights: Sequence[Tensor], tokens: Sequence[str], titles: Sequence[str], columns: int = 4
) -> Figure:
    """Several heads, (T, S) each, in a grid; every panel has the same colours and the same axes,
    which are labelled at the left and at the bottom."""
    columns = min(columns, len(weights))
    rows = -(-len(weights) // columns)
    side = side_of(len(tokens), 1.5, 2.6)  # four of them are as wide as the page
    with paper_style():
        figure = new_figure(rows * (side + 0.3) + 0.5, width=columns * (side + 0.2) + 1.0)
        grid: Any = figure.subplots(rows, columns, squeeze=False)
        image = None
        for number, axes in enumerate(grid.flat):
            if number >= len(weights):
                axes.set_visible(False)
                continue
            at_bottom, at_left = number + columns >= len(weights), number % columns == 0
            image = show_attention(
                axes, weights[number], tokens, side, at_left=at_left, at_bottom=at_bottom
            )
            axes.set_title(titles[number], fontsize=7)
        color_bar(figure, image, grid, "attention weight", fraction=0.03)
    return figure
