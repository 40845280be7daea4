"""The loss over a whole held-out part, and how long measuring it takes."""

from __future__ import annotations

import time
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
        batch_size=_rows(model),
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


@torch.inference_mode()
def seconds_to_evaluate(
    model: LanguageModel, dataset: TokenDataset, *, dtype: torch.dtype = torch.float32
) -> float:
    """About how long `validation_loss` takes: one batch is run, and timed the second time.

    0 where there is no validation part.
    """
    tokens = dataset.num_tokens("val")
    if tokens < 2:
        return 0.0
    model.eval()
    seconds = 0.0
    for _ in range(2):
        batches = evaluation_batches(
            dataset, batch_size=_rows(model), block_size=model.block_size, device=model.device
        )
        x, y = next(iter(batches))
        began = time.monotonic()
        with autocast(model.device, dtype):
            model(x, y)
        seconds = (time.monotonic() - began) * tokens / x.numel()
    model.train()
    return seconds


def _rows(model: LanguageModel) -> int:
    return max(1, _EVAL_TOKENS // model.block_size)
