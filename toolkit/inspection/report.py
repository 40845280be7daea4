"""One analysis in files: analysis_report.json, figures as PNG and SVG, and report.html.

`analyse` asks an `Inspector` everything; `write_analysis` writes what came of it. The schema of the
JSON is that of the dataclasses in `findings`, under the names of `Analysis`; it is described in
docs/inspection.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import toolkit
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
    from toolkit.inspection.pictures import Training

REPORT_FORMAT = 1


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
    training: Training | None = None,
) -> list[Path]:
    """Write the report.

    Args:
        every_head: a figure of each head too.
        training: what is known of it.

    Returns:
        The files.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ToolkitError: a file could not be written.
    """
    from toolkit.inspection.evolution import evolution_pictures, head_forming
    from toolkit.inspection.page import inspection_page
    from toolkit.inspection.pictures import Training, pictures
    from toolkit.inspection.report_files import write_report

    training = training or Training()
    snapshots, tokens = training.snapshots, training.tokens
    drawn = pictures(analysis, inspector, training, every_head=every_head)
    n_layer, animation = inspector.anatomy.n_layer, None
    if len(snapshots) > 1:
        drawn = itertools.chain(drawn, evolution_pictures(snapshots, tokens))
        animation = head_forming(snapshots, tokens) if n_layer else None
    weights = [inspector.attention(layer) for layer in range(n_layer)]
    return write_report(
        folder,
        analysis.to_json(),
        drawn,
        animation,
        lambda on_page: inspection_page(analysis, weights, on_page),
    )


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
