"""Model configurations: frozen dataclasses, the presets and sizes, and every check of a shape.

`make_gpt_config` turns what a user gives (a preset, a size, single fields) into one checked
dataclass. Messages name the command line's flags, because that is where most people set them:
`n_embd` is `--n-embd`. Nothing here needs torch, so that listing names stays quick.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from toolkit.errors import UnknownNameError, UsageError

# From "small" on, the four sizes of GPT-2.
SIZES: dict[str, dict[str, int]] = {
    "nano": {"n_layer": 2, "n_head": 2, "n_embd": 64, "block_size": 64},
    "micro": {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 128},
    "mini": {"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256},
    "small": {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 1024},
    "medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024, "block_size": 1024},
    "large": {"n_layer": 36, "n_head": 20, "n_embd": 1280, "block_size": 1024},
    "xl": {"n_layer": 48, "n_head": 25, "n_embd": 1600, "block_size": 1024},
}
DEFAULT_SIZE = "micro"

PRESETS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "norm": "layernorm",
        "position": "learned",
        "qk_norm": False,
        "mlp": "gelu",
        "bias": True,
        "tie_embeddings": True,
        "norm_eps": 1e-5,
    },
    "modern": {
        "norm": "rmsnorm",
        "position": "rotary",
        "qk_norm": True,
        "mlp": "swiglu",
        "bias": False,
        "tie_embeddings": False,
        "norm_eps": 1e-6,
    },
}
DEFAULT_PRESET = "modern"


@dataclass(frozen=True)
class ModelConfig:
    """What every model has.

    Attributes:
        vocab_size: V, the number of token ids.
        block_size: the longest context T in tokens.
    """

    vocab_size: int
    block_size: int = 128

    def __post_init__(self) -> None:
        require_positive(self, "vocab_size", "block_size")


@dataclass(frozen=True)
class BigramConfig(ModelConfig):
    """A bigram table: V × V logits, one row for each current token."""

    # 16,384² float32 numbers are 1 GiB; gradient and Adam's two moments make 4 GiB of it.
    max_vocab_size: ClassVar[int] = 16_384

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vocab_size > self.max_vocab_size:
            gigabytes = 4 * self.vocab_size**2 / 1e9
            raise UsageError(
                f"A bigram table for {self.vocab_size:,} tokens would take {gigabytes:.1f} GB; "
                f"use a tokenizer with at most {self.max_vocab_size:,}, or --model gpt."
            )


@dataclass(frozen=True)
class AveragingConfig(ModelConfig):
    """What the three averaging models have; each has a class of its own, which names it.

    Attributes:
        n_embd: C, channels of the embedding.
        position: "none", or "learned" (an embedding for each position).
    """

    n_embd: int = 128
    position: Literal["none", "learned"] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "n_embd")
        require_choice(self, "position", ("none", "learned"))


@dataclass(frozen=True)
class AverageLoopConfig(AveragingConfig):
    """The mean of the past in two loops."""


@dataclass(frozen=True)
class AverageMatmulConfig(AveragingConfig):
    """The mean of the past as a product with a lower-triangular matrix."""


@dataclass(frozen=True)
class AverageSoftmaxConfig(AveragingConfig):
    """The mean of the past as a masked softmax of zeros."""


@dataclass(frozen=True)
class SingleHeadConfig(ModelConfig):
    """One head of attention.

    Attributes:
        n_embd: C, channels of the embedding.
        head_dim: D, channels of the head; 0 means n_embd, and is replaced by it.
        position: "learned" (an embedding for each position), or "none".
    """

    n_embd: int = 128
    head_dim: int = 0
    position: Literal["none", "learned"] = "learned"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "n_embd")
        if self.head_dim == 0:
            object.__setattr__(self, "head_dim", self.n_embd)  # as in GPTConfig
        require_positive(self, "head_dim")
        require_choice(self, "position", ("none", "learned"))


@dataclass(frozen=True)
class GPTConfig(ModelConfig):
    """A decoder-only transformer, configurable in its parts.

    The zeros that mean "the usual" are replaced by the number itself: a config that exists
    holds every shape.

    Attributes:
        n_layer: blocks.
        n_head: H, query heads in each block.
        n_kv_head: key/value heads (grouped-query attention); 0 means as many as `n_head`.
        n_embd: C, channels of the residual stream.
        head_dim: D, channels of a head; 0 means n_embd / n_head.
        n_inner: hidden channels of the MLP; 0 means the usual ratio
            (4 · n_embd; 8/3 · n_embd rounded up to a multiple of 32 for "swiglu", which has three
            matrices instead of two, so that all have about as many parameters).
        norm: "layernorm" or "rmsnorm".
        norm_order: "pre" (before attention and MLP, and once more at the end) or "post" (after
            the sum with the stream).
        position: "learned" (an embedding for each position), "rotary", "sinusoidal", "alibi" or
            "none" (the causal mask alone tells an order).
        window: how many positions attention sees, its own included; 0 means all before it.
        qk_norm: RMS-normalise queries and keys in each head.
        mlp: "gelu" (tanh approximation, as GPT-2), "relu2" or "swiglu".
        bias: biases in linear layers and layer norms.
        tie_embeddings: the output head is the token embedding.
        dropout: probability, of embeddings, attention weights and each part's output.
        weight_init: how weights start: "gpt2", or "zeros": the matrices that write into the
            residual stream are zero, as is a head of its own.
        norm_eps: added to the variance under the root.
        rope_theta: the base of the rotary frequencies; without them it means nothing.
    """

    n_layer: int = 4
    n_head: int = 4
    n_kv_head: int = 0
    n_embd: int = 128
    head_dim: int = 0
    n_inner: int = 0
    norm: Literal["layernorm", "rmsnorm"] = "rmsnorm"
    norm_order: Literal["pre", "post"] = "pre"
    position: Literal["learned", "rotary", "sinusoidal", "alibi", "none"] = "rotary"
    window: int = 0
    qk_norm: bool = True
    mlp: Literal["gelu", "relu2", "swiglu"] = "swiglu"
    bias: bool = False
    tie_embeddings: bool = True
    dropout: float = 0.0
    # Two models that differ in it alone are the same once they are trained.
    weight_init: Literal["gpt2", "zeros"] = dataclasses.field(default="gpt2", compare=False)
    norm_eps: float = 1e-6
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "norm", ("layernorm", "rmsnorm"))
        require_choice(self, "norm_order", ("pre", "post"))
        require_choice(self, "position", ("learned", "rotary", "sinusoidal", "alibi", "none"))
        require_choice(self, "mlp", ("gelu", "relu2", "swiglu"))
        require_choice(self, "weight_init", ("gpt2", "zeros"))
        require_bool(self, "qk_norm", "bias", "tie_embeddings")
        require_positive(self, "n_layer", "n_head", "n_embd")
        self._fill_in_the_usual()
        require_positive(self, "n_kv_head", "head_dim", "n_inner")
        require_divisible(self, "n_head", "n_kv_head")
        if not isinstance(self.window, int) or isinstance(self.window, bool) or self.window < 0:
            raise UsageError(
                f"--window {self.window} must be a whole number of positions, or 0 for all of them"
            )
        # Nothing to attend to; and transformers' cache for such a window keeps everything.
        if self.window == 1:
            raise UsageError(
                "--window 1 would show each position to itself alone; expected 0 or at least 2"
            )
        if self.position == "sinusoidal" and self.n_embd % 2:
            raise UsageError(
                f"--n-embd {self.n_embd} must be even for sinusoidal positions: sines and cosines "
                "come in pairs"
            )
        if self.position == "rotary" and self.head_dim % 2:
            raise UsageError(
                f"--head-dim {self.head_dim} must be even for rotary positions "
                f"(--n-embd {self.n_embd}, --n-head {self.n_head})"
            )
        require_probability(self, "dropout")
        require_above_zero(self, "norm_eps", "rope_theta")

    def _fill_in_the_usual(self) -> None:
        # Frozen dataclasses are set through object.__setattr__; this happens before anybody sees
        # the config.
        if self.head_dim == 0:
            require_divisible(self, "n_embd", "n_head")
            object.__setattr__(self, "head_dim", self.n_embd // self.n_head)
        if self.n_kv_head == 0:
            object.__setattr__(self, "n_kv_head", self.n_head)
        if self.n_inner == 0:
            object.__setattr__(self, "n_inner", usual_n_inner(self.n_embd, self.mlp))


class LayerConfig(Protocol):
    """What the parts in `layers` are made from: fields of a `GPTConfig`, and of any other
    configuration whose model is made of these parts."""

    @property
    def n_head(self) -> int: ...
    @property
    def n_kv_head(self) -> int: ...
    @property
    def n_embd(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def n_inner(self) -> int: ...
    @property
    def norm(self) -> str: ...
    @property
    def norm_order(self) -> str: ...
    @property
    def norm_eps(self) -> float: ...
    @property
    def qk_norm(self) -> bool: ...
    @property
    def mlp(self) -> str: ...
    @property
    def bias(self) -> bool: ...
    @property
    def dropout(self) -> float: ...


PlainConfig = TypeVar("PlainConfig", bound=ModelConfig)


def make_bigram_config(
    vocab_size: int, *, preset: str | None = None, size: str | None = None, **overrides: Any
) -> BigramConfig:
    """A bigram's configuration; of a size only its `block_size` counts.

    >>> make_bigram_config(100, size="nano")
    BigramConfig(vocab_size=100, block_size=64)

    Raises:
        UsageError: a preset (there are none), an unknown size, or an option of other models.
    """
    return make_plain_config(
        "bigram", BigramConfig, vocab_size, preset=preset, size=size, **overrides
    )


def make_plain_config(
    model: str,
    config_class: type[PlainConfig],
    vocab_size: int,
    *,
    preset: str | None = None,
    size: str | None = None,
    **overrides: Any,
) -> PlainConfig:
    """The configuration of a model whose parts have no presets: a size's numbers, as far as the
    model has them, then single fields.

    >>> make_plain_config("average-loop", AverageLoopConfig, 100, size="nano", n_embd=32)
    AverageLoopConfig(vocab_size=100, block_size=64, n_embd=32, position='none')

    Raises:
        UsageError: a preset (there are none), an unknown size, or an option of other models.
    """
    _require_options(model, config_class, overrides)
    if preset is not None:
        raise UsageError(f"--preset {preset} is for the model gpt; {model} has none. Leave it out.")
    fields = {field.name for field in dataclasses.fields(config_class)}
    numbers = _find("size", SIZES, size or DEFAULT_SIZE)
    known = {name: value for name, value in numbers.items() if name in fields}
    return config_class(vocab_size=vocab_size, **{**known, **overrides})


def make_gpt_config(
    vocab_size: int, *, preset: str | None = None, size: str | None = None, **overrides: Any
) -> GPTConfig:
    """A preset's parts, a size's numbers, then single fields, checked as a whole.

    >>> make_gpt_config(100, preset="gpt2", size="nano", n_layer=3).n_layer
    3

    Raises:
        UsageError: an unknown preset, size or field, or numbers that do not fit together.
    """
    _require_options("gpt", GPTConfig, overrides)
    parts = _find("preset", PRESETS, preset or DEFAULT_PRESET)
    numbers = _find("size", SIZES, size or DEFAULT_SIZE)
    config = GPTConfig(vocab_size=vocab_size, **{**parts, **numbers, **overrides})
    if "rope_theta" in overrides and config.position != "rotary":
        raise UsageError(
            f"--rope-theta is for --position rotary, and this model's is {config.position}. "
            "Leave it out."
        )
    return config


def flag(field: str) -> str:
    """The command line's name of a field: `n_embd` is `--n-embd`."""
    return "--" + field.replace("_", "-")


