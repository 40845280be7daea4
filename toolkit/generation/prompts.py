"""Prompts: several from a file, one a line or JSON lines; the ids that a text starts from."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable
from pathlib import Path

from toolkit.errors import UsageError, VocabularyError
from toolkit.tokenizers import Tokenizer
from toolkit.tokenizers.special import END_OF_TEXT


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


def first_ids(tokenizer: Tokenizer) -> list[int]:
    """What a new text begins after: see `Generator.prompt_ids`."""
    special = tokenizer.special_tokens
    if END_OF_TEXT in special:
        return [special[END_OF_TEXT]]
    try:
        line_break = tokenizer.encode("\n")
    except VocabularyError:
        line_break = []
    if line_break and tokenizer.unk_id not in line_break:
        return line_break
    plain = set(range(tokenizer.vocab_size)) - set(special.values())
    return [min(plain, default=0)]


def check_ids(ids: Iterable[int], vocab_size: int) -> list[int]:
    """The ids of a prompt that is given as such; they may be NumPy's or torch's.

    Raises:
        UsageError, VocabularyError: none, or some that the model does not know.
    """
    try:
        checked = [operator.index(token_id) for token_id in ids]
    except TypeError as error:
        raise UsageError(f"A prompt of ids needs whole numbers: {error}.") from error
    if not checked:
        raise UsageError("A prompt of ids needs at least one id to start from.")
    for token_id in checked:
        if not 0 <= token_id < vocab_size:
            raise VocabularyError(
                f"Id {token_id} is no token: this model's are 0 to {vocab_size - 1}."
            )
    return checked


def _from_json(line: str, where: str) -> str:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where} is not JSON: {error}.") from error
    prompt = value.get("prompt") if isinstance(value, dict) else value
    if not isinstance(prompt, str):
        raise UsageError(f'{where}: expected a text, or an object such as {{"prompt": "ROMEO:"}}.')
    return prompt
