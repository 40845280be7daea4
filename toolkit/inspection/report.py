"""One analysis in files: analysis_report.json, figures as PNG and SVG, and report.html.

`analyse` asks an `Inspector` everything; `write_analysis` writes what came of it. The schema of the
JSON is that of the dataclasses in `findings`, under the names of `Analysis`; it is described in
docs/inspection.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import toolkit
from toolkit.files import write_json, write_text
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
from toolkit.inspection.inspector import Inspector
from toolkit.inspection.patterns import KINDS, even_attention
from toolkit.inspection.patterns import entropy as entropy_of
from toolkit.inspection.probes import Probe
from toolkit.jsonable import to_jsonable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT_FORMAT = 1
REPORT_FILE = "analysis_report.json"
PAGE_FILE = "report.html"


@dataclass(frozen=True)
class Analysis:
    """All findings of one text.

    Attributes:
        name: of the model.
        step: optimizer steps that it was trained for, if they are known.
        ids, tokens: of the text, and how they are shown.
        even_entropy: the mean entropy in nats of even attention over what can be seen.
        vocabulary: how the other tokens that findings name are shown, by id.
        other fields: as the methods of `Inspector` give them.
    """

    name: str
    step: int | None
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    even_entropy: float
    qkv: tuple[VectorStatistics, ...]
    heads: tuple[HeadFinding, ...]
    redundancy: Redundancy
    contributions: tuple[Contribution, ...]
    logit_lens: tuple[LensRow, ...]
    ablation: AblationFinding
    gradients: tuple[ParameterGradient, ...]
    mlp: tuple[SparsityFinding, ...]
    embedding: EmbeddingFinding
    probes: tuple[Probe, ...]
    vocabulary: dict[int, str]

    def to_json(self) -> dict[str, Any]:
        """As analysis_report.json holds it."""
        head = {"format": REPORT_FORMAT, "toolkit": toolkit.__version__}
        return {**head, "kinds": to_jsonable(KINDS), **to_jsonable(self)}


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        path: below the report's folder, without a suffix.
        section: of the page; "" keeps it out.
        caption: what it shows, and how it was computed.
    """

    path: str
    figure: Figure
    section: str
    caption: str


def analyse(
    inspector: Inspector,
    show: Callable[[int], str],
    *,
    name: str,
    step: int | None = None,
    probes: Sequence[str] = (),
    token_classes: Sequence[int] | None = None,
    learning_rate: float = 1e-3,
) -> Analysis:
    """Ask everything.

    Args:
        show: how a token is shown, by its id.
        name, step: of the model, for the titles.
        probes, token_classes: as `Inspector.linear_probes` takes them; none: no probes.
        learning_rate: for the length of a gradient step.

    Raises:
        UsageError: as the methods of `Inspector`.
    """
    lens = tuple(inspector.logit_lens())
    embedding = inspector.embedding_geometry()
    named = {token for row in lens for token in row.tokens} | set(embedding.tokens)
    named |= {token for found in embedding.neighbours for token, _ in found.nearest}
    even = 0.0
    if inspector.anatomy.n_layer:
        even = entropy_of(even_attention(inspector.visible)).mean().item()
    return Analysis(
        name=name,
        step=step,
        ids=inspector.ids,
        tokens=tuple(show(i) for i in inspector.ids),
        even_entropy=even,
        qkv=tuple(inspector.qkv_statistics()),
        heads=tuple(inspector.heads()),
        redundancy=inspector.redundancy(),
        contributions=tuple(inspector.layer_contributions()),
        logit_lens=lens,
        ablation=inspector.ablation(),
        gradients=tuple(inspector.gradient_flow(learning_rate)),
        mlp=tuple(inspector.mlp_sparsity()),
        embedding=embedding,
        probes=tuple(inspector.linear_probes(probes, token_classes)) if probes else (),
        vocabulary={token: show(token) for token in sorted(named)},
    )


