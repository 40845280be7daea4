"""The loss that is made small in training, where it is not the plain cross-entropy.

Label smoothing (Szegedy et al. 2016, arXiv:1512.00567, section 7): the target is no longer one
token alone, but one token with 1 − ε and the whole vocabulary with ε together.

    loss = (1 − ε) · (−log p[target]) + ε · mean over v of (−log p[v])

What is reported is −log p[target], of training and of validation alike: the two stay comparable,
and a loss means the same in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.models import LMOutput
from toolkit.models.base import IGNORE_INDEX
from toolkit.training.distributed import World


def training_losses(
    forward: Callable[..., LMOutput],
    ids: Tensor,
    targets: Tensor,
    label_smoothing: float,
    *source: Tensor,
) -> tuple[Tensor, Tensor]:
    """One forward pass: the loss to differentiate, and the plain one to report.

    Args:
        forward: a model, or what computes the same faster.
        ids, targets: (B, T); a target of -100 does not count.
        label_smoothing: ε; with 0 both losses are the model's own.
        source: (B, S), for a model that takes one.
    """
    if not label_smoothing:
        loss = forward(ids, targets, *source).loss
        assert loss is not None
        return loss, loss
    return smoothed_losses(forward(ids, None, *source).logits, targets, label_smoothing)


def smoothed_losses(logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The smoothed and the plain cross-entropy in nats, two float32 scalars, from one softmax.

    Args:
        logits: (B, T, V).
        targets: (B, T); -100 does not count. Where none counts the mean is over nothing: nan.
    """
    logprobs = logits.float().flatten(0, 1).log_softmax(dim=-1)  # (B·T, V)
    flat = targets.long().reshape(-1)  # (B·T)
    plain = F.nll_loss(logprobs, flat, ignore_index=IGNORE_INDEX)
    counts = flat != IGNORE_INDEX
    # At least 1: 0/0 would be a nan in the gradient as well, of a batch that has no part in it.
    uniform = -(logprobs.mean(dim=-1) * counts).sum() / counts.sum().clamp(min=1)
    return (1 - smoothing) * plain + smoothing * uniform, plain


def target_shares(targets: Sequence[Tensor], world: World | None = None) -> Tensor:
    """How much the mean loss of each batch counts in the mean over the targets of all: (N).

    As long as every target counts it is 1/N. Where some do not, the mean of the batches' means
    would not be the loss of the one large batch. With a `world`, all are those of its processes
    together, and what has to be averaged over the processes, as gradients are, is the sum that
    each one makes.

    >>> target_shares([torch.tensor([[1, 2, 3]]), torch.tensor([[4, -100, -100]])]).tolist()
    [0.75, 0.25]
    """
    counts = torch.stack([(batch != IGNORE_INDEX).sum() for batch in targets])
    return counts / (world or World()).mean(counts.sum())


def share_of_loss(loss: Tensor, share: Tensor) -> Tensor:
    """`loss · share`, and 0 for a batch without targets, whose mean is over nothing: nan."""
    return torch.where(share > 0, loss * share, 0.0)
