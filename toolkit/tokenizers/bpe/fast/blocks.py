r"""The split patterns on 64 bytes of ASCII at once, with one bit for each byte.

A window is the 64 bytes at the start of a pre-token. Its bytes are classed all at once (letters,
digits, spaces …, a 64-bit word each), and a few dozen operations on these words give the word of
starts: the bytes at which a pre-token begins. `starts << 1` asks what came before, an addition
carries a bit to the end of a run. The last pre-token that begins in the window may go on after it,
so the next window begins there.

What does not fit (a character that is not ASCII, a pre-token longer than the window, the end of the
text, the rarest forms) is left to `scanners.py`, one pre-token at a time. The rules, taken from the
regular expressions in `patterns.py`:

- A run of letters begins a pre-token. "cl100k" and "o200k" put the character before it into the
  same one (unless it is a digit or a line break), if that character is whitespace or a lone
  punctuation mark without a space before it. "gpt2" does so with a space only. "o200k" also
  begins a new one where a capital follows a small letter.
- A run of digits begins one; after three digits the next begins ("gpt2": never, and a space
  before the digits belongs to them).
- A run of punctuation begins one, together with a space before it. In "cl100k" and "o200k" the
  line breaks after it belong to it.
- Of a run of whitespace (what the punctuation before it left), the last character begins one of
  its own, to which what follows may belong. If there are line breaks in it, the pre-token ends
  after the last of them ("gpt2": line breaks are not special).
- An apostrophe may begin a contraction, or in "o200k" end a word with one.
"""

from __future__ import annotations

import numpy as np

from toolkit.jit import inlined, kernel, part
from toolkit.tokenizers.bpe.fast.memory import (
    Bytes,
    Int,
    Ints,
    Word,
    byte_at,
    bytes_between,
    leading_zeros,
    ones,
    put,
    trailing_zeros,
)
from toolkit.tokenizers.bpe.fast.scanners import GPT2, NONE, O200K, contraction_end, pretoken_end

WINDOW = 64
_ONE = np.uint64(1)
_TWO = np.uint64(2)
_THREE = np.uint64(3)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@part
def _with_contractions(
    buffer: Bytes, at: Int, end: Int, starts: Word, letters: Word, apostrophes: Word, which: Int
) -> Word:
    """`starts`, with the contractions in it cut out.

    In "o200k" the apostrophes are those after letters, and a contraction belongs to the word before
    it; otherwise they are those that begin a pre-token, and a contraction is one of its own.
    """
    after_last = -1
    while apostrophes:
        place = trailing_zeros(apostrophes)
        apostrophes &= apostrophes - _ONE
        length = contraction_end(buffer, at + place, end, which) - (at + place)
        if length == 0 or (which == O200K and place == after_last):
            continue
        inside = ((_ONE << np.uint64(length)) - _ONE) << np.uint64(place)
        if which != O200K:
            inside &= inside - _ONE  # the apostrophe itself remains a start
        starts &= ~inside
        after_last = place + length
        if after_last < WINDOW:
            starts |= (_ONE << np.uint64(after_last)) & letters
    return starts


