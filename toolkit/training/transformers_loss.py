"""The loss that transformers' `Trainer` makes small, where its model's own will not do.

That is so for pairs, because the loss of transformers' encoder-decoders is the mean of each batch,
however many targets that has, and with label smoothing. The smoothing is transformers' own
`LabelSmoother`, whose formula is that of `losses`; its Trainer would apply it to `labels` that it
shifts itself, and ours are shifted already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.models.base import IGNORE_INDEX
from toolkit.models.hf_twin import HuggingFaceTwin

if TYPE_CHECKING:
    from toolkit.data.training_data import Batch


class StepLoss:
    """A batch's part of the mean over the targets of all batches of a step: what transformers'
    Trainer takes as `compute_loss_func`.

    Attributes:
        plain: the same part of the plain cross-entropy, of the last batch, without a gradient.
    """

    plain: Tensor

    def __init__(self, label_smoothing: float) -> None:
        self._smoother: Any = None
        if label_smoothing:
            from transformers.trainer_pt_utils import LabelSmoother

            self._smoother = LabelSmoother(label_smoothing)

    def __call__(self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
        """The loss of one batch, in nats.

        Args:
            outputs: of the model, with logits (B, T, V).
            labels: (B, T), shifted already; -100 does not count.
            num_items_in_batch: how many targets all batches of the step have.
        """
        with torch.set_grad_enabled(self._smoother is None):
            flat = outputs.logits.float().flatten(0, 1)  # (B·T, V)
            plain = F.cross_entropy(flat, labels.flatten(), reduction="sum") / num_items_in_batch
        # A copy: what is returned is scaled in place.
        self.plain = plain.detach().clone()
        if self._smoother is None:
            return plain
        smoothed: Tensor = self._smoother(outputs, labels, num_items_in_batch=num_items_in_batch)
        return smoothed


def loss_of_twin(twin: HuggingFaceTwin, batch: Batch, label_smoothing: float) -> Tensor:
    """The mean loss of one batch of ours with which transformers trains the twin, in nats."""
    if not label_smoothing:
        return twin.loss(*batch)
    ids, labels, *source = batch  # (B, T), (B, T), and (B, S) if any
    count = (labels != IGNORE_INDEX).sum()
    return StepLoss(label_smoothing)(twin.hf(**twin.read_inputs(ids, *source)), labels, count)
