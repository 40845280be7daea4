"""In which script a word is written (Unicode Standard Annex #24).

Told apart are the scripts in wide use today (Unicode Standard Annex #31, table 5); all others are
"Other".
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any

import regex

_SCRIPTS = [
    "Latin",
    "Cyrillic",
    "Greek",
    "Han",
    "Arabic",
    "Hebrew",
    "Devanagari",
    "Hangul",
    "Hiragana",
    "Katakana",
    "Thai",
    "Armenian",
    "Bengali",
    "Bopomofo",
    "Ethiopic",
    "Georgian",
    "Gujarati",
    "Gurmukhi",
    "Kannada",
    "Khmer",
    "Lao",
    "Malayalam",
    "Myanmar",
    "Oriya",
    "Sinhala",
    "Tamil",
    "Telugu",
    "Thaana",
    "Tibetan",
]
OTHER = "Other"
NO_LETTERS = "No letters"


def script_of_word(word: str) -> str:
    """The script of most letters of a word, of several the first one.

    >>> script_of_word("naïve!"), script_of_word("漢字"), script_of_word("3,5")
    ('Latin', 'Han', 'No letters')
    """
    counts = Counter(script for script in map(script_of, word) if script != NO_LETTERS)
    return counts.most_common(1)[0][0] if counts else NO_LETTERS


@lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """The script of a character; "No letters" for what scripts share, such as digits."""
    if not character.isalpha():
        return NO_LETTERS
    return next((name for name, found in _patterns() if found.match(character)), OTHER)


@lru_cache
def _patterns() -> list[tuple[str, Any]]:
    return [(name, regex.compile(rf"\p{{Script={name}}}")) for name in _SCRIPTS]
