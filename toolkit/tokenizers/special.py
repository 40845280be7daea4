"""Special tokens: names such as "<|endoftext|>", one id each, which plain text never becomes.

What the byte-level tokenizers share: checking the names, and finding the allowed ones in a text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

import regex

from toolkit.errors import UnknownNameError, UsageError

END_OF_TEXT = "<|endoftext|>"
"""The special token that ends a document, in every tokenizer that has one."""


def check_special_names(names: Iterable[str]) -> list[str]:
    """The names as a list, checked.

    Raises:
        UsageError: one string instead of several, an empty name, one given twice, or one that is
            not text.
    """
    if isinstance(names, str):
        raise UsageError(f"special_tokens must be a list of names: write [{names!r}]")
    checked: list[str] = []
    for name in names:
        if not isinstance(name, str) or not name:
            raise UsageError(
                f"A special token must be a text of at least 1 character, not {name!r}"
            )
        if name in checked:
            raise UsageError(f"The special token {name!r} is given twice")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UsageError(f"The special token {name!r} has no UTF-8 form") from None
        checked.append(name)
    return checked


def added_token(token_id: int, name: str) -> dict[str, Any]:
    """A special token as a `tokenizer.json` lists it: matched as it is written, wherever it is."""
    return {
        "id": token_id,
        "content": name,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def split_at_special(
    text: str, special_tokens: Mapping[str, int], allowed: Set[str]
) -> Iterator[tuple[str, int | None]]:
    """Cut `text` at the allowed special tokens: (plain text, the id that follows it or None).

    Where two of them begin at the same place, the longer one is meant.

    >>> list(split_at_special("a<s>b<s>", {"<s>": 7, "<t>": 8}, {"<s>"}))
    [('a', 7), ('b', 7), ('', None)]

    Raises:
        UsageError: `allowed` is not a set, or holds a name that is no special token.
    """
    if not isinstance(allowed, Set):
        raise UsageError(
            f"allowed_special must be a set of names, not {type(allowed).__name__} {allowed!r}"
        )
    for name in allowed:
        if name not in special_tokens:
            if not special_tokens:
                raise UsageError(f"No special token {name!r}: this tokenizer has none.")
            raise UnknownNameError("special token", str(name), special_tokens)
    end = 0
    if allowed:
        longest_first = sorted(allowed, key=lambda name: (-len(name), name))
        for match in regex.finditer("|".join(map(regex.escape, longest_first)), text):
            yield text[end : match.start()], special_tokens[match.group()]
            end = match.end()
    yield text[end:], None
