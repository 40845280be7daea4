"""One analysis of a pair in files: analysis_report.json, figures as PNG and SVG, and report.html.

It is to `PairInspector` what `report` is to `Inspector`. What there is of each kind of attention is
under "encoder", "decoder" and "cross"; docs/inspection.md describes the JSON.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import toolkit
from toolkit.inspection.findings import (
    AblationFinding,
    Contribution,
    LensRow,
    ParameterGradient,
    SparsityFinding,
    VectorStatistics,
)
from toolkit.inspection.pairs import ATTENTIONS, STACKS, PairHead, PairInspector
from toolkit.inspection.report import REPORT_FORMAT
from toolkit.jsonable import to_jsonable

if TYPE_CHECKING:
    from toolkit.inspection.pair_figures import PairTokens
    from toolkit.inspection.pair_pictures import PairTraining


@dataclass(frozen=True)
class PairAnalysis:
    """All findings of one pair.

    Attributes:
        name: of the model.
        step: optimizer steps that it was trained for, if they are known.
        source_ids, source_tokens: what the encoder reads, with its end, and how it is shown.
        target_ids, target_tokens: what the decoder writes; the tokens have an end, the ids none.
        loss: of the target and its end, in nats a token.
        even_entropy: of each kind, the mean entropy in nats of even attention.
        vocabulary: how the tokens that `logit_lens` names are shown, by id.
        other fields: as the methods of `PairInspector` give them, by kind of attention or stack.
    """

    name: str
    step: int | None
    source_ids: tuple[int, ...]
    source_tokens: tuple[str, ...]
    target_ids: tuple[int, ...]
    target_tokens: tuple[str, ...]
    loss: float
    even_entropy: dict[str, float]
    heads: dict[str, tuple[PairHead, ...]]
    qkv: dict[str, tuple[VectorStatistics, ...]]
    contributions: dict[str, tuple[Contribution, ...]]
    ablation: dict[str, AblationFinding]
    logit_lens: tuple[LensRow, ...]
    gradients: tuple[ParameterGradient, ...]
    mlp: dict[str, tuple[SparsityFinding, ...]]
    vocabulary: dict[int, str]

    def to_json(self) -> dict[str, Any]:
        """As analysis_report.json holds it."""
        return {"format": REPORT_FORMAT, "toolkit": toolkit.__version__, **to_jsonable(self)}


def analyse_pair(
    inspector: PairInspector,
    tokens: PairTokens,
    show: Callable[[int], str],
    *,
    name: str,
    step: int | None = None,
    learning_rate: float = 1e-3,
) -> PairAnalysis:
    """Ask everything.

    Args:
        tokens: how those of the pair are shown.
        show: how a token of the target's vocabulary is shown, by its id.
        name, step: of the model, for the titles.
        learning_rate: for the length of a gradient step.

    Raises:
        UsageError: as the methods of `PairInspector`.
    """
    lens = tuple(inspector.logit_lens())
    return PairAnalysis(
        name=name,
        step=step,
        source_ids=inspector.source_ids,
        source_tokens=tokens.source,
        target_ids=inspector.target_ids,
        target_tokens=tokens.target,
        loss=inspector.loss(),
        even_entropy={kind: inspector.even_entropy(kind) for kind in ATTENTIONS},
        heads={kind: tuple(inspector.heads(kind)) for kind in ATTENTIONS},
        qkv={kind: tuple(inspector.qkv_statistics(kind)) for kind in ATTENTIONS},
        contributions={stack: tuple(inspector.layer_contributions(stack)) for stack in STACKS},
        ablation={kind: inspector.ablation(kind) for kind in ATTENTIONS},
        logit_lens=lens,
        gradients=tuple(inspector.gradient_flow(learning_rate)),
        mlp={stack: tuple(inspector.mlp_sparsity(stack)) for stack in STACKS},
        vocabulary={
            token: show(token) for token in sorted({t for row in lens for t in row.tokens})
        },
    )


def write_pair_analysis(
    analysis: PairAnalysis,
    inspector: PairInspector,
    tokens: PairTokens,
    folder: Path,
    training: PairTraining,
) -> list[Path]:
    """Write the report.

    Args:
        training: what is known of it.

    Returns:
        The files.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ToolkitError: a file could not be written.
    """
    from toolkit.inspection.pair_evolution import pair_evolution_pictures, pair_head_forming
    from toolkit.inspection.pair_page import pair_page
    from toolkit.inspection.pair_pictures import pair_pictures
    from toolkit.inspection.report_files import write_report

    snapshots = training.snapshots
    drawn, animation = pair_pictures(analysis, inspector, tokens, training), None
    if len(snapshots) > 1:
        drawn = itertools.chain(drawn, pair_evolution_pictures(snapshots, training.tokens))
        animation = pair_head_forming(snapshots, training.tokens)
    weights = {
        kind: [inspector.attention(kind, layer) for layer in range(inspector.n_layer(kind))]
        for kind in ATTENTIONS
    }
    return write_report(
        folder,
        analysis.to_json(),
        drawn,
        animation,
        lambda on_page: pair_page(analysis, tokens, weights, on_page),
    )
