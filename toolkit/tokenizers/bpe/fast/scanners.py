r"""The named split patterns as scanners over UTF-8: where the pre-token that begins here ends.

Each scanner does by hand what the regular expression in `patterns.py` says, one character after the
other; the class of a character comes from a table (`unicode_classes.py`). ASCII text takes the
shorter way of `blocks.py`. Tests compare both with the `regex` module on random text from every
class of characters.

A buffer is UTF-8 without surrogates, and `end` is where the document ends.
"""

from __future__ import annotations

import numpy as np

from toolkit.jit import inlined, part
from toolkit.tokenizers.bpe.fast.memory import Bytes, Int, byte_at, trailing_zeros, word_at
from toolkit.tokenizers.bpe.fast.unicode_classes import (
    LOWER,
    MARK,
    NEWLINE,
    NUMBER,
    OTHER,
    SPACE,
    UNCASED,
    UPPER,
)

GPT2, CL100K, O200K, NONE = range(4)
SCANNERS = {"gpt2": GPT2, "cl100k": CL100K, "o200k": O200K, "none": NONE}

_EIGHT_SPACES = np.uint64(0x2020202020202020)


@inlined
def character_at(buffer: Bytes, at: Int, classes: Bytes) -> Int:
    """The character at `at`: its class times eight plus its width in bytes."""
    byte = byte_at(buffer, at)
    if byte < 0x80:
        return byte_at(classes, byte) << 3 | 1
    return _wide_character(buffer, at, byte, classes)


@part
def _wide_character(buffer: Bytes, at: Int, byte: Int, classes: Bytes) -> Int:
    second = byte_at(buffer, at + 1) & 0x3F
    if byte < 0xE0:
        return byte_at(classes, (byte & 0x1F) << 6 | second) << 3 | 2
    third = byte_at(buffer, at + 2) & 0x3F
    if byte < 0xF0:
        return byte_at(classes, (byte & 0x0F) << 12 | second << 6 | third) << 3 | 3
    fourth = byte_at(buffer, at + 3) & 0x3F
    point = (byte & 0x07) << 18 | second << 12 | third << 6 | fourth
    return byte_at(classes, point) << 3 | 4


@part
def _letters_end(buffer: Bytes, at: Int, end: Int, classes: Bytes) -> Int:
    r"""The end of `\p{L}*` at `at`."""
    while at < end:
        character = character_at(buffer, at, classes)
        if character >> 3 == OTHER or character >> 3 > UNCASED:
            break
        at += character & 7
    return at


@part
def _punctuation_end(buffer: Bytes, at: Int, end: Int, classes: Bytes) -> Int:
    r"""The end of `[^\s\p{L}\p{N}]*` at `at`."""
    while at < end:
        character = character_at(buffer, at, classes)
        if character >> 3 != OTHER and character >> 3 != MARK:
            break
        at += character & 7
    return at


@part
def _numbers_end(buffer: Bytes, at: Int, end: Int, classes: Bytes, which: Int) -> Int:
    r"""The end of `\p{N}{0,2}` at `at`; in "gpt2" of `\p{N}*`."""
    number = 0
    while at < end and (number < 2 or which == GPT2):
        number += 1
        character = character_at(buffer, at, classes)
        if character >> 3 != NUMBER:
            break
        at += character & 7
    return at


@part
def _breaks_end(buffer: Bytes, at: Int, end: Int, which: Int) -> Int:
    r"""The end of `[\r\n]*`, in "o200k" of `[\r\n/]*`."""
    while at < end:
        byte = byte_at(buffer, at)
        if byte != 10 and byte != 13 and not (which == O200K and byte == 47):
            break
        at += 1
    return at


@part
def _whitespace_end(buffer: Bytes, at: Int, end: Int, classes: Bytes, which: Int) -> Int:
    r"""The end of a pre-token of whitespace at `at`.

    `\s+(?!\S)|\s+`: a run leaves its last character to the word that follows, unless it has only
    one or ends the text. Before that, "o200k" has `\s*[\r\n]+` and "cl100k" `\s++$|\s*[\r\n]`:
    a run is cut after its last line break ("cl100k": only if text follows).
    """
    start = at
    last = at
    after_break = at
    while True:
        run = trailing_zeros(word_at(buffer, at) ^ _EIGHT_SPACES) >> 3
        if run and at < end:
            at = min(at + run, end)
            last = at - 1
            if run == 8:
                continue
        if at >= end:
            break
        character = character_at(buffer, at, classes)
        if character >> 3 < SPACE:
            break
        last = at
        at += character & 7
        if character >> 3 == NEWLINE:
            after_break = at
    if after_break > start and (which == O200K or (which == CL100K and at < end)):
        return after_break
    if at == end or last == start:
        return at
    return last


