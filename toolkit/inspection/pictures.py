"""The figures of a report, in the order of its page: where each goes, and what it says.

Every caption is two sentences: what the figure shows, and how it was computed. A model without a
part lacks the figures of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.inspection import figures, head_figures, layer_figures
from toolkit.reporting.figures import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from toolkit.inspection.inspector import Inspector
    from toolkit.inspection.report import Analysis
    from toolkit.inspection.snapshots import Snapshot


GRADIENTS_OF_TRAINING = (
    " At the right, the length of the gradient while the model was trained, on what was "
    "followed then; where there was none, it is grey."
)


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        path: below the report's folder, without a suffix.
        figure: drawn.
        section: of the page; "" keeps it out.
        caption: what it shows, and how it was computed.
    """

    path: str
    figure: Figure
    section: str = ""
    caption: str = ""

    def save(self, folder: Path) -> list[Path]:
        """Write it as PNG and SVG, and say where they are; `folder` is the report's.

        Raises:
            ToolkitError: a file could not be written.
        """
        where = folder / self.path
        return save_figure(self.figure, where.parent, where.name)


@dataclass(frozen=True)
class Training:
    """What is known of how a model was trained.

    Attributes:
        curves: of its losses, drawn.
        snapshots: of its inside, oldest first, if it was followed.
        tokens: how the text is shown that they are of.
    """

    curves: Figure | None = None
    snapshots: tuple[Snapshot, ...] = ()
    tokens: tuple[str, ...] = ()


def pictures(
    analysis: Analysis,
    inspector: Inspector,
    training: Training,
    *,
    every_head: bool,
) -> Iterator[Picture]:
    """Each figure when it is asked for: those of long texts are too large to hold all of them.

    Args:
        every_head: one of each head too, for files alone.
    """
    yield from _embeddings(analysis, inspector)
    if analysis.heads:
        yield from _attention(analysis, inspector, every_head=every_head)
        yield from _heads(analysis)
    yield from _layers(analysis, training.snapshots)
    if training.curves is not None:
        yield curves_picture(training.curves)


def curves_picture(drawn: Figure) -> Picture:
    """The losses of a run."""
    caption = (
        "The losses while the model was trained, smoothed. They are read from the run's "
        "metrics.jsonl."
    )
    return Picture("training_curves", drawn, "Training", caption)


def _embeddings(analysis: Analysis, inspector: Inspector) -> Iterator[Picture]:
    trace = inspector.trace
    how = "Each column is a token of the text and each row one of the channels."
    captions = {
        "token": f"The row of the embedding table that each token is looked up in. {how}",
        "position": f"What is added for each position, whatever the token is. {how}",
        "combined": f"The sum of both, which goes into the first layer. {how}",
    }
    points = {"token": "embed.token", "position": "embed.position", "combined": "embed.sum"}
    if "embed.position" not in trace:  # then the token alone is the sum
        del points["combined"]
    for what, point in points.items():
        if point in trace:
            vectors = trace[point].float().cpu()
            vectors = vectors[0] if vectors.dim() == 3 else vectors  # (T, C)
            drawn = figures.embedding_figure(vectors, analysis.tokens)
            yield Picture(f"embeddings/{what}", drawn, "Embeddings", captions[what])
    names = [analysis.vocabulary[token] for token in analysis.embedding.tokens]
    yield Picture(
        "embeddings/pca",
        figures.pca_figure(analysis.embedding, names),
        "Embeddings",
        "The text's tokens on the two directions in which the embeddings of the whole vocabulary "
        "differ most. They are the principal components of the centred embedding table.",
    )


