"""Streamed decoding: whole characters only, and joined what `decode` gives."""

from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolkit.errors import VocabularyError
from toolkit.tokenizers import ByteTokenizer, CharTokenizer, SentencePieceTokenizer, Tokenizer
from toolkit.tokenizers.streaming import ByteStreamDecoder, RedecodingStreamDecoder

FAMILY = "👩‍👩‍👧"  # five code points, 18 bytes


def decode_in_pieces(data: bytes) -> list[str]:
    decoder = ByteTokenizer().stream_decoder()
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
    decoder = tokenizer.stream_decoder()
    assert [decoder.push(token_id) for token_id in tokenizer.encode("😀né")] == ["😀", "n", "é"]
    with pytest.raises(VocabularyError):
        decoder.push(3)


# -- decoders that look back -------------------------------------------------------------------


class Spaced(ByteTokenizer):
    """Bytes, and a space between two words that begin with a capital letter: more than joining."""

    name = "spaced"
    joins_tokens = False

    def decode(self, ids: Iterable[int]) -> str:
        text = ""
        for character in bytes(ids).decode("utf-8", errors="replace"):
            text += " " + character if character.isupper() and text else character
        return text


def stream(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = tokenizer.stream_decoder()
    return [*(decoder.push(token_id) for token_id in ids), decoder.finish()]


def test_each_tokenizer_gets_the_decoder_that_suits_it() -> None:
    assert isinstance(ByteTokenizer().stream_decoder(), ByteStreamDecoder)
    assert isinstance(Spaced().stream_decoder(), RedecodingStreamDecoder)


def test_spaces_that_decoding_puts_in_are_shown_in_their_place() -> None:
    assert stream(Spaced(), list("aBCé".encode())) == ["a", " B", " C", "", "é", ""]


@given(st.text())
@example("A" * 100)  # longer than what is decoded again
@example("é😀" * 40)
@example("�a")
def test_redecoding_gives_what_decode_gives(text: str) -> None:
    data = text.encode(errors="replace")
    pieces = stream(Spaced(), list(data))
    assert "".join(pieces) == Spaced().decode(data)
    assert sum(piece.count("�") for piece in pieces) == text.count("�")


def test_bytes_that_never_become_a_character_are_not_held_for_ever() -> None:
    pieces = stream(Spaced(), [0x80] * 40)
    assert "".join(pieces) == "�" * 40
    longest_silence = max(len(run) for run in "".join("." if p else "x" for p in pieces).split("."))
    assert longest_silence <= 3


def test_a_model_that_puts_a_space_before_the_text() -> None:
    tokenizer = SentencePieceTokenizer(model_with_prefix())
    ids = tokenizer.encode("low low lower")
    assert tokenizer.token_bytes(ids[0]) == b" low"
    assert stream(tokenizer, ids) == ["low", " low", " lower", ""]


def model_with_prefix() -> bytes:
    import io

    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(["low low lower lower"] * 3),
        model_writer=model,
        model_type="bpe",
        vocab_size=100,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()
