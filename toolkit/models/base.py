"""What every model is: ids in, logits and maybe a loss out.

The contract (`LanguageModel`), its result (`LMOutput`), and the two things that every model does
in the same way: checking what it is given, and the loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.jit import is_tracing  # type: ignore[attr-defined]  # torch does not list it
from torch.utils.checkpoint import checkpoint

from toolkit.errors import UsageError
from toolkit.models.config import ModelConfig

if TYPE_CHECKING:
    from toolkit.models.cache import KVCache
    from toolkit.models.row_cache import RowCache

IGNORE_INDEX = -100


class LMOutput(NamedTuple):
    """A forward pass's result.

    Attributes:
        logits: (B, T, V), in the dtype of the computation.
        loss: the mean cross-entropy in nats over all targets, a float32 scalar; None without
            targets.
    """

    logits: Tensor
    loss: Tensor | None


class LanguageModel(nn.Module, ABC):
    """A model of the next token.

    Attributes:
        name: the registry name ("bigram", "gpt", …).
        config: the frozen dataclass that it was built from.
        takes_source: whether `forward` takes a source as well, after the targets: the model is one
            of the next token given another text (`EncoderDecoderModel`).
        gradient_checkpointing: of a model with `blocks`: keep only what goes into each block, and
            compute the rest again in the backward pass. The same numbers, with less memory.

    A subclass takes `(config, generator=None, *, init=True)`: it draws its weights on the CPU
    from `generator` (None: a new one with seed 0, so that equal configs give equal models), or
    leaves them unset with `init=False`, for a caller that loads them next.
    """

    name: ClassVar[str]
    takes_source: ClassVar[bool] = False
    config: ModelConfig
    gradient_checkpointing: bool = False

    @abstractmethod
    def forward(self, ids: Tensor, targets: Tensor | None = None) -> LMOutput:
        """Logits (B, T, V) for ids (B, T); with targets (B, T) the mean loss too.

        A target of -100 does not count.

        Raises:
            UsageError: another shape or dtype, T above `block_size`, or (noticed on the CPU, where
                looking is free) an id outside the vocabulary.
        """

    if TYPE_CHECKING:  # torch types a module's call as Any

        def __call__(self, ids: Tensor, targets: Tensor | None = None) -> LMOutput: ...

    def new_cache(self, rows: int = 1, capacity: int | None = None) -> KVCache | None:
        """What `extend` needs to go on from token to token: an empty cache for `rows` rows, with
        room for `capacity` tokens at first (None: for as many as it ever keeps).

        None if the model has no such thing; then each step computes everything anew.
        """
        return None

    def extend(self, ids: Tensor, cache: KVCache, *, last_only: bool = False) -> Tensor:
        """Logits (B, T, V) for the next ids (B, T) of rows whose beginnings are in the cache, which
        grows by them. They are those of `forward` for the whole rows, up to rounding, without
        gradients.

        Beyond `block_size` tokens attention sees the last `block_size` positions of each layer: a
        window that slides, for models whose positions are distances. Others have no such
        positions, and refuse.

        Args:
            last_only: only the logits of the last position, (B, 1, V).

        Raises:
            UsageError: another shape or dtype, more tokens than there are positions, or (noticed
                on the CPU) an id outside the vocabulary.
            NotImplementedError: a model without a cache, whose `new_cache` gives None.
        """
        raise NotImplementedError(f"{self.name} makes no cache")

    def new_row_cache(self, rows: int, capacity: int | None = None) -> RowCache | None:
        """What `extend_rows` needs to go on: room for `rows` rows of different lengths, each of at
        most `capacity` tokens (None: of any number). None if the model has no such thing."""
        return None

    def extend_rows(self, tokens: Tensor, cache: RowCache) -> Tensor:
        """Logits (B, V) after one more token (B) of each row in use, which grow by it: what
        `extend` gives for each row alone, up to rounding.

        Raises:
            UsageError: not one token for each row, a row without room, or (noticed on the CPU) an
                id outside the vocabulary.
            NotImplementedError: a model without one, whose `new_row_cache` gives None.
        """
        raise NotImplementedError(f"{self.name} makes no cache")

    @property
    def block_size(self) -> int:
        """The longest T that `forward` takes."""
        return self.config.block_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def num_params(self) -> int:
        """How many numbers are learned; a tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @abstractmethod
    def flops_per_token(self) -> int:
        """Floating-point operations of forward and backward for one token at full context
        (Kaplan et al. 2020 for the matrices, plus attention as in PaLM's appendix B)."""

    def through(self, block: nn.Module, *inputs: Any) -> Tensor:
        """`block(*inputs)`, as `gradient_checkpointing` says (Chen et al. 2016,
        arXiv:1604.06174). Dropout draws the same numbers both times."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            y: Tensor = checkpoint(block, *inputs, use_reentrant=False)
        else:
            y = block(*inputs)
        return y

    def check_inputs(self, ids: Tensor, targets: Tensor | None) -> None:
        """Raise UsageError where `forward` could not work, or would work on something else."""
        if is_tracing():  # type: ignore[no-untyped-call]  # of torch
            return  # a trace records operations, not decisions
        self.check_ids(ids)
        _, t = ids.shape  # (B, T)
        if t > self.block_size:
            raise UsageError(
                f"{t} tokens is longer than the model's --block-size {self.block_size}. "
                "Give it the last ones only."
            )
        if targets is not None:
            check_shape("targets", targets)
            if targets.shape != ids.shape:
                raise UsageError(
                    f"targets have shape {tuple(targets.shape)}, ids {tuple(ids.shape)}; "
                    "there is one target for each id."
                )
            check_range("targets", targets, self.config.vocab_size)

    def check_ids(self, ids: Tensor) -> None:
        """Raise UsageError unless ids are (B, T) tokens of this model."""
        check_shape("ids", ids)
        check_range("ids", ids, self.config.vocab_size)


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy in nats, a float32 scalar: −mean log softmax(logits)[target].

    Args:
        logits: (B, T, V).
        targets: (B, T); -100 does not count. Where none counts the mean is over nothing: nan.
    """
    # In half precision the sum over V terms would lose digits; for float32 this copies nothing.
    flat_logits = logits.float().view(-1, logits.size(-1))  # (B·T, V)
    # A view of a longer row (targets are ids shifted by one) is not one flat piece.
    flat_targets = targets.long().reshape(-1)  # (B·T)
    return F.cross_entropy(flat_logits, flat_targets, ignore_index=IGNORE_INDEX)


