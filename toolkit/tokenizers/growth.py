"""How a vocabulary grows: pure functions, results as dataclasses.

- `vocab_growth` replays the merges of a byte pair encoding over a text. With each merge the text
  gets shorter, but the number of different symbols in it does not just rise: a symbol that is
  always merged away falls out of use, and late merges take away as many symbols as they bring.
- `heaps_curve` counts different tokens against tokens read (Heaps 1978, "Information retrieval",
  section 7.5): a word vocabulary never stops growing.

Left out: drawing and printing, which belong to the console. `stats.py` counts the tokens of a text
under a finished vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from toolkit.errors import UsageError
from toolkit.tokenizers.base import Tokenizer
from toolkit.tokenizers.bpe.learning import count_words_of
from toolkit.tokenizers.bpe.patterns import SplitPattern


@runtime_checkable
class HasMerges(Protocol):
    """A byte pair encoding: where it cuts a text, and what it merges, first to last."""

    @property
    def merges(self) -> Sequence[tuple[bytes, bytes]]: ...

    @property
    def pattern(self) -> SplitPattern: ...

    @property
    def vocab_size(self) -> int: ...


# -- growth of a byte pair encoding -----------------------------------------------------------


@dataclass(frozen=True)
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
    next_pair: tuple[bytes, bytes] | None
    next_count: int


@dataclass(frozen=True)
class VocabGrowth:
    """What the merges of a byte pair encoding do to a text.

    Attributes:
        num_bytes: the length of the text in bytes.
        rows: before the first merge, after every so many, and after the last.
    """

    num_bytes: int
    rows: list[GrowthRow]


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
    merges = tokenizer.merges
    word_counts = count_words_of(texts, tokenizer.pattern)
    base_vocab_size = tokenizer.vocab_size - len(merges)
    return replay_merges(word_counts, merges, every=every, base_vocab_size=base_vocab_size)


def replay_merges(
    word_counts: Mapping[bytes, int],
    merges: Sequence[tuple[bytes, bytes]],
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
    occurrences, replaced = _count_merges(word_counts, merges)

    # A merge changes how often three symbols occur, and nothing else.
    counts: Counter[bytes] = Counter()
    for word, count in word_counts.items():
        for symbol in _symbols(word):
            counts[symbol] += count
    in_use = len(counts)
    num_tokens = num_bytes
    rows = []
    for done in range(len(merges) + 1):
        next_pair = merges[done] if done < len(merges) else None
        if done % every == 0 or next_pair is None:
            rows.append(
                GrowthRow(
                    merges=done,
                    vocab_size=base_vocab_size + done,
                    symbols_in_use=in_use,
                    num_tokens=num_tokens,
                    bytes_per_token=num_bytes / num_tokens,
                    next_pair=next_pair,
                    next_count=occurrences[done] if next_pair else 0,
                )
            )
        if next_pair is not None and replaced[done]:
            left, right = next_pair
            counts[left] -= replaced[done]
            counts[right] -= replaced[done]
            counts[left + right] += replaced[done]
            in_use += 1 - sum(counts[symbol] == 0 for symbol in {left, right})
            num_tokens -= replaced[done]
    return VocabGrowth(num_bytes, rows)


def _count_merges(
    word_counts: Mapping[bytes, int], merges: Sequence[tuple[bytes, bytes]]
) -> tuple[list[int], list[int]]:
    """For each merge, how often its pair occurs when its turn comes, and how many are replaced."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    occurrences = [0] * len(merges)
    replaced = [0] * len(merges)
    for word, count in word_counts.items():
        for rank, occurring, made in _replay_word(word, merges, ranks):
            occurrences[rank] += occurring * count
            replaced[rank] += made * count
    return occurrences, replaced


def _replay_word(
    word: bytes, merges: Sequence[tuple[bytes, bytes]], ranks: Mapping[tuple[bytes, bytes], int]
) -> Iterator[tuple[int, int, int]]:
    """The merges that happen in one word: (rank, occurrences of the pair, replacements made).

    The symbols are a linked list, and `waiting` holds the places of each pair that has a rank, so
    that a word may be as long as a whole text.
    """
    symbols = _symbols(word)  # b"" where a symbol was merged into the one before it
    end = len(symbols)
    following = list(range(1, end + 1))
    preceding = list(range(-1, end - 1))
    waiting: dict[int, list[int]] = {}
    rank = -1

    def pair_at(place: int) -> tuple[bytes, bytes] | None:
        there = following[place]
        return (symbols[place], symbols[there]) if there < end else None

    def note(place: int) -> None:
        pair = pair_at(place)
        # A pair that comes about after its turn is not merged any more.
        if pair is not None and ranks.get(pair, -1) > rank:
            waiting.setdefault(ranks[pair], []).append(place)

    for place in range(end - 1):
        note(place)
    while waiting:
        rank = min(waiting)
        pair = merges[rank]
        # Some have lost their left or right symbol to another pair since they were noted.
        places = sorted(place for place in waiting.pop(rank) if pair_at(place) == pair)
        made = 0
        for place in places:
            if pair_at(place) != pair:
                continue  # overlaps with the one before it, as in "aaa"
            made += 1
            there = following[place]
            symbols[place] = pair[0] + pair[1]
            symbols[there] = b""
            following[place] = following[there]
            if following[place] < end:
                preceding[following[place]] = place
                note(place)
            if preceding[place] >= 0:
                note(preceding[place])
        yield rank, len(places), made


def _symbols(word: bytes) -> list[bytes]:
    return [word[i : i + 1] for i in range(len(word))]


# -- growth of any vocabulary -----------------------------------------------------------------


@dataclass(frozen=True)
class HeapsPoint:
    """How many different tokens there are among the first `tokens_read`."""

    tokens_read: int
    distinct: int


def heaps_curve(
    ids: Sequence[int] | npt.NDArray[np.unsignedinteger], *, every: int | None = None
) -> list[HeapsPoint]:
    """Distinct tokens against tokens read, for the ids of a text in order.

    Args:
        ids: the text.
        every: tokens between two points; None doubles: after 1, 2, 4, … tokens. The last point is
            the whole text either way.

    >>> [(point.tokens_read, point.distinct) for point in heaps_curve([7, 7, 5, 7, 9])]
    [(1, 1), (2, 1), (4, 2), (5, 3)]

    Raises:
        UsageError: `every` is below 1.
    """
    if every is not None and every < 1:
        raise UsageError(f"every {every} must be at least 1")
    array = np.asarray(ids)
    total = len(array)
    if every is None:
        reads = [1 << power for power in range(total.bit_length()) if 1 << power < total]
    else:
        reads = list(range(every, total, every))
    if total:
        reads.append(total)
    _, first_places = np.unique(array, return_index=True)
    distinct = np.searchsorted(np.sort(first_places), reads, side="left")
    return [HeapsPoint(n, int(d)) for n, d in zip(reads, distinct, strict=True)]
