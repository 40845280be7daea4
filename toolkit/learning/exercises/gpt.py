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
                "eps is missing under the root: the argument, not a number of your own.",
                lambda x, weight, eps: rms_norm(x, weight, 0.0),
            ),
            Mistake(
                "One mean of everything: each position is normalised for itself (dim=-1).",
                lambda x, weight, eps: x / (x.square().mean() + eps).sqrt() * weight,
            ),
            Mistake(
                "The shapes do not fit: with keepdim=True the mean of each position keeps an "
                "axis of length 1.",
                lambda x, weight, eps: x / (x.square().mean(dim=-1) + eps).sqrt() * weight,
            ),
            Mistake(
                "Nothing is squared: the mean is of x².",
                lambda x, weight, eps: x / (x.mean(dim=-1, keepdim=True) + eps).sqrt() * weight,
            ),
            Mistake(
                "The square of the mean instead of the mean of the squares.",
                lambda x, weight, eps: (
                    x / (x.mean(dim=-1, keepdim=True).square() + eps).sqrt() * weight
                ),
            ),
            Mistake(
                "The mean of |x| instead of the root of the mean of x².",
                lambda x, weight, eps: x / (x.abs().mean(dim=-1, keepdim=True) + eps) * weight,
            ),
            Mistake(
                "That is the standard deviation: RMSNorm does not subtract the mean.",
                lambda x, weight, eps: x / (x.var(dim=-1, keepdim=True) + eps).sqrt() * weight,
            ),
            Mistake(
                "The weight is added: multiply with it.",
                lambda x, weight, eps: _norm(x, torch.ones_like(weight), eps, -1) + weight,
            ),
            Mistake(
                "The weight comes last: normalise x, then multiply.",
                lambda x, weight, eps: _norm(x * weight, torch.ones_like(weight), eps, -1),
            ),
            Mistake(
                "Multiplied by the root: divide by it.",
                lambda x, weight, eps: (
                    x * (x.square().mean(dim=-1, keepdim=True) + eps).sqrt() * weight
                ),
            ),
            Mistake(
                "The weight is 1 + weight here: multiply with the weight itself.",
                lambda x, weight, eps: _norm(x, 1 + weight, eps, -1),
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
            Mistake(
                "What attention found replaces x: add it to x.",
                lambda x, attention, mlp, norm1, norm2: block(
                    attention(norm1(x)), lambda y: y * 0, mlp, norm1, norm2
                ),
            ),
            Mistake(
                "What the MLP found replaces the stream: add it.",
                lambda x, attention, mlp, norm1, norm2: mlp(norm2(x + attention(norm1(x)))),
            ),
            Mistake(
                "The norms are swapped: attention reads norm1 of x, the MLP norm2 of the sum.",
                lambda x, attention, mlp, norm1, norm2: block(x, attention, mlp, norm2, norm1),
            ),
            Mistake(
                "norm1 twice: the MLP reads norm2 of the sum.",
                lambda x, attention, mlp, norm1, norm2: block(x, attention, mlp, norm1, norm1),
            ),
            Mistake(
                "The MLP comes first, and with the norm of attention.",
                lambda x, attention, mlp, norm1, norm2: block(x, mlp, attention, norm1, norm2),
            ),
            Mistake(
                "The MLP is missing.",
                lambda x, attention, mlp, norm1, norm2: x + attention(norm1(x)),
            ),
            Mistake(
                "Attention is missing.",
                lambda x, attention, mlp, norm1, norm2: x + mlp(norm2(x)),
            ),
            Mistake(
                "Attention's part is lost at the end: the MLP's is added to the sum, not to "
                "the first x.",
                lambda x, attention, mlp, norm1, norm2: x + mlp(norm2(x + attention(norm1(x)))),
            ),
            Mistake(
                "The norms stand behind the parts: normalise what a part reads.",
                lambda x, attention, mlp, norm1, norm2: block(
                    x,
                    lambda y: norm1(attention(y)),
                    lambda y: norm2(mlp(y)),
                    lambda y: y,
                    lambda y: y,
                ),
            ),
            Mistake(
                "The MLP reads what attention found alone: it reads norm2 of the sum.",
                lambda x, attention, mlp, norm1, norm2: (
                    x + attention(norm1(x)) + mlp(norm2(attention(norm1(x))))
                ),
            ),
            Mistake(
                "The MLP reads what attention found alone, and that is not added: it reads "
                "norm2 of the sum x + attention.",
                lambda x, attention, mlp, norm1, norm2: x + mlp(norm2(attention(norm1(x)))),
            ),
            Mistake(
                "norm2 is missing: the MLP reads the norm of the sum.",
                lambda x, attention, mlp, norm1, norm2: block(
                    x, attention, mlp, norm1, lambda y: y
                ),
            ),
            Mistake(
                "norm1 is missing: attention reads the norm of x.",
                lambda x, attention, mlp, norm1, norm2: block(
                    x, attention, mlp, lambda y: y, norm2
                ),
            ),
            Mistake(
                "x itself is missing: each part adds to it.",
                lambda x, attention, mlp, norm1, norm2: block(x, attention, mlp, norm1, norm2) - x,
            ),
        ),
    ),
    Exercise(
        top_k_probabilities,
        inputs=((_LOGITS, 2, 1.0), (_LOGITS, 3, 0.5), (_LOGITS, 5, 2.0), (_LOGITS, 2, 2.0)),
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
            Mistake(
                "All logits are kept: only the k largest can be drawn.",
                lambda logits, k, temperature: (logits / temperature).softmax(dim=-1),
            ),
            Mistake(
                "Only the k probabilities: put them at their places among V (topk gives "
                ".indices), zeros elsewhere.",
                lambda logits, k, temperature: (
                    logits.topk(k).values.div(temperature).softmax(dim=-1)
                ),
            ),
            Mistake(
                "The probabilities are sorted: each one belongs at the place of its logit "
                "(topk gives .indices).",
                lambda logits, k, temperature: (
                    top_k_probabilities(logits, k, temperature).sort(descending=True).values
                ),
            ),
            Mistake(
                "The first k are kept instead of the k largest.",
                lambda logits, k, temperature: (
                    (logits / temperature)
                    .masked_fill(torch.arange(len(logits)) >= k, -torch.inf)
                    .softmax(dim=-1)
                ),
            ),
            Mistake(
                "The k largest are all equally likely here: give them a softmax of their logits.",
                lambda logits, k, temperature: _at(logits, k, logits * 0),
            ),
            Mistake(
                "The softmax is missing: these are still logits.",
                lambda logits, k, temperature: torch.where(
                    top_k_probabilities(logits, k, 1.0) > 0, logits / temperature, -torch.inf
                ),
            ),
            Mistake(
                "The probabilities are divided by the temperature: divide the logits, before "
                "the softmax.",
                lambda logits, k, temperature: top_k_probabilities(logits, k, 1.0) / temperature,
            ),
            Mistake(
                "A softmax of probabilities: give the k largest logits a softmax, once.",
                lambda logits, k, temperature: _at(
                    logits, k, (logits / temperature).softmax(dim=-1)
                ),
            ),
            Mistake(
                "Only the largest is kept: k of them are.",
                lambda logits, k, temperature: _at(logits, 1, logits),
            ),
            Mistake(
                "The k-th largest has the index k − 1, since the first has 0.",
                lambda logits, k, temperature: _at(logits, k, logits.topk(k).values[k]),
            ),
            Mistake(
                "topk gives two things, values and places: take its .values or .indices.",
                lambda logits, k, temperature: logits < logits.topk(k),
            ),
            Mistake(
                "The k-th largest of other numbers: divide both by the temperature, or neither.",
                lambda logits, k, temperature: (
                    (logits / temperature)
                    .masked_fill(logits / temperature < logits.topk(k).values[-1], -torch.inf)
                    .softmax(dim=-1)
                ),
            ),
        ),
    ),
)
