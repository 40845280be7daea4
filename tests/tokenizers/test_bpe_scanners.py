"""The compiled split patterns against the `regex` module, which is the definition."""

import random
from itertools import product

import numpy as np
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from toolkit.jit import COMPILED
from toolkit.tokenizers.bpe import PATTERNS, split_pattern
from toolkit.tokenizers.bpe.fast.blocks import WINDOW, split_some
from toolkit.tokenizers.bpe.fast.memory import PADDING
from toolkit.tokenizers.bpe.fast.scanners import SCANNERS
from toolkit.tokenizers.bpe.fast.unicode_classes import (
    LOWER,
    MARK,
    NEWLINE,
    NUMBER,
    OTHER,
    SPACE,
    UNCASED,
    UPPER,
    character_classes,
)

pytestmark = pytest.mark.skipif(not COMPILED, reason="nothing is compiled")

NAMES = ["gpt2", "cl100k", "o200k"]
# What stands after the end of a document must not matter: here it would continue anything.
AFTER = b"'s're \n/a1.\xc3\xa9"


def pieces(text: str, name: str, room: int = 2 * WINDOW) -> list[bytes]:
    """What the compiled scanner cuts a text into, with as little room as it can do with."""
    data = text.encode()
    buffer = np.zeros(len(data) + PADDING, np.uint8)
    buffer[: len(data)] = np.frombuffer(data, np.uint8)
    buffer[len(data) :] = np.resize(np.frombuffer(AFTER, np.uint8), PADDING)
    ends = np.empty(room, np.int64)
    found: list[bytes] = []
    at = 0
    while at < len(data):
        number = split_some(buffer, at, len(data), character_classes(), SCANNERS[name], ends)
        for end in ends[:number].tolist():
            found.append(data[at:end])
            at = end
    return found


def expected(text: str, name: str) -> list[bytes]:
    return [piece.encode() for piece in split_pattern(name).split(text)]


def assert_same(text: str) -> None:
    for name in NAMES:
        assert pieces(text, name) == expected(text, name), name


# -- classes of characters ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("character", "kind"),
    [
        *(("A", UPPER), ("ǅ", UPPER), ("ß", LOWER), ("ʰ", UNCASED), ("你", UNCASED)),
        *(("\u0301", MARK), ("٣", NUMBER), ("Ⅻ", NUMBER), ("²", NUMBER)),
        *(("\u00a0", SPACE), ("\t", SPACE), ("\u2028", SPACE), ("\x85", SPACE)),
        *(("\n", NEWLINE), ("\r", NEWLINE), ("\x1f", OTHER), ("\0", OTHER)),
        *(("_", OTHER), ("😀", OTHER), ("\u200b", OTHER), ("\U0010ffff", OTHER)),
    ],
)
def test_classes_of_characters(character: str, kind: int) -> None:
    assert character_classes()[ord(character)] == kind


def boundaries() -> str:
    """The first and last character of every stretch of one class."""
    table = character_classes()
    edges = np.flatnonzero(np.diff(table)).tolist()
    points = sorted({point for edge in edges for point in (edge, edge + 1)})
    return "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)


def test_every_boundary_of_a_class_among_all_kinds_of_neighbours() -> None:
    characters = boundaries()
    assert len(characters) > 2000  # every script has some
    for before, after in product(
        ["", "a", "A", " ", ".", "1", "'", "\n"], ["", "b", "s", " ", "1"]
    ):
        assert_same("".join(f"{before}{character}{after}" for character in characters))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_character_there_is(name: str) -> None:
    # Above 0x40000 all are of one class, but for the marks from 0xE0100 on.
    points = [*range(0x40000), *range(0x40000, 0x110000, 61), *range(0xE0000, 0xE0200)]
    every = [chr(point) for point in points if not 0xD800 <= point < 0xE000]
    for begin in range(0, len(every), 20_000):
        text = "".join(f"{c}x {c}{c}'s\n{c}1 " for c in every[begin : begin + 20_000])
        assert pieces(text, name, 2048) == expected(text, name)


# -- random text --------------------------------------------------------------------------------

ONE_OF_EACH = "aZéǅʰ你\u0301٣²1 \u00a0\t\n\r.'/_😀ſsdmtlvreLVRESDMT"
FRAGMENTS = [
    *("'s", "'LL", "'ve", "'ſ", "don't", "O'RE", "we'll've", "''", "'"),
    *("  ", "    ", " \n", "\n\n", "\r\n", " \n \n", "\t\t", "...\n", "./", "\n/", "/\n/.\n"),
    *("word", "Word", "camelCase", "HTTPServer", "averylongwordindeed" * 4, "1", "123", "12345678"),
    *("(", "):", "=====", "é", "你好", "e\u0301", "\x00", "\x1c", "\x0b", "_", "#"),
]
MIXED = st.lists(
    st.one_of(
        st.sampled_from(FRAGMENTS),
        st.text(st.sampled_from(ONE_OF_EACH), max_size=6),
        st.text(st.characters(max_codepoint=127), max_size=12),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    ),
    max_size=60,
).map("".join)


@settings(max_examples=1000, deadline=None)
@given(text=MIXED)
@example(text="x" * 63 + "'s")
@example(text="." + " " * 80 + "\n" + " " * 80)
@example(text="a.\n  \n  b" + "c" * 60)
def test_random_text_is_cut_as_by_regex(text: str) -> None:
    assert_same(text)


@pytest.mark.slow
def test_two_million_characters_of_random_text() -> None:
    random_number = random.Random(20)
    fragments = [*FRAGMENTS, *ONE_OF_EACH, *boundaries()[:200]]
    plain = [fragment for fragment in fragments if fragment.isascii()]
    for source in (plain, fragments):
        for _ in range(40):
            text = "".join(random_number.choices(source, k=8000))
            assert_same(text)


def test_wherever_the_window_ends() -> None:
    # The same beginning, pushed through the window a byte at a time.
    for length in range(3 * WINDOW):
        for end in ("'s x", "  \n x", "...\n\n.", "12345 6", "Ab'LL/\n/é", " 'tis"):
            assert_same("a" * length + end + "b c" * 30)
            assert_same("." * length + end)


def test_none_does_not_split() -> None:
    assert pieces("any thing 1\n" * 50, "none") == [b"any thing 1\n" * 50]


def test_every_pattern_has_a_scanner_but_the_textbooks() -> None:
    assert set(SCANNERS) == set(PATTERNS) - {"whitespace"}
    assert regex.__version__  # the oracle is the real thing
