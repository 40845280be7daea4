"""Optimizers: which parameters decay, and AdamW over them."""

from __future__ import annotations

import torch
from torch import nn

from toolkit.training.config import TrainConfig


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; embeddings, norms and biases do not.

    Decay is there to keep a linear layer's weights from growing without need; an embedding's row
    is a single vector, and most rows get no gradient in most steps.
    """
    embeddings = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters()
    }
    decay: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for parameter in model.parameters():
        matrix = parameter.dim() >= 2 and id(parameter) not in embeddings
        (decay if matrix else rest).append(parameter)
    return [
        {"params": decay, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019), one fused kernel for all parameters."""
    groups = [group for group in parameter_groups(model, config.weight_decay) if group["params"]]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True
    )
