"""The class of every Unicode character, as far as the split patterns tell characters apart.

The classes come from the `regex` module that the patterns are tested against, so that both follow
the same edition of Unicode. Making the table takes some 30 ms; it is made when it is first used.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import regex

# Letters are 1 … 3, whitespace is 6 and 7: the scanners compare with ranges.
OTHER, UPPER, LOWER, UNCASED, MARK, NUMBER, SPACE, NEWLINE = range(8)

_CLASSES = {
    UPPER: r"[\p{Lu}\p{Lt}]",
    LOWER: r"\p{Ll}",
    UNCASED: r"[\p{Lm}\p{Lo}]",
    MARK: r"\p{M}",
    NUMBER: r"\p{N}",
    SPACE: r"[\s--[\r\n]]",
    NEWLINE: r"[\r\n]",
}
_NUM_CODE_POINTS = 0x110000
_SURROGATES = range(0xD800, 0xE000)


@cache
def character_classes() -> npt.NDArray[np.uint8]:
    """The class of each code point: uint8 (1114112,). Surrogates are `OTHER`; no UTF-8 has them.

    >>> table = character_classes()
    >>> [int(table[ord(character)]) for character in "-Aaあ٣ \\n"] == [
    ...     OTHER, UPPER, LOWER, UNCASED, NUMBER, SPACE, NEWLINE]
    True
    """
    points = np.arange(_NUM_CODE_POINTS, dtype="<u4")
    points = np.delete(points, slice(_SURROGATES.start, _SURROGATES.stop))
    every_character = points.tobytes().decode("utf-32-le")
    table = np.zeros(_NUM_CODE_POINTS, dtype=np.uint8)
    for number, expression in _CLASSES.items():
        for match in regex.finditer(f"{expression}+", every_character, regex.V1):
            table[points[match.start() : match.end()]] = number
    table.flags.writeable = False
    return table
