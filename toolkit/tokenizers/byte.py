"""The byte tokenizer: the ids 0 … 255 are the bytes of the text in UTF-8.

Nothing to learn, nothing that cannot be encoded: what byte pair encoding starts from. Special
tokens, if any, come after the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Self

import numpy as np

from toolkit.errors import VocabularyError
from toolkit.tokenizers.base import TokenBatch, Tokenizer
from toolkit.tokenizers.bpe.huggingface_files import make_tokenizer_json
from toolkit.tokenizers.bpe.patterns import split_pattern, well_formed
from toolkit.tokenizers.bpe.vocabulary import Vocabulary
from toolkit.tokenizers.special import check_special_names, split_at_special

NUM_BYTES = 256


class ByteTokenizer(Tokenizer):
    """Text as bytes.

    >>> tokenizer = ByteTokenizer(special_tokens=["<|endoftext|>"])
    >>> tokenizer.encode("né")
    [110, 195, 169]
    >>> tokenizer.decode([110, 195, 169]), tokenizer.special_tokens
    ('né', {'<|endoftext|>': 256})
    """

    name = "byte"

    def __init__(self, special_tokens: Iterable[str] = ()) -> None:
        """A byte tokenizer whose special tokens have the ids 256, 257, …

        Raises:
            UsageError: an empty name, or one given twice.
        """
        names = check_special_names(special_tokens)
        self._special = {name: NUM_BYTES + i for i, name in enumerate(names)}
        self._tokens = [bytes([byte]) for byte in range(NUM_BYTES)]
        self._tokens += [name.encode() for name in names]

    @property
    def vocab_size(self) -> int:
        return len(self._tokens)

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return dict(self._special)

    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        ids: list[int] = []
        for part, special_id in split_at_special(well_formed(text), self._special, allowed_special):
            ids += part.encode()
            if special_id is not None:
                ids.append(special_id)
        return ids

    def encode_batch(self, texts: Sequence[str], *, num_threads: int | None = None) -> TokenBatch:
        documents = [well_formed(text).encode() for text in texts]
        offsets = np.zeros(len(documents) + 1, dtype=np.int64)
        np.cumsum([len(document) for document in documents], out=offsets[1:])
        ids = np.frombuffer(b"".join(documents), dtype=np.uint8).astype(np.uint32)
        return TokenBatch(ids, offsets)

    def token_bytes(self, token_id: int) -> bytes:
        if not 0 <= token_id < len(self._tokens):
            raise VocabularyError(
                f"No token has the id {token_id}: the ids of this byte tokenizer are "
                f"0 to {len(self._tokens) - 1}."
            )
        return self._tokens[token_id]

    def state(self) -> dict[str, Any]:
        return {"special_tokens": list(self._special)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        return cls(state["special_tokens"])

    def to_huggingface(self) -> dict[str, Any] | None:
        vocabulary = Vocabulary(self._tokens[:NUM_BYTES], [])
        return make_tokenizer_json(vocabulary, split_pattern("none"), self._special)
