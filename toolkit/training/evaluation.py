"""The loss over a whole held-out part."""

from __future__ import annotations

from collections.abc import Callable

import torch

from toolkit.data import TokenDataset, evaluation_batches
from toolkit.models import LanguageModel
from toolkit.training.devices import autocast

_EVAL_TOKENS = 8192  # in a batch: enough to keep two cores busy


@torch.inference_mode()
def validation_loss(
    model: LanguageModel,
    dataset: TokenDataset,
    *,
    dtype: torch.dtype = torch.float32,
    stop: Callable[[], bool] = lambda: False,
) -> float | None:
    """The mean loss in nats over every token of the validation part but the first.

    The model is measured in evaluation mode, where it is, and left in training mode. None if
    `stop` said so on the way.
    """
    model.eval()
    total, count = 0.0, 0
    batches = evaluation_batches(
        dataset,
        batch_size=max(1, _EVAL_TOKENS // model.block_size),
        block_size=model.block_size,
        device=model.device,
    )
    try:
        for x, y in batches:
            if stop():
                return None
            with autocast(model.device, dtype):
                loss = model(x, y).loss
            assert loss is not None
            targets = int((y >= 0).sum())
            total += float(loss) * targets
            count += targets
    finally:
        model.train()
    return total / count
