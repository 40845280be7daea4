"""What a trainer asks of the data, whatever the model learns from: a text, or pairs of texts.

A batch is the arguments of the model's `forward`: ids and targets (B, T), and for a model that
takes one the source (B, S).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Batch = tuple[Tensor, ...]


class Loader(Protocol):
    """An endless row of batches, which can go on where another one stopped."""

    def next_batch(self) -> Batch:
        """The next one, on the device."""

    def peek(self) -> Batch:
        """What `next_batch` will give, which stays the next one."""

    def num_tokens(self, batches: int) -> int:
        """How many tokens the first so many batches had, which are those that were read."""

    def state_dict(self) -> dict[str, Any]:
        """The position, as JSON values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""


class TrainingData(Protocol):
    """Something to train on, and a part of it that is held out; `TokenDataset`, `PairDataset`."""

    vocab_size: int
    """How many ids a model has to know."""

    def num_tokens(self, split: str) -> int:
        """How many targets the part "val" has."""

    def num_bytes(self, split: str) -> int:
        """How many bytes of text they stand for."""

    def loader(
        self,
        *,
        batch_size: int,
        block_size: int,
        seed: int,
        device: str | torch.device = "cpu",
        rows: slice = slice(None),
    ) -> Loader:
        """Batches to train on, in an order that follows from the seed; of each, these rows."""

    def evaluation_batches(
        self,
        *,
        batch_size: int,
        block_size: int,
        device: str | torch.device = "cpu",
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """The held-out part once: every n-th batch from batch i on, for a `part` (i, n)."""
