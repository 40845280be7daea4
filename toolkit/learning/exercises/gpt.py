"""Page 6: a norm, a block, and drawing the next token."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from toolkit.learning.exercise import Exercise, Mistake


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Bring each position to a root mean square of 1, (…, C) to the same shape.

    x / √(mean over the channels of x² + eps), times weight (C,).
    """
    return x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weight


def block(
    x: Tensor,
    attention: Callable[[Tensor], Tensor],
    mlp: Callable[[Tensor], Tensor],
    norm1: Callable[[Tensor], Tensor],
    norm2: Callable[[Tensor], Tensor],
) -> Tensor:
    """One block of a transformer, (T, C) to (T, C); its parts are functions of (T, C).

    First attention of norm1 of x, added to x; then the MLP of norm2 of that sum, added to it.
    """
    x = x + attention(norm1(x))
    return x + mlp(norm2(x))


def top_k_probabilities(logits: Tensor, k: int, temperature: float) -> Tensor:
    """What to draw the next token from: logits (V,) to probabilities (V,).

    Divide the logits by the temperature, keep the k largest, and give those a softmax; all others
    have the probability 0. No two logits are equal.
    """
    kept = logits.topk(k).indices
    scores = torch.full_like(logits, -torch.inf)
    scores[kept] = logits[kept] / temperature
    return scores.softmax(dim=-1)


def _norm(x: Tensor, weight: Tensor, eps: float, dim: int) -> Tensor:
    return x / (x.square().mean(dim=dim, keepdim=True) + eps).sqrt() * weight


def _layer_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return rms_norm(x - x.mean(dim=-1, keepdim=True), weight, eps)


def _parallel(x: Tensor, attention: _Part, mlp: _Part, norm1: _Part, norm2: _Part) -> Tensor:
    return x + attention(norm1(x)) + mlp(norm2(x))


def _no_residual(x: Tensor, attention: _Part, mlp: _Part, norm1: _Part, norm2: _Part) -> Tensor:
    return mlp(norm2(attention(norm1(x))))


def _norm_after(x: Tensor, attention: _Part, mlp: _Part, norm1: _Part, norm2: _Part) -> Tensor:
    x = norm1(x + attention(x))
    return norm2(x + mlp(x))


def _normed_stream(x: Tensor, attention: _Part, mlp: _Part, norm1: _Part, norm2: _Part) -> Tensor:
    x = norm1(x)
    x = x + attention(x)
    x = norm2(x)
    return x + mlp(x)


def _without_norms(x: Tensor, attention: _Part, mlp: _Part, norm1: _Part, norm2: _Part) -> Tensor:
    x = x + attention(x)
    return x + mlp(x)


def _mlp_first(x: Tensor, attention: _Part, mlp: _Part, norm1: _Part, norm2: _Part) -> Tensor:
    return block(x, mlp, attention, norm2, norm1)


def _at(logits: Tensor, k: int, scores: Tensor) -> Tensor:
    """A softmax of the scores, over the k largest logits."""
    hidden = torch.ones_like(logits).bool()
    hidden[logits.topk(k).indices] = False
    return scores.masked_fill(hidden, -torch.inf).softmax(dim=-1)


def _of_all(logits: Tensor, k: int, temperature: float) -> Tensor:
    probabilities = (logits / temperature).softmax(dim=-1)
    return torch.where(top_k_probabilities(logits, k, 1.0) > 0, probabilities, 0.0)


_Part = Callable[[Tensor], Tensor]


def mean_of_past(x: Tensor) -> Tensor:
    """Something that attends."""
    return x.cumsum(dim=0) / torch.arange(1, len(x) + 1)[:, None]


def squared(x: Tensor) -> Tensor:
    """Something that works on each position alone."""
    return x.square() - 1


def halved(x: Tensor) -> Tensor:
    """Something in the place of a norm."""
    return x / 2


def shifted(x: Tensor) -> Tensor:
    """Something else in the place of a norm."""
    return x + 1


