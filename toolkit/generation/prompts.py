"""Several prompts from a file: one a line, or JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

from toolkit.errors import UsageError


def read_prompts(path: str | Path) -> list[str]:
    """The prompts of a file, in order.

    Of a `.jsonl` file each line is a JSON text, or an object with the field `prompt`. Of any other
    file each line is a prompt as it stands. Empty lines are left out.

    Raises:
        UsageError: a file that cannot be read or has no prompts, or a line of another form.
    """
    path = Path(path)
    try:
        # Not splitlines: that would also cut at characters such as U+2028.
        lines = path.read_text("utf-8").split("\n")
    except OSError as error:
        raise UsageError(f"--prompts {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--prompts {path} is not UTF-8 (at offset {error.start}).") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise UsageError(f"--prompts {path} has no prompts: write one a line.")
    if path.suffix == ".jsonl":
        return [_from_json(line, f"{path}, line {number}") for number, line in numbered]
    return [line for _, line in numbered]


def _from_json(line: str, where: str) -> str:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where} is not JSON: {error}.") from error
    prompt = value.get("prompt") if isinstance(value, dict) else value
    if not isinstance(prompt, str):
        raise UsageError(f'{where}: expected a text, or an object such as {{"prompt": "ROMEO:"}}.')
    return prompt
