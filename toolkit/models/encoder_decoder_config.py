"""The configuration of the encoder–decoder, and where its special ids are.

The last three ids of each vocabulary, the target's and the source's, are no token of a tokenizer:

    end      V − 3   ends every source and every target
    begin    V − 2   what the decoder starts from
    padding  V − 1   fills the shorter rows of a batch up

So any tokenizer will do: its V − 3 tokens keep their ids. Weights from elsewhere may have them in
other places, and say so by `end_id`, `begin_id` and `padding_id`. Nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from toolkit.errors import UsageError
from toolkit.models.config import (
    ModelConfig,
    flag,
    make_plain_config,
    require_above_zero,
    require_bool,
    require_choice,
    require_divisible,
    require_positive,
    require_probability,
    usual_n_inner,
)

NUM_SPECIAL = 3
"""How many ids of a vocabulary are end, begin and padding."""
_USUAL = -1


def _special_id() -> Any:
    # Of weights from elsewhere; a tokenizer of ours could not go with any others.
    return field(default=_USUAL, metadata={"option": False})


@dataclass(frozen=True)
class EncoderDecoderConfig(ModelConfig):
    """An encoder–decoder transformer, configurable in its parts.

    `vocab_size` counts the three special ids; `block_size` bounds sources and targets alike. The
    zeros that mean "the usual" are replaced by the number itself.

    Attributes:
        source_vocab_size: ids of the source, special ones included; 0: it shares the target's
            vocabulary.
        n_layer: blocks of the decoder.
        n_encoder_layer: blocks of the encoder; 0 means as many.
        n_head: H, heads of each attention.
        n_embd: C, channels of the residual stream.
        head_dim: D, channels of a head; 0 means n_embd / n_head.
        n_inner: hidden channels of the MLPs; 0 means the usual ratio.
        norm: "layernorm" or "rmsnorm".
        norm_order: "post" (after the sum with the stream, as in the paper) or "pre" (before each
            part, and once more at the end).
        mlp: "relu" (as in the paper), "gelu", "relu2" or "swiglu".
        bias: biases in linear layers and layer norms.
        tie_embeddings: one matrix for the target's tokens and the head, and where the vocabulary
            is shared for the source's tokens too (section 3.4 of the paper).
        dropout: probability, of embeddings, attention weights and each part's output.
        norm_eps: added to the variance under the root.
        end_id: ends a target (and a source that shares its vocabulary); −1 means V − 3.
        begin_id: begins what the decoder reads; −1 means V − 2.
        padding_id: fills targets up (and such sources); −1 means V − 1.
    """

    source_vocab_size: int = 0
    n_layer: int = 4
    n_encoder_layer: int = 0
    n_head: int = 4
    n_embd: int = 128
    head_dim: int = 0
    n_inner: int = 0
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_order: Literal["pre", "post"] = "post"
    mlp: Literal["relu", "gelu", "relu2", "swiglu"] = "relu"
    bias: bool = True
    tie_embeddings: bool = True
    dropout: float = 0.1
    norm_eps: float = 1e-5
    end_id: int = _special_id()
    begin_id: int = _special_id()
    padding_id: int = _special_id()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "norm", ("layernorm", "rmsnorm"))
        require_choice(self, "norm_order", ("pre", "post"))
        require_choice(self, "mlp", ("relu", "gelu", "relu2", "swiglu"))
        require_bool(self, "bias", "tie_embeddings")
        require_positive(self, "n_layer", "n_head", "n_embd")
        # Set before anybody sees the config, as in GPTConfig.
        if self.n_encoder_layer == 0:
            object.__setattr__(self, "n_encoder_layer", self.n_layer)
        if self.head_dim == 0:
            require_divisible(self, "n_embd", "n_head")
            object.__setattr__(self, "head_dim", self.n_embd // self.n_head)
        if self.n_inner == 0:
            object.__setattr__(self, "n_inner", usual_n_inner(self.n_embd, self.mlp))
        require_positive(self, "n_encoder_layer", "head_dim", "n_inner")
        require_probability(self, "dropout")
        require_above_zero(self, "norm_eps")
        if self.source_vocab_size != 0:
            require_positive(self, "source_vocab_size")
        for name in ("vocab_size", "source_vocab_size"):
            size = getattr(self, name)
            if 0 < size <= NUM_SPECIAL:
                raise UsageError(
                    f"{flag(name)} {size} must be above {NUM_SPECIAL}: the last {NUM_SPECIAL} ids "
                    "are end, begin and padding"
                )
        for place, name in enumerate(("end_id", "begin_id", "padding_id"), start=-NUM_SPECIAL):
            if getattr(self, name) == _USUAL:
                object.__setattr__(self, name, self.vocab_size + place)
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value < self.vocab_size:
                raise UsageError(f"{name} {value!r} is no id of a vocabulary of {self.vocab_size}")
        if self.n_embd % 2:
            raise UsageError(
                f"--n-embd {self.n_embd} must be even for sinusoidal positions: sines and cosines "
                "come in pairs"
            )

    @property
    def n_kv_head(self) -> int:
        """G: each head has its own keys and values."""
        return self.n_head

    @property
    def qk_norm(self) -> bool:
        """Queries and keys are used as they are."""
        return False

    @property
    def has_usual_ids(self) -> bool:
        """Whether end, begin and padding are the last three ids."""
        places = tuple(self.vocab_size - back for back in (3, 2, 1))
        return (self.end_id, self.begin_id, self.padding_id) == places

    @property
    def num_written_ids(self) -> int:
        """Only ids below it are ever written: where begin and padding are the last two, those of
        tokens and the end."""
        return self.end_id + 1 if self.has_usual_ids else self.vocab_size

    @property
    def num_source_ids(self) -> int:
        """How many ids a source may have."""
        return self.source_vocab_size or self.vocab_size

    @property
    def source_end_id(self) -> int:
        """Ends a source."""
        return self.source_vocab_size - 3 if self.source_vocab_size else self.end_id

    @property
    def source_padding_id(self) -> int:
        """Fills sources up."""
        return self.source_vocab_size - 1 if self.source_vocab_size else self.padding_id


def make_encoder_decoder_config(
    vocab_size: int, *, preset: str | None = None, size: str | None = None, **overrides: Any
) -> EncoderDecoderConfig:
    """A size's numbers, then single fields; the sizes are those of gpt.

    >>> make_encoder_decoder_config(100, size="nano", norm_order="pre").n_encoder_layer
    2

    Raises:
        UsageError: a preset (there are none), an unknown size or field, or numbers that do not fit
            together.
    """
    return make_plain_config(
        "encoder-decoder", EncoderDecoderConfig, vocab_size, preset=preset, size=size, **overrides
    )
