"""Corpus: a text to learn from, as a sequence of documents that can be read again and again.

Everything downstream (tokenizers, token files, the trainer) takes a `Corpus` and asks it for its
documents, its sizes and its hash; none of them knows where the text came from. Documents are read
when they are asked for, one at a time, so a corpus may be larger than memory. One document is read
whole: a single file of many gigabytes is better cut into several, or kept as JSON lines.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Self

from toolkit.errors import UsageError


class Corpus:
    """A text, as documents. Iterating yields them as `str`, in a fixed order, as often as wanted.

    An empty document holds no text and is left out.

    >>> corpus = Corpus.from_documents(["To be, ", "or not to be"])
    >>> list(corpus), corpus.num_chars, corpus.text()
    (['To be, ', 'or not to be'], 19, 'To be, or not to be')

    Attributes:
        name: a short name for messages and run folders: "tiny-shakespeare", "notes.txt".
        title: what a reader would call it.
    """

    def __init__(self, name: str, documents: Iterable[str], *, title: str = "") -> None:
        """A corpus over anything that can be iterated more than once.

        Raises:
            UsageError: `documents` is a string or can be read only once.
        """
        if isinstance(documents, str):
            raise UsageError("A string is one document: use Corpus.from_text.")
        if isinstance(documents, Iterator):
            raise UsageError("A corpus is read more than once: pass a list, not an iterator.")
        self.name = name
        self.title = title or name
        self._documents = documents

    @classmethod
    def from_text(cls, text: str, name: str = "text", *, title: str = "") -> Self:
        """A corpus of one document.

        Raises:
            UsageError: the text is empty.
        """
        return cls.from_documents([text], name, title=title)

    @classmethod
    def from_documents(
        cls, documents: Sequence[str], name: str = "documents", *, title: str = ""
    ) -> Self:
        """A corpus of documents in memory.

        Raises:
            UsageError: there is no text in them.
        """
        corpus = cls(name, documents, title=title)
        corpus.require_text()
        return corpus

    def require_text(self) -> None:
        """Check that there is at least one character.

        Raises:
            UsageError: the corpus is empty.
        """
        if next(iter(self), None) is None:
            raise UsageError(f"The corpus '{self.name}' is empty: there is no text to learn from.")

    def __iter__(self) -> Iterator[str]:
        return (document for document in self._documents if document)

    def text(self) -> str:
        """All documents, one after the other, with nothing between them."""
        return "".join(self)

    @property
    def num_documents(self) -> int:
        """How many documents there are."""
        return self._measures.num_documents

    @property
    def num_chars(self) -> int:
        """How many characters (Unicode code points) there are."""
        return self._measures.num_chars

    @property
    def num_bytes(self) -> int:
        """How many bytes the text takes in UTF-8."""
        return self._measures.num_bytes

    @property
    def sha256(self) -> str:
        """A hash in hex that names this text and its division into documents.

        For one document it is the plain sha256 of its UTF-8, what `sha256sum` prints for the file.
        For more, the sha256 of a byte that UTF-8 never has (0xFF), then for each document its
        length (8 bytes, big-endian) and its UTF-8: so other divisions of the same text differ, and
        none equals a single document.

        The first of `sha256`, `num_documents`, `num_chars` and `num_bytes` to be asked for reads
        the whole corpus once; all four are kept.

        >>> Corpus.from_text("abc").sha256[:16]
        'ba7816bf8f01cfea'
        """
        return self._measures.sha256

    def split(self, held_out: float = 0.1) -> tuple[Corpus, Corpus]:
        """Cut the text by position: a first part to train on, the rest held out.

        Of `num_chars` characters the first part has floor(num_chars · (1 - held_out)). A document
        that straddles the cut is cut in two. The parts never overlap, and one after the other they
        are the whole text. With `held_out=0` the second part is empty.

        >>> train, held_out = Corpus.from_text("abcdefghij").split(0.25)
        >>> train.text(), held_out.text()
        ('abcdefg', 'hij')

        Raises:
            UsageError: `held_out` is not in [0, 1), or the text is so short that nothing would be
                left to train on.
        """
        if not 0 <= held_out < 1:
            raise UsageError(
                f"held_out is the fraction to hold out: at least 0, less than 1, not {held_out}."
            )
        # Exact: the decimal that the user wrote, not the binary fraction next to it, for which
        # 10 characters with 0.9 held out would leave floor(0.999…) = 0 to train on.
        cut = math.floor(self.num_chars * (1 - Fraction(str(float(held_out)))))
        if cut == 0:
            raise UsageError(
                f"The corpus '{self.name}' is too short to hold out {held_out:g} of it: "
                f"it has {self.num_chars} character{'s' if self.num_chars != 1 else ''}."
            )
        first = Corpus(f"{self.name}:train", _Window(self, 0, cut), title=self.title)
        rest = Corpus(f"{self.name}:held-out", _Window(self, cut, None), title=self.title)
        return first, rest

    @cached_property
    def _measures(self) -> _Measures:
        return _measure(self, self.name)

    def __repr__(self) -> str:
        return f"<Corpus '{self.name}'>"


@dataclass(frozen=True)
class _Measures:
    num_documents: int
    num_chars: int
    num_bytes: int
    sha256: str


def _measure(documents: Iterable[str], name: str) -> _Measures:
    first_alone = hashlib.sha256()
    framed = hashlib.sha256(b"\xff")
    num_documents = num_chars = num_bytes = 0
    for document in documents:
        try:
            data = document.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UsageError(
                f"Document {num_documents + 1} of the corpus '{name}' has half of a surrogate pair "
                f"(U+{ord(document[error.start]):04X}) as its character {error.start}; "
                "that is not text in Unicode. Repair or remove it."
            ) from None
        if num_documents == 0:
            first_alone.update(data)
        framed.update(len(data).to_bytes(8, "big"))
        framed.update(data)
        num_documents += 1
        num_chars += len(document)
        num_bytes += len(data)
    chosen = first_alone if num_documents <= 1 else framed
    return _Measures(num_documents, num_chars, num_bytes, chosen.hexdigest())


@dataclass(frozen=True)
class _Window:
    """The characters `start … stop - 1` of a corpus (`stop` None: to the end), as documents."""

    corpus: Corpus
    start: int
    stop: int | None

    def __iter__(self) -> Iterator[str]:
        position = 0
        for document in self.corpus:
            last = None if self.stop is None else self.stop - position
            yield document[max(self.start - position, 0) : last]
            position += len(document)
            if self.stop is not None and position >= self.stop:
                return  # without opening the next file
