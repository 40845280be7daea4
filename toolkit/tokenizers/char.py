"""One token for each character: the smallest vocabulary, and the first to learn from.

The characters (Unicode code points) of the training text, sorted, are the vocabulary, and a
character's place in it is its id: what Karpathy's char-rnn (2015) and its successors do. Left out:
any normalisation. "é" as one code point and as "e" with a combining accent are different texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from toolkit.errors import UsageError
from toolkit.tokenizers.closed import NOT_FOUND, ClosedVocabularyTokenizer, documents_of


class CharTokenizer(ClosedVocabularyTokenizer):
    """A character tokenizer.

    >>> tokenizer = CharTokenizer.train(["abba", "cab"])
    >>> tokenizer.encode("bac")
    [1, 0, 2]
    >>> tokenizer.decode([2, 0, 1])
    'cab'

    A character that it has not seen is an error, or `<unk>`, the last id:

    >>> tokenizer.encode("abbé")
    Traceback (most recent call last):
    toolkit.errors.VocabularyError: The character 'é' (U+00E9) at position 3 is not in the \
vocabulary. Train the tokenizer on text that has it, or with --unknown unk (from Python: \
unknown='unk').
    >>> CharTokenizer("abc", unknown="unk").encode("abbé")
    [0, 1, 1, 3]
    """

    name = "char"
    piece_kind = "character"

    def __init__(self, alphabet: Sequence[str], unknown: str = "error") -> None:
        """A tokenizer in which `alphabet[i]` has the id i.

        Raises:
            UsageError: no characters, one twice, or something that is not one character.
        """
        for character in alphabet:
            if len(character) != 1:
                raise UsageError(f"The alphabet holds {character!r}, which is not one character.")
        super().__init__(alphabet, unknown)
        # A table from code point to id. Its last entry stands for all code points above.
        codes = [ord(character) for character in alphabet]
        self._last_code = max(codes) + 1
        self._ids_of_codes = np.full(self._last_code + 1, NOT_FOUND, dtype=np.int32)
        self._ids_of_codes[codes] = np.arange(len(codes), dtype=np.int32)

    @property
    def alphabet(self) -> str:
        """The characters in order of their ids, without `<unk>`."""
        return "".join(self._tokens)

    @classmethod
    def train(  # type: ignore[override]  # the options have names here
        cls, texts: Iterable[str], *, unknown: str = "error"
    ) -> Self:
        """A tokenizer of all characters in `texts`, in the order of their code points.

        Args:
            texts: documents, read once.
            unknown: what to do with other characters later, "error" or "unk".

        Raises:
            UsageError: no characters, half of a surrogate pair, or an unknown policy.
        """
        characters: set[str] = set()
        for text in documents_of(texts):
            characters.update(text)
        return cls("".join(sorted(characters)), unknown)

    def look_up(self, text: str) -> npt.NDArray[np.int32]:
        # In UTF-32 each code point is one number; surrogates pass, to be found unknown.
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        ids: npt.NDArray[np.int32] = self._ids_of_codes[np.minimum(codes, self._last_code)]
        return ids

    def locate(self, text: str, index: int) -> tuple[str, int]:
        return text[index], index

    def huggingface_pattern(self) -> str:
        return r"[\s\S]"

    def state(self) -> dict[str, Any]:
        return {"alphabet": self.alphabet, "unknown": self.unknown}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        return cls(state["alphabet"], state["unknown"])