def _attention(analysis: Analysis, inspector: Inspector, *, every_head: bool) -> Iterator[Picture]:
    tokens, anatomy = analysis.tokens, inspector.anatomy
    titles = [f"{head.layer}.{head.head}  {head.kind}" for head in analysis.heads]
    everything = [
        weights for layer in range(anatomy.n_layer) for weights in inspector.attention(layer)
    ]
    n_head = anatomy.n_head
    for layer in range(anatomy.n_layer):
        own = slice(layer * n_head, (layer + 1) * n_head)
        yield Picture(
            f"attention/layer_{layer}",
            figures.heads_figure(everything[own], tokens, titles[own]),
            "Attention",
            f"The attention weights of the heads of layer {layer}: each row is a query and sums "
            "to 1, each column a token that is read; the colour grows with the square root, so "
            "that small weights can be seen. They are computed from the queries and keys of this "
            "text; the word beside a head's number is its class, which is explained below.",
        )
    if every_head:
        for head, weights, title in zip(analysis.heads, everything, titles, strict=True):
            drawn = figures.attention_figure(weights, tokens, title)
            yield Picture(f"attention/layer_{head.layer}_head_{head.head}", drawn)
    name = "attention" if analysis.step is None else f"attention_step_{analysis.step}"
    drawn = figures.heads_figure(everything, tokens, titles, columns=n_head)
    yield Picture(f"attention/{name}", drawn)


def _heads(analysis: Analysis) -> Iterator[Picture]:
    section = "Heads compared"
    yield Picture(
        "attention/multihead_comparison",
        head_figures.comparison_figure(analysis.heads),
        section,
        "How strongly each head shows each pattern: 0 is what attention spread evenly would "
        "reach, 1 a head that does nothing else. Induction and duplicate tokens are measured "
        "on random tokens repeated once, everything else on this text.",
    )
    yield Picture(
        "attention/entropy",
        head_figures.entropy_figure(analysis.heads, analysis.even_entropy),
        section,
        "How spread out attention is at each depth: the entropy −Σ w ln w of a query's "
        "weights, as a mean over the queries. The dashed line is attention that takes the "
        "same from every token that it may see.",
    )
    yield Picture(
        "attention/received",
        head_figures.received_figure(analysis.heads, analysis.tokens),
        section,
        "Which tokens are read more (red) or less (blue) than by even attention, as a power "
        "of two. A position's mean is over the queries that can see it, for everybody sees the "
        "first tokens; the last ones are seen from nearby alone, where local heads look.",
    )
    yield Picture(
        "attention/redundancy",
        head_figures.redundancy_figure(analysis.redundancy),
        section,
        "How differently each two heads attend: dark pairs do nearly the same. It is the mean "
        "Jensen-Shannon divergence of their weights over the queries, in bits.",
    )
    if any(found.which == "q" for found in analysis.qkv):
        yield Picture(
            "qkv/qkv_statistics",
            head_figures.qkv_figure(analysis.qkv),
            "Queries, keys, values",
            "How long the queries, keys and values of each head are. A point is a head, its "
            "height the mean length over the positions, after norms and rotation.",
        )


def _layers(analysis: Analysis, snapshots: Sequence[Snapshot]) -> Iterator[Picture]:
    section = "Layers"
    if analysis.ablation.without_part:
        yield Picture(
            "qkv/layer_contributions",
            layer_figures.contributions_figure(analysis.contributions, analysis.ablation),
            section,
            "Left, how long what each part adds to the residual stream is, relative to the "
            "stream. Right, how much the loss on this text grows when the part adds nothing.",
        )
        yield Picture(
            "attention/head_ablation",
            layer_figures.ablation_figure(analysis.ablation),
            section,
            "How much the loss on this text grows (red) or falls (blue) without each head. "
            "The head's output is set to zero and the model is run again.",
        )
    if analysis.mlp:
        yield Picture(
            "mlp/sparsity",
            layer_figures.sparsity_figure(analysis.mlp),
            section,
            "How many hidden units of each MLP are silent on this text. Near 0 is below a "
            "hundredth of the largest at its position; the strongest tenth is by their squares.",
        )
    if analysis.logit_lens:
        rows = analysis.logit_lens
        names = [[analysis.vocabulary[token] for token in row.tokens] for row in rows]
        yield Picture(
            "qkv/logit_lens",
            layer_figures.lens_figure(rows, analysis.tokens, names),
            section,
            "What the model would say next if it ended at each depth, and how sure it would be. "
            "The stream there is sent through the last norm and the head (the logit lens).",
        )
    yield Picture(
        "qkv/gradient_flow",
        layer_figures.gradient_figure(analysis.gradients, snapshots),
        "Gradients",
        "How strongly this text pulls at each parameter, from the embedding to the head. It is "
        "the length of the gradient of the loss, and that of a plain gradient step beside that of "
        "the weights." + (GRADIENTS_OF_TRAINING if snapshots else ""),
    )
