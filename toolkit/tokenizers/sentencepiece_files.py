"""SentencePiece's `.model` files: what is in them, and the same as a Hugging Face `tokenizer.json`.

A `.model` is one message in Protocol Buffers' wire format (`sentencepiece_model.proto` names the
fields). SentencePiece's Python module encodes with it but does not tell how it prepares text, so
the few fields that matter are read here, as the format says: a number of field and kind, a value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from toolkit.tokenizers.special import added_token

SPACE = "▁"  # how a space is written in a piece
LINE_ENDS = "\r\n"

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
# Sums of a few thousand multiples of it are exact in float32: segmentations that are equally good
# then stay so in whatever order their scores are added.
SCORE_STEP = 2.0**-10
_MODEL_TYPES = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


@dataclass(frozen=True)
class Piece:
    """One piece of a model: its text, its score (a log probability, or minus a rank), its kind."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class ModelFile:
    """What a `.model` says.

    Attributes:
        pieces: by id.
        model_type: "unigram", "bpe", "word" or "char".
        byte_fallback: characters without a piece become their bytes.
        charsmap: the compiled rules of normalisation; empty for none.
        add_dummy_prefix: a space is put before every text.
        remove_extra_whitespaces: runs of spaces become one, and those at the ends none.
        whitespace_as_suffix: the mark of a space is at the end of a piece.
    """

    pieces: tuple[Piece, ...]
    model_type: str
    byte_fallback: bool
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    whitespace_as_suffix: bool

    @property
    def lines_are_apart(self) -> bool:
        """Whether a text may be encoded line by line: no piece reaches across the end of a line,
        and the best pieces of a line, by exact sums, do not depend on the lines before it."""
        normal = [piece for piece in self.pieces if piece.kind == NORMAL]
        crossing = any(end in piece.text for piece in normal for end in LINE_ENDS)
        exact = all((piece.score / SCORE_STEP).is_integer() for piece in normal)
        return self.keeps_text and not crossing and (exact or self.model_type != "unigram")

    @property
    def keeps_text(self) -> bool:
        """Whether text is encoded as it is: no normalisation, no space put before it."""
        changed = self.charsmap or self.add_dummy_prefix or self.remove_extra_whitespaces
        return not changed


def parse_model(data: bytes) -> ModelFile:
    """Read a `.model`.

    Raises:
        ValueError: it is not one.
    """
    pieces: list[Piece] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value, _ in _fields(data):
        if number == 1:
            piece = _as_dict(value)
            score = struct.unpack("<f", piece.get(2, bytes(4)))[0]
            pieces.append(Piece(_message(piece[1]).decode(), score, piece.get(3, NORMAL)))
        elif number == 2:
            trainer = _as_dict(value)
        elif number == 3:
            normalizer = _as_dict(value)
    if not pieces:
        raise ValueError("it holds no pieces")
    return ModelFile(
        pieces=tuple(pieces),
        model_type=_MODEL_TYPES.get(trainer.get(3, 1), "unknown"),
        byte_fallback=bool(trainer.get(35, 0)),
        charsmap=normalizer.get(2, b""),
        add_dummy_prefix=bool(normalizer.get(3, 1)),
        remove_extra_whitespaces=bool(normalizer.get(4, 1)),
        whitespace_as_suffix=bool(trainer.get(24, 0)),
    )


def round_scores(data: bytes) -> bytes:
    """The `.model` with every score rounded to a multiple of `SCORE_STEP`.

    SentencePiece adds scores up in float32 and Hugging Face in float64. Without this, ties between
    segmentations fall to rounding, and the two disagree now and then.
    """
    rounded = bytearray(data)
    for number, value, begin in _fields(data):
        if number != 1:
            continue
        for field, score, offset in _fields(_message(value)):
            if field == 2:
                (number_read,) = struct.unpack("<f", _message(score))
                steps = round(number_read / SCORE_STEP)
                struct.pack_into("<f", rounded, begin + offset, steps * SCORE_STEP)
    return bytes(rounded)


def _as_dict(value: int | bytes) -> dict[int, Any]:
    """A message's fields by number; of a repeated one the last."""
    return {number: inner for number, inner, _ in _fields(_message(value))}


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes, int]]:
    """The fields of a message: (number, an int or the raw bytes, where the value begins)."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            begin = at
            number, at = _varint(data, at)
            yield key >> 3, number, begin
            continue
        length = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            length, at = _varint(data, at)
        if length is None or at + length > len(data):
            raise ValueError(f"no field can begin at byte {at}")
        yield key >> 3, data[at : at + length], at
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("it ends within a number")


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where a text should")
    return value


# -- tokenizer.json ---------------------------------------------------------------------------


# The score of pieces that no text should become. Hugging Face's unigram model would otherwise find
# "<unk>" and "<0x41>" in a text that has these very characters.
_NEVER = -1e6


def make_tokenizer_json(model: ModelFile) -> dict[str, Any] | None:
    """The content of a `tokenizer.json` with the same ids.

    None where text is normalised, for the word model (Hugging Face's has no bytes to fall back
    to), and for pieces that the user defined.
    """
    unknown = [i for i, piece in enumerate(model.pieces) if piece.kind == UNKNOWN]
    own_kinds = {NORMAL, UNKNOWN, CONTROL, BYTE}
    if not model.keeps_text or model.whitespace_as_suffix or len(unknown) != 1:
        return None
    if any(piece.kind not in own_kinds for piece in model.pieces):
        return None
    if model.model_type == "unigram":
        description = {
            "type": "Unigram",
            "unk_id": unknown[0],
            "vocab": [
                [piece.text, piece.score if piece.kind == NORMAL else _NEVER]
                for piece in model.pieces
            ],
            "byte_fallback": model.byte_fallback,
        }
    elif model.model_type in ("bpe", "char"):
        description = {
            "type": "BPE",
            "dropout": None,
            "unk_token": model.pieces[unknown[0]].text,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            # A run of unknown characters is one <unk> in SentencePiece.
            "fuse_unk": True,
            "byte_fallback": model.byte_fallback,
            "ignore_merges": False,
            "vocab": {piece.text: token_id for token_id, piece in enumerate(model.pieces)},
            "merges": _merges(model.pieces) if model.model_type == "bpe" else [],
        }
    else:
        return None
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            added_token(token_id, piece.text)
            for token_id, piece in enumerate(model.pieces)
            if piece.kind == CONTROL
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": _cut_before_spaces(model.pieces),
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": description,
    }


def _merges(pieces: tuple[Piece, ...]) -> list[list[str]]:
    """The pairs of pieces that make a piece, in the order in which SentencePiece merges them: the
    best result first. Pairs with the same result stand together."""
    normal = {piece.text: piece.score for piece in pieces if piece.kind == NORMAL}
    merges = []
    for text in sorted(normal, key=lambda text: -normal[text]):
        for cut in range(1, len(text)):
            if text[:cut] in normal and text[cut:] in normal:
                merges.append([text[:cut], text[cut:]])
    return merges


def _cut_before_spaces(pieces: tuple[Piece, ...]) -> dict[str, Any] | None:
    """The pre-tokenizer: cut before each space, where no piece has one inside; otherwise none."""
    if any(SPACE in piece.text[1:] for piece in pieces if piece.kind == NORMAL):
        return None
    return {
        "type": "Split",
        "pattern": {"String": SPACE},
        "behavior": "MergedWithNext",
        "invert": False,
    }
