"""Reading the fields of a Hugging Face config.json: there, or as supported, or one clear line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.errors import UsageError


def take(values: Mapping[str, Any], field: str) -> Any:
    """The value of a field.

    Raises:
        UsageError: it is missing, or null.
    """
    if values.get(field) is None:
        raise UsageError(f"the field {field} is missing.")
    return values[field]


def require(values: Mapping[str, Any], field: str, supported: Any) -> None:
    """Check that a field has the one value that is supported, or is left out.

    Raises:
        UsageError: it has another.
    """
    if values.get(field, supported) != supported:
        value = values[field]
        raise UsageError(f"{field} = {value!r} is not supported; toolkit reads {supported!r}.")