@part
def contraction_end(buffer: Bytes, at: Int, end: Int, which: Int) -> Int:
    """The end of 's, 't, 're, 've, 'm, 'll or 'd at `at`; `at` where there is none.

    But for "gpt2" in either case; the long s (U+017F) is then an s.
    """
    if at + 1 >= end or byte_at(buffer, at) != 39:
        return at
    first = byte_at(buffer, at + 1)
    second = byte_at(buffer, at + 2) if at + 2 < end else 0
    if which != GPT2:
        if first == 0xC5 and second == 0xBF:
            return at + 3
        # Setting bit 5 makes ASCII letters small and makes no other byte one of those below.
        first |= 0x20
        second |= 0x20
    if first == 115 or first == 116 or first == 109 or first == 100:  # s t m d
        return at + 2
    if (first == 114 or first == 118) and second == 101:  # re ve
        return at + 3
    if first == 108 and second == 108:  # ll
        return at + 3
    return at


@part
def _gpt2_end(buffer: Bytes, at: Int, end: Int, classes: Bytes, which: Int) -> Int:
    """One pre-token of "gpt2"."""
    stop = contraction_end(buffer, at, end, which)
    if stop > at:
        return stop
    start = at + 1 if byte_at(buffer, at) == 32 and at + 1 < end else at
    character = character_at(buffer, start, classes)
    after = start + (character & 7)
    kind = character >> 3
    if kind >= SPACE:
        return _whitespace_end(buffer, at, end, classes, which)
    if kind == NUMBER:
        return _numbers_end(buffer, after, end, classes, which)
    if kind in (OTHER, MARK):
        return _punctuation_end(buffer, after, end, classes)
    return _letters_end(buffer, after, end, classes)


@part
def _cl100k_end(buffer: Bytes, at: Int, end: Int, classes: Bytes, which: Int) -> Int:
    """One pre-token of "cl100k"."""
    stop = contraction_end(buffer, at, end, which)
    if stop > at:
        return stop
    character = character_at(buffer, at, classes)
    kind = character >> 3
    after = at + (character & 7)
    if kind == NEWLINE:
        return _whitespace_end(buffer, at, end, classes, which)
    if kind == NUMBER:
        return _numbers_end(buffer, after, end, classes, which)
    if UPPER <= kind <= UNCASED:
        return _letters_end(buffer, after, end, classes)
    # What is left can be the one character before a word.
    if after < end:
        following = character_at(buffer, after, classes) >> 3
        if UPPER <= following <= UNCASED:
            return _letters_end(buffer, after, end, classes)
    start = after if byte_at(buffer, at) == 32 else at
    stop = _punctuation_end(buffer, start, end, classes)
    if stop > start:
        return _breaks_end(buffer, stop, end, which)
    return _whitespace_end(buffer, at, end, classes, which)


@part
def _cased_end(buffer: Bytes, at: Int, end: Int, classes: Bytes) -> tuple[Int, Int]:
    """Where o200k's two kinds of words at `at` end, without their prefix; -1 for no match.

    The first is U*L+ and the second U+L*, where U is upper case, L lower case, and uncased letters
    and marks are both. If no L follows the longest U*, the first gives back characters until
    one of them can be its L; it then ends right there, because no L comes after it.
    """
    stop = at
    given_back = -1
    while stop < end:
        character = character_at(buffer, stop, classes)
        kind = character >> 3
        if kind != UPPER and kind != UNCASED and kind != MARK:
            break
        stop += character & 7
        if kind != UPPER:
            given_back = stop
    lower = stop
    while lower < end:
        character = character_at(buffer, lower, classes)
        if character >> 3 < LOWER or character >> 3 > MARK:
            break
        lower += character & 7
    if lower > stop:
        return lower, lower
    return given_back, stop if stop > at else -1


@part
def _o200k_end(buffer: Bytes, at: Int, end: Int, classes: Bytes, which: Int) -> Int:
    """One pre-token of "o200k"."""
    character = character_at(buffer, at, classes)
    kind = character >> 3
    after = at + (character & 7)
    stop = -1
    if UPPER <= kind <= UNCASED:
        first, second = _cased_end(buffer, at, end, classes)
        stop = first if first >= 0 else second
    elif kind in (OTHER, MARK, SPACE):
        # Either kind of word is tried with the prefix, then without (a mark can be both).
        first, second = _cased_end(buffer, after, end, classes)
        bare_first, bare_second = -1, -1
        if kind == MARK:
            bare_first, bare_second = _cased_end(buffer, at, end, classes)
        for candidate in (first, bare_first, second, bare_second):
            if stop < 0:
                stop = candidate
    if stop >= 0:
        return contraction_end(buffer, stop, end, which)
    if kind == NUMBER:
        return _numbers_end(buffer, after, end, classes, which)
    start = after if byte_at(buffer, at) == 32 else at
    stop = _punctuation_end(buffer, start, end, classes)
    if stop > start:
        return _breaks_end(buffer, stop, end, which)
    return _whitespace_end(buffer, at, end, classes, which)


@part
def pretoken_end(buffer: Bytes, at: Int, end: Int, classes: Bytes, which: Int) -> Int:
    """Where the pre-token that begins at `at` ends; `which` is one of `SCANNERS`' values."""
    if which == CL100K:
        return _cl100k_end(buffer, at, end, classes, which)
    if which == GPT2:
        return _gpt2_end(buffer, at, end, classes, which)
    if which == NONE:
        return end
    return _o200k_end(buffer, at, end, classes, which)
