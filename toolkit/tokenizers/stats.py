"""How a vocabulary fits a text: how many tokens, how long, how often, and how much is unknown.

Pure functions from texts to dataclasses, reading one document at a time. Left out: drawing and
printing, which belong to the console; how a vocabulary came about is in `growth.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from toolkit.errors import UsageError
from toolkit.tokenizers.base import Tokenizer

_CHUNK = 1 << 20  # ids that are counted at once: adding up V counts for a short text costs more


@runtime_checkable
class CountsUnknown(Protocol):
    """A tokenizer with a closed vocabulary, which can say how much of a text is outside it."""

    def count_unknown(self, text: str) -> tuple[int, int]:
        """How many pieces of `text` the vocabulary lacks, and how many pieces there are."""


@dataclass(frozen=True)
class TokenCount:
    """A token of a text.

    Attributes:
        id: the token.
        token: what it stands for.
        length: of `token`, in bytes.
        count: how often it occurs.
        share: `count` of all tokens of the text, 0 to 1.
    """

    id: int
    token: bytes
    length: int
    count: int
    share: float


@dataclass(frozen=True)
class VocabStats:
    """A tokenizer's vocabulary on a text.

    Attributes:
        vocab_size: V.
        distinct_tokens: how many of them occur in the text.
        num_tokens: length of the text in tokens.
        num_bytes: length in bytes of UTF-8.
        num_chars: length in characters (code points).
        num_words: maximal runs of characters that are not whitespace.
        bytes_per_token: `num_bytes / num_tokens`; higher means shorter sequences.
        tokens_per_word: `num_tokens / num_words` (also called fertility); 0 without words.
        unknown_rate: how much of the held-out text the vocabulary lacks, 0 to 1: of its characters
            or words for `char` and `word`, always 0 for byte-level tokenizers; None without
            held-out text.
        most_frequent: the most frequent tokens, ties by id.
        longest: the longest tokens that occur, in bytes, ties by id.
    """

    vocab_size: int
    distinct_tokens: int
    num_tokens: int
    num_bytes: int
    num_chars: int
    num_words: int
    bytes_per_token: float
    tokens_per_word: float
    unknown_rate: float | None
    most_frequent: list[TokenCount]
    longest: list[TokenCount]


def vocab_stats(
    tokenizer: Tokenizer,
    texts: Iterable[str],
    held_out_texts: Iterable[str] | None = None,
    *,
    top: int = 20,
) -> VocabStats:
    """Count the tokens of `texts`, and what is unknown in `held_out_texts`.

    Args:
        texts: documents, read once, one at a time.
        held_out_texts: documents that the tokenizer was not trained on.
        top: the length of the lists.

    >>> from toolkit.tokenizers.word import WordTokenizer
    >>> tokenizer = WordTokenizer.train(["a rose is a rose is a rose"])
    >>> stats = vocab_stats(tokenizer, ["a rose is a rose is a rose"], ["is a flower"])
    >>> stats.num_tokens, stats.distinct_tokens, stats.bytes_per_token
    (8, 4, 3.25)
    >>> [(count.token, count.count) for count in stats.most_frequent[:2]]
    [(b' rose', 3), (b' a', 2)]
    >>> round(stats.unknown_rate, 3)  # "is" without a space before it, and " flower"
    0.667

    Raises:
        UsageError: `texts` are empty, or `top` is negative.
        VocabularyError: the tokenizer has no token for a part of `texts`.
    """
    if top < 0:
        raise UsageError(f"--top {top} must not be negative")
    counter = _TextCounter(tokenizer)
    num_tokens = 0
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for ids in _chunks(counter.read(texts)):
        num_tokens += len(ids)
        counts += np.bincount(ids, minlength=len(counts))
    if num_tokens == 0:
        raise UsageError("There is no text to count tokens in.")

    used = np.flatnonzero(counts)
    lengths = {int(i): len(tokenizer.token_bytes(int(i))) for i in used}
    by_count = used[np.argsort(-counts[used], kind="stable")]
    by_length = sorted(lengths, key=lambda token_id: (-lengths[token_id], token_id))

    def describe(token_ids: Iterable[int]) -> list[TokenCount]:
        found = ((i, tokenizer.token_bytes(i), int(counts[i])) for i in token_ids)
        return [TokenCount(i, token, len(token), n, n / num_tokens) for i, token, n in found]

    return VocabStats(
        vocab_size=tokenizer.vocab_size,
        distinct_tokens=len(used),
        num_tokens=num_tokens,
        num_bytes=counter.num_bytes,
        num_chars=counter.num_chars,
        num_words=counter.num_words,
        bytes_per_token=counter.num_bytes / num_tokens,
        tokens_per_word=num_tokens / counter.num_words if counter.num_words else 0.0,
        unknown_rate=_unknown_rate(tokenizer, held_out_texts or ()),
        most_frequent=describe(by_count[:top].tolist()),
        longest=describe(by_length[:top]),
    )


class _TextCounter:
    """Encodes documents and adds up their sizes on the way."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.num_bytes = 0
        self.num_chars = 0
        self.num_words = 0

    def read(self, texts: Iterable[str]) -> Iterator[npt.NDArray[np.uint32]]:
        for text in texts:
            self.num_bytes += len(text.encode("utf-8", "surrogatepass"))
            self.num_chars += len(text)
            self.num_words += len(text.split())
            yield self.tokenizer.encode_batch([text]).ids


def _chunks(arrays: Iterable[npt.NDArray[np.uint32]]) -> Iterator[npt.NDArray[np.uint32]]:
    """The same numbers in fewer, longer arrays."""
    waiting: list[npt.NDArray[np.uint32]] = []
    size = 0
    for array in arrays:
        waiting.append(array)
        size += len(array)
        if size >= _CHUNK:
            yield np.concatenate(waiting)
            waiting, size = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _unknown_rate(tokenizer: Tokenizer, texts: Iterable[str]) -> float | None:
    unknown = total = 0
    for text in texts:
        if isinstance(tokenizer, CountsUnknown):
            of_text, units = tokenizer.count_unknown(text)
        else:
            ids = tokenizer.encode_batch([text]).ids
            unk_id = tokenizer.unk_id
            of_text = 0 if unk_id is None else int(np.count_nonzero(ids == unk_id))
            units = len(ids)
        unknown += of_text
        total += units
    return unknown / total if total else None
