"""How a vocabulary grows: pure functions, results as dataclasses.

- `vocab_growth` replays the merges of a byte pair encoding over a text. With each merge the text
  gets shorter, but the number of different symbols in it does not just rise: a symbol that is
  always merged away falls out of use, and late merges take away as many symbols as they bring. When
  every word is a single symbol, no merge is left.
- `suggest_vocab_size` finds the knee of that curve: where more tokens begin to give little.
- `heaps_curve` and `zipf_curve` (`frequencies.py`) look at the tokens of any tokenizer, and
  `compare_tokenizers` (`comparison.py`) at several tokenizers side by side.

Left out: drawing and printing, which belong to `reporting` and the console. `stats.py` counts the
tokens of a text under a finished vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from toolkit.errors import UsageError
from toolkit.tokenizers.base import Tokenizer
from toolkit.tokenizers.bpe.learning import count_words_of
from toolkit.tokenizers.bpe.patterns import SplitPattern
from toolkit.tokenizers.bpe.replay import BytesPair, count_merges

# What users look for under the name of this module.
from toolkit.tokenizers.comparison import compare_tokenizers as compare_tokenizers
from toolkit.tokenizers.frequencies import HeapsPoint as HeapsPoint
from toolkit.tokenizers.frequencies import PowerLaw as PowerLaw
from toolkit.tokenizers.frequencies import ZipfPoint as ZipfPoint
from toolkit.tokenizers.frequencies import entropy as entropy
from toolkit.tokenizers.frequencies import fit_heaps as fit_heaps
from toolkit.tokenizers.frequencies import fit_zipf as fit_zipf
from toolkit.tokenizers.frequencies import heaps_curve as heaps_curve
from toolkit.tokenizers.frequencies import renyi_efficiency as renyi_efficiency
from toolkit.tokenizers.frequencies import zipf_curve as zipf_curve


@runtime_checkable
class HasMerges(Protocol):
    """A byte pair encoding: where it cuts a text, and what it merges, first to last."""

    @property
    def word_merges(self) -> Sequence[BytesPair]: ...

    @property
    def pattern(self) -> SplitPattern: ...

    @property
    def vocab_size(self) -> int: ...


# -- growth of a byte pair encoding -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GrowthRow:
    """A text after some of the merges.

    Attributes:
        merges: how many merges are made.
        vocab_size: V with these merges alone; the tokenizer's own in the last row.
        symbols_in_use: how many different tokens the text consists of.
        num_tokens: the length of the text in tokens.
        bytes_per_token: the text's bytes / `num_tokens`.
        next_pair: the pair that is merged next; None after the last merge.
        next_count: how often it occurs now ("aaa" holds "aa" twice); 0 after the last merge.
    """

    merges: int
    vocab_size: int
    symbols_in_use: int
    num_tokens: int
    bytes_per_token: float
    next_pair: BytesPair | None
    next_count: int


@dataclass(frozen=True)
class VocabGrowth:
    """What the merges of a byte pair encoding do to a text.

    Attributes:
        num_bytes: the length of the text in bytes.
        num_words: how many words (pre-tokens) the text is cut into before merging; no text has
            fewer tokens than these.
        distinct_words: how many of them differ.
        peak: the row with the most symbols in use, the first of several, whether it is among
            `rows` or not.
        rows: before the first merge, after every so many, and after the last.
    """

    num_bytes: int
    num_words: int
    distinct_words: int
    peak: GrowthRow
    rows: list[GrowthRow]

    @property
    def complete(self) -> bool:
        """Whether every word is a single symbol at the end: nothing is left to merge."""
        return self.rows[-1].num_tokens == self.num_words


def vocab_growth(texts: Iterable[str], tokenizer: Tokenizer, *, every: int = 64) -> VocabGrowth:
    """Replay the merges of `tokenizer` over `texts`, in order.

    The texts need not be those that the tokenizer was trained on; if they are, the numbers are
    those of the training.

    Args:
        texts: documents, read once, one at a time.
        tokenizer: a byte pair encoding.
        every: merges between two rows.

    Raises:
        UsageError: the tokenizer has no merges, the texts are empty, or `every` is below 1.
    """
    if not isinstance(tokenizer, HasMerges):
        raise UsageError(
            f"The tokenizer '{tokenizer.name}' makes no merges whose growth could be replayed: "
            "use a bpe tokenizer, or heaps_curve for the growth of distinct tokens."
        )
    merges = tokenizer.word_merges
    pattern = tokenizer.pattern
    growth = replay_merges(
        count_words_of(texts, pattern),
        merges,
        every=every,
        base_vocab_size=tokenizer.vocab_size - len(merges),
    )
    if not pattern.end_of_word:
        return growth
    rows = [_with_shown_pair(row, pattern) for row in growth.rows]
    return replace(growth, rows=rows, peak=_with_shown_pair(growth.peak, pattern))


def _with_shown_pair(row: GrowthRow, pattern: SplitPattern) -> GrowthRow:
    if row.next_pair is None:
        return row
    left, right = row.next_pair
    return replace(row, next_pair=(pattern.show(left), pattern.show(right)))


def replay_merges(
    word_counts: Mapping[bytes, int],
    merges: Sequence[BytesPair],
    *,
    every: int = 64,
    base_vocab_size: int = 256,
) -> VocabGrowth:
    """`vocab_growth` for words that are already cut and counted.

    In "low low lower", cut at the spaces, l + o and then lo + w leave a single symbol for each of
    the first two words. After the first merge nothing is left of "l" and "o" alone:

    >>> growth = replay_merges({b"low": 2, b"lower": 1}, [(b"l", b"o"), (b"lo", b"w")], every=1)
    >>> [(row.merges, row.num_tokens, row.symbols_in_use, row.next_count) for row in growth.rows]
    [(0, 11, 5, 3), (1, 8, 4, 3), (2, 5, 3, 0)]

    Args:
        word_counts: each distinct word and how often it occurs.
        merges: the pairs, in the order in which they are made.
        every: merges between two rows.
        base_vocab_size: V before the first merge, special tokens included.

    Raises:
        UsageError: no words, or `every` is below 1.
    """
    if every < 1:
        raise UsageError(f"--every {every} must be at least 1")
    num_bytes = sum(len(word) * count for word, count in word_counts.items())
    if num_bytes == 0:
        raise UsageError("There is no text to replay merges over.")
    occurrences, replaced = count_merges(word_counts, merges)

    # A merge changes how often three symbols occur, and nothing else.
    counts = _byte_counts(word_counts)
    in_use = len(counts)
    num_tokens = num_bytes
    rows: list[GrowthRow] = []
    peak: GrowthRow | None = None
    for done in range(len(merges) + 1):
        next_pair = merges[done] if done < len(merges) else None
        shown = done % every == 0 or next_pair is None
        if shown or peak is None or in_use > peak.symbols_in_use:
            row = GrowthRow(
                merges=done,
                vocab_size=base_vocab_size + done,
                symbols_in_use=in_use,
                num_tokens=num_tokens,
                bytes_per_token=num_bytes / num_tokens,
                next_pair=next_pair,
                next_count=occurrences[done] if next_pair else 0,
            )
            if shown:
                rows.append(row)
            if peak is None or in_use > peak.symbols_in_use:
                peak = row
        if next_pair is not None and replaced[done]:
            left, right = next_pair
            counts[left] -= replaced[done]
            counts[right] -= replaced[done]
            in_use -= sum(counts[symbol] == 0 for symbol in {left, right})
            made = left + right
            in_use += counts.get(made, 0) == 0
            counts[made] = counts.get(made, 0) + replaced[done]
            num_tokens -= replaced[done]
    assert peak is not None  # the first row is one
    return VocabGrowth(
        num_bytes=num_bytes,
        num_words=sum(word_counts.values()),
        distinct_words=len(word_counts),
        peak=peak,
        rows=rows,
    )


def _byte_counts(word_counts: Mapping[bytes, int]) -> dict[bytes, int]:
    """How often each byte occurs."""
    data = np.frombuffer(b"".join(word_counts), np.uint8)
    lengths = np.fromiter(map(len, word_counts), np.int64, len(word_counts))
    weights = np.repeat(np.fromiter(word_counts.values(), np.int64, len(word_counts)), lengths)
    # In float64 the sums are exact up to 2^53.
    totals = np.bincount(data, weights=weights, minlength=256).astype(np.int64)
    return {bytes([byte]): int(totals[byte]) for byte in np.flatnonzero(totals).tolist()}


# -- how large a vocabulary -------------------------------------------------------------------


@dataclass(frozen=True)
class VocabSuggestion:
    """The knee of a compression curve: from there on, more tokens give little.

    Attributes:
        knee: the row at the knee.
        last: the row at the end of the curve; the knee depends on how far it goes.
        gain_share: what part of all that the merges gain in bytes per token is reached at the
            knee, 0 to 1.
        saved_before: by what share the text became shorter in the last doubling of the vocabulary
            up to the knee, 0 to 1.
        saved_after: and in the next doubling (or up to the end of the curve, if that comes first).
        after_vocab_size: where that doubling ends.
    """

    knee: GrowthRow
    last: GrowthRow
    gain_share: float
    saved_before: float
    saved_after: float
    after_vocab_size: int


def suggest_vocab_size(growth: VocabGrowth) -> VocabSuggestion:
    """The vocabulary size at the knee of the curve of bytes per token against vocabulary size.

    The knee is where the curve is farthest above the straight line from its beginning to its end,
    both axes scaled to 0 … 1 (Satopää et al. 2011, "Finding a 'kneedle' in a haystack").

    Args:
        growth: best with a row for every merge.

    Raises:
        UsageError: a curve that does not rise, such as one of fewer than three rows.
    """
    rows = growth.rows
    sizes = np.array([row.vocab_size for row in rows], np.float64)
    gains = np.array([row.bytes_per_token for row in rows])
    if len(rows) < 3 or gains[-1] <= gains[0]:
        raise UsageError(
            "There is no knee to find: it takes at least two merges that shorten the text."
        )
    x = (sizes - sizes[0]) / (sizes[-1] - sizes[0])
    y = (gains - gains[0]) / (gains[-1] - gains[0])
    knee = int(np.argmax(y - x))
    half = int(np.argmin(np.abs(sizes - sizes[knee] / 2)))
    double = int(np.argmin(np.abs(sizes - sizes[knee] * 2)))
    tokens = [row.num_tokens for row in rows]
    return VocabSuggestion(
        knee=rows[knee],
        last=rows[-1],
        gain_share=float(y[knee]),
        saved_before=1 - tokens[knee] / tokens[half],
        saved_after=1 - tokens[double] / tokens[knee],
        after_vocab_size=rows[double].vocab_size,
    )
