"""Google's SentencePiece (Kudo and Richardson 2018): unigram, BPE, char and word models.

    sentencepiece:unigram  sentencepiece:bpe:4k     trained on a corpus, in this process
    sentencepiece:PATH.model                        one that was trained elsewhere

A model that is trained here keeps the text as it is: nothing is normalised, no space is put before
it, and characters without a piece become their bytes, so that every text comes back. (SentencePiece
writes a space as "▁" and so cannot tell the two apart; here a "▁" in the text becomes its bytes.)
The word model has no bytes to fall back to: it knows its words and `<unk>`.

A model that is opened gives the ids of SentencePiece, whatever it does to the text.
"""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from toolkit.errors import RunError, UnknownNameError, UsageError, VocabularyError
from toolkit.files import write_bytes
from toolkit.tokenizers.base import TokenBatch, Tokenizer, parse_size
from toolkit.tokenizers.bpe.patterns import well_formed
from toolkit.tokenizers.closed import documents_of, require_policy, unknown_piece_error
from toolkit.tokenizers.sentencepiece_files import (
    BYTE,
    CONTROL,
    LINE_ENDS,
    SPACE,
    UNKNOWN,
    make_tokenizer_json,
    parse_model,
    round_scores,
)
from toolkit.tokenizers.special import check_special_names, split_at_special

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