def require_positive(config: Any, *fields: str) -> None:
    """Raise UsageError unless each field is a positive whole number."""
    for field in fields:
        value = getattr(config, field)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"{flag(field)} {value} must be a whole number of at least 1")


def require_divisible(config: Any, field: str, by: str) -> None:
    """Raise UsageError unless one field is a multiple of the other."""
    value, divisor = getattr(config, field), getattr(config, by)
    if value % divisor:
        raise UsageError(f"{flag(field)} {value} must be divisible by {flag(by)} {divisor}")


def require_choice(config: Any, field: str, choices: Iterable[str]) -> None:
    """Raise UnknownNameError unless the field holds one of the names."""
    if getattr(config, field) not in choices:
        raise UnknownNameError(field, str(getattr(config, field)), choices)


def require_bool(config: Any, *fields: str) -> None:
    """Raise UsageError unless each field is True or False."""
    for field in fields:
        if not isinstance(getattr(config, field), bool):
            raise UsageError(f"{flag(field)} {getattr(config, field)} must be true or false")


def require_probability(config: Any, *fields: str) -> None:
    """Raise UsageError unless each field is a number of at least 0 and below 1."""
    for field in fields:
        value = getattr(config, field)
        if not _is_number(value) or not 0.0 <= value < 1.0:
            raise UsageError(f"{flag(field)} {value} must be at least 0 and below 1")


def require_above_zero(config: Any, *fields: str) -> None:
    """Raise UsageError unless each field is a number above 0."""
    for field in fields:
        value = getattr(config, field)
        if not _is_number(value) or value <= 0:
            raise UsageError(f"{flag(field)} {value} must be a number above 0")


def usual_n_inner(n_embd: int, mlp: str) -> int:
    """Hidden channels of an MLP: 4 · n_embd; 8/3 · n_embd rounded up to a multiple of 32 for
    "swiglu", which has three matrices instead of two, so that all have about as many parameters."""
    return math.ceil(8 * n_embd / 3 / 32) * 32 if mlp == "swiglu" else 4 * n_embd


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _find(kind: str, table: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    if name not in table:
        raise UnknownNameError(kind, name, table)
    return table[name]


def _require_options(model: str, config_class: type[ModelConfig], options: Iterable[str]) -> None:
    fields = [
        field.name
        for field in dataclasses.fields(config_class)
        if field.metadata.get("option", True)
    ]
    for option in options:
        if option not in fields:
            known = ", ".join(flag(field) for field in fields if field != "vocab_size")
            raise UsageError(f"The model {model} has no {flag(option)}. Its options: {known}.")
