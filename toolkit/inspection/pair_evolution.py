"""How an encoder–decoder came to be what it is: `evolution` for its three kinds of attention, with
source and target at their axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.files import write_bytes
from toolkit.inspection import evolution_figures
from toolkit.inspection.evolution import GIF_FILE, MOST_FRAMES, SECTION, animation, changes
from toolkit.inspection.figures import color_bar
from toolkit.inspection.layer_figures import gradient_figure
from toolkit.inspection.pair_figures import (
    ORDER,
    Axes,
    PairTokens,
    pair_attention_figure,
    pair_head_figure,
    panel_size,
    show_pair_attention,
)
from toolkit.inspection.pair_snapshots import AttentionSnapshot, PairSnapshot
from toolkit.inspection.pictures import Picture
from toolkit.reporting.figures import new_figure, number_label, paper_style, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {
    "encoder": "the encoder's attention",
    "decoder": "the decoder's attention to what it has written",
    "cross": "the decoder's attention to the source",
}
"""Of the kinds of attention, in captions."""
_HEADS_SHOWN = 6


def of_kind(snapshots: Sequence[PairSnapshot], kind: str) -> list[AttentionSnapshot]:
    """One kind of attention at each step."""
    return [snapshot.attentions[kind] for snapshot in snapshots]


def pair_evolution_pictures(
    snapshots: Sequence[PairSnapshot], tokens: PairTokens
) -> Iterator[Picture]:
    """The figures, at least of two snapshots."""
    for kind in ORDER:
        yield Picture(
            f"attention/attention_evolution_{kind}",
            pair_evolution_figure(of_kind(snapshots, kind), tokens.axes(kind)),
            SECTION,
            f"How {NAMES[kind]} came to be on one and the same pair, from the start of the "
            "training (left) to its end (right). These are the heads that changed most, by the "
            "divergence of their weights then and now.",
        )
    for kind in ORDER:
        yield Picture(
            f"attention/entropy_evolution_{kind}",
            evolution_figures.entropy_evolution_figure(of_kind(snapshots, kind)),
            SECTION,
            f"How spread out {NAMES[kind]} was while the model was trained: a line that falls is a "
            "head that has found what to look at. It is the entropy of the weights on the same "
            "pair, as a mean over the rows.",
        )
    for kind in ORDER:
        yield Picture(
            f"qkv/qkv_evolution_{kind}",
            evolution_figures.qkv_evolution_figure(of_kind(snapshots, kind)),
            SECTION,
            f"How long the queries, keys and values of {NAMES[kind]} were while the model was "
            "trained. They are measured on the same pair, as means over its positions and the "
            "layer's heads.",
        )


def write_pair_evolution(
    snapshots: Sequence[PairSnapshot], tokens: PairTokens, folder: Path
) -> list[Path]:
    """Draw all of it, all heads of cross-attention at some of the steps, and the animation.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ToolkitError: a file could not be written.
    """
    written = []
    for picture in pair_evolution_pictures(snapshots, tokens):
        written += picture.save(folder)
    flow = gradient_figure(snapshots[-1].gradients, snapshots)
    written += save_figure(flow, folder / "qkv", "gradient_flow")
    for snapshot in evolution_figures.spread_out(of_kind(snapshots, "cross")):
        layers = [layer.float() / 255 for layer in snapshot.attention]
        drawn = pair_attention_figure(layers, tokens.axes("cross"))
        name = f"attention_step_{snapshot.step}_cross"
        written += save_figure(drawn, folder / "attention", name)
    write_bytes(folder / GIF_FILE, pair_head_forming(snapshots, tokens))
    return [*written, folder / GIF_FILE]


def pair_head_forming(snapshots: Sequence[PairSnapshot], tokens: PairTokens) -> bytes:
    """A GIF of the head whose attention to the source changed most."""
    cross = of_kind(snapshots, "cross")
    layer, head = changes(cross)[0]
    return animation(
        pair_head_figure(
            snapshot.weights(layer, head),
            tokens.axes("cross"),
            f"cross-attention, head {layer}.{head}, step {number_label(snapshot.step)}",
        )
        for snapshot in evolution_figures.spread_out(cross, MOST_FRAMES)
    )


def pair_evolution_figure(snapshots: Sequence[AttentionSnapshot], axes: Axes) -> Figure:
    """A row of heat maps for each of the heads that changed most, from step to step."""
    shown, heads = evolution_figures.spread_out(snapshots), changes(snapshots)[:_HEADS_SHOWN]
    size = panel_size(axes, 1.2, 1.8)
    with paper_style():
        width = len(shown) * (size[0] + 0.08) + 1.2
        figure = new_figure(len(heads) * (size[1] + 0.1) + 1.0, width=width)
        grid: Any = figure.subplots(len(heads), len(shown), squeeze=False)
        image = None
        for row, (layer, head) in enumerate(heads):
            for column, snapshot in enumerate(shown):
                at_left, at_bottom = column == 0, row == len(heads) - 1
                image = show_pair_attention(
                    grid[row, column],
                    snapshot.weights(layer, head),
                    axes,
                    size,
                    at_left=at_left,
                    at_bottom=at_bottom,
                )
                if row == 0:
                    grid[row, column].set_title(f"step {snapshot.step:,}", fontsize=7)
            grid[row, 0].set_ylabel(f"head {layer}.{head}")
        color_bar(figure, image, grid, "attention weight", fraction=0.02)
        figure.supylabel(axes.row_label, fontsize=7)
        figure.supxlabel(axes.column_label, fontsize=7)
    return figure