MODEL_TYPES = ("unigram", "bpe", "char", "word")
NUM_BYTES = 256
# At a NUL SentencePiece ends a sentence itself; "▁" is never learnt, because it means a space.
_ENDS_OF_SENTENCES = re.compile(f"[{LINE_ENDS}\0{SPACE}]")
_UNK_TEXT = " \u2047 "  # how SentencePiece decodes <unk>
# The sums of training depend on how many threads add them up, so it is always as many.
_TRAINING_THREADS = 4
_TOO_SMALL = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model.

    >>> tokenizer = SentencePieceTokenizer.train(
    ...     ["low low lower"], model_type="bpe", vocab_size=266
    ... )
    >>> [tokenizer.token_bytes(i) for i in tokenizer.encode("low lower")]
    [b'low', b' low', b'e', b'r']
    >>> tokenizer.decode(tokenizer.encode("low ☃"))
    'low ☃'

    `special_tokens` are the model's control symbols and its `<unk>`. Control symbols decode to no
    text at all, as in SentencePiece.
    """

    name = "sentencepiece"

    def __init__(self, model: bytes, unknown: str = "error") -> None:
        """A tokenizer from the content of a `.model`.

        Args:
            model: the content.
            unknown: what to do with text that the model has no pieces for, "error" or "unk"
                (which SentencePiece itself does); of no effect where it falls back to bytes.

        Raises:
            UsageError: an unknown policy.
            ValueError: not a model.
        """
        require_policy(unknown)
        self.unknown = unknown
        self._model = model
        self._file = parse_model(model)
        self._processor = _processor_of(model)
        pieces = self._file.pieces
        self._token_bytes = [_bytes_of(piece.text, piece.kind) for piece in pieces]
        self._special = {
            piece.text: token_id
            for token_id, piece in enumerate(pieces)
            if piece.kind in (CONTROL, UNKNOWN)
        }
        self._space_dropped = self._file.add_dummy_prefix or self._file.remove_extra_whitespaces
        self.joins_tokens = not self._space_dropped
        self._unk_id = int(self._processor.unk_id())
        if not self._file.byte_fallback:
            self.closed_vocabulary = True
            self.unk_id = self._unk_id if unknown == "unk" else None
        self._cuts = {cut: np.array(ids, np.uint32) for cut, ids in self._find_cuts().items()}
        self._cut_pattern = re.compile(f"([{''.join(self._cuts)}])") if self._cuts else None

    def _find_cuts(self) -> dict[str, list[int]]:
        """What is encoded apart from the text around it: each such character and its ids.

        The ends of lines, so that each line is encoded by itself: SentencePiece adds scores up in
        float32 from the beginning of a text, so that after some thousand tokens rounding decides
        between pieces whose scores are close.
        """
        ids = {piece.text: token_id for token_id, piece in enumerate(self._file.pieces)}
        cuts = {}
        if self._file.byte_fallback and self._file.keeps_text:
            cuts[SPACE] = [ids[f"<0x{byte:02X}>"] for byte in SPACE.encode()]
        if self._file.lines_are_apart:
            for end in LINE_ENDS:
                piece = f"<0x{ord(end):02X}>" if self._file.byte_fallback else end
                if piece in ids:
                    cuts[end] = [ids[piece]]
        return cuts

    # -- making one -----------------------------------------------------------------------------

    @classmethod
    def train(  # type: ignore[override]  # the options have names here
        cls,
        texts: Iterable[str],
        *,
        model_type: str = "unigram",
        vocab_size: int = 4096,
        character_coverage: float = 0.9995,
        special_tokens: Sequence[str] = (),
        unknown: str | None = None,
    ) -> Self:
        """Train a model with SentencePiece, in this process.

        Each line is a sentence; its end is a token of its own. Where the text has too few
        pieces, the vocabulary is smaller than asked for.

        Args:
            texts: documents, read once.
            model_type: "unigram", "bpe", "char" or "word".
            vocab_size: V, with `<unk>`, the 256 bytes (not for "word") and the special tokens.
            character_coverage: share of the text whose characters have pieces of their own; the
                rarest of the rest become bytes.
            special_tokens: names such as "<|endoftext|>".
            unknown: what a word model does with other words, "error" or "unk"; None is "unk" for a
                word model, and makes no difference to the others.

        Raises:
            UsageError: no text, an option that cannot be, or a vocabulary that is too small for
                the text's characters.
        """
        if model_type not in MODEL_TYPES:
            raise UnknownNameError("SentencePiece model type", model_type, MODEL_TYPES)
        if unknown is None:
            unknown = "unk" if model_type == "word" else "error"
        require_policy(unknown)
        if not 0 < character_coverage <= 1:
            raise UsageError(f"character_coverage {character_coverage} must be above 0, up to 1")
        names = check_special_names(special_tokens)
        has_bytes = model_type != "word"
        smallest = 2 + len(names) + (NUM_BYTES if has_bytes else len(LINE_ENDS))
        if vocab_size < smallest:
            raise UsageError(f"vocab_size {vocab_size} must be at least {smallest}")
        lines = _Lines(texts)
        model = io.BytesIO()
        from sentencepiece import SentencePieceTrainer

        try:
            SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=model,
                model_type=model_type,
                vocab_size=vocab_size,
                hard_vocab_limit=False,
                # SentencePiece's "all" for a word model is what fits: it cuts at vocab_size.
                character_coverage=1.0 if model_type == "word" else character_coverage,
                byte_fallback=has_bytes,
                normalization_rule_name="identity",
                add_dummy_prefix=False,
                remove_extra_whitespaces=False,
                max_sentence_length=1 << 30,
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                control_symbols=names,
                user_defined_symbols=[] if has_bytes else list(LINE_ENDS),
                num_threads=_TRAINING_THREADS,
                minloglevel=2,
            )
        except (RuntimeError, ValueError, OSError) as error:
            if lines.error is not None:
                raise lines.error from None
            raise _training_error(error, lines, vocab_size) from error
        trained = model.getvalue()
        return cls(round_scores(trained) if model_type == "unigram" else trained, unknown)

    @classmethod
    def options_of_spec(cls, argument: str) -> dict[str, Any]:
        model_type, colon, size = argument.partition(":")
        if model_type not in MODEL_TYPES:
            raise UnknownNameError("SentencePiece model type", model_type, MODEL_TYPES)
        options: dict[str, Any] = {"model_type": model_type}
        if colon:
            options["vocab_size"] = parse_size(f"{cls.name}:{model_type}", size)
        return options

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, unknown: str = "error") -> Self:
        """Open a `.model`.

        Raises:
            RunError: no such file, or not a model.
            UsageError: an unknown policy.
        """
        path = Path(path)
        try:
            return cls(path.read_bytes(), unknown)
        except OSError as error:
            raise RunError(f"Cannot read the model {path}: {error.strerror}") from error
        except (UsageError, RunError):
            raise
        except (ValueError, KeyError, RuntimeError) as error:
            raise RunError(f"{path} is not a SentencePiece model: {error}.") from error

    # -- what it is -----------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        return len(self._token_bytes)

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return dict(self._special)

    @property
    def model_type(self) -> str:
        """ "unigram", "bpe", "word" or "char"."""
        return self._file.model_type

    # -- encoding and decoding ------------------------------------------------------------------

    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        ids: list[int] = []
        for part, special_id in split_at_special(well_formed(text), self._special, allowed_special):
            ids += self._encode(part)
            if special_id is not None:
                ids.append(special_id)
        return ids

    def encode_batch(self, texts: Sequence[str], *, num_threads: int | None = None) -> TokenBatch:
        texts = [well_formed(text) for text in texts]
        batch = self._pieces(texts, num_threads or os.cpu_count() or 1)
        self._check_known(batch, texts)
        return batch

    def count_unknown(self, text: str) -> tuple[int, int]:
        """How many tokens of `text` are `<unk>`, and how many there are."""
        ids = self._pieces([well_formed(text)]).ids
        unknown = 0 if self._file.byte_fallback else int(np.count_nonzero(ids == self._unk_id))
        return unknown, len(ids)

    def _encode(self, text: str) -> list[int]:
        batch = self._pieces([text])
        self._check_known(batch, [text])
        ids: list[int] = batch.ids.tolist()
        return ids

    def _pieces(self, texts: Sequence[str], num_threads: int = 1) -> TokenBatch:
        """The ids of texts, `<unk>` where there is no piece."""
        parts = [self._cut(text) for text in texts]
        # What is between the cuts, of all texts at once: SentencePiece shares it among threads.
        plain = [part for text_parts in parts for part in text_parts[::2]]
        if len(plain) == 1:  # without setting threads to work, which takes 0.1 ms
            encoded = [self._processor.encode(plain[0], return_type="numpy")]
        else:
            encoded = self._processor.encode(plain, return_type="numpy", num_threads=num_threads)
        found = iter(encoded)
        arrays: list[Any] = []
        lengths = []
        for text_parts in parts:
            length = 0
            for place, part in enumerate(text_parts):
                arrays.append(self._cuts[part] if place % 2 else next(found))
                length += len(arrays[-1])
            lengths.append(length)
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        ids = np.concatenate([np.zeros(0, np.uint32), *arrays], dtype=np.uint32, casting="unsafe")
        return TokenBatch(ids, offsets)

    def _cut(self, text: str) -> list[str]:
        """`text` in parts: plain text, a cut, plain text, a cut, …, plain text."""
        return self._cut_pattern.split(text) if self._cut_pattern else [text]

    def _check_known(self, batch: TokenBatch, texts: Sequence[str]) -> None:
        """
        Raises:
            VocabularyError: there is an `<unk>` among the ids, and the policy is "error".
        """
        if self.unknown == "unk" or self._file.byte_fallback:
            return
        places = np.flatnonzero(batch.ids == self._unk_id)
        if not len(places):
            return
        number = int(np.searchsorted(batch.offsets, places[0], side="right")) - 1
        where = f" of text {number}" if len(texts) > 1 else ""
        text = texts[number]
        begin, end = self._first_unknown(text)
        raise unknown_piece_error("text", text[begin:end], begin, where)

    def _first_unknown(self, text: str) -> tuple[int, int]:
        """From where to where the first part of `text` reaches that the model has no piece for."""
        start = 0
        for place, part in enumerate(self._cut(text)):
            if place % 2 == 0:
                found = self._processor.encode_as_offset_mapping(part)
                for token_id, (begin, end) in zip(found["ids"], found["offsets"], strict=True):
                    if token_id == self._unk_id:
                        return start + begin, start + end
            start += len(part)
        return 0, len(text)

    def token_bytes(self, token_id: int) -> bytes:
        if not 0 <= token_id < self.vocab_size:
            raise VocabularyError(
                f"No token has the id {token_id}: the ids of this sentencepiece tokenizer are "
                f"0 to {self.vocab_size - 1}."
            )
        return self._token_bytes[token_id]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        if not self._space_dropped:
            return super().decode_bytes(ids)
        # The space that was put before the text is taken away again, and with it, where extra
        # spaces are removed, all that stand before the first piece of text.
        parts: list[bytes] = []
        at_start = True
        for token_id in ids:
            token = self.token_bytes(int(token_id))
            kind = self._file.pieces[int(token_id)].kind
            if at_start and kind not in (CONTROL, UNKNOWN, BYTE):
                dropped = token.removeprefix(b" ")
                if dropped != token and not self._file.remove_extra_whitespaces:
                    at_start = False
                token = dropped
            at_start = at_start and not token
            parts.append(token)
        return b"".join(parts)

    # -- other formats --------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {"model": base64.b64encode(self._model).decode(), "unknown": self.unknown}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        return cls(base64.b64decode(state["model"], validate=True), state["unknown"])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._model, self.unknown)

    def save_model(self, path: str | os.PathLike[str]) -> None:
        """Write the `.model` that SentencePiece itself opens.

        Raises:
            ToolkitError: the file could not be written.
        """
        write_bytes(Path(path), self._model)

    def to_huggingface(self) -> dict[str, Any] | None:
        return make_tokenizer_json(self._file)


class _Lines:
    """The lines of documents without their ends; an error of the texts' own is kept, because
    SentencePiece would wrap it in its own words."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._documents = documents_of(texts)
        self.any = False
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            for text in self._documents:
                for line in _ENDS_OF_SENTENCES.split(well_formed(text)):
                    if line:
                        self.any = True
                        yield line
        except Exception as error:
            self.error = error
            raise


def _training_error(error: Exception, lines: _Lines, vocab_size: int) -> UsageError:
    if not lines.any:
        return UsageError("There is no text to train a SentencePiece model on.")
    match = _TOO_SMALL.search(str(error))
    if match:
        return UsageError(
            f"vocab_size {vocab_size} must be at least {match[1]} to hold the text's characters: "
            "ask for more, or for a smaller character_coverage."
        )
    return UsageError(f"SentencePiece could not train: {' '.join(str(error).split())}")


def _processor_of(model: bytes) -> SentencePieceProcessor:
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_proto=model)


def _bytes_of(piece: str, kind: int) -> bytes:
    if kind == BYTE:
        return bytes([int(piece[3:5], 16)])
    if kind == CONTROL:
        return b""
    if kind == UNKNOWN:
        return _UNK_TEXT.encode()
    return piece.replace(SPACE, " ").encode()
