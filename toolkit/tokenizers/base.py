"""The contract that every tokenizer meets: text to ids and back, and itself to a folder and back.

A new tokenizer is one subclass of `Tokenizer` and one entry in `registry.py` (or a spec
`pkg.module:Class`, or an entry point). Nothing else in toolkit asks which tokenizer it has.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from toolkit.errors import RunError, UsageError
from toolkit.files import write_json
from toolkit.tokenizers.json_lines import JSONPlaces
from toolkit.tokenizers.streaming import (
    ByteStreamDecoder,
    RedecodingStreamDecoder,
    StreamDecoder,
)

FORMAT_VERSION = 1
DESCRIPTION_FILE = "toolkit.json"
_SIZE = re.compile(r"([0-9]+)(k?)", re.IGNORECASE)


class DamagedStateError(ValueError):
    """An item of a list in a saved tokenizer's state is not what it should be.

    Attributes:
        name: of the list.
        index: of the item.
    """

    def __init__(self, name: str, index: int, problem: str) -> None:
        super().__init__(problem)
        self.name = name
        self.index = index


@dataclass(frozen=True)
class TokenBatch:
    """The ids of many documents in one flat array.

    Attributes:
        ids: uint32, all documents one after the other.
        offsets: int64, one more than there are documents: document i is
            `ids[offsets[i]:offsets[i + 1]]`.
    """

    ids: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> npt.NDArray[np.uint32]:
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of a batch of {len(self)}")
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @classmethod
    def from_lists(cls, documents: Iterable[Sequence[int]]) -> TokenBatch:
        """Pack lists of ids.

        >>> batch = TokenBatch.from_lists([[1, 2], [], [3]])
        >>> batch[0].tolist(), batch[1].tolist(), batch[2].tolist()
        ([1, 2], [], [3])
        """
        arrays = [np.asarray(document, dtype=np.uint32) for document in documents]
        offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
        np.cumsum([len(array) for array in arrays], out=offsets[1:])
        ids = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.uint32)
        return cls(ids.astype(np.uint32, copy=False), offsets)


class Tokenizer(ABC):
    """Text to ids and back.

    Attributes:
        name: the registry name ("char", "bpe", …).
        closed_vocabulary: True if some text has no tokens (char, word): such a tokenizer has to
            see the whole text it will be used on. False if every text can be encoded (bytes).
        joins_tokens: True if decoding is the bytes of the tokens in a row. False if it also adds
            or drops spaces (between the words of WordPiece, at the start with SentencePiece).
        unk_id: the id of `<unk>`, or None where there is none.
    """

    name: ClassVar[str]
    closed_vocabulary: bool = False
    joins_tokens: bool = True
    unk_id: int | None = None

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """How many ids there are; ids are 0 … vocab_size - 1, special tokens included."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The special tokens and their ids; empty where there are none."""
        return {}

    @abstractmethod
    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        """The ids of `text`.

        Special tokens that occur in the text are plain text unless they are in
        `allowed_special`.

        Raises:
            VocabularyError: the tokenizer has no token for a part of the text (never for
                byte-level tokenizers); the message names the character and its position.
        """

    def encode_batch(self, texts: Sequence[str], *, num_threads: int | None = None) -> TokenBatch:
        """The ids of many texts; `batch[i]` equals `encode(texts[i])`.

        `num_threads` is a hint (None: as many as there are cores); the result never depends on it.
        """
        return TokenBatch.from_lists(self.encode(text) for text in texts)

    def count(self, text: str) -> int:
        """How many ids `text` has: the length of `encode(text)`, where possible without it."""
        return len(self.encode(text))

    def count_batch(
        self, texts: Sequence[str], *, num_threads: int | None = None
    ) -> npt.NDArray[np.int64]:
        """How many ids each of many texts has; int64, one for each text."""
        return np.diff(self.encode_batch(texts, num_threads=num_threads).offsets)

    @abstractmethod
    def token_bytes(self, token_id: int) -> bytes:
        """What one id stands for, in UTF-8 (for a byte-level token maybe a part of a character).

        Raises:
            VocabularyError: the id is not in the vocabulary.
        """

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes that `ids` stand for."""
        return b"".join(self.token_bytes(int(token_id)) for token_id in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text that `ids` stand for. Bytes that are not UTF-8 become U+FFFD; never raises on
        ids that this tokenizer produced."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_batch(self, documents: TokenBatch | Iterable[Iterable[int]]) -> list[str]:
        """The texts that many lists of ids stand for."""
        if isinstance(documents, TokenBatch):
            return [self.decode(documents[index]) for index in range(len(documents))]
        return [self.decode(ids) for ids in documents]

    def stream_decoder(self) -> StreamDecoder:
        """A decoder for ids that come one by one, which never shows half a character.

        Its pieces joined are `decode` of all the ids.
        """
        kind = ByteStreamDecoder if self.joins_tokens else RedecodingStreamDecoder
        return kind(self)

    @classmethod
    def train(cls, texts: Iterable[str], **options: Any) -> Self:
        """A new tokenizer made for `texts`.

        Raises:
            UsageError: this kind of tokenizer cannot be trained, or an option is wrong.
        """
        raise UsageError(f"The tokenizer '{cls.name}' comes ready-made; it is not trained.")

    @classmethod
    def options_of_spec(cls, argument: str) -> dict[str, Any]:
        """The options of `train` that a spec `name:argument` stands for: a vocabulary size.

        Raises:
            UsageError: the argument is none.
        """
        return {"vocab_size": parse_size(cls.name, argument)}

    # -- saving and loading -------------------------------------------------------------------

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that `from_state` needs to make this tokenizer again, as JSON values."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The inverse of `state`.

        Raises:
            UsageError, KeyError, TypeError, ValueError: the state is inconsistent.
        """

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer to `folder/toolkit.json` (the folder is made where it is missing)."""
        description = {"format": FORMAT_VERSION, "tokenizer": self.name, "state": self.state()}
        write_json(Path(folder) / DESCRIPTION_FILE, description)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Open what `save` wrote. On `Tokenizer` itself, opens whichever kind is there.

        Raises:
            RunError: nothing there, a broken file, a newer format, or another kind of tokenizer.
        """
        from toolkit.tokenizers.registry import find_tokenizer_class

        path = Path(folder) / DESCRIPTION_FILE
        description = read_description(path)
        kind = find_tokenizer_class(description["tokenizer"])
        if not issubclass(kind, cls):
            raise RunError(
                f"{path} holds a '{kind.name}' tokenizer, not '{cls.name}'. "
                "Open it with toolkit.load_tokenizer."
            )
        try:
            return kind.from_state(description["state"])
        except DamagedStateError as error:
            where = JSONPlaces(path).item(error.name, error.index)
            raise RunError(f"{where} is damaged: in {error.name}, {error}.") from error
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path} is damaged ({type(error).__name__}: {error}).") from error

    def fingerprint(self) -> str:
        """A sha256 in hex: equal for tokenizers that give equal ids for every text.

        Token files and runs carry it, so that a model is never fed by another tokenizer.
        """
        canonical = json.dumps([self.name, self.state()], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_huggingface(self) -> dict[str, Any] | None:
        """The content of a Hugging Face `tokenizer.json` that gives the same ids, or None where
        this tokenizer cannot be expressed as one."""
        return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} vocab_size={self.vocab_size}>"


def parse_size(name: str, text: str) -> int:
    """A vocabulary size as specs write it: 4096, or 4k for 4 times 1024.

    Raises:
        UsageError: it is none; the message gives `name` as an example.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(
            f"'{name}:{text}': {text!r} is not a vocabulary size. Write for example {name}:4096 or "
            f"{name}:4k."
        )
    return int(match[1]) * (1024 if match[2] else 1)


def read_description(path: Path) -> dict[str, Any]:
    """Read and check the outer part of a saved tokenizer.

    Raises:
        RunError: nothing there, not JSON, or of a newer format.
    """
    try:
        description = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"No saved tokenizer at {path.parent}: {path.name} is missing.") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read as a saved tokenizer: {error}") from error
    if not isinstance(description, dict) or not isinstance(description.get("tokenizer"), str):
        raise RunError(f"{path} is not a saved tokenizer: no field 'tokenizer'.")
    version = description.get("format")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise RunError(
            f"{path} has format {version!r}; this toolkit reads up to {FORMAT_VERSION}. "
            "Install a newer toolkit."
        )
    return description
