"""In which line of a JSON file something stands, for messages about files that are damaged."""

from __future__ import annotations

import json
import re
from pathlib import Path


class JSONPlaces:
    """Finds lines in a JSON file, which is read when the first one is asked for.

    The answers are text for the beginning of a message: the path, and the line where it is found.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text: str | None = None

    def key(self, name: str, key: str) -> str:
        """Where `key` stands in the object called `name`."""
        begin = self._value_of(name)
        for ascii_only in (False, True):
            encoded = re.escape(json.dumps(key, ensure_ascii=ascii_only))
            match = re.compile(encoded + r"\s*:").search(self._read(), begin)
            if match:
                return self._at(match.start())
        return str(self._path)

    def item(self, name: str, index: int) -> str:
        """Where item `index` stands in the list called `name`."""
        text = self._read()
        position = self._value_of(name) + 1  # after the bracket
        decoder = json.JSONDecoder()
        try:
            for _ in range(index):
                _, position = decoder.raw_decode(text, _skip(text, position))
                position = _skip(text, position) + 1  # after the comma
        except ValueError:
            return str(self._path)
        return self._at(_skip(text, position))

    def _value_of(self, name: str) -> int:
        """Where the value of the first key `name` begins."""
        match = re.search(re.escape(json.dumps(name)) + r"\s*:\s*", self._read())
        return match.end() if match else 0

    def _at(self, position: int) -> str:
        return f"{self._path}, line {self._read().count(chr(10), 0, position) + 1}"

    def _read(self) -> str:
        if self._text is None:
            try:
                self._text = self._path.read_text("utf-8")
            except (OSError, UnicodeDecodeError):
                self._text = ""
        return self._text


def _skip(text: str, position: int) -> int:
    """The next character that is no whitespace."""
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
