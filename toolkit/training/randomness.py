"""Randomness that belongs to a training, lent to torch's global state while a step runs.

Dropout draws from torch's global generators, which are the caller's. Of these, only the CPU's and
that of the device which computes are looked at: asking another would start it.
"""

from __future__ import annotations

import torch
from torch import Tensor


class OwnRandom:
    """torch's random states of one training; `state` is what a checkpoint holds."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        self.state = {"cpu": torch.Generator().manual_seed(seed).get_state()}
        if device.type != "cpu":
            self.state[_key(device)] = torch.Generator(device).manual_seed(seed).get_state()

    def lent(self, *, keep: bool = True) -> _Lent:
        """A context in which torch draws from these states; with `keep` what is drawn counts."""
        return _Lent(self, self._device, keep)


class _Lent:
    def __init__(self, own: OwnRandom, device: torch.device, keep: bool) -> None:
        self._own = own
        self._device = device
        self._keep = keep

    def __enter__(self) -> None:
        self._callers = random_tensors(self._device)
        restore_random(self._own.state, self._device)

    def __exit__(self, *_: object) -> None:
        if self._keep:
            self._own.state = random_tensors(self._device)
        restore_random(self._callers, self._device)


def random_tensors(device: torch.device) -> dict[str, Tensor]:
    """torch's global random states: the CPU's and the device's."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states[_key(device)] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states[_key(device)] = torch.mps.get_rng_state()
    return states


def restore_random(tensors: dict[str, Tensor], device: torch.device) -> None:
    """The inverse of `random_tensors`."""
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors[_key(device)], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(tensors[_key(device)])


def _key(device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    return f"cuda:{torch.cuda.current_device() if device.index is None else device.index}"
