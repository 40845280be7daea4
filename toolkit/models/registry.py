"""The models by name, and their configurations as JSON values.

A new model is one file with a `LanguageModel`, one config dataclass and one line in `_MODELS`.
Classes are imported when they are first needed, so that listing names does not load torch.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models.config import BigramConfig, GPTConfig, ModelConfig

if TYPE_CHECKING:
    import torch

    from toolkit.models.base import LanguageModel

CONFIG_FORMAT = 1
MODEL_TYPE_PREFIX = "toolkit-"
# What a config.json of ours may hold besides the fields of the dataclass.
_HEADER = ("model_type", "format", "bos_token_id", "eos_token_id")


@dataclass(frozen=True)
class _Entry:
    config_class: type[ModelConfig]
    module: str
    class_name: str


_MODELS: dict[str, _Entry] = {
    "bigram": _Entry(BigramConfig, "toolkit.models.bigram", "BigramModel"),
    "gpt": _Entry(GPTConfig, "toolkit.models.gpt", "GPTModel"),
}


def available_models() -> list[str]:
    """The names that `create_model` takes, in the order in which one learns them.

    >>> available_models()
    ['bigram', 'gpt']
    """
    return list(_MODELS)


def find_config_class(name: str) -> type[ModelConfig]:
    """The config dataclass of the model called `name`.

    Raises:
        UnknownNameError: there is no such model.
    """
    return _find(name).config_class


def create_model(
    name: str,
    vocab_size: int,
    *,
    preset: str | None = None,
    size: str | None = None,
    seed: int = 0,
    **overrides: Any,
) -> LanguageModel:
    """A new model with weights drawn from `seed`.

    Args:
        name: one of `available_models()`.
        vocab_size: V.
        preset: of the model's parts, "gpt2" or "modern" (None: "modern"); only for "gpt".
        size: of its numbers, "nano" … "medium" (None: "micro").
        seed: of the weights; the same on every machine with the same version of torch.
        overrides: single fields of the model's configuration.

    >>> create_model("gpt", 256, size="nano", n_layer=1).num_params()
    65984

    Raises:
        UsageError: an unknown name, a field that this model does not have, or numbers that do
            not fit together; the message names the flag.
    """
    config = find_config_class(name).make(vocab_size, preset=preset, size=size, **overrides)
    return build_model(config, seed=seed)


def build_model(config: ModelConfig, *, seed: int = 0, init: bool = True) -> LanguageModel:
    """The model that `config` describes, with weights drawn from `seed`; or with unset weights
    where `init` is False, to be loaded next.

    Raises:
        UsageError: the seed is out of range.
    """
    import torch

    entry = _find(config.name)
    build = getattr(importlib.import_module(entry.module), entry.class_name)
    model: LanguageModel = build(config, _generator(torch, seed), init=init)
    return model


def config_to_dict(config: ModelConfig) -> dict[str, Any]:
    """The configuration as JSON values, in toolkit's own layout.

    >>> config_to_dict(BigramConfig(vocab_size=5, block_size=8))
    {'model_type': 'toolkit-bigram', 'format': 1, 'vocab_size': 5, 'block_size': 8}
    """
    header = {"model_type": MODEL_TYPE_PREFIX + config.name, "format": CONFIG_FORMAT}
    return {**header, **dataclasses.asdict(config)}


def config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """The inverse of `config_to_dict`.

    >>> config_from_dict({"model_type": "toolkit-bigram", "format": 1, "vocab_size": 5})
    BigramConfig(vocab_size=5, block_size=128)

    Raises:
        UsageError: another model_type, a newer format, unknown or missing fields, or values that
            do not fit together.
    """
    model_type = values.get("model_type")
    types = {MODEL_TYPE_PREFIX + name: name for name in _MODELS}
    if not isinstance(model_type, str) or model_type not in types:
        raise UnknownNameError("model_type", str(model_type), types)
    version = values.get("format")
    if not isinstance(version, int) or version > CONFIG_FORMAT:
        raise UsageError(
            f"its format is {version!r}, and this toolkit reads up to {CONFIG_FORMAT}. "
            "Install a newer toolkit."
        )
    config_class = find_config_class(types[model_type])
    fields = {name: value for name, value in values.items() if name not in _HEADER}
    unknown = sorted(set(fields) - set(config_class.field_names()))
    if unknown:
        raise UsageError(f"{model_type} has no field {', '.join(unknown)}.")
    if "vocab_size" not in fields:
        raise UsageError("the field vocab_size is missing.")
    return config_class(**fields)


def _find(name: str) -> _Entry:
    if name not in _MODELS:
        raise UnknownNameError("model", name, _MODELS)
    return _MODELS[name]


def _generator(torch: Any, seed: int) -> torch.Generator:
    try:
        generator: torch.Generator = torch.Generator().manual_seed(seed)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        raise UsageError(f"--seed {seed} must be a whole number that fits into 64 bits.") from None
    return generator
