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
    table = torch.zeros(vocab_size, vocab_size)
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
_LARGE = torch.tensor([[1000.0, 1001.0, -1000.0], [-2000.0, -2001.0, -2003.0]])

EXERCISES = (
    Exercise(
        pair_table,
        inputs=(
            (torch.tensor([0, 1, 0, 1, 2]), 3),
            (torch.tensor([2, 2, 2, 0]), 4),
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
            Mistake(
                "Counts, not probabilities: do not divide by the sums yet.",
                lambda ids, vocab_size: (
                    pair_table(ids, vocab_size)
                    / pair_table(ids, vocab_size).sum(dim=1, keepdim=True)
                ),
            ),
            Mistake(
                "All rows are the same list: [[0] * V] * V has one row, V times. Make each "
                "row anew.",
                lambda ids, vocab_size: (
                    pair_table(ids, vocab_size).sum(dim=0).expand(vocab_size, vocab_size)
                ),
            ),
            Mistake(
                "The last token has no next one: ids[-1] is the last token, not the one "
                "before the first.",
                lambda ids, vocab_size: pair_table(torch.cat([ids[-1:], ids]), vocab_size),
            ),
            Mistake(
                "Each pair counts in one direction: table[i, j] where j comes after i.",
                lambda ids, vocab_size: pair_table(ids, vocab_size) + pair_table(ids, vocab_size).T,
            ),
            Mistake(
                "A row and a column for every token of the vocabulary, also for one that does "
                "not occur here.",
                lambda ids, vocab_size: pair_table(ids, int(ids.max()) + 1),
            ),
            Mistake(
                "Begin at 0: a pair that never occurs has the count 0.",
                lambda ids, vocab_size: pair_table(ids, vocab_size) + 1,
            ),
            Mistake(
                "You go on by two. Pairs overlap: each token but the first and last is in two.",
                lambda ids, vocab_size: sum(
                    (pair_table(ids[i : i + 2], vocab_size) for i in range(0, len(ids), 2)),
                    torch.zeros(vocab_size, vocab_size),
                ),
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
                "largest of each row first (its value, not its place).",
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
            Mistake(
                "The shapes do not fit: with keepdim=True the largest and the sum of each row "
                "keep an axis of length 1, and are divided row by row.",
                lambda logits: logits.exp() / logits.exp().sum(dim=-1),
            ),
            Mistake(
                "max(dim=…) gives two things, values and places: take its .values.",
                lambda logits: logits - logits.max(dim=-1, keepdim=True),
            ),
            Mistake(
                "Use dim=-1, the last axis: dim=1 is the last one of two axes only.",
                lambda logits: logits.softmax(dim=1),
            ),
            Mistake(
                "Summed over the wrong axis: each row must sum to 1, so dim=-1.",
                lambda logits: (
                    (logits - logits.max(dim=-1, keepdim=True).values).exp()
                    / (logits - logits.max(dim=-1, keepdim=True).values)
                    .exp()
                    .sum(dim=0, keepdim=True)
                ),
            ),
            Mistake(
                "The largest of all is subtracted; a row far below it becomes 0 / 0. Each row "
                "has its own (dim=-1).",
                lambda logits: (
                    (logits - logits.max()).exp()
                    / (logits - logits.max()).exp().sum(dim=-1, keepdim=True)
                ),
            ),
            Mistake(
                "These are logarithms: the probabilities are their exp.",
                lambda logits: logits.log_softmax(dim=-1),
            ),
            Mistake(
                "The sign: subtract the largest from the logits, not the other way round.",
                lambda logits: softmax(-logits),
            ),
            Mistake(
                "That is a sigmoid of each number: divide exp by the sum of its row.",
                lambda logits: logits.sigmoid(),
            ),
            Mistake(
                "With the smallest or the mean subtracted, exp still overflows: subtract the "
                "largest.",
                lambda logits: _naive_softmax(logits - logits.min(dim=-1, keepdim=True).values),
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
            Mistake(
                "One number for each position: take the mean of them.",
                lambda logits, targets: -_picked(logits.log_softmax(dim=-1), targets),
            ),
            Mistake(
                "[:, targets] takes these columns of every row. Row t has its own target: "
                "[torch.arange(T), targets].",
                lambda logits, targets: -logits.log_softmax(dim=-1)[:, targets].mean(),
            ),
            Mistake(
                "An index of targets alone takes rows. Row t has its own target: "
                "[torch.arange(T), targets].",
                lambda logits, targets: -logits.log_softmax(dim=-1)[targets].mean(),
            ),
            Mistake(
                "Softmax twice: cross_entropy and log_softmax take logits, not probabilities.",
                lambda logits, targets: loss(logits.softmax(dim=-1), targets),
            ),
            Mistake(
                "That is the perplexity, exp of the loss.",
                lambda logits, targets: loss(logits, targets).exp(),
            ),
            Mistake(
                "Divided by T · V: the mean is over the T targets, not over the zeros beside them.",
                lambda logits, targets: loss(logits, targets) / logits.size(-1),
            ),
            Mistake(
                "With log10 instead of nats: use the natural logarithm.",
                lambda logits, targets: loss(logits, targets) / torch.tensor(10.0).log(),
            ),
            Mistake(
                "The logarithm of a negative logit is no number: take log_softmax of the logits.",
                lambda logits, targets: -_picked(logits.log(), targets).mean(),
            ),
            Mistake(
                "Targets are next tokens already: do not shift them again.",
                lambda logits, targets: loss(logits[:-1], targets[1:]),
            ),
            Mistake(
                "The logarithm is missing: −log(p), not 1 − p.",
                lambda logits, targets: (1 - _picked(logits.softmax(dim=-1), targets)).mean(),
            ),
            Mistake(
                "That is the share of right guesses: the loss asks for the probability of the "
                "target.",
                lambda logits, targets: (logits.argmax(dim=-1) == targets).float().mean(),
            ),
        ),
    ),
)
