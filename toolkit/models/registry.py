"""The models by name, and their configurations as JSON values.

A new model is one file with a `LanguageModel`, one config dataclass and one entry in `MODELS`.
Classes are imported when they are first needed, so that listing names does not load torch.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models.config import (
    AverageLoopConfig,
    AverageMatmulConfig,
    AverageSoftmaxConfig,
    BigramConfig,
    GPTConfig,
    ModelConfig,
    SingleHeadConfig,
    make_bigram_config,
    make_gpt_config,
    make_plain_config,
)
from toolkit.models.encoder_decoder_config import (
    EncoderDecoderConfig,
    make_encoder_decoder_config,
)

if TYPE_CHECKING:
    import torch

    from toolkit.models.base import LanguageModel

CONFIG_FORMAT = 1
MODEL_TYPE_PREFIX = "toolkit-"
# What a config.json of ours may hold besides the fields of the dataclass.
_HEADER = ("model_type", "format", "bos_token_id", "eos_token_id")


@dataclass(frozen=True)
class ModelEntry:
    """What the registry knows of a model.

    Attributes:
        config_class: its configuration.
        make_config: makes one from a vocabulary size, a preset, a size and single fields.
        home: its class, as "module:Class".
        takes_source: whether it answers a text instead of continuing one.
    """

    config_class: type[ModelConfig]
    make_config: Callable[..., ModelConfig]
    home: str
    takes_source: bool = False

    def model_class(self) -> type[LanguageModel]:
        """Import the class."""
        module, _, name = self.home.partition(":")
        found: type[LanguageModel] = getattr(importlib.import_module(module), name)
        return found


def _plain(name: str, config_class: type[ModelConfig], home: str) -> ModelEntry:
    """An entry of a model without presets."""
    make = functools.partial(make_plain_config, name, config_class)
    return ModelEntry(config_class, make, f"toolkit.models.{home}")


MODELS: dict[str, ModelEntry] = {
    "bigram": ModelEntry(BigramConfig, make_bigram_config, "toolkit.models.bigram:BigramModel"),
    "average-loop": _plain("average-loop", AverageLoopConfig, "averaging:AverageLoopModel"),
    "average-matmul": _plain("average-matmul", AverageMatmulConfig, "averaging:AverageMatmulModel"),
    "average-softmax": _plain(
        "average-softmax", AverageSoftmaxConfig, "averaging:AverageSoftmaxModel"
    ),
    "single-head": _plain("single-head", SingleHeadConfig, "single_head:SingleHeadModel"),
    "gpt": ModelEntry(GPTConfig, make_gpt_config, "toolkit.models.gpt:GPTModel"),
    "encoder-decoder": ModelEntry(
        EncoderDecoderConfig,
        make_encoder_decoder_config,
        "toolkit.models.encoder_decoder:EncoderDecoderModel",
        takes_source=True,
    ),
}


def available_models() -> list[str]:
    """The models that continue a text, in the order in which one learns them.

    Beside them there is `encoder-decoder`, which answers a text with another one.

    >>> available_models()
    ['bigram', 'average-loop', 'average-matmul', 'average-softmax', 'single-head', 'gpt']
    """
    return [name for name, entry in MODELS.items() if not entry.takes_source]


def find_model(name: str) -> ModelEntry:
    """The entry of the model called `name`.

    Raises:
        UnknownNameError: there is no such model.
    """
    if name not in MODELS:
        raise UnknownNameError("model", name, MODELS)
    return MODELS[name]


def make_config(
    name: str,
    vocab_size: int,
    *,
    preset: str | None = None,
    size: str | None = None,
    **overrides: Any,
) -> ModelConfig:
    """The checked configuration of the model called `name`; makes no model.

    Raises:
        UsageError: an unknown name, a field that this model does not have, or numbers that do
            not fit together; the message names the flag.
    """
    return find_model(name).make_config(vocab_size, preset=preset, size=size, **overrides)


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
        name: one of `available_models()`, or "encoder-decoder".
        vocab_size: V.
        preset: of the model's parts, "gpt2" or "modern" (None: "modern"); only for "gpt".
        size: of its numbers, "nano" … "xl" (None: "micro").
        seed: of the weights; the same on every machine with the same version of torch.
        overrides: single fields of the model's configuration.

    >>> create_model("bigram", 256).num_params()
    65536

    Raises:
        UsageError: as `make_config`, or a seed that does not fit into 64 bits.
    """
    import torch

    config = make_config(name, vocab_size, preset=preset, size=size, **overrides)
    try:
        generator = torch.Generator().manual_seed(seed)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        raise UsageError(f"--seed {seed} must be a whole number that fits into 64 bits") from None
    return build_model(config, generator)


def build_model(
    config: ModelConfig, generator: torch.Generator | None = None, *, init: bool = True
) -> LanguageModel:
    """The model that `config` describes, its weights drawn from `generator` (None: a new one with
    seed 0); with `init=False` its weights are unset, to be loaded next.

    Raises:
        UsageError: no model belongs to this class of configuration.
    """
    # Each class takes its own configuration: what their common base cannot say.
    build: Any = MODELS[_name_of(config)].model_class()
    model: LanguageModel = build(config, generator, init=init)
    return model


def config_to_dict(config: ModelConfig) -> dict[str, Any]:
    """The configuration as JSON values, in toolkit's own layout.

    >>> config_to_dict(BigramConfig(vocab_size=5, block_size=8))
    {'model_type': 'toolkit-bigram', 'format': 1, 'vocab_size': 5, 'block_size': 8}

    Raises:
        UsageError: no model belongs to this class of configuration.
    """
    header = {"model_type": MODEL_TYPE_PREFIX + _name_of(config), "format": CONFIG_FORMAT}
    return {**header, **dataclasses.asdict(config)}


def config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """The inverse of `config_to_dict`.

    >>> config_from_dict({"model_type": "toolkit-bigram", "format": 1, "vocab_size": 5})
    BigramConfig(vocab_size=5, block_size=128)

    Raises:
        UsageError: another model_type, a newer format, unknown or missing fields, or values that
            do not fit together.
    """
    types = {MODEL_TYPE_PREFIX + name: entry.config_class for name, entry in MODELS.items()}
    model_type = str(values.get("model_type"))
    if model_type not in types:
        raise UnknownNameError("model_type", model_type, types)
    version = values.get("format")
    if not isinstance(version, int) or version > CONFIG_FORMAT:
        raise UsageError(
            f"its format is {version!r}, and this toolkit reads up to {CONFIG_FORMAT}. "
            "Install a newer toolkit."
        )
    config_class = types[model_type]
    fields = {name: value for name, value in values.items() if name not in _HEADER}
    unknown = fields.keys() - {field.name for field in dataclasses.fields(config_class)}
    if unknown:
        raise UsageError(f"{model_type} has no field {', '.join(sorted(unknown))}.")
    if "vocab_size" not in fields:
        raise UsageError("the field vocab_size is missing.")
    return config_class(**fields)


def _name_of(config: ModelConfig) -> str:
    for name, entry in MODELS.items():
        if type(config) is entry.config_class:
            return name
    raise UsageError(f"No model is made from a {type(config).__name__}.")
