"""What JSON and CSV say about values that they have no type for: dataclasses and bytes.

Left out: writing files, which is `files`, and printing, which is the console's.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any


def to_jsonable(value: Any) -> Any:
    """Dataclasses to dicts, bytes to text where they are UTF-8 and to hex where they are not, and
    numbers that are none to null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: to_jsonable(getattr(value, field.name)) for field in fields}
    if isinstance(value, dict):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return bytes_to_json(value)
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no infinity
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def bytes_to_json(value: bytes) -> str:
    r"""Text where the bytes are UTF-8, otherwise `\x..` for each byte.

    >>> bytes_to_json(b" the"), bytes_to_json(b"\xf0\x9f")
    (' the', '\\xf0\\x9f')
    """
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in value)
