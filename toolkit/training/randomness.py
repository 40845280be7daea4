"""Randomness that belongs to a training, lent to torch's global state while a step runs.

Dropout draws from torch's global generators, which are the caller's.
"""

from __future__ import annotations

import torch
from torch import Tensor


class OwnRandom:
    """torch's random states of one training; `state` is what a checkpoint holds."""

    def __init__(self, seed: int) -> None:
        with torch.random.fork_rng(devices=_cuda_devices()):
            torch.manual_seed(seed)
            self.state = random_tensors()

    def lent(self, *, keep: bool = True) -> _Lent:
        """A context in which torch draws from these states; with `keep` what is drawn counts."""
        return _Lent(self, keep)


class _Lent:
    def __init__(self, own: OwnRandom, keep: bool) -> None:
        self._own = own
        self._keep = keep

    def __enter__(self) -> None:
        self._callers = random_tensors()
        restore_random(self._own.state)

    def __exit__(self, *_: object) -> None:
        if self._keep:
            self._own.state = random_tensors()
        restore_random(self._callers)


def random_tensors() -> dict[str, Tensor]:
    """torch's random states: of the CPU, and of every CUDA device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        for number, state in enumerate(torch.cuda.get_rng_state_all()):
            states[f"cuda:{number}"] = state
    return states


def restore_random(tensors: dict[str, Tensor]) -> None:
    """The inverse of `random_tensors`, for the devices that are there."""
    torch.set_rng_state(tensors["cpu"])
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            if f"cuda:{number}" in tensors:
                torch.cuda.set_rng_state(tensors[f"cuda:{number}"], number)


def _cuda_devices() -> list[int]:
    return list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
