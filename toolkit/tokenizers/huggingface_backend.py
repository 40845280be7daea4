"""Any `tokenizer.json` of Hugging Face's, through its own library `tokenizers`.

WordPiece, Unigram, WordLevel, BPE with normalizers: what the hand-written BPE does not do. A
byte-level BPE opens as `BPETokenizer` instead, which is faster and needs no other library; the spec
`hf:PATH` chooses (`open_huggingface`).

Ids are those of the library, without what a post-processor would put around a text. Special tokens
in a text are plain text unless they are allowed. Decoding is the library's too, and may put spaces
between tokens.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from toolkit.errors import MissingExtraError, RunError, UsageError, VocabularyError
from toolkit.tokenizers.base import TokenBatch, Tokenizer
from toolkit.tokenizers.bpe import BPETokenizer
from toolkit.tokenizers.bpe.alphabet import characters_to_bytes
from toolkit.tokenizers.bpe.patterns import well_formed
from toolkit.tokenizers.closed import require_policy, unknown_piece_error
from toolkit.tokenizers.special import split_at_special

if TYPE_CHECKING:
    import tokenizers

_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


def open_huggingface(path: str | os.PathLike[str], *, unknown: str = "error") -> Tokenizer:
    """A `tokenizer.json` as the tokenizer that suits it.

    Args:
        path: the file, a `vocab.json` with its `merges.txt`, or a folder of one of them.
        unknown: what to do with text that the vocabulary lacks, "error" or "unk"; without effect
            for a byte-level BPE, which lacks none.

    Raises:
        RunError: a file is missing or damaged.
        UsageError: an unknown policy.
        MissingExtraError: it is no byte-level BPE, and `tokenizers` is not installed.
    """
    require_policy(unknown)
    try:
        return BPETokenizer.from_file(path)
    except UsageError as reason:
        file = Path(path)
        if file.is_dir():
            file = file / "tokenizer.json"
        if not file.exists():
            raise
        try:
            return HuggingFaceTokenizer.from_file(file, unknown=unknown)
        except MissingExtraError as error:
            raise MissingExtraError("hf", f"Opening this file ({reason})") from error


class HuggingFaceTokenizer(Tokenizer):
    """A tokenizer of Hugging Face's library.

    It is made by `from_file`, or from the content of a `tokenizer.json`.
    """

    name = "huggingface"
    joins_tokens = False

    def __init__(self, content: Mapping[str, Any], unknown: str = "error") -> None:
        """A tokenizer from the content of a `tokenizer.json`.

        Args:
            content: the JSON object.
            unknown: what to do with text that the vocabulary lacks, "error" or "unk", the file's
                own token for it.

        Raises:
            MissingExtraError: `tokenizers` is not installed.
            UsageError: an unknown policy.
            ValueError: `tokenizers` cannot read the content.
        """
        require_policy(unknown)
        self.unknown = unknown
        # Cutting off and filling up are for models' inputs, not for texts.
        self._content = {**content, "truncation": None, "padding": None}
        self._tokenizer = _make(self._content)
        self._vocab_size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self._special = {
            str(token["content"]): int(token["id"])
            for token in content.get("added_tokens") or []
            if token.get("special")
        }
        self._unk_id = self._find_unk()
        if self._unk_id is not None:
            self.closed_vocabulary = True
            self.unk_id = self._unk_id if unknown == "unk" else None
            self._special.setdefault(str(self._tokenizer.id_to_token(self._unk_id)), self._unk_id)
        self._never_in_text = frozenset(self._special.values()) - {self._unk_id}
        self._inside_names = re.compile(
            "|".join(
                f"(?<={re.escape(n[0])})(?={re.escape(n[1:])})" for n in self._special if n[1:]
            )
            or "(?!)"
        )
        decoders = _types_of(content.get("decoder"))
        self._byte_level = "ByteLevel" in decoders
        self._byte_fallback = "ByteFallback" in decoders

    def _find_unk(self) -> int | None:
        """The id that unknown text becomes; None where there is none, or bytes to fall back to."""
        model = self._content.get("model") or {}
        if model.get("byte_fallback"):
            return None
        if model.get("type") == "Unigram":
            unk_id = model.get("unk_id")
            return int(unk_id) if unk_id is not None else None
        name = model.get("unk_token")
        unk_id = self._tokenizer.token_to_id(name) if name else None
        return int(unk_id) if unk_id is not None else None

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, unknown: str = "error") -> Self:
        """Open a `tokenizer.json`.

        Raises:
            RunError: it is missing or damaged.
            MissingExtraError: `tokenizers` is not installed.
            UsageError: an unknown policy.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_bytes())
        except OSError as error:
            raise RunError(f"Cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise RunError(f"{path} is not JSON: {error}") from error
        try:
            return cls(content, unknown)
        except (MissingExtraError, UsageError):
            raise
        except Exception as error:  # the library raises plain Exceptions
            raise RunError(f"{path} is no tokenizer.json that tokenizers reads: {error}") from error

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return dict(self._special)

    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        ids: list[int] = []
        for part, special_id in split_at_special(well_formed(text), self._special, allowed_special):
            ids += self._plain_ids(part, self._encode_all([part])[0])
            if special_id is not None:
                ids.append(special_id)
        return ids

    def encode_batch(self, texts: Sequence[str], *, num_threads: int | None = None) -> TokenBatch:
        texts = [well_formed(text) for text in texts]
        where = " of text {}" if len(texts) > 1 else ""
        encodings = zip(texts, self._encode_all(texts), strict=True)
        return TokenBatch.from_lists(
            self._plain_ids(text, encoding, where.format(number))
            for number, (text, encoding) in enumerate(encodings)
        )

    def count_unknown(self, text: str) -> tuple[int, int]:
        """How many tokens of `text` stand for unknown text, and how many there are."""
        ids = self._encode_all([well_formed(text)])[0].ids
        return (0 if self._unk_id is None else ids.count(self._unk_id)), len(ids)

    def _encode_all(self, texts: list[str]) -> list[tokenizers.Encoding]:
        """Encode with the library, in its own threads, whose number cannot be set for one call.

        Raises:
            VocabularyError: there is unknown text, and the file has no token for it.
        """
        try:
            if len(texts) == 1:
                return [self._tokenizer.encode(texts[0], add_special_tokens=False)]
            encodings: list[tokenizers.Encoding] = self._tokenizer.encode_batch(
                texts, add_special_tokens=False
            )
        except Exception as error:  # the library raises plain Exceptions
            raise VocabularyError(f"This tokenizer.json cannot encode the text: {error}") from error
        return encodings

    def _plain_ids(self, text: str, encoding: tokenizers.Encoding, where: str = "") -> list[int]:
        """The ids of `encoding`, checked for unknown text, and without special tokens.

        Raises:
            VocabularyError: a part of the text is unknown, and the policy is "error".
        """
        ids: list[int] = encoding.ids
        if self._unk_id is not None and self.unknown == "error" and self._unk_id in ids:
            begin, end = encoding.offsets[ids.index(self._unk_id)]
            raise unknown_piece_error("text", text[begin:end], begin, where)
        if self._never_in_text.isdisjoint(ids):
            return ids
        # Some models have the special tokens among their pieces and find them in any text. Cut
        # after the first character, their names are text again.
        parts = self._inside_names.split(text)
        return [token_id for part in parts for token_id in self._encode_all([part])[0].ids]

    def token_bytes(self, token_id: int) -> bytes:
        token = self._tokenizer.id_to_token(token_id) if 0 <= token_id < self._vocab_size else None
        if token is None:
            if 0 <= token_id < self._vocab_size:
                return b""  # an id that nothing uses
            raise VocabularyError(
                f"No token has the id {token_id}: the ids of this tokenizer are 0 to "
                f"{self._vocab_size - 1}."
            )
        if token in self._special:
            return token.encode()
        if self._byte_level:
            try:
                return characters_to_bytes(token)
            except ValueError:
                return token.encode()  # an added token
        byte = _BYTE_PIECE.fullmatch(token) if self._byte_fallback else None
        if byte is not None:
            return bytes([int(byte[1], 16)])
        # What it adds to the text after a token: the first of a text may lose its space.
        alone = self._decode([token_id])
        return self._decode([token_id, token_id])[len(alone) :].encode()

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return self.decode(ids).encode()

    def decode(self, ids: Iterable[int]) -> str:
        listed = [int(token_id) for token_id in ids]
        for token_id in listed:
            if not 0 <= token_id < self._vocab_size:
                self.token_bytes(token_id)  # raises
        return self._decode(listed)

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False)
        return text

    def state(self) -> dict[str, Any]:
        return {"tokenizer_json": self._content, "unknown": self.unknown}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        return cls(state["tokenizer_json"], state["unknown"])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._content, self.unknown)

    def to_huggingface(self) -> dict[str, Any]:
        return dict(self._content)


def _make(content: Mapping[str, Any]) -> tokenizers.Tokenizer:
    try:
        import tokenizers
    except ImportError as error:
        purpose = "Opening a tokenizer.json that is no byte-level BPE"
        raise MissingExtraError("hf", purpose) from error
    made = tokenizers.Tokenizer.from_str(json.dumps(content))
    made.encode_special_tokens = True  # their names in a text are text
    return made


def _types_of(description: Any) -> set[str]:
    """The types of a decoder and of those inside it."""
    if not isinstance(description, dict):
        return set()
    inner = [_types_of(part) for part in description.get("decoders") or []]
    return {str(description.get("type"))}.union(*inner)
