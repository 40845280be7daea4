"""Model configurations: frozen dataclasses, the presets and sizes, and every check of a shape.

`make_config` turns what a user gives (a model's name, a preset, a size, single fields) into one
checked dataclass. Messages name the command line's flags, because that is where most people set
them: `n_embd` is `--n-embd`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from toolkit.errors import UnknownNameError, UsageError


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


@dataclass(frozen=True)
class GPTConfig(ModelConfig):
    """A decoder-only transformer, configurable in its parts.

    Attributes:
        n_layer: blocks.
        n_head: query heads in each block.
        n_kv_head: key/value heads (grouped-query attention); 0 means as many as `n_head`.
        n_embd: C, channels of the residual stream.
        head_dim: D, channels of a head; 0 means n_embd / n_head.
        n_inner: hidden channels of the MLP; 0 means the preset's usual ratio
            (4 · n_embd for "gelu"; 8/3 · n_embd rounded up to a multiple of 32 for "swiglu").
        norm: "layernorm" or "rmsnorm".
        position: "learned" (an embedding for each position) or "rotary".
        qk_norm: RMS-normalise queries and keys in each head.
        mlp: "gelu" (tanh approximation, as GPT-2) or "swiglu".
        bias: biases in linear layers and layer norms.
        tie_embeddings: the output head is the token embedding.
        dropout: probability, of embeddings, attention weights and each part's output.
        norm_eps: added to the variance under the root.
        rope_theta: the base of the rotary frequencies.
    """

    n_layer: int = 4
    n_head: int = 4
    n_kv_head: int = 0
    n_embd: int = 128
    head_dim: int = 0
    n_inner: int = 0
    norm: Literal["layernorm", "rmsnorm"] = "rmsnorm"
    position: Literal["learned", "rotary"] = "rotary"
    qk_norm: bool = True
    mlp: Literal["gelu", "swiglu"] = "swiglu"
    bias: bool = False
    tie_embeddings: bool = True
    dropout: float = 0.0
    norm_eps: float = 1e-6
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "n_layer", "n_head", "n_embd")
        for field in ("n_kv_head", "head_dim", "n_inner"):
            if getattr(self, field) < 0:
                raise UsageError(f"{flag(field)} {getattr(self, field)} must not be negative")
        if self.head_dim == 0:
            require_divisible(self, "n_embd", "n_head")
            object.__setattr__(self, "head_dim", self.n_embd // self.n_head)
        if self.n_kv_head == 0:
            object.__setattr__(self, "n_kv_head", self.n_head)
        require_divisible(self, "n_head", "n_kv_head")
        if self.n_inner == 0:
            object.__setattr__(self, "n_inner", _usual_inner(self.mlp, self.n_embd))
        if self.position == "rotary" and self.head_dim % 2:
            raise UsageError(
                f"--head-dim {self.head_dim} must be even for rotary positions "
                f"(--n-embd {self.n_embd} / --n-head {self.n_head})"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"--dropout {self.dropout} must be at least 0 and below 1")
        for field, choices in _CHOICES.items():
            if getattr(self, field) not in choices:
                raise UnknownNameError(field, str(getattr(self, field)), choices)


_CHOICES = {
    "norm": ("layernorm", "rmsnorm"),
    "position": ("learned", "rotary"),
    "mlp": ("gelu", "swiglu"),
}

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
        "tie_embeddings": True,
        "norm_eps": 1e-6,
    },
}
DEFAULT_PRESET = "modern"

SIZES: dict[str, dict[str, int]] = {
    "nano": {"n_layer": 2, "n_head": 2, "n_embd": 64, "block_size": 64},
    "micro": {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 128},
    "mini": {"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256},
    "small": {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 1024},
    "medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024, "block_size": 1024},
}


def make_gpt_config(
    vocab_size: int, *, preset: str = DEFAULT_PRESET, size: str = "micro", **overrides: Any
) -> GPTConfig:
    """A preset's parts, a size's numbers, then single fields, checked as a whole.

    >>> make_gpt_config(100, preset="gpt2", size="nano", n_layer=3).n_layer
    3

    Raises:
        UsageError: an unknown preset, size or field, or numbers that do not fit together.
    """
    if preset not in PRESETS:
        raise UnknownNameError("preset", preset, PRESETS)
    if size not in SIZES:
        raise UnknownNameError("size", size, SIZES)
    fields = {field.name for field in dataclasses.fields(GPTConfig)}
    for name in overrides:
        if name not in fields:
            raise UnknownNameError("option of model gpt", name, fields)
    return GPTConfig(vocab_size=vocab_size, **{**PRESETS[preset], **SIZES[size], **overrides})


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


def _usual_inner(mlp: str, n_embd: int) -> int:
    if mlp == "gelu":
        return 4 * n_embd
    return -(-8 * n_embd // 3 // 32) * 32 if n_embd >= 12 else 4 * n_embd
