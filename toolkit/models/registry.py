"""Models by name: what a configuration is, and which class it builds.

A new model is one file and one entry here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models.base import LanguageModel
from toolkit.models.bigram import BigramModel
from toolkit.models.config import (
    DEFAULT_PRESET,
    DEFAULT_SIZE,
    BigramConfig,
    GPTConfig,
    ModelConfig,
    flag,
    make_bigram_config,
    make_gpt_config,
)
from toolkit.models.gpt import GPTModel


@dataclass(frozen=True)
class ModelEntry:
    """A model's configuration class and model class."""

    config_class: type[ModelConfig]
    model_class: type[LanguageModel]


MODELS: dict[str, ModelEntry] = {
    "bigram": ModelEntry(BigramConfig, BigramModel),
    "gpt": ModelEntry(GPTConfig, GPTModel),
}


def available_models() -> list[str]:
    """The names that `create_model` takes."""
    return sorted(MODELS)


def make_config(
    name: str,
    vocab_size: int,
    *,
    preset: str | None = None,
    size: str | None = None,
    **overrides: Any,
) -> ModelConfig:
    """The checked configuration of a model that is asked for by name.

    Raises:
        UsageError: an unknown name, or an option that this model does not have.
    """
    entry = find_model(name)
    fields = {field.name for field in dataclasses.fields(entry.config_class)}
    for option in overrides:
        if option not in fields:
            raise UsageError(
                f"The model {name} has no {flag(option)}. "
                f"Its options: {', '.join(flag(field) for field in sorted(fields))}."
            )
    if name == "gpt":
        return make_gpt_config(
            vocab_size, preset=preset or DEFAULT_PRESET, size=size or DEFAULT_SIZE, **overrides
        )
    if preset is not None:
        raise UsageError(f"--preset {preset} is for the model gpt; {name} has none. Leave it out.")
    return make_bigram_config(vocab_size, size=size or DEFAULT_SIZE, **overrides)


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

    >>> create_model("gpt", 100, size="nano", n_layer=1).config.n_layer
    1

    Raises:
        UsageError: see `make_config`.
    """
    config = make_config(name, vocab_size, preset=preset, size=size, **overrides)
    return build_model(config, torch.Generator().manual_seed(seed))


def build_model(config: ModelConfig, generator: torch.Generator | None = None) -> LanguageModel:
    """The model that belongs to a configuration."""
    for entry in MODELS.values():
        if type(config) is entry.config_class:
            # Each class's own __init__ takes its own configuration and a generator.
            build: Any = entry.model_class
            model: LanguageModel = build(config, generator)
            return model
    raise UsageError(f"No model is made from a {type(config).__name__}.")


def find_model(name: str) -> ModelEntry:
    """The entry of a name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in MODELS:
        raise UnknownNameError("model", name, MODELS)
    return MODELS[name]
