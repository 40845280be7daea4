"""Figures of an encoder–decoder's attention, with the source's tokens and the target's on the axes
that are theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.inspection.figures import (
    SEQUENTIAL,
    bare,
    color_bar,
    side_of,
    token_axis,
)
from toolkit.reporting.figures import new_figure, paper_style
from toolkit.shown import BEGIN, END, shown_token
from toolkit.tokenizers import Tokenizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

ORDER = ("cross", "encoder", "decoder")
"""Of the kinds of attention on a page: first what it is all about."""


@dataclass(frozen=True)
class Axes:
    """What stands at the axes of a kind of attention.

    Attributes:
        rows, columns: the tokens that read, and those that are read.
        row_label, column_label: of the axes.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_label: str
    column_label: str


@dataclass(frozen=True)
class PairTokens:
    """How the tokens of a pair are shown.

    Attributes:
        source: what the encoder reads, with its end.
        target: what the decoder writes, with its end.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]

    @property
    def so_far(self) -> tuple[str, ...]:
        """What the decoder reads: its beginning, and all of the target but the end."""
        return (BEGIN, *self.target[:-1])

    def axes(self, kind: str) -> Axes:
        """Of "encoder", "decoder" or "cross"."""
        of_source = "the source's token that is read"
        if kind == "encoder":
            return Axes(self.source, self.source, "the source's token that reads", of_source)
        if kind == "decoder":
            read = "the target's token that is read"
            return Axes(self.target, self.so_far, "what is written", read)
        return Axes(self.target, self.source, "what is written", of_source)


def pair_tokens(
    source_tokenizer: Tokenizer,
    tokenizer: Tokenizer,
    source_ids: Sequence[int],
    target_ids: Sequence[int],
) -> PairTokens:
    """The tokens of a pair, whose source has its end and whose target has none."""
    return PairTokens(
        (*(shown_token(source_tokenizer, token) for token in source_ids[:-1]), END),
        (*(shown_token(tokenizer, token) for token in target_ids), END),
    )


def show_pair_attention(
    panel: Any,
    weights: Tensor,
    axes: Axes,
    size: tuple[float, float],
    *,
    at_left: bool = True,
    at_bottom: bool = True,
) -> Any:
    """One head, (T, S), in a panel of so many inches (width, height), labelled where nothing else
    is at that side; the colours are those of `figures.show_attention`."""
    from matplotlib.colors import PowerNorm

    image = panel.imshow(
        weights.numpy(),
        norm=PowerNorm(0.5, vmin=0, vmax=1),
        cmap=SEQUENTIAL,
        aspect="auto",
        interpolation="nearest",
    )
    bare(panel)
    token_axis(panel.xaxis, axes.columns if at_bottom else (), size[0], rotate=True)
    token_axis(panel.yaxis, axes.rows if at_left else (), size[1], rotate=False)
    return image


def panel_size(axes: Axes, smallest: float, largest: float) -> tuple[float, float]:
    """Inches for a panel with these tokens: width and height."""
    return (
        side_of(len(axes.columns), smallest, largest),
        side_of(len(axes.rows), smallest, largest),
    )


def pair_attention_figure(layers: Sequence[Tensor], axes: Axes) -> Figure:
    """One kind of attention, (H, T, S) for each layer: layers down, heads across; in each panel the
    tokens that read, down, and those that are read, across."""
    n_head = layers[0].size(0)
    size = panel_size(axes, 1.2, 3.0)
    with paper_style():
        figure = new_figure(
            len(layers) * (size[1] + 0.3) + 0.7, width=n_head * (size[0] + 0.15) + 1.3
        )
        grid: Any = figure.subplots(len(layers), n_head, squeeze=False)
        image = None
        for layer, heads in enumerate(layers):
            for head, panel in enumerate(grid[layer]):
                at_left, at_bottom = head == 0, layer == len(layers) - 1
                image = show_pair_attention(
                    panel, heads[head], axes, size, at_left=at_left, at_bottom=at_bottom
                )
                panel.set_title(f"layer {layer}, head {head}", fontsize=7)
        color_bar(figure, image, grid, "attention weight", fraction=0.03)
        figure.supylabel(axes.row_label, fontsize=7)
        figure.supxlabel(axes.column_label, fontsize=7)
    return figure


def pair_head_figure(weights: Tensor, axes: Axes, title: str) -> Figure:
    """One head (T, S) alone, the same in size whatever is in it."""
    with paper_style():
        size = panel_size(axes, 2.4, 6.0)
        figure = new_figure(size[1] + 0.9, width=size[0] + 1.1)
        panel: Any = figure.subplots()
        show_pair_attention(panel, weights, axes, size)
        panel.set_title(title)
        panel.set(xlabel=axes.column_label, ylabel=axes.row_label)
    return figure
