"""What an `Inspector` finds, as data: the parts of analysis_report.json.

Every number is of one text (and, where it says so, of random tokens); layers and heads count
from 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.inspection.patterns import Score


@dataclass(frozen=True)
class VectorStatistics:
    """Queries, keys or values of one head, over all positions and channels.

    Attributes:
        layer, head: which; keys and values of grouped heads count the groups.
        which: "q", "k" or "v", as the attention used them.
        mean, std, min, max: of the numbers.
        norm: the mean length of a position's vector.
    """

    layer: int
    head: int
    which: str
    mean: float
    std: float
    min: float
    max: float
    norm: float


@dataclass(frozen=True)
class HeadFinding:
    """How one head attends.

    Attributes:
        layer, head: which.
        kind: its class (`patterns.classify`).
        scores: by the name of a class, its value and how far it is above even attention.
        entropy: mean over queries, in nats.
        distance: mean distance to what is attended to, in tokens.
        span: mean number of latest positions that hold 90% of a query's attention.
        received: for each position, the mean attention from the queries that see it.
        received_above_even: the same, divided by what even attention would give.
    """

    layer: int
    head: int
    kind: str
    scores: dict[str, Score]
    entropy: float
    distance: float
    span: float
    received: tuple[float, ...]
    received_above_even: tuple[float, ...]


@dataclass(frozen=True)
class Redundancy:
    """How differently heads attend.

    Attributes:
        heads: (layer, head) of each row.
        divergence: the mean Jensen-Shannon divergence in bits between each two: 0 is the same.
    """

    heads: tuple[tuple[int, int], ...]
    divergence: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Contribution:
    """What a part adds to the residual stream.

    Attributes:
        layer, part: which; the part is "attn" or "mlp".
        update_norm: mean length of what is added to a position.
        stream_norm: mean length of the stream before.
        ratio: mean of one by the other, position by position.
        cosine: mean cosine of the two: below 0 the part takes something away.
    """

    layer: int
    part: str
    update_norm: float
    stream_norm: float
    ratio: float
    cosine: float


@dataclass(frozen=True)
class LensRow:
    """What the model would say if the stream ended at a point (the logit lens).

    Attributes:
        point: of the stream.
        tokens: for each position the likeliest next one.
        probabilities: theirs.
        loss: mean cross-entropy in nats of the text's own next tokens.
        kl_to_last: mean Kullback-Leibler divergence of the last point's prediction from this one's,
            in nats.
    """

    point: str
    tokens: tuple[int, ...]
    probabilities: tuple[float, ...]
    loss: float
    kl_to_last: float


@dataclass(frozen=True)
class AblationFinding:
    """The loss without parts, in nats a token.

    Attributes:
        loss: of the whole model on the text.
        without_head: for each layer and head.
        without_part: for each layer, by "attn", "mlp" and "layer".
    """

    loss: float
    without_head: tuple[tuple[float, ...], ...]
    without_part: tuple[dict[str, float], ...]


@dataclass(frozen=True)
class ParameterGradient:
    """The gradient of the text's loss by one parameter.

    Attributes:
        name, shape: of the parameter.
        grad_norm, weight_norm: lengths of gradient and weights.
        update_ratio: learning rate · grad_norm / weight_norm, how far a plain gradient step moves
            it; None where the weights are 0.
        flag: "dead" (no gradient at all), "exploding" (not finite, or its length for each number
            above 100 times the median parameter's), or "".
    """

    name: str
    shape: tuple[int, ...]
    grad_norm: float
    weight_norm: float
    update_ratio: float | None
    flag: str


@dataclass(frozen=True)
class SparsityFinding:
    """How few of an MLP's hidden units speak at a time (Li et al. 2022, arXiv:2210.06313).

    Attributes:
        zero: share of activations that are exactly 0.
        near_zero: share below a hundredth of the position's largest.
        dead_units: share of units that are near zero at every position.
        top_tenth: share of the squared activations that the strongest tenth of units holds.
    """

    layer: int
    zero: float
    near_zero: float
    dead_units: float
    top_tenth: float


@dataclass(frozen=True)
class Neighbours:
    """The tokens whose embeddings point the same way: (id, cosine), the nearest first."""

    token: int
    nearest: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class EmbeddingFinding:
    """The geometry of the token embedding.

    Attributes:
        neighbours: of each different token of the text.
        tokens: the same tokens, for the rows of `coordinates`.
        coordinates: on the first two principal components of all embeddings, which are centred.
        explained: the share of the variance of each component, the first ten.
    """

    neighbours: tuple[Neighbours, ...]
    tokens: tuple[int, ...]
    coordinates: tuple[tuple[float, float], ...]
    explained: tuple[float, ...]
