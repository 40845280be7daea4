"""Options of a tokenizer as people write them: NAME=VALUE, and sizes such as 2GB.

The command line and the files of sweeps read them alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toolkit.errors import UsageError


def tokenizer_options(
    unknown: str | None, max_memory: str | None, settings: Sequence[str] | None
) -> dict[str, Any]:
    """The options of a tokenizer from those of the command line.

    Raises:
        UsageError: a setting that is not NAME=VALUE, or a size that is none.
    """
    options: dict[str, Any] = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not name or not equals:
            raise UsageError(
                f"--tokenizer-option '{setting}' is not NAME=VALUE: write for example "
                "-O pattern=cl100k."
            )
        options[name.replace("-", "_")] = _parse_value(value)
    if unknown is not None:
        options["unknown"] = unknown
    if max_memory is not None:
        options["max_memory"] = _parse_memory(max_memory)
    return options


def _parse_value(text: str) -> Any:
    """A number, true, false or a list as TOML writes them; anything else is a text."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def _parse_memory(text: str) -> int:
    units = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    number = text.strip().upper().removesuffix("B").removesuffix("I")
    unit = number[-1:] if number[-1:] in "KMGT" else ""
    try:
        size = float(number.removesuffix(unit)) * units[unit]
    except ValueError:
        size = -1.0
    if not 0 < size < 1 << 60:
        raise UsageError(f"--max-memory {text!r} is not a size: write for example 500MB or 2GB.")
    return int(size)
