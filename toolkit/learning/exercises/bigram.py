"""Page 3: counting pairs, softmax, and the loss."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from toolkit.learning.exercise import Exercise, Mistake


def pair_table(ids: Tensor, vocab_size: int) -> Tensor:
    """How often each token follows each: a table (V, V) of whole numbers.

    table[i, j] is how often id j comes right after id i.
    """
    table = torch.zeros(vocab_size, vocab_size, dtype=torch.long)
    for i, j in itertools.pairwise(ids):
        table[i, j] += 1
    return table


def softmax(logits: Tensor) -> Tensor:
    """Probabilities from logits, (…, V) to the same shape, each row for itself.

    exp(logit) divided by the sum of exp over the row, without torch's own softmax. Logits may be
    in the thousands: subtract the largest of each row first, which changes nothing else.
    """
    shifted = (logits - logits.max(dim=-1, keepdim=True).values).exp()
    return shifted / shifted.sum(dim=-1, keepdim=True)


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean over positions of −log(probability of the target), in nats: one number.

    Logits are (T, V), targets (T,). You may use torch.log_softmax.
    """
    log_probabilities = logits.log_softmax(dim=-1)  # (T, V)
    return -log_probabilities[torch.arange(len(targets)), targets].mean()


def _table_of_pairs(ids: Tensor, vocab_size: int, *, repeat: bool) -> Tensor:
    table = torch.zeros(vocab_size, vocab_size, dtype=torch.long)
    for i, j in itertools.pairwise(ids):
        table[i, j] = table[i, j] + 1 if repeat else 1
    return table


def _naive_softmax(logits: Tensor) -> Tensor:
    return logits.exp() / logits.exp().sum(dim=-1, keepdim=True)


def _picked(logits: Tensor, targets: Tensor) -> Tensor:
    return logits[torch.arange(len(targets)), targets]


_LOGITS = torch.tensor([[2.0, 1.0, 0.5], [0.0, 3.0, -1.0]])
_TARGETS = torch.tensor([0, 2])
_LARGE = torch.tensor([[1000.0, 1001.0], [-2000.0, -2001.0]])

EXERCISES = (
    Exercise(
        pair_table,
        inputs=(
            (torch.tensor([0, 1, 0, 1, 2]), 3),
            (torch.tensor([2, 2, 2, 0]), 3),
            (torch.tensor([3]), 4),
        ),
        mistakes=(
            Mistake(
                "Rows and columns are swapped: the row is the token before.",
                lambda ids, vocab_size: pair_table(ids, vocab_size).T,
            ),
            Mistake(
                "The last pair is missing: off by one at the end.",
                lambda ids, vocab_size: pair_table(ids[:-1], vocab_size),
            ),
            Mistake(
                "Each pair counts once only. `table[ids[:-1], ids[1:]] += 1` does that too: use a "
                "loop, or index_put_ with accumulate=True.",
                lambda ids, vocab_size: _table_of_pairs(ids, vocab_size, repeat=False),
            ),
        ),
    ),
    Exercise(
        softmax,
        inputs=((_LOGITS,), (torch.tensor([0.0, 1.0, 2.0]),), (_LARGE,)),
        mistakes=(
            Mistake(
                "Softmax over the wrong axis: each row must sum to 1, so sum over dim=-1.",
                lambda logits: logits.softmax(dim=0),
            ),
            Mistake(
                "exp(1000) is infinite in floating point, and inf / inf no number. Subtract the "
                "largest of each row first.",
                _naive_softmax,
            ),
            Mistake(
                "Not normalised: divide by the sum of the row.",
                lambda logits: (logits - logits.max(dim=-1, keepdim=True).values).exp(),
            ),
            Mistake("Not normalised: divide by the sum of the row.", torch.exp),
            Mistake(
                "Divided by the sum of everything; each row has its own sum (keepdim=True).",
                lambda logits: logits.flatten().softmax(dim=0).view_as(logits),
            ),
            Mistake(
                "Logits can be negative: divide their exp by its sum, not the logits themselves.",
                lambda logits: logits / logits.sum(dim=-1, keepdim=True),
            ),
        ),
    ),
    Exercise(
        loss,
        inputs=(
            (_LOGITS, _TARGETS),
            (torch.zeros(4, 5), torch.tensor([0, 1, 2, 4])),
            (torch.tensor([[1.0, -1.0], [0.5, 0.0], [2.0, 4.0]]), torch.tensor([1, 1, 0])),
        ),
        mistakes=(
            Mistake(
                "The sum over positions, not the mean: the loss would grow with the batch.",
                lambda logits, targets: loss(logits, targets) * len(targets),
            ),
            Mistake(
                "The sign: log of a probability is negative, the loss is not.",
                lambda logits, targets: -loss(logits, targets),
            ),
            Mistake(
                "In bits (log₂) instead of nats: use the natural logarithm.",
                lambda logits, targets: loss(logits, targets) / torch.tensor(2.0).log(),
            ),
            Mistake(
                "Softmax over the wrong axis: probabilities of one position sum to 1 (dim=-1).",
                lambda logits, targets: -_picked(logits.log_softmax(dim=0), targets).mean(),
            ),
            Mistake(
                "The mean over all T · V entries: pick the target's entry of each row first.",
                lambda logits, targets: -logits.log_softmax(dim=-1).mean(),
            ),
            Mistake(
                "The logarithm is missing: −log(p), not −p.",
                lambda logits, targets: -_picked(logits.softmax(dim=-1), targets).mean(),
            ),
            Mistake(
                "Logits are no probabilities yet: take log_softmax before you pick the targets.",
                lambda logits, targets: -_picked(logits, targets).mean(),
            ),
            Mistake(
                "log(mean of p) is not the mean of log(p): take the logarithm first.",
                lambda logits, targets: -_picked(logits.softmax(dim=-1), targets).mean().log(),
            ),
        ),
    ),
)
