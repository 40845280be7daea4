"""Split patterns: where they cut, and that nothing is lost between the cuts."""

import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolkit.errors import UnknownNameError, UsageError
from toolkit.tokenizers.bpe import PATTERNS, SplitPattern, split_pattern
from toolkit.tokenizers.bpe.patterns import well_formed

# Cut by hand from what the patterns say.
CUTS = {
    "gpt2": [
        ("Hello world", ["Hello", " world"]),
        ("we've  12345 x's", ["we", "'ve", " ", " 12345", " x", "'s"]),
        ("WE'VE", ["WE", "'", "VE"]),
        ("a\n\n  b \n", ["a", "\n\n ", " b", " \n"]),
        ("(x):\n", ["(", "x", "):", "\n"]),
    ],
    "cl100k": [
        ("Hello world", ["Hello", " world"]),
        ("WE'VE  12345", ["WE", "'VE", " ", " ", "123", "45"]),
        ("a\n\n  b \n", ["a", "\n\n", " ", " b", " \n"]),
        ("(x):\n", ["(x", "):\n"]),
        # Whitespace at the end of the text stays in one piece, newlines or not.
        ("x  \n  ", ["x", "  \n  "]),
        ("x  \n  y", ["x", "  \n", " ", " y"]),
    ],
    "o200k": [
        ("camelCase WE'VE", ["camel", "Case", " WE'VE"]),
        ("x/\n/y", ["x", "/\n/", "y"]),
        ("a1234b", ["a", "123", "4", "b"]),
        ("x  \n  ", ["x", "  \n", "  "]),
    ],
    "whitespace": [
        ("to  be,\n or", ["to", "  ", "be,", "\n ", "or"]),
        (" \u3000x\u00a0", [" \u3000", "x", "\u00a0"]),
    ],
    "none": [("any thing 1\n", ["any thing 1\n"])],
}


@pytest.mark.parametrize(
    ("name", "text", "pieces"),
    [(name, text, pieces) for name, cuts in CUTS.items() for text, pieces in cuts],
)
def test_named_patterns_cut_as_worked_out_by_hand(name: str, text: str, pieces: list[str]) -> None:
    assert split_pattern(name).split(text) == pieces


def test_every_name_is_tried() -> None:
    assert set(CUTS) == set(PATTERNS)


@pytest.mark.parametrize("pattern", [*PATTERNS, r"b+", r"(a)|(b)", r"x*", r"", r"(?=a)", r"\s"])
@given(text=st.text("ab x'S1\n\r\t\u00e9\u4f60"))
@example(text="")
def test_nothing_is_lost_and_no_piece_is_empty(pattern: str, text: str) -> None:
    if pattern == "":
        split = SplitPattern("custom", "")
    else:
        split = split_pattern(pattern)
    pieces = split.split(text)
    assert "".join(pieces) == text
    assert "" not in pieces


@pytest.mark.parametrize(
    ("regex", "pieces"),
    [
        (r"b+", ["a", "bb", "ca", "b"]),
        (r"(a)", ["a", "bbc", "a", "b"]),
        (r"x*", ["a", "b", "b", "c", "a", "b"]),  # a match of nothing cuts as well
        (r"abb|b", ["abb", "ca", "b"]),
    ],
)
def test_gaps_between_matches_are_pieces(regex: str, pieces: list[str]) -> None:
    assert split_pattern(regex).split("abbcab") == pieces


def test_how_tiktoken_spells_them_is_recognised() -> None:
    tiktoken_gpt2 = (
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
    )
    assert split_pattern(tiktoken_gpt2) == split_pattern("gpt2")
    for name, regex in PATTERNS.items():
        assert split_pattern(regex) == SplitPattern(name, regex)


def test_a_misspelt_name_is_not_taken_for_an_expression() -> None:
    with pytest.raises(UnknownNameError, match=r"No split pattern 'cl100'\. Did you mean 'cl100k'"):
        split_pattern("cl100")


def test_a_broken_expression_is_explained() -> None:
    with pytest.raises(UsageError, match=r"'\(a' is not a regular expression: missing \)"):
        split_pattern("(a")


def test_survives_pickling() -> None:
    pattern = split_pattern(r"\d|\D+")
    pattern.split("warm 1")
    copy = pickle.loads(pickle.dumps(pattern))
    assert copy == pattern
    assert copy.split("ab1") == ["ab", "1"]


@pytest.mark.parametrize(
    ("regex", "portable"),
    [
        (r"\s+|[^\s]+", True),
        (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}++|\p{N}{1,3}|.", True),
        (r"(?>a|b)\d(?!c)", True),
        (r"\p{N}{1,3}+", False),  # Ruby: an interval, repeated
        (r"\s+$|.", False),  # Ruby: the end of a line
        (r"(?<=a)^b", False),
        (r"(?i)a", False),
        (r"(?s:.)", False),
        (r"(?i:in)", False),  # the dotted capital I
        (r"\w+", False),  # U+00B2 is a word character in Ruby
        (r"\bx", False),
        (r"[\p{L}--[a]]", False),
        (r"x*|bb", False),  # where a match of nothing ends, a longer one may begin or not
        (r"(?P<x>a)", False),
    ],
)
def test_portable_is_what_two_engines_read_alike(regex: str, portable: bool) -> None:
    assert split_pattern(regex).portable is portable


def test_named_patterns_are_portable() -> None:
    assert all(split_pattern(name).portable for name in PATTERNS)


def test_surrogates_are_repaired() -> None:
    assert well_formed("x\ud83d\ude00y") == "x\U0001f600y"
    assert well_formed("\ude00\ud83d") == "\ufffd\ufffd"
    text = "as it is \U0001f600"
    assert well_formed(text) is text