_X = torch.tensor([[1.0, 2.0, 2.0], [3.0, -4.0, 0.0]])
_WEIGHT = torch.tensor([1.0, 2.0, 0.5])
_LOGITS = torch.tensor([1.0, 3.0, 0.0, 2.0, -1.0])

EXERCISES = (
    Exercise(
        rms_norm,
        inputs=(
            (_X, torch.ones(3), 0.0),
            (_X, _WEIGHT, 0.01),
            (torch.tensor([[[0.0, 2.0], [4.0, 4.0]]]), torch.tensor([1.0, -1.0]), 0.5),
        ),
        mistakes=(
            Mistake(
                "The mean over the wrong axis: each position is normalised for itself, over its "
                "channels (dim=-1).",
                lambda x, weight, eps: _norm(x, weight, eps, -2),
            ),
            Mistake(
                "The sum of the squares instead of their mean.",
                lambda x, weight, eps: (
                    x / (x.square().sum(dim=-1, keepdim=True) + eps).sqrt() * weight
                ),
            ),
            Mistake(
                "The root is missing: divide by √(mean square).",
                lambda x, weight, eps: x / (x.square().mean(dim=-1, keepdim=True) + eps) * weight,
            ),
            Mistake(
                "That is LayerNorm: RMSNorm does not subtract the mean.",
                _layer_norm,
            ),
            Mistake(
                "The weight is missing: multiply each channel by its own.",
                lambda x, weight, eps: rms_norm(x, torch.ones_like(weight), eps),
            ),
            Mistake(
                "eps stands outside of the root: √(mean + eps), not √mean + eps.",
                lambda x, weight, eps: (
                    x / (x.square().mean(dim=-1, keepdim=True).sqrt() + eps) * weight
                ),
            ),
            Mistake(
                "eps is missing under the root.",
                lambda x, weight, eps: rms_norm(x, weight, 0.0),
            ),
        ),
    ),
    Exercise(
        block,
        inputs=(
            (torch.tensor([[1.0], [2.0]]), mean_of_past, squared, halved, shifted),
            (_X, mean_of_past, squared, shifted, halved),
        ),
        mistakes=(
            Mistake("Nothing is added to x: each part adds to the stream.", _no_residual),
            Mistake(
                "The MLP reads the x from before attention: it comes after, and reads the sum.",
                _parallel,
            ),
            Mistake(
                "The norms come after the sums (post-norm): normalise what a part reads.",
                _norm_after,
            ),
            Mistake(
                "x itself is replaced by its norm: only what a part reads is normalised.",
                _normed_stream,
            ),
            Mistake("The norms are missing.", _without_norms),
            Mistake("The MLP comes first: attention does.", _mlp_first),
        ),
    ),
    Exercise(
        top_k_probabilities,
        inputs=((_LOGITS, 2, 1.0), (_LOGITS, 3, 0.5), (_LOGITS, 5, 2.0)),
        mistakes=(
            Mistake(
                "Not normalised: what is left of the k sums to less than 1. Mask the logits with "
                "−∞ before the softmax.",
                _of_all,
            ),
            Mistake(
                "Multiplied by the temperature: divide. A low temperature makes likely tokens "
                "likelier.",
                lambda logits, k, temperature: _at(logits, k, logits * temperature),
            ),
            Mistake(
                "The temperature is missing.",
                lambda logits, k, temperature: _at(logits, k, logits),
            ),
            Mistake(
                "The k smallest are kept instead of the k largest.",
                lambda logits, k, temperature: _at(-logits, k, logits / temperature),
            ),
            Mistake(
                "One too few is kept: ≥ the k-th largest, not >.",
                lambda logits, k, temperature: _at(logits, k - 1, logits / temperature),
            ),
            Mistake(
                "One too many is kept.",
                lambda logits, k, temperature: _at(
                    logits, min(k + 1, len(logits)), logits / temperature
                ),
            ),
            Mistake(
                "Masked with 0: exp(0) is 1, so the others can still be drawn. Use −∞.",
                lambda logits, k, temperature: torch.where(
                    top_k_probabilities(logits, k, 1.0) > 0, logits / temperature, 0.0
                ).softmax(dim=-1),
            ),
        ),
    ),
)
