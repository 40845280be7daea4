"""The loss over a whole held-out part."""

from __future__ import annotations

from collections.abc import Callable

import torch

from toolkit.data import TrainingData
from toolkit.models import LanguageModel
from toolkit.training.devices import autocast
from toolkit.training.distributed import World

_EVAL_TOKENS = 8192  # in a batch: enough to keep two cores busy


@torch.inference_mode()
def validation_loss(
    model: LanguageModel,
    dataset: TrainingData,
    *,
    dtype: torch.dtype = torch.float32,
    stop: Callable[[], bool] = lambda: False,
    world: World | None = None,
) -> float | None:
    """The mean loss in nats over all targets of the validation part: of a text, every token but
    the first.

    The model is measured in evaluation mode, where it is, and left in training mode. None if
    `stop` said so on the way. The processes of a world take the batches in turn, and all get the
    number that one alone would have got.
    """
    world = world or World()
    model.eval()
    batches = dataset.evaluation_batches(
        batch_size=max(1, _EVAL_TOKENS // model.block_size),
        block_size=model.block_size,
        device=model.device,
        part=(world.rank, world.size),
    )
    sums: list[float] = []
    counts: list[float] = []
    try:
        for batch in batches:
            if stop():
                return None
            with autocast(model.device, dtype):
                loss = model(*batch).loss
            assert loss is not None
            targets = int((batch[1] >= 0).sum())
            sums.append(float(loss) * targets if targets else 0.0)
            counts.append(targets)
    finally:
        model.train()
        world.evaluated(model)
    total = 0.0
    for part in world.in_turn(sums):
        total += part
    return total / sum(world.in_turn(counts))
