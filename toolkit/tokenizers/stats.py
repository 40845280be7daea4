"""How a vocabulary fits a text: how many tokens, how long, how often, and how much is unknown.

Words are maximal runs of characters that are not whitespace. Each distinct word is encoded once
more by itself, with and without a space before it, and the shorter counts: what it takes to write
the word, whoever owns the space. From this come the share of words that are one token, and the
tokens of a word for each script. Rust et al. 2021, "How good is your tokenizer?", call the first
one minus the proportion of continued words, and the second fertility.

Pure functions from texts to dataclasses, reading one document at a time. Left out: drawing and
printing, which belong to the console; how a vocabulary came about is in `growth.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from toolkit.errors import UsageError
from toolkit.tokenizers.base import Tokenizer
from toolkit.tokenizers.frequencies import (
    HeapsPoint,
    PowerLaw,
    ZipfPoint,
    entropy,
    fit_heaps,
    fit_zipf,
    heaps_of_first_places,
    renyi_efficiency,
    zipf_curve,
)
from toolkit.tokenizers.scripts import script_of_word

_PER_DOUBLING = 8  # points of a curve
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
class ScriptStats:
    """The words of a text that are written in one script.

    Attributes:
        script: its name in Unicode ("Latin"), "Other" for one that is not told apart, "No letters"
            for numbers and punctuation.
        num_words: how many there are.
        num_chars: their characters.
        tokens_per_word: fertility: the tokens that a word takes by itself.
        tokens_per_char: the same for a character, to be compared where words have no spaces.
        one_token_words: share of the words that are one token, 0 to 1.
    """

    script: str
    num_words: int
    num_chars: int
    tokens_per_word: float
    tokens_per_char: float
    one_token_words: float


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
        one_token_words: share of the words that are one token by themselves, 0 to 1; 0 without
            words.
        entropy: of the distribution of tokens, in bits per token.
        renyi_efficiency: how evenly the tokens that occur are used, 0 to 1 (order 2.5).
        unknown_rate: how much of the held-out text the vocabulary lacks, 0 to 1: of its characters
            or words for `char` and `word`, always 0 for byte-level tokenizers; None without
            held-out text.
        most_frequent: the most frequent tokens, ties by id.
        longest: the longest tokens that occur, in bytes, ties by id.
        heaps, heaps_law: distinct tokens against tokens read, and the law fitted to it; None for a
            text of one token.
        zipf, zipf_law: frequency against rank, and the law fitted to it; None for a single token.
        scripts: the words by script, the most words first; empty unless asked for.
    """

    vocab_size: int
    distinct_tokens: int
    num_tokens: int
    num_bytes: int
    num_chars: int
    num_words: int
    bytes_per_token: float
    tokens_per_word: float
    one_token_words: float
    entropy: float
    renyi_efficiency: float
    unknown_rate: float | None
    most_frequent: list[TokenCount]
    longest: list[TokenCount]
    heaps: list[HeapsPoint]
    heaps_law: PowerLaw | None
    zipf: list[ZipfPoint]
    zipf_law: PowerLaw | None
    scripts: list[ScriptStats]

    @property
    def unused_tokens(self) -> int:
        """How many tokens of the vocabulary do not occur in the text."""
        return self.vocab_size - self.distinct_tokens