def write_analysis(
    analysis: Analysis,
    inspector: Inspector,
    folder: Path,
    *,
    every_head: bool = False,
    curves: Figure | None = None,
) -> list[Path]:
    """Write the report.

    Args:
        every_head: a figure of each head too.
        curves: of the training, for the page; its files are the caller's.

    Returns:
        The files.

    Raises:
        MissingExtraError: matplotlib is not installed; nothing is written.
        ToolkitError: a file could not be written.
    """
    from toolkit.inspection.page import inspection_page
    from toolkit.reporting.figures import save_figure

    pictures = draw(analysis, inspector, every_head=every_head)
    if curves is not None:
        caption = (
            "The losses while the model was trained, smoothed. Read from the run's metrics.jsonl."
        )
        pictures.append(Picture("training_curves", curves, "Training", caption))
    written = []
    for picture in pictures:
        where = folder / picture.path
        written += save_figure(picture.figure, where.parent, where.name)
    write_json(folder / REPORT_FILE, analysis.to_json())
    weights = [inspector.attention(layer) for layer in range(inspector.anatomy.n_layer)]
    write_text(folder / PAGE_FILE, inspection_page(analysis, weights, pictures))
    return [*written, folder / REPORT_FILE, folder / PAGE_FILE]


def draw(analysis: Analysis, inspector: Inspector, *, every_head: bool) -> list[Picture]:
    """The figures, in the order of the page; a model without a part lacks its figures."""
    from toolkit.reporting.figures import require_plots

    require_plots()
    pictures = _embedding_pictures(analysis, inspector)
    if analysis.heads:
        pictures += _attention_pictures(analysis, inspector, every_head=every_head)
    pictures += _layer_pictures(analysis)
    return pictures


def _embedding_pictures(analysis: Analysis, inspector: Inspector) -> list[Picture]:
    from toolkit.inspection import figures

    how = "Each column is a token of the text and each row one of the channels."
    captions = {
        "token": f"The row of the embedding table that each token is looked up in. {how}",
        "position": f"What is added for each position, whatever the token is. {how}",
        "combined": f"The sum of both, which goes into the first layer. {how}",
    }
    points = {"token": "embed.token", "position": "embed.position", "combined": "embed.sum"}
    pictures = []
    for what, point in points.items():
        if point not in inspector.trace:
            continue
        if what == "combined" and "embed.position" not in inspector.trace:
            continue  # nothing is combined
        vectors = inspector.trace[point].float().cpu()
        vectors = vectors[0] if vectors.dim() == 3 else vectors  # (T, C)
        drawn = figures.embedding_figure(vectors, analysis.tokens)
        pictures.append(Picture(f"embeddings/{what}", drawn, "Embeddings", captions[what]))
    names = [analysis.vocabulary[token] for token in analysis.embedding.tokens]
    caption = (
        "The text's tokens on the two directions in which the embeddings of the whole vocabulary "
        "differ most. Principal components of the centred embedding table."
    )
    drawn = figures.pca_figure(analysis.embedding, names)
    pictures.append(Picture("embeddings/pca", drawn, "Embeddings", caption))
    return pictures


def _attention_pictures(
    analysis: Analysis, inspector: Inspector, *, every_head: bool
) -> list[Picture]:
    from toolkit.inspection import figures

    tokens, anatomy = analysis.tokens, inspector.anatomy
    pictures = []
    everything, titles = [], []
    for layer in range(anatomy.n_layer):
        weights = list(inspector.attention(layer))
        kinds = {head.head: head.kind for head in analysis.heads if head.layer == layer}
        names = [f"{layer}.{head}  {kinds[head]}" for head in range(anatomy.n_head)]
        everything += weights
        titles += names
        caption = (
            f"The attention weights of all heads of layer {layer}: each row is a query and sums "
            "to 1, each column a token that is read. Computed from the queries and keys of this "
            "text; the word beside a head is its class (see below)."
        )
        drawn = figures.heads_figure(weights, tokens, names)
        pictures.append(Picture(f"attention/layer_{layer}", drawn, "Attention", caption))
        if every_head:
            for head, matrix in enumerate(weights):
                drawn = figures.attention_figure(matrix, tokens, names[head])
                path = f"attention/layer_{layer}_head_{head}"
                pictures.append(Picture(path, drawn, "", ""))
    drawn = figures.heads_figure(everything, tokens, titles, columns=anatomy.n_head)
    name = "attention" if analysis.step is None else f"attention_step_{analysis.step}"
    pictures.append(Picture(f"attention/{name}", drawn, "", ""))
    pictures += [
        Picture(
            "attention/multihead_comparison",
            figures.comparison_figure(analysis.heads),
            "Heads compared",
            "How strongly each head shows each pattern: 0 is what attention spread evenly would "
            "reach, 1 a head that does nothing else. Induction and duplicate tokens are measured "
            "on random tokens repeated once, everything else on this text.",
        ),
        Picture(
            "attention/entropy",
            figures.entropy_figure(analysis.heads, analysis.even_entropy),
            "Heads compared",
            "How spread out attention is at each depth: the entropy −Σ w ln w of a query's "
            "weights, as a mean over the queries. The dashed line is attention that takes the "
            "same from every token that it may see.",
        ),
        Picture(
            "attention/received",
            figures.received_figure(analysis.heads, tokens),
            "Heads compared",
            "Which tokens are read more (red) or less (blue) than by even attention, as a power "
            "of two. A position's mean is over the queries that can see it, for everybody sees the "
            "first tokens; the last ones are seen from nearby alone, where local heads look.",
        ),
        Picture(
            "attention/redundancy",
            figures.redundancy_figure(analysis.redundancy),
            "Heads compared",
            "How differently each two heads attend: dark pairs do nearly the same. The mean "
            "Jensen-Shannon divergence of their weights over the queries, in bits.",
        ),
    ]
    if any(found.which == "q" for found in analysis.qkv):
        caption = (
            "How long the queries, keys and values of each head are. A point is a head, its "
            "height the mean length over the positions, after norms and rotation."
        )
        drawn = figures.qkv_figure(analysis.qkv)
        pictures.append(Picture("qkv/qkv_statistics", drawn, "Queries, keys, values", caption))
    return pictures


