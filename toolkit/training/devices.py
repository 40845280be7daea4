"""Where to compute and in which precision. Nothing probes what is not there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch

from toolkit.errors import UnknownNameError, UsageError
from toolkit.training.config import DEVICES, DTYPES


def resolve_device(name: str = "auto") -> torch.device:
    """The device of a name; "auto" takes cuda, else mps, else cpu.

    Raises:
        UsageError: an unknown name, or a device that this machine does not have.
    """
    kind = name.split(":")[0]
    if kind not in DEVICES:
        raise UnknownNameError("device", name, DEVICES)
    if kind == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there[kind]:
        raise UsageError(f"--device {name}: this machine has none that torch can use. Use cpu.")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name} is no device: try {', '.join(DEVICES)}.") from error


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of a name; "auto" is bfloat16 on cuda and float32 elsewhere.

    Raises:
        UsageError: an unknown name.
    """
    if name not in DTYPES:
        raise UnknownNameError("dtype", name, DTYPES)
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """A context in which matrix products run in `dtype` while the weights stay float32."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


@contextlib.contextmanager
def tf32(device: torch.device, dtype: torch.dtype, on: bool) -> Iterator[None]:
    """A context in which cuda's products of float32 round their factors to 10 bits (TF32).

    Only there: on another device or in another dtype nothing is touched, and afterwards torch's
    global setting is what it was.
    """
    if not on or device.type != "cuda" or dtype != torch.float32:
        yield
        return
    settings = torch.backends.cuda.matmul
    # torch 2.9 renamed it, and refuses to be asked by the old name once the new one was set.
    renamed = hasattr(settings, "fp32_precision")
    name = "fp32_precision" if renamed else "allow_tf32"
    before = getattr(settings, name)
    setattr(settings, name, "tf32" if renamed else True)
    try:
        yield
    finally:
        setattr(settings, name, before)
