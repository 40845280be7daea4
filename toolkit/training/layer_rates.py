"""Learning rates by layer: what is near the input learns more slowly.

    lr of block i of L (the first is 1) = decay^(L − i) · lr
    lr of the embeddings                = decay^L · lr
    lr of all after the blocks          = lr

For going on with a trained model: its first layers know what any text needs, and its last ones have
to change most (Howard and Ruder 2018, arXiv:1801.06146; Clark et al. 2020, arXiv:2003.10555, with
0.8 to 0.9). A head that is the embedding as well counts as the embedding. Encoder and decoder are
counted each for itself, and the embeddings by the longer of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.models.config import flag
from toolkit.training.config import TrainConfig

_P = TypeVar("_P", bound=Tensor)


def require_layers(model: nn.Module, config: TrainConfig) -> None:
    """Raise UsageError where an option is about layers and the model has none (`blocks`)."""
    if _stacks(model):
        return
    wanted = {
        "layer_decay": config.layer_decay < 1,
        "gradient_checkpointing": config.gradient_checkpointing,
    }
    name = getattr(model, "name", type(model).__name__)
    for field, given in wanted.items():
        if given:
            raise UsageError(f"{flag(field)} is for a model with several layers; {name} has none.")


def _stacks(model: nn.Module) -> list[nn.ModuleList]:
    """The blocks of the model, or those of its encoder and of its decoder; none of any other."""
    parts = (model, getattr(model, "encoder", None), getattr(model, "decoder", None))
    found = (getattr(part, "blocks", None) for part in parts)
    return [blocks for blocks in found if isinstance(blocks, nn.ModuleList)]


def layer_scales(model: nn.Module, decay: float) -> Callable[[Tensor], float]:
    """What the learning rate of each parameter of `model` is multiplied with.

    A decay below 1 is for a model that `require_layers` lets pass.
    """
    scales: dict[int, float] = {}
    if decay < 1:
        stacks = _stacks(model)
        longest = max(map(len, stacks))
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                scales |= {id(p): decay**longest for p in module.parameters()}
        for blocks in stacks:
            for number, block in enumerate(blocks, start=1):
                scales |= {id(p): decay ** (len(blocks) - number) for p in block.parameters()}
    return lambda parameter: scales.get(id(parameter), 1.0)


def by_scale(
    parameters: Iterable[_P], scale_of: Callable[[Tensor], float]
) -> dict[float, list[_P]]:
    """The parameters of each factor of the learning rate, in their order."""
    groups: dict[float, list[_P]] = {}
    for parameter in parameters:
        groups.setdefault(scale_of(parameter), []).append(parameter)
    return groups
