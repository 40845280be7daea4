"""How a model came to be what it is: its snapshots as figures, and one head as an animation."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from toolkit.files import write_bytes
from toolkit.inspection import evolution_figures
from toolkit.inspection.figures import heads_figure
from toolkit.inspection.layer_figures import gradient_figure
from toolkit.inspection.patterns import divergence
from toolkit.inspection.pictures import Picture
from toolkit.inspection.snapshots import AttentionAtStep, Snapshot
from toolkit.reporting.figures import paper_style, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GIF_FILE = Path("attention/head_forming.gif")
SECTION = "Training"
MOST_FRAMES = 30
_FRAME_MS, _LAST_FRAME_MS = 200, 2000
_GIF_DPI = 110


def changes(snapshots: Sequence[AttentionAtStep]) -> list[tuple[int, int]]:
    """All heads (layer, head), the one whose attention changed most from first to last first.

    The change is the mean Jensen-Shannon divergence over the queries.
    """
    n_layer, n_head = snapshots[-1].attention.shape[:2]
    found = []
    for layer in range(n_layer):
        for head in range(n_head):
            both = torch.stack([s.weights(layer, head) for s in (snapshots[0], snapshots[-1])])
            # Weights as bytes do not quite sum to 1.
            both = both / both.sum(-1, keepdim=True).clamp(min=1e-9)
            found.append((-divergence(both)[0, 1].item(), layer, head))
    return [(layer, head) for _, layer, head in sorted(found)]


def evolution_pictures(snapshots: Sequence[Snapshot], tokens: Sequence[str]) -> Iterator[Picture]:
    """The figures, at least of two snapshots; those of attention for models that have any."""
    heads = changes(snapshots)
    if not heads:
        return
    yield Picture(
        "attention/attention_evolution",
        evolution_figures.attention_evolution_figure(snapshots, tokens, heads),
        SECTION,
        "How the attention of heads on one and the same text came to be, from the start of the "
        "training (left) to its end (right). These are the heads that changed most, by the "
        "divergence of their weights then and now.",
    )
    yield Picture(
        "attention/entropy_evolution",
        evolution_figures.entropy_evolution_figure(snapshots),
        SECTION,
        "How spread out the attention of each head was while the model was trained: a line that "
        "falls is a head that has found what to look at. It is the entropy of the weights on the "
        "same text, as a mean over the queries.",
    )
    yield Picture(
        "qkv/qkv_evolution",
        evolution_figures.qkv_evolution_figure(snapshots),
        SECTION,
        "How long the queries, keys and values of each layer were while the model was trained. "
        "They are measured on the same text, as means over its positions and the layer's heads.",
    )


def write_evolution(
    snapshots: Sequence[Snapshot], tokens: Sequence[str], folder: Path
) -> list[Path]:
    """Draw all of it: four figures, all heads at some of the steps, and the animation.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ToolkitError: a file could not be written.
    """
    written = []
    for picture in evolution_pictures(snapshots, tokens):
        written += picture.save(folder)
    flow = gradient_figure(snapshots[-1].gradients, snapshots)
    written += save_figure(flow, folder / "qkv", "gradient_flow")
    if not snapshots[-1].attention.numel():
        return written
    for snapshot in evolution_figures.spread_out(snapshots):
        name = f"attention_step_{snapshot.step}"
        written += save_figure(_all_heads(snapshot, tokens), folder / "attention", name)
    write_bytes(folder / GIF_FILE, head_forming(snapshots, tokens))
    return [*written, folder / GIF_FILE]


def head_forming(snapshots: Sequence[Snapshot], tokens: Sequence[str]) -> bytes:
    """A GIF of the head that changed most, from the first snapshot to the last."""
    layer, head = changes(snapshots)[0]
    shown = evolution_figures.spread_out(snapshots, MOST_FRAMES)
    return animation(evolution_figures.head_frame(s, tokens, layer, head) for s in shown)


def animation(figures: Iterable[Figure]) -> bytes:
    """Figures of one size as a GIF, of which the last one stays longer."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    frames = []
    for figure in figures:
        figure.set_dpi(_GIF_DPI)
        canvas: Any = FigureCanvasAgg(figure)
        with paper_style():
            canvas.draw()
        image = Image.frombytes("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
        frames.append(image.convert("RGB").quantize(colors=64))
    data = io.BytesIO()
    frames[0].save(
        data,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=[*[_FRAME_MS] * (len(frames) - 1), _LAST_FRAME_MS],
        loop=0,
    )
    return data.getvalue()


def _all_heads(snapshot: Snapshot, tokens: Sequence[str]) -> Figure:
    n_layer, n_head = snapshot.attention.shape[:2]
    heads = [(layer, head) for layer in range(n_layer) for head in range(n_head)]
    weights = [snapshot.weights(layer, head) for layer, head in heads]
    titles = [f"{layer}.{head}" for layer, head in heads]
    return heads_figure(weights, tokens, titles, columns=n_head)
