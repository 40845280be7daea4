"""What tokenizers with a closed vocabulary share: a list of tokens, and what to do outside it.

A character or word tokenizer knows the pieces it saw in training and no others. This class holds
the list, turns pieces that are not in it into an error or `<unk>`, and saves and exports the lot.
A subclass says how a text falls into pieces and looks them up. It leaves out any fallback to bytes:
where every text must have tokens, a byte-level tokenizer is the better choice.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from toolkit.errors import UnknownNameError, UsageError, VocabularyError
from toolkit.tokenizers.base import TokenBatch, Tokenizer
from toolkit.tokenizers.special import split_at_special

UNK = "<unk>"
UNKNOWN_POLICIES = ("error", "unk")
NOT_FOUND = -1
_SHOWN_LENGTH = 40  # of a piece in an error message


class ClosedVocabularyTokenizer(Tokenizer):
    """A tokenizer that looks pieces of text up in a fixed list.

    With the policy "error", text outside the vocabulary raises `VocabularyError`. With "unk" it
    becomes `<unk>`, a special token whose id is the last one; `<unk>` decodes to these five
    characters, so the text that it replaced is lost.

    Attributes:
        piece_kind: what a piece is called in messages: "character", "word".
        unknown: the policy, "error" or "unk".
    """

    closed_vocabulary = True
    piece_kind: ClassVar[str]

    def __init__(self, tokens: Sequence[str], unknown: str = "error") -> None:
        """A tokenizer whose token i is `tokens[i]`.

        Raises:
            UsageError: no tokens, a token twice, half of a surrogate pair, or an unknown policy.
        """
        require_policy(unknown)
        if not tokens:
            raise UsageError(
                f"A vocabulary of no {self.piece_kind}s: there has to be text to learn from."
            )
        token_ids = {token: token_id for token_id, token in enumerate(tokens)}
        if len(token_ids) < len(tokens):
            twice = next(token for i, token in enumerate(tokens) if token_ids[token] != i)
            raise UsageError(f"The {self.piece_kind} {twice!r} is in the vocabulary twice.")
        self.unknown = unknown
        self._token_ids = token_ids
        self._tokens = tuple(tokens)
        self._token_bytes = [_utf8(token, self.piece_kind) for token in tokens]
        if unknown == "unk":
            self.unk_id = len(tokens)
            self._token_bytes.append(UNK.encode())

    @property
    def vocab_size(self) -> int:
        return len(self._token_bytes)

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return {} if self.unk_id is None else {UNK: self.unk_id}

    @abstractmethod
    def look_up(self, text: str) -> npt.NDArray[np.int32]:
        """The id of each piece of `text` in order, `NOT_FOUND` where the vocabulary lacks it."""

    @abstractmethod
    def locate(self, text: str, index: int) -> tuple[str, int]:
        """The piece number `index` of `text`, and the position of its first character."""

    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        ids: list[int] = []
        start = 0
        for part, special_id in split_at_special(text, self.special_tokens, allowed_special):
            ids += self._encode(part, start=start).tolist()
            start += len(part)
            if special_id is not None:
                ids.append(special_id)
                start += len(UNK)
        return ids

    def encode_batch(self, texts: Sequence[str], *, num_threads: int | None = None) -> TokenBatch:
        where = " of text {}" if len(texts) > 1 else ""
        documents = [self._encode(text, where.format(i)) for i, text in enumerate(texts)]
        offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64)
        return TokenBatch(np.concatenate([np.zeros(0, dtype=np.uint32), *documents]), offsets)

    def count_unknown(self, text: str) -> tuple[int, int]:
        """How many pieces of `text` the vocabulary lacks, and how many pieces there are."""
        ids = self.look_up(text)
        return int(np.count_nonzero(ids == NOT_FOUND)), len(ids)

    def token_bytes(self, token_id: int) -> bytes:
        if not 0 <= token_id < self.vocab_size:
            raise VocabularyError(
                f"No token has the id {token_id}: the ids of this {self.name} tokenizer are "
                f"0 to {self.vocab_size - 1}."
            )
        return self._token_bytes[token_id]

    def huggingface_pattern(self) -> str | None:
        """A regular expression that matches each piece of any text, read alike by `regex` and by
        Hugging Face's engine; None where there is none."""
        return None

    def to_huggingface(self) -> dict[str, Any] | None:
        """A `tokenizer.json` that cuts by a regular expression and looks the pieces up.

        None where cutting is not all, or where the text's own pieces include "<unk>", which Hugging
        Face could not tell from the special token. With the policy "error" it raises, as we do.
        """
        pattern = self.huggingface_pattern()
        if pattern is None or UNK in self._token_ids:
            return None
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            # Not even <unk>: an added token would be found in the text, where for us it is plain.
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": pattern},
                "behavior": "Isolated",
                "invert": False,
            },
            "post_processor": None,
            "decoder": {"type": "Fuse"},
            "model": {
                "type": "WordLevel",
                "vocab": {**self._token_ids, **self.special_tokens},
                "unk_token": UNK,
            },
        }

    def _encode(self, text: str, where: str = "", start: int = 0) -> npt.NDArray[np.uint32]:
        """The ids of plain text; `where` and `start` place the text in messages."""
        ids = self.look_up(text)
        missing = ids == NOT_FOUND
        if missing.any():
            if self.unk_id is None:
                piece, position = self.locate(text, int(missing.argmax()))
                raise unknown_piece_error(self.piece_kind, piece, start + position, where)
            ids[missing] = self.unk_id
        return ids.astype(np.uint32)


def unknown_piece_error(kind: str, piece: str, position: int, where: str = "") -> VocabularyError:
    """The error for text outside a vocabulary: a `kind` of piece, at a position in a text."""
    return VocabularyError(
        f"The {kind} {_show(piece)} at position {position}{where} is not in the vocabulary. Train "
        "the tokenizer on text that has it, or with --unknown unk (from Python: unknown='unk')."
    )


def require_policy(unknown: str) -> None:
    """Check the name of a policy for text outside the vocabulary.

    Raises:
        UnknownNameError: it is not one of `UNKNOWN_POLICIES`.
    """
    if unknown not in UNKNOWN_POLICIES:
        raise UnknownNameError("policy for --unknown", unknown, UNKNOWN_POLICIES)


def documents_of(texts: Iterable[str]) -> Iterator[str]:
    """The documents of `texts`, checked one by one.

    Raises:
        UsageError: one text instead of several, or a document that is no string.
    """
    if isinstance(texts, str):
        raise UsageError("texts must be an iterable of texts: put a single one into a list")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(
                f"Document {number} is {type(text).__name__}, not str: a tokenizer learns from "
                "text. Decode bytes first."
            )
        yield text


def _show(piece: str) -> str:
    """A piece in quotes, cut short; a single character with its code point too."""
    if len(piece) == 1:
        return f"{piece!r} (U+{ord(piece):04X})"
    return repr(piece if len(piece) <= _SHOWN_LENGTH else piece[:_SHOWN_LENGTH] + "…")


def _utf8(token: str, piece_kind: str) -> bytes:
    if not isinstance(token, str):
        raise UsageError(f"The vocabulary holds {token!r}, which is not a {piece_kind}.")
    try:
        return token.encode()
    except UnicodeEncodeError as error:
        code = ord(token[error.start])
        raise UsageError(
            f"The {piece_kind} {token!r} holds half of a surrogate pair (U+{code:04X}), which is "
            "not text in Unicode. Repair or remove it."
        ) from None
