"""Attention matrices in numbers: entropy, span, and a score for each kind of head.

Rows are queries and sum to 1; `visible` says which keys each query may see. Early queries see few
keys, so that a plain mean over queries would say that every head looks at the first token: each
measure is compared with what attention spread evenly over the visible keys would get,

    above chance = (value − value of even attention) / (1 − value of even attention)

which is 0 for a head that prefers nothing and 1 for one that does nothing else (as Cohen's kappa,
1960, corrects agreement).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

SPAN_SHARE = 0.9
REPEATED_LENGTH, REPEATED_BATCH = 32, 4
PATTERN_THRESHOLD = 0.4
LOCAL_THRESHOLD = 0.5
FOCUSED_THRESHOLD = 0.5
GLOBAL_THRESHOLD = 0.8


@dataclass(frozen=True)
class Kind:
    """A class of heads: what is measured, from where, and from which value on it is one."""

    name: str
    measure: str
    source: str
    threshold: float


KINDS: tuple[Kind, ...] = (
    Kind(
        "induction",
        "attention to the token after an earlier copy of the current one, on random tokens that "
        "are repeated once",
        "Olsson et al. 2022, arXiv:2209.11895",
        PATTERN_THRESHOLD,
    ),
    Kind(
        "duplicate-token",
        "attention to earlier copies of the current token, on the same repeated tokens",
        "Wang et al. 2022, arXiv:2211.00593",
        PATTERN_THRESHOLD,
    ),
    Kind(
        "previous-token",
        "attention to the token just before",
        "Clark et al. 2019, arXiv:1906.04341; Olsson et al. 2022, arXiv:2209.11895",
        PATTERN_THRESHOLD,
    ),
    Kind(
        "first-token sink",
        "attention to the first token, of the queries after it that see it",
        "Xiao et al. 2023, arXiv:2309.17453",
        PATTERN_THRESHOLD,
    ),
    Kind(
        "local",
        "1 − mean distance to what is attended to / the same of even attention",
        "the distance: Vig and Belinkov 2019, arXiv:1906.04284",
        LOCAL_THRESHOLD,
    ),
    Kind(
        "focused",
        "the largest weight of a query (its confidence)",
        "Voita et al. 2019, arXiv:1905.09418",
        FOCUSED_THRESHOLD,
    ),
    Kind(
        "global",
        "entropy / ln of the number of visible keys: 1 for even attention",
        "broad heads: Clark et al. 2019, arXiv:1906.04341",
        GLOBAL_THRESHOLD,
    ),
)
"""In the order in which `classify` asks. Where a class begins is our choice."""

MIXED = "mixed"
_SPECIFIC = ("induction", "duplicate-token", "previous-token", "first-token sink")


@dataclass(frozen=True)
class Score:
    """A measure of one head: its value, and how far it is above chance (None: it cannot be told,
    because nothing in the text could show it)."""

    value: float | None
    above_chance: float | None


def entropy(weights: Tensor) -> Tensor:
    """How spread out each row is, in nats: (…, T, S) to (…, T), −Σ w ln w.

    >>> round(entropy(torch.full((1, 4), 0.25)).item(), 4)  # ln 4
    1.3863
    """
    nats: Tensor = torch.special.entr(weights).sum(-1)
    return nats


def even_attention(visible: Tensor) -> Tensor:
    """Weights (T, S) that are the same for all visible keys."""
    seen = visible.to(torch.float64)
    return seen / seen.sum(-1, keepdim=True)


def received(weights: Tensor, visible: Tensor) -> Tensor:
    """How much attention each position gets from the queries that can see it: (H, T, S) to (H, S).

    The mean over those queries alone; a mean over all queries would favour the first positions,
    which everybody sees.

    >>> received(torch.eye(3)[None], torch.ones(3, 3).tril().bool())[0].tolist()[:2]
    [0.3333333432674408, 0.5]
    """
    return weights.sum(-2) / visible.sum(-2).clamp(min=1)


def received_above_even(weights: Tensor, visible: Tensor) -> Tensor:
    """`received`, divided by what even attention would give: 1 where a position is not special."""
    even = received(even_attention(visible)[None], visible)
    return received(weights.double(), visible) / even


def distance(weights: Tensor) -> Tensor:
    """Mean distance from a query to what it attends to, in tokens: (H, T, S) to (H, T)."""
    t, s = weights.shape[-2:]
    back = torch.arange(t)[:, None] - torch.arange(s)[None, :]  # (T, S)
    return (weights * back.to(weights)).sum(-1)


def span(weights: Tensor, share: float = SPAN_SHARE) -> Tensor:
    """How many of the latest positions, its own included, hold `share` of a query's attention:
    (H, T, T) to (H, T).

    >>> span(torch.tensor([[[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]]])).tolist()
    [[1, 2, 3]]
    """
    t = weights.size(-1)
    # Column j of row t becomes the key at distance j.
    back = torch.arange(t)[:, None] - torch.arange(t)[None, :]  # (T, T)
    by_distance = weights.gather(-1, back.clamp(min=0).expand_as(weights))
    by_distance = by_distance.masked_fill(back < 0, 0.0)
    # A sum of float32 weights may end a little below 1.
    reached = by_distance.cumsum(-1) >= share - 1e-5
    return reached.int().argmax(-1) + 1


def text_scores(weights: Tensor, visible: Tensor) -> list[dict[str, Score]]:
    """The scores of each head that any text shows: weights (H, T, T), at least 2 tokens."""
    weights, even = weights.double().cpu(), even_attention(visible.cpu())[None]
    visible = visible.cpu()
    previous = [w.diagonal(-1, -2, -1).mean(-1) for w in (weights, even)]
    sees_first = visible[1:, 0]
    first = [w[:, 1:, 0][:, sees_first].mean(-1) for w in (weights, even)]
    largest = [w[:, 1:].amax(-1).mean(-1) for w in (weights, even)]
    far, even_far = (distance(w)[:, 1:].mean(-1) for w in (weights, even))
    local = 1.0 - far / even_far
    many = visible.sum(-1) > 1
    widest = visible.sum(-1)[many].double().log()  # (T)
    broad = (entropy(weights)[:, many] / widest).mean(-1)
    found = []
    for head in range(weights.size(0)):
        found.append(
            {
                "previous-token": _score(previous[0][head], previous[1][0]),
                "first-token sink": _score(first[0][head], first[1][0]),
                "local": Score(float(local[head]), float(local[head])),
                "focused": _score(largest[0][head], largest[1][0]),
                "global": Score(float(broad[head]), float(broad[head])),
            }
        )
    return found


def repeated_tokens(vocab_size: int, block_size: int, seed: int) -> Tensor:
    """Random tokens, repeated once, on which `repeated_scores` are measured: (B, 2·n).

    The tokens of a sequence differ: each of the second half has one earlier copy.

    >>> repeated_tokens(3, 100, seed=0).shape
    torch.Size([4, 6])
    """
    length = min(REPEATED_LENGTH, vocab_size, block_size // 2)
    generator = torch.Generator().manual_seed(seed)
    once = torch.stack(
        [torch.randperm(vocab_size, generator=generator)[:length] for _ in range(REPEATED_BATCH)]
    )
    return torch.cat((once, once), dim=1)


def repeated_scores(weights: Tensor, visible: Tensor, ids: Tensor) -> list[dict[str, Score]]:
    """Induction and duplicate-token scores of each head, on tokens of which some come again.

    Args:
        weights: (B, H, T, T).
        visible: (T, T).
        ids: (B, T).
    """
    weights, ids = weights.double().cpu(), ids.cpu()
    same = (ids[:, :, None] == ids[:, None, :]).tril(-1) & visible.cpu()  # (B, T, S): copies
    after = torch.zeros_like(same)
    after[:, :, 1:] = (ids[:, :, None] == ids[:, None, :-1]).tril(-1)  # the token before s is t's
    after &= visible.cpu()
    even = even_attention(visible.cpu()).expand(ids.size(0), 1, -1, -1)
    found = [dict[str, Score]() for _ in range(weights.size(1))]
    for name, where in (("induction", after), ("duplicate-token", same)):
        rows = where.any(-1)  # (B, T)
        values = [(w * where[:, None]).sum(-1).transpose(1, 2)[rows] for w in (weights, even)]
        for head, scores in enumerate(found):
            if not rows.any():
                scores[name] = Score(None, None)
            else:
                scores[name] = _score(values[0][:, head].mean(), values[1][:, 0].mean())
    return found


def classify(scores: Mapping[str, Score]) -> str:
    """The class of a head by its scores above chance: the strongest of those that look for
    something in particular, else local, focused or global, else "mixed"."""
    above = {name: score.above_chance or 0.0 for name, score in scores.items()}
    strongest = max(_SPECIFIC, key=lambda name: above.get(name, 0.0))
    if above.get(strongest, 0.0) >= PATTERN_THRESHOLD:
        return strongest
    for kind in KINDS:
        if kind.name not in _SPECIFIC and above.get(kind.name, 0.0) >= kind.threshold:
            return kind.name
    return MIXED


def divergence(weights: Tensor) -> Tensor:
    """How differently heads attend: (H, T, T) to (H, H), the mean over queries of the
    Jensen-Shannon divergence in bits, 0 for the same and 1 for heads that share no key.

    Clark et al. 2019, arXiv:1906.04341, section 6, compare heads by it.
    """
    weights = weights.double()
    own = entropy(weights)  # (H, T)
    rows = []
    for head in range(weights.size(0)):
        middle = entropy((weights + weights[head]) / 2)  # (H, T)
        rows.append((middle - (own + own[head]) / 2).mean(-1))
    bits = torch.stack(rows) / torch.log(torch.tensor(2.0, dtype=torch.float64))
    return bits.clamp(min=0.0)  # rounding may leave −1e-17


def _score(value: Tensor, chance: Tensor) -> Score:
    """None where the value is a mean over nothing."""
    if not bool(value.isfinite()):
        return Score(None, None)
    above = (value - chance) / (1.0 - chance) if chance < 1.0 else torch.zeros(())
    return Score(float(value), float(above))