def _layer_pictures(analysis: Analysis) -> list[Picture]:
    from toolkit.inspection import figures

    pictures = []
    if analysis.ablation.without_part:
        pictures += [
            Picture(
                "qkv/layer_contributions",
                figures.contributions_figure(analysis.contributions, analysis.ablation),
                "Layers",
                "Left, how long what each part adds to the residual stream is, relative to the "
                "stream. Right, how much the loss on this text grows when the part adds nothing.",
            ),
            Picture(
                "attention/head_ablation",
                figures.ablation_figure(analysis.ablation),
                "Layers",
                "How much the loss on this text grows (red) or falls (blue) without each head. "
                "The head's output is set to zero and the model is run again.",
            ),
        ]
    if analysis.mlp:
        caption = (
            "How many hidden units of each MLP are silent on this text. Near 0 is below a "
            "hundredth of the largest at its position; the strongest tenth is by their squares."
        )
        drawn = figures.sparsity_figure(analysis.mlp)
        pictures.append(Picture("mlp/sparsity", drawn, "Layers", caption))
    if analysis.logit_lens:
        names = [
            [analysis.vocabulary[token] for token in row.tokens] for row in analysis.logit_lens
        ]
        caption = (
            "What the model would say next if it ended at each depth, and how sure it would be. "
            "The residual stream there is sent through the last norm and the head (the logit lens)."
        )
        drawn = figures.lens_figure(analysis.logit_lens, analysis.tokens, names)
        pictures.append(Picture("qkv/logit_lens", drawn, "Layers", caption))
    caption = (
        "How strongly this text pulls at each parameter, from the embedding to the head. The "
        "length of the gradient of the loss, and the length of a plain gradient step beside that "
        "of the weights."
    )
    drawn = figures.gradient_figure(analysis.gradients)
    pictures.append(Picture("qkv/gradient_flow", drawn, "Gradients", caption))
    return pictures


def summary(analysis: Analysis) -> dict[str, Any]:
    """The few numbers that a terminal shows."""
    kinds: dict[str, int] = {}
    for head in analysis.heads:
        kinds[head.kind] = kinds.get(head.kind, 0) + 1
    worst = max(
        (
            (loss - analysis.ablation.loss, layer, head)
            for layer, row in enumerate(analysis.ablation.without_head)
            for head, loss in enumerate(row)
        ),
        default=(math.nan, -1, -1),
    )
    flags = [found.name for found in analysis.gradients if found.flag]
    return {
        "tokens": len(analysis.ids),
        "loss": analysis.ablation.loss,
        "heads": dict(sorted(kinds.items(), key=lambda item: -item[1])),
        "most_needed_head": f"{worst[1]}.{worst[2]}" if worst[1] >= 0 else None,
        "its_loss": worst[0],
        "flagged_parameters": flags,
    }