@inlined
def _window_starts(buffer: Bytes, at: Int, end: Int, which: Int) -> Word:
    """Where pre-tokens surely begin in the window at `at`, itself the beginning of one.

    A bit for each byte; the lowest is set, and alone if nothing is sure.
    """
    letters = bytes_between(buffer, at, 0x20, 97, 122)
    digits = bytes_between(buffer, at, 0, 48, 57)
    spaces = bytes_between(buffer, at, 0, 32, 32)
    breaks = bytes_between(buffer, at, 0, 10, 10) | bytes_between(buffer, at, 0, 13, 13)
    blanks = bytes_between(buffer, at, 0, 9, 13)
    blanks = spaces | (blanks & ~breaks)  # whitespace, without line breaks
    whitespace = blanks | breaks
    apostrophes = bytes_between(buffer, at, 0, 39, 39)
    others = bytes_between(buffer, at, 0, 128, 255)
    punctuation = ~(letters | digits | whitespace | others)

    # `known`: how many bytes of the window are of this text, and ASCII.
    known = min(trailing_zeros(others), end - at)
    if known <= 1:
        return _ONE

    letter_starts = letters & ~(letters << _ONE)
    digit_starts = digits & ~(digits << _ONE)
    mark_starts = punctuation & ~(punctuation << _ONE)
    free_marks = mark_starts & ~(spaces << _ONE)  # no space before, that would belong to them
    last_blanks = blanks & ~(whitespace >> _ONE)
    if which == GPT2:
        starts = (letter_starts | digit_starts | mark_starts) & ~(spaces << _ONE)
        starts |= whitespace & ~(whitespace << _ONE)
        starts |= whitespace & ~(whitespace >> _ONE)
        contracted = apostrophes & free_marks
    else:
        lone_marks = free_marks & ~(punctuation >> _ONE)
        starts = letter_starts & ~((blanks | lone_marks) << _ONE)
        starts |= digit_starts | free_marks | last_blanks
        # After a line break the next blank begins one, unless another break follows in the run.
        after_breaks = blanks & (breaks << _ONE)
        blocked = (blanks + after_breaks) & ~blanks & breaks
        starts |= after_breaks
        while blocked:
            before = after_breaks & (blocked ^ (blocked - _ONE))
            starts &= ~(_ONE << np.uint64(WINDOW - 1 - leading_zeros(before)))
            blocked &= blocked - _ONE
        # Line breaks right after punctuation belong to it: a carry runs through them.
        taken = breaks & ~(breaks + (breaks & (punctuation << _ONE)))
        free = whitespace & ~taken
        starts |= free & ~(free << _ONE)
        threes = digit_starts
        while True:
            threes = (threes << _THREE) & digits & (digits << _ONE) & (digits << _TWO)
            if not threes:
                break
            starts |= threes
        contracted = apostrophes & free_marks
        if which == O200K:
            small = letters & bytes_between(buffer, at, 0, 97, 122)
            starts |= letters & ~small & (small << _ONE)
            contracted = apostrophes & (letters << _ONE)
            # A slash after the line breaks that belong to punctuation belongs to it too: rare.
            slashes = punctuation & (taken << _ONE)
            if slashes:
                known = min(known, trailing_zeros(slashes))
    if contracted:
        starts = _with_contractions(buffer, at, end, starts, letters, contracted, which)

    # Not sure yet: what begins inside a run of whitespace that reaches the end, and whatever a
    # contraction that crosses the end would change.
    inside = _ALL >> np.uint64(WINDOW - known)
    trailing = leading_zeros(~(whitespace << np.uint64(WINDOW - known)))
    sure = known - trailing + (trailing > 0)
    crossing = contracted & inside & ~(inside >> _THREE)
    if crossing:
        sure = min(sure, trailing_zeros(crossing) + (which != O200K))
    if sure <= 1:
        return _ONE
    return starts & (_ALL >> np.uint64(WINDOW - sure)) | _ONE


@inlined
def _is_wide(buffer: Bytes, at: Int) -> bool:
    """Whether a character that is not ASCII is at `at`, or after the one that is there."""
    return bool((byte_at(buffer, at) | byte_at(buffer, at + 1)) >= 0x80)


@kernel
def split_some(buffer: Bytes, at: Int, end: Int, classes: Bytes, which: Int, ends: Ints) -> Int:
    """Write the ends of the pre-tokens from `at` on to `ends`, until it is full or nothing is left.

    Returns how many there are; the last one says where to go on. `ends` has room for at least
    `2 * WINDOW`.
    """
    count = 0
    last = len(ends) - WINDOW
    while at < end and count < last:
        starts = _window_starts(buffer, at, end, which) if which != NONE else _ONE
        if starts == _ONE:
            at = pretoken_end(buffer, at, end, classes, which)
            put(ends, count, at)
            count += 1
            while at < end and count < last and _is_wide(buffer, at):
                at = pretoken_end(buffer, at, end, classes, which)
                put(ends, count, at)
                count += 1
            continue
        starts &= starts - _ONE
        number = ones(starts)
        # Eight at a time, more than there are: how often the loop turns is then easy to foresee.
        written = 0
        while written < number:
            for place in range(8):
                put(ends, count + written + place, at + trailing_zeros(starts))
                starts &= starts - _ONE
            written += 8
        count += number
        at = ends[count - 1]
    return count
