"""Whether an answer is right, and in one line how it is not.

Numbers may differ by what the order of float32 additions explains: a few units of 6e-8 for each of
the few dozen operations of an exercise, far below the tolerances here.

What counts is numbers and their shape: a list of lists, a NumPy array and a tensor of the same
numbers are the same answer. Ids alone have to be whole numbers, since they are places in a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

RELATIVE, ABSOLUTE = 1e-4, 1e-5
_LONGEST = 240


def difference(expected: Any, got: Any, where: str = "") -> str | None:
    """How `got` differs first from `expected`; None where it does not.

    >>> difference([1, 2], [1, 3])
    'at [1]: 3, expected 2'
    >>> difference(torch.zeros(2, 3), torch.zeros(3, 2))
    'shape (3, 2), expected (2, 3)'
    """
    at = f"at {where}: " if where else ""
    if isinstance(expected, Tensor):
        return _of_tensors(expected, got, at, where)
    if isinstance(got, Tensor | np.ndarray):
        got = list(got) if got.ndim else got.item()
    elif isinstance(got, np.generic):
        got = got.item()
    if isinstance(expected, str | bytes) or not isinstance(expected, Sequence | Mapping):
        right = _same(expected, got)
        kind = "the whole number " if isinstance(got, float) and isinstance(expected, int) else ""
        return None if right else f"{at}{show(got)}, expected {kind}{show(expected)}"
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping):
            return f"{at}{_kind(got)}, expected a dict"
        for key in expected:
            if key not in got:
                return f"{at}no key {show(key)}"
        for key in got:
            if key not in expected:
                return f"{at}a key {show(key)} too many"
        pairs = [(f"{where}[{key!r}]", expected[key], got[key]) for key in expected]
    else:
        if isinstance(got, str | bytes) or not isinstance(got, Sequence):
            return f"{at}{_kind(got)}, expected a {type(expected).__name__}"
        if len(got) != len(expected):
            return f"{at}{len(got)} elements, expected {len(expected)}"
        both = zip(expected, got, strict=True)
        pairs = [(f"{where}[{i}]", left, right) for i, (left, right) in enumerate(both)]
    found = (difference(left, right, place) for place, left, right in pairs)
    return next((text for text in found if text), None)


def _of_tensors(expected: Tensor, got: Any, at: str, where: str) -> str | None:
    numbers = _as_tensor(got)
    if numbers is None:
        return f"{at}{_kind(got)}, expected a tensor"
    got = numbers.view(()) if expected.dim() == 0 and numbers.numel() == 1 else numbers
    if got.shape != expected.shape:
        return f"{at}shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    if got.is_floating_point() and not expected.is_floating_point():
        return f"{at}floating-point numbers, expected whole ones ({expected.dtype})"
    wrong = ~torch.isclose(
        got.double(),
        expected.double(),
        rtol=RELATIVE,
        atol=ABSOLUTE,
        equal_nan=True,
    )
    if not wrong.any():
        return None
    index = tuple(wrong.nonzero()[0].tolist())
    place = where + "".join(f"[{i}]" for i in index)
    return f"at {place}: " * bool(place) + f"{show(got[index])}, expected {show(expected[index])}"


def _same(expected: Any, got: Any) -> bool:
    numbers = isinstance(got, int | float) and isinstance(expected, int | float)
    if numbers and isinstance(expected, float):
        close = torch.isclose(
            torch.tensor(float(got), dtype=torch.float64),
            torch.tensor(expected, dtype=torch.float64),
            rtol=RELATIVE,
            atol=ABSOLUTE,
            equal_nan=True,
        )
        return bool(close)
    return isinstance(got, type(expected)) and bool(got == expected)


def relation(expected: Any, got: Any) -> str | None:
    """How a wrong tensor or number is related as a whole to the right one, where it is.

    >>> relation(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
    'Every number is 2 times what it should be: a scale is missing, or one too many.'
    """
    left, right = _as_tensor(expected), _as_tensor(got)
    if left is None or right is None or not left.is_floating_point():
        return None
    if left.dim() == 2 and right.shape == left.T.shape and not difference(left.T, right):
        return "The result is transposed: rows and columns are swapped."
    if left.shape != right.shape or not left.any() or not right.isfinite().all():
        return None
    left, right = left.double(), right.double()
    factor = float((right * left).sum() / (left * left).sum())
    if factor == 0 or difference(left * factor, right):
        return None
    if abs(factor + 1) < RELATIVE:
        return "Every number has the wrong sign."
    if left.count_nonzero() < 2:  # a single number is always some multiple of another
        return None
    scale = f"{factor:.4g} times what it should be: a scale is missing, or one too many."
    return f"Every number is {scale}"


def _as_tensor(value: Any) -> Tensor | None:
    """The numbers of a tensor, an array, or lists in lists; None where they have no shape."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, int | float):
        whole = isinstance(value, int) and abs(value) < 2**63
        return torch.tensor(value, dtype=torch.int64 if whole else torch.float64)
    if isinstance(value, np.ndarray | np.generic):
        return _as_tensor(value.tolist())
    if not isinstance(value, list | tuple):
        return None
    parts = [_as_tensor(part) for part in value]
    tensors = [part for part in parts if part is not None]
    if len(tensors) < len(parts) or len({part.shape for part in tensors}) > 1:
        return None
    if any(part.is_floating_point() for part in tensors):
        tensors = [part.double() for part in tensors]
    return torch.stack(tensors) if tensors else torch.empty(0)


def show(value: Any) -> str:
    """A value on one short line; tensors as lists, functions by their names."""
    if isinstance(value, Tensor):
        value = _rounded(value.detach().tolist())
    elif isinstance(value, float):
        value = _rounded(value)
    elif callable(value):
        return getattr(value, "__name__", type(value).__name__)
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _kind(value: Any) -> str:
    return (
        "nothing (None): is there a return?"
        if value is None
        else f"the type {type(value).__name__}"
    )