def vocab_stats(
    tokenizer: Tokenizer,
    texts: Iterable[str],
    held_out_texts: Iterable[str] | None = None,
    *,
    top: int = 20,
    by_script: bool = False,
) -> VocabStats:
    """Count the tokens of `texts`, and what is unknown in `held_out_texts`.

    Args:
        texts: documents, read once, one at a time.
        held_out_texts: documents that the tokenizer was not trained on.
        top: the length of the lists.
        by_script: fill in `scripts`.

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
    first_places = np.full(tokenizer.vocab_size, -1, dtype=np.int64)
    for ids in _chunks(counter.read(texts)):
        # Backwards, so that of several places of a token the first one stays.
        fresh = np.flatnonzero(first_places[ids] < 0)[::-1]
        first_places[ids[fresh]] = num_tokens + fresh
        num_tokens += len(ids)
        counts += np.bincount(ids, minlength=len(counts))
    if num_tokens == 0:
        raise UsageError("There is no text to count tokens in.")

    used = np.flatnonzero(counts)
    lengths = {int(i): len(tokenizer.token_bytes(int(i))) for i in used}
    by_count = used[np.argsort(-counts[used], kind="stable")]
    by_length = sorted(lengths, key=lambda token_id: (-lengths[token_id], token_id))

    words = list(counter.words)
    word_counts = np.fromiter(counter.words.values(), np.int64, len(words))
    word_tokens = tokens_of_words(tokenizer, words)
    num_words = int(word_counts.sum())
    heaps = heaps_of_first_places(first_places[used], num_tokens, per_doubling=_PER_DOUBLING)
    zipf = zipf_curve(counts, per_doubling=_PER_DOUBLING)

    def describe(token_ids: Iterable[int]) -> list[TokenCount]:
        found = ((i, tokenizer.token_bytes(i), int(counts[i])) for i in token_ids)
        return [TokenCount(i, token, len(token), n, n / num_tokens) for i, token, n in found]

    return VocabStats(
        vocab_size=tokenizer.vocab_size,
        distinct_tokens=len(used),
        num_tokens=num_tokens,
        num_bytes=counter.num_bytes,
        num_chars=counter.num_chars,
        num_words=num_words,
        bytes_per_token=counter.num_bytes / num_tokens,
        tokens_per_word=num_tokens / num_words if num_words else 0.0,
        one_token_words=_share(word_counts[word_tokens == 1], num_words),
        entropy=entropy(counts),
        renyi_efficiency=renyi_efficiency(counts),
        unknown_rate=_unknown_rate(tokenizer, held_out_texts or ()),
        most_frequent=describe(by_count[:top].tolist()),
        longest=describe(by_length[:top]),
        heaps=heaps,
        heaps_law=fit_heaps(heaps),
        zipf=zipf,
        zipf_law=fit_zipf(zipf),
        scripts=_by_script(words, word_counts, word_tokens) if by_script else [],
    )


def tokens_of_words(tokenizer: Tokenizer, words: Sequence[str]) -> npt.NDArray[np.int64]:
    """How many tokens each word takes by itself, with or without a space before it.

    Unknown parts count as the tokens that they would be, whatever the policy.

    >>> from toolkit.tokenizers.word import WordTokenizer
    >>> tokens_of_words(WordTokenizer.train(["to be, or"]), ["be", "to", "be,"]).tolist()
    [1, 1, 2]
    """
    alone = _lengths(tokenizer, words)
    after_space = _lengths(tokenizer, [f" {word}" for word in words])
    return np.minimum(alone, after_space)


def _lengths(tokenizer: Tokenizer, texts: Sequence[str]) -> npt.NDArray[np.int64]:
    if tokenizer.closed_vocabulary and isinstance(tokenizer, CountsUnknown):
        pieces = (tokenizer.count_unknown(text)[1] for text in texts)
        return np.fromiter(pieces, np.int64, len(texts))
    return tokenizer.count_batch(texts)


def _share(part: npt.NDArray[np.int64], whole: int) -> float:
    return int(part.sum()) / whole if whole else 0.0


def _by_script(
    words: Sequence[str], counts: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]
) -> list[ScriptStats]:
    scripts = np.array([script_of_word(word) for word in words], object)
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    rows = []
    for script in dict.fromkeys(scripts):
        chosen = scripts == script
        number = int(counts[chosen].sum())
        num_chars = int((counts * lengths)[chosen].sum())
        num_tokens = int((counts * tokens)[chosen].sum())
        rows.append(
            ScriptStats(
                script=script,
                num_words=number,
                num_chars=num_chars,
                tokens_per_word=num_tokens / number,
                tokens_per_char=num_tokens / num_chars,
                one_token_words=_share(counts[chosen & (tokens == 1)], number),
            )
        )
    return sorted(rows, key=lambda row: (-row.num_words, row.script))


class _TextCounter:
    """Encodes documents and adds up their sizes on the way."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.num_bytes = 0
        self.num_chars = 0
        self.words: Counter[str] = Counter()

    def read(self, texts: Iterable[str]) -> Iterator[npt.NDArray[np.uint32]]:
        for text in texts:
            self.num_bytes += len(text.encode("utf-8", "surrogatepass"))
            self.num_chars += len(text)
            self.words.update(text.split())
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
