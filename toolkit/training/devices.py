"""Where to compute and in which precision. Nothing probes what is not there."""

from __future__ import annotations

import contextlib
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
        UsageError: an unknown name, or a dtype that the device cannot compute in.
    """
    if name not in DTYPES:
        raise UnknownNameError("dtype", name, DTYPES)
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name == "float16" and device.type == "cpu":
        raise UsageError("--dtype float16 needs a GPU; on the cpu use float32 or bfloat16.")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """A context in which matrix products run in `dtype` while the weights stay float32."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)
