"""The figures of a pair's report, in the order of its page: where each goes, and what it says.

Every caption is two sentences: what the figure shows, and how it was computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.inspection import head_figures, layer_figures
from toolkit.inspection.pair_figures import ORDER, PairTokens, pair_attention_figure
from toolkit.inspection.pairs import STACKS
from toolkit.inspection.pictures import GRADIENTS_OF_TRAINING, Picture, curves_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from toolkit.inspection.pair_report import PairAnalysis
    from toolkit.inspection.pair_snapshots import PairSnapshot
    from toolkit.inspection.pairs import PairInspector

_NAMES = {
    "encoder": "The encoder",
    "decoder": "The decoder, reading itself",
    "cross": "The decoder, reading the source",
}
_WHAT = {
    "cross": "What the decoder reads of the source: each row is a token that is written, each "
    "column a token of the source.",
    "encoder": "What the encoder's tokens read of each other: rows and columns are the source's "
    "tokens, before and after.",
    "decoder": "What the decoder reads of the target so far: each row is a token that is written, "
    "each column one that it has read by then.",
}


@dataclass(frozen=True)
class PairTraining:
    """What is known of how a model was trained.

    Attributes:
        tokens: how the pair is shown that the snapshots are of.
        curves: of its losses, drawn.
        snapshots: of its inside, oldest first, if it was followed.
    """

    tokens: PairTokens
    curves: Figure | None = None
    snapshots: tuple[PairSnapshot, ...] = ()


def pair_pictures(
    analysis: PairAnalysis,
    inspector: PairInspector,
    tokens: PairTokens,
    training: PairTraining,
) -> Iterator[Picture]:
    """Each figure when it is asked for: those of long texts are too large to hold all of them."""
    yield from _attention(inspector, tokens)
    yield from _heads(analysis, tokens)
    yield from _layers(analysis, tokens)
    yield Picture(
        "qkv/gradient_flow",
        layer_figures.gradient_figure(analysis.gradients, training.snapshots),
        "Gradients",
        "How strongly this target pulls at each parameter, from the embedding to the head. It is "
        "the length of the gradient of the loss, and that of a plain gradient step beside that of "
        "the weights." + (GRADIENTS_OF_TRAINING if training.snapshots else ""),
    )
    if training.curves is not None:
        yield curves_picture(training.curves)


def _attention(inspector: PairInspector, tokens: PairTokens) -> Iterator[Picture]:
    for kind in ORDER:
        layers = [inspector.attention(kind, layer) for layer in range(inspector.n_layer(kind))]
        yield Picture(
            f"{kind}_attention",
            pair_attention_figure(layers, tokens.axes(kind)),
            "Attention",
            f"{_WHAT[kind]} The weights of a row sum to 1; the colour grows with the square root, "
            "so that small ones can be seen.",
        )


def _heads(analysis: PairAnalysis, tokens: PairTokens) -> Iterator[Picture]:
    section = "Heads compared"
    for kind in ORDER:
        yield Picture(
            f"attention/entropy_{kind}",
            head_figures.entropy_figure(analysis.heads[kind], analysis.even_entropy[kind]),
            section,
            f"{_NAMES[kind]}: how spread out attention is at each depth. It is the entropy "
            "−Σ w ln w of a row's weights, as a mean over the rows; the dashed line takes the same "
            "from every token that may be read.",
        )
    for kind in ORDER:
        yield Picture(
            f"attention/received_{kind}",
            head_figures.received_figure(analysis.heads[kind], tokens.axes(kind).columns),
            section,
            f"{_NAMES[kind]}: which tokens are read more (red) or less (blue) than by even "
            "attention, as a power of two. A token's mean is over the rows that can see it.",
        )
    for kind in ORDER:
        yield Picture(
            f"qkv/qkv_statistics_{kind}",
            head_figures.qkv_figure(analysis.qkv[kind]),
            "Queries, keys, values",
            f"{_NAMES[kind]}: how long the queries, keys and values of each head are. A point is a "
            "head, its height the mean length over the positions.",
        )


def _layers(analysis: PairAnalysis, tokens: PairTokens) -> Iterator[Picture]:
    section = "Layers"
    rows = analysis.logit_lens
    yield Picture(
        "qkv/logit_lens",
        layer_figures.lens_figure(
            rows,
            tokens.so_far,
            [[analysis.vocabulary[token] for token in row.tokens] for row in rows],
            "what the decoder has read last; in the cells, what would be written",
        ),
        section,
        "What would be written if the decoder ended at each depth, and how sure it would be. The "
        "stream there is sent through the last norm and the head (the logit lens).",
    )
    for stack in STACKS:
        yield Picture(
            f"qkv/layer_contributions_{stack}",
            layer_figures.contributions_figure(
                analysis.contributions[stack], analysis.ablation[stack]
            ),
            section,
            f"The {stack}. Left, how long what each part adds to the residual stream is, relative "
            "to the stream; right, how much the target's loss grows when the part adds nothing.",
        )
    for kind in ORDER:
        yield Picture(
            f"attention/head_ablation_{kind}",
            layer_figures.ablation_figure(analysis.ablation[kind]),
            section,
            f"{_NAMES[kind]}: how much the target's loss grows (red) or falls (blue) without each "
            "head. The head's output is set to zero and the model is run again.",
        )
    for stack in STACKS:
        yield Picture(
            f"mlp/sparsity_{stack}",
            layer_figures.sparsity_figure(analysis.mlp[stack]),
            section,
            f"How many hidden units of each MLP of the {stack} are silent on this pair. Near 0 is "
            "below a hundredth of the largest at its position; the strongest tenth is by their "
            "squares.",
        )
