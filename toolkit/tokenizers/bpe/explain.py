"""Why a text has the tokens it has: the merges of each word, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from toolkit.tokenizers.bpe.patterns import SplitPattern, utf8, well_formed
from toolkit.tokenizers.bpe.vocabulary import NO_RANK, Vocabulary


@dataclass(frozen=True)
class ExplainedMerge:
    """One merge in one word.

    Attributes:
        rank: of the pair; the lowest in the word was merged. Where a vocabulary has no list of
            merges (tiktoken), it is the id of the result.
        left, right: the bytes that were merged.
        id: of the token that they became.
        symbols: the word after it.
    """

    rank: int
    left: bytes
    right: bytes
    id: int
    symbols: tuple[bytes, ...]


@dataclass(frozen=True)
class ExplainedWord:
    """How one pre-token became its tokens.

    Attributes:
        word: the pre-token.
        whole: it is a token itself and became it without merging (tiktoken's way, and that of
            Hugging Face's `ignore_merges`); then `merges` are those that would have led there.
        merges: in order.
        tokens: what is left when no pair of neighbours has a rank.
        ids: of the tokens.
    """

    word: bytes
    whole: bool
    merges: tuple[ExplainedMerge, ...]
    tokens: tuple[bytes, ...]
    ids: tuple[int, ...]


def explain(vocabulary: Vocabulary, pattern: SplitPattern, text: str) -> list[ExplainedWord]:
    """Encode a text and write down every step; it is for reading, not for speed."""
    words = map(utf8, pattern.split(well_formed(text)))
    return [_explain_word(vocabulary, word, pattern.show) for word in words]


def _explain_word(
    vocabulary: Vocabulary, word: bytes, show: Callable[[bytes], bytes]
) -> ExplainedWord:
    def bytes_of(ids: list[int]) -> tuple[bytes, ...]:
        return tuple(show(vocabulary.tokens[token_id] or b"") for token_id in ids)

    ids = [vocabulary.byte_ids[byte] for byte in word]
    merges = []
    while True:
        ranks = [vocabulary.pair_ranks.get(pair, NO_RANK) for pair in pairwise(ids)]
        rank = min(ranks, default=NO_RANK)
        if rank == NO_RANK:
            break
        place = ranks.index(rank)
        left, right = bytes_of(ids[place : place + 2])
        made = vocabulary.merged_ids[rank]
        ids[place : place + 2] = [made]
        merges.append(ExplainedMerge(rank, left, right, made, bytes_of(ids)))
    whole_id = vocabulary.ids.get(word) if vocabulary.ignore_merges else None
    if whole_id is not None:
        ids = [whole_id]
    tokens = bytes_of(ids)
    return ExplainedWord(show(word), whole_id is not None, tuple(merges), tokens, tuple(ids))
