"""Streams: whole characters only, and text that ends before a stop string wherever it is cut."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolkit.errors import UsageError, VocabularyError
from toolkit.generation import StopScanner, StreamDecoder
from toolkit.tokenizers import ByteTokenizer, CharTokenizer

FAMILY = "👩‍👩‍👧"  # five code points, 18 bytes


def decode_in_pieces(data: bytes) -> list[str]:
    decoder = StreamDecoder(ByteTokenizer())
    pieces = [decoder.push(byte) for byte in data]
    return [*pieces, decoder.finish()]


@given(st.text())
def test_pieces_are_whole_characters(text: str) -> None:
    pieces = decode_in_pieces(text.encode("utf-8", errors="replace"))
    assert [piece for piece in pieces if piece] == list(text.encode(errors="replace").decode())


@given(st.binary())
@example("né".encode()[:-1])
@example(FAMILY.encode()[1:-1])
@example(b"\xf0\x9f\x98a\xf0\x9f\xc3\xa9\xff")
@example(b"\xed\xa0\x80\xc0\xaf\xf5")  # a surrogate, an overlong form, above Unicode
def test_joined_pieces_are_what_decode_gives_for_any_bytes(data: bytes) -> None:
    assert "".join(decode_in_pieces(data)) == ByteTokenizer().decode(data)


def test_an_emoji_comes_with_its_last_byte() -> None:
    assert decode_in_pieces("a😀é".encode()) == ["a", "", "", "", "😀", "", "é", ""]


def test_a_broken_character_shows_when_it_is_known_to_be_broken() -> None:
    assert decode_in_pieces(b"\xf0\x9fa") == ["", "", "\ufffda", ""]
    assert decode_in_pieces(b"a\xf0\x9f") == ["a", "", "", "\ufffd"]


def test_tokens_that_are_characters() -> None:
    tokenizer = CharTokenizer.train(["né😀"])
    decoder = StreamDecoder(tokenizer)
    assert [decoder.push(token_id) for token_id in tokenizer.encode("😀né")] == ["😀", "n", "é"]
    with pytest.raises(VocabularyError):
        decoder.push(3)


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
