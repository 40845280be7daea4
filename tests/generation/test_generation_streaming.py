"""Text that ends before a stop string, wherever it is cut into pieces."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolkit.errors import UsageError
from toolkit.generation import StopScanner

# -- stop strings ------------------------------------------------------------------------------

few_letters = st.text(alphabet="ab", max_size=12)
stops = st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3)


def cut(text: str, stop: list[str]) -> tuple[str, bool]:
    """The text before the stop string that is complete first, found letter by letter."""
    for end in range(len(text) + 1):
        starts = [end - len(each) for each in stop if text[:end].endswith(each)]
        if starts:
            return text[: min(starts)], True
    return text, False


def scan(pieces: list[str], stop: list[str]) -> tuple[list[str], bool]:
    scanner = StopScanner(stop)
    shown = [scanner.push(piece) for piece in pieces]
    return [*shown, scanner.finish()], scanner.stopped


@given(st.lists(few_letters, max_size=6), stops)
@example(["abcb"], ["abc", "b"])
@example(["aab"], ["ab"])
def test_what_is_shown_depends_on_the_text_alone(pieces: list[str], stop: list[str]) -> None:
    shown, stopped = scan(pieces, stop)
    assert ("".join(shown), stopped) == cut("".join(pieces), stop)


@given(few_letters, stops)
def test_no_more_is_held_back_than_could_be_a_beginning(text: str, stop: list[str]) -> None:
    scanner = StopScanner(stop)
    shown = "".join(scanner.push(letter) for letter in text)
    if scanner.stopped:
        return
    held = text[len(shown) :]
    beginnings = {each[:length] for each in stop for length in range(len(each))} | {""}
    assert held == max((text[i:] for i in range(len(text) + 1) if text[i:] in beginnings), key=len)


def test_a_stop_string_in_three_pieces() -> None:
    shown, stopped = scan(["He said", " EN", "D", "ING END"], ["ENDING"])
    assert (shown, stopped) == (["He said", " ", "", "", ""], True)


def test_a_beginning_that_leads_nowhere_is_shown_after_all() -> None:
    assert scan(["a E", "N", "E", "N"], ["END"]) == (["a ", "", "EN", "", "EN"], False)


def test_nothing_comes_after_the_stop() -> None:
    scanner = StopScanner(["."])
    assert scanner.push("One. Two") == "One"
    assert (scanner.push("more"), scanner.finish()) == ("", "")


def test_without_stop_strings_nothing_is_held_back() -> None:
    assert scan(["a", "b"], []) == (["a", "b", ""], False)


@pytest.mark.parametrize("stop", [[""], ["a", ""], [3]])
def test_an_empty_stop_string_is_refused(stop: list[str]) -> None:
    with pytest.raises(UsageError, match=r"--stop .* must be a text of at least one character"):
        StopScanner(stop)
