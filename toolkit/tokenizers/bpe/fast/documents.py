"""Many texts as one UTF-8 buffer that the kernels can walk through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import regex

from toolkit.tokenizers.bpe.fast.memory import PADDING
from toolkit.tokenizers.bpe.patterns import well_formed

# All the patterns that have a scanner cut between an ASCII letter and a space.
_SAFE_CUT = regex.compile(r"(?<=[A-Za-z]) ")


@dataclass(frozen=True)
class DocumentBuffer:
    """Texts in UTF-8, one after the other, and `PADDING` zero bytes after the last.

    Attributes:
        buffer: uint8.
        begins, ends: int64; text i is `buffer[begins[i]:ends[i]]`.
    """

    buffer: npt.NDArray[np.uint8]
    begins: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    @classmethod
    def pack(cls, texts: Sequence[str]) -> DocumentBuffer:
        """Encode the texts; surrogates are repaired or replaced as in `well_formed`."""
        try:
            encoded = [text.encode() for text in texts]
        except UnicodeEncodeError:
            encoded = [well_formed(text).encode() for text in texts]
        borders = np.fromiter(accumulate(map(len, encoded), initial=0), np.int64, len(encoded) + 1)
        encoded.append(bytes(PADDING))
        return cls(np.frombuffer(b"".join(encoded), np.uint8), borders[:-1], borders[1:])

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def longest(self) -> int:
        """The length of the longest text."""
        return int((self.ends - self.begins).max(initial=0))


def cut_texts(texts: Iterable[str], most: int) -> Iterator[str]:
    """The texts, long ones in pieces of about `most` characters.

    Pieces are cut only where every pattern that has a scanner cuts, so their pre-tokens are those
    of the whole; a text without such a place stays whole.

    >>> list(cut_texts(["one two three", "four"], 5))
    ['one two', ' three', 'four']
    """
    for text in texts:
        begin = 0
        while len(text) - begin > most:
            cut = _SAFE_CUT.search(text, begin + most)
            if cut is None:
                break
            yield text[begin : cut.start()]
            begin = cut.start()
        yield text[begin:] if begin else text


def batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lists of texts with at least `size` characters together, but for the last one."""
    batch: list[str] = []
    length = 0
    for text in texts:
        batch.append(text)
        length += len(text)
        if length >= size:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch
