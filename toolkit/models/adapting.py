"""A trained model with another context or dropout: the same weights in a new configuration.

Everything else about a model is in the shape of its weights and stays as it is.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from toolkit.errors import UsageError
from toolkit.models.base import LanguageModel
from toolkit.models.registry import build_model

ADAPTABLE = ("block_size", "dropout")
_POSITIONS = "pos_emb.weight"


@torch.no_grad()
def adapt_model(model: LanguageModel, **changes: Any) -> LanguageModel:
    """The model with another `block_size` or `dropout`; the one given stays as it is.

    A shorter context keeps the first of the learned positions. A longer one is for models that
    compute their positions (rotary …) or have none: beyond what was learned there is nothing.

    >>> from toolkit.models import create_model
    >>> model = create_model("gpt", 9, preset="gpt2", size="nano")
    >>> adapt_model(model, block_size=16).pos_emb.weight.shape
    torch.Size([16, 64])

    Raises:
        UsageError: another change, one that the model does not have, or more positions than were
            learned.
    """
    fields = {field.name for field in dataclasses.fields(model.config)}
    for name in changes:
        if name not in ADAPTABLE or name not in fields:
            raise UsageError(f"{name} is fixed in the weights of this {model.name} model.")
    old = dict(model.named_parameters())
    longest = model.block_size
    if _POSITIONS in old and changes.get("block_size", longest) > longest:
        raise UsageError(
            f"--block-size {changes['block_size']} is longer than the {longest} positions that the "
            "model has learned; only models with computed positions (rotary) can go beyond."
        )
    adapted = build_model(dataclasses.replace(model.config, **changes), init=False)
    for name, parameter in adapted.named_parameters():
        learned = old[name]
        parameter.copy_(learned[: len(parameter)] if name == _POSITIONS else learned)
    return adapted.to(model.device).train(model.training)
