"""Whether an answer is right, and in one line how it is not.

Numbers may differ by what the order of float32 additions explains: a few units of 6e-8 for each of
the few dozen operations of an exercise, far below the tolerances here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
    if getattr(got, "ndim", None) == 0:  # one number of torch's or NumPy's
        got = got.item()
    if isinstance(expected, str | bytes) or not isinstance(expected, Sequence | Mapping):
        right = _same(expected, got)
        return None if right else f"{at}{show(got)}, expected {show(expected)}"
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping):
            return f"{at}{_kind(got)}, expected a dict"
        for key in expected.keys() | got.keys():
            if key not in got:
                return f"{at}no key {show(key)}"
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
    if not isinstance(got, Tensor):
        if isinstance(got, int | float) and expected.dim() == 0:
            return difference(expected.item(), got, where)
        return f"{at}{_kind(got)}, expected a tensor"
    if got.shape != expected.shape:
        return f"{at}shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    if got.is_floating_point() and not expected.is_floating_point():
        return f"{at}floating-point numbers, expected whole ones ({expected.dtype})"
    wrong = ~torch.isclose(
        got.detach().double(),
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
    if left is None or right is None:
        return None
    if left.dim() == 2 and right.shape == left.T.shape and not difference(left.T, right):
        return "The result is transposed: rows and columns are swapped."
    if left.shape != right.shape or not left.any() or not right.isfinite().all():
        return None
    factor = float((right * left).sum() / (left * left).sum())
    if factor == 0 or difference(left * factor, right):
        return None
    if abs(factor + 1) < RELATIVE:
        return "Every number has the wrong sign."
    scale = f"{factor:.4g} times what it should be: a scale is missing, or one too many."
    return f"Every number is {scale}"


def _as_tensor(value: Any) -> Tensor | None:
    if isinstance(value, int | float):
        return torch.tensor(float(value), dtype=torch.float64)
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().double()
    return None


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