def check_shape(what: str, ids: Tensor) -> None:
    """Raise UsageError unless ids are whole numbers of shape (B, T)."""
    if not isinstance(ids, Tensor):
        raise UsageError(f"{what} must be a tensor of shape (B, T), not {type(ids).__name__}.")
    if ids.dim() != 2 or 0 in ids.shape:
        raise UsageError(f"{what} must have shape (B, T), both at least 1; got {tuple(ids.shape)}.")
    if ids.dtype not in (torch.int64, torch.int32):
        raise UsageError(f"{what} must be int64 or int32, not {_dtype_name(ids)}.")


def check_range(what: str, ids: Tensor, vocab_size: int) -> None:
    """Raise UsageError where, on the CPU, an id is no token; of targets -100 is none and may be."""
    # Only on the CPU: elsewhere reading the values would wait for the device at every step.
    if ids.device.type != "cpu" or torch.compiler.is_compiling():
        return
    lowest, highest = (int(value) for value in ids.aminmax())
    if what == "targets" and lowest == IGNORE_INDEX:
        lowest = int(torch.where(ids == IGNORE_INDEX, 0, ids).min())
    if lowest < 0 or highest >= vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise UsageError(
            f"{what} hold {wrong}, which is no token: this model's are 0 … {vocab_size - 1}."
        )


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
