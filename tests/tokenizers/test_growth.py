"""Statistics and growth: counted by hand, recounted from scratch, and the trainer's own numbers."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import UsageError, VocabularyError
from toolkit.tokenizers.base import Tokenizer
from toolkit.tokenizers.bpe.trainer import count_pretokens, iter_merges
from toolkit.tokenizers.char import CharTokenizer
from toolkit.tokenizers.growth import heaps_curve, replay_merges, vocab_growth
from toolkit.tokenizers.stats import vocab_stats
from toolkit.tokenizers.word import WordTokenizer

SHAKESPEARE = Path(__file__).parents[3] / "shared" / "corpora" / "tiny_shakespeare.txt"


@pytest.fixture(scope="module")
def prose() -> str:
    if SHAKESPEARE.exists():
        return SHAKESPEARE.read_text("utf-8")[:100_000]
    sentence = "the lowest of the newest and widest, lower than low; a banana bandana. "
    return "".join(sentence[i % 30 :] for i in range(500))


# -- statistics -------------------------------------------------------------------------------


def test_vocab_stats_counted_by_hand() -> None:
    # 3 documents; 12 + 2 + 1 characters, of which é takes two bytes.
    texts = ["a bé\tbé  ab\n", "ba", "a"]
    stats = vocab_stats(CharTokenizer.train(["abcdé \t\n"]), texts, ["abx", "", "yc"], top=3)
    assert stats.vocab_size == 8
    assert stats.num_tokens == stats.num_chars == 15
    assert stats.num_bytes == 17
    assert stats.num_words == 6  # a, bé, bé, ab | ba | a
    assert stats.distinct_tokens == 6  # all but c and d
    assert stats.bytes_per_token == 17 / 15
    assert stats.tokens_per_word == 15 / 6
    assert stats.unknown_rate == 2 / 5  # x and y
    # \t \n space a b c d é are 0 … 7; a and b occur 4 times each, the space 3 times.
    assert [(c.id, c.token, c.count) for c in stats.most_frequent] == [
        (3, b"a", 4),
        (4, b"b", 4),
        (2, b" ", 3),
    ]
    assert [c.share for c in stats.most_frequent] == [4 / 15, 4 / 15, 3 / 15]
    assert [(c.token, c.length) for c in stats.longest] == [
        ("é".encode(), 2),
        (b"\t", 1),
        (b"\n", 1),
    ]


def test_vocab_stats_reads_an_iterator_once_and_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["ab", "b", "", "abab", "a"] * 7
    tokenizer = CharTokenizer("ab")
    whole = vocab_stats(tokenizer, texts)
    assert whole.num_tokens == 56
    assert {c.id: c.count for c in whole.most_frequent} == {0: 28, 1: 28}
    monkeypatch.setattr("toolkit.tokenizers.stats._CHUNK", 5)
    assert vocab_stats(tokenizer, iter(texts)) == whole


def test_unknown_rate_is_of_the_tokenizers_own_pieces() -> None:
    words = WordTokenizer.train(["to be or not"])
    assert vocab_stats(words, ["to be"], ["to see or be"]).unknown_rate == 1 / 4  # " see"
    unk = WordTokenizer.train(["to be or not"], unknown="unk")
    assert vocab_stats(unk, ["to be"], ["to see or be"]).unknown_rate == 1 / 4
    assert vocab_stats(words, ["to be"]).unknown_rate is None
    assert vocab_stats(words, ["to be"], ["", ""]).unknown_rate is None


class HalfKnown(Tokenizer):
    """One token for each byte; those from 128 on are `<unk>`. It cannot count unknowns itself."""

    name = "half-known"
    unk_id = 128
    vocab_size = 129

    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        return [min(byte, 128) for byte in text.encode()]

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])

    def state(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        return cls()


def test_unknown_rate_of_a_tokenizer_that_only_has_unk() -> None:
    assert vocab_stats(HalfKnown(), ["a"], ["aé", "é"]).unknown_rate == 4 / 5
    assert vocab_stats(HalfKnown(), ["a"], ["abc"]).unknown_rate == 0.0


def test_vocab_stats_of_nothing_or_of_unknown_text() -> None:
    tokenizer = CharTokenizer("ab ")
    with pytest.raises(UsageError, match="no text"):
        vocab_stats(tokenizer, ["", ""])
    with pytest.raises(UsageError, match="--top -1"):
        vocab_stats(tokenizer, ["a"], top=-1)
    with pytest.raises(VocabularyError, match="'c'"):
        vocab_stats(tokenizer, ["abc"])
    assert vocab_stats(tokenizer, ["  "]).tokens_per_word == 0.0


# -- growth -----------------------------------------------------------------------------------


def test_growth_worked_by_hand() -> None:
    """Sennrich et al.'s words: low ×5, lower ×2, newest ×6, widest ×3.

    At first there are 15 + 10 + 36 + 18 = 79 symbols, and l o w e r n s t i d are 10 kinds. e + s
    occurs 6 + 3 = 9 times (s goes), es + t as often (t goes, es goes), l + o 7 times (o goes, l
    goes), lo + w 7 times (lo goes).
    """
    words = {b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}
    merges = [(b"e", b"s"), (b"es", b"t"), (b"l", b"o"), (b"lo", b"w")]
    growth = replay_merges(words, merges, every=1)
    assert growth.num_bytes == 79
    assert [row.merges for row in growth.rows] == [0, 1, 2, 3, 4]
    assert [row.vocab_size for row in growth.rows] == [256, 257, 258, 259, 260]
    assert [row.num_tokens for row in growth.rows] == [79, 70, 61, 54, 47]
    assert [row.symbols_in_use for row in growth.rows] == [10, 10, 9, 8, 8]
    assert [row.next_count for row in growth.rows] == [9, 9, 7, 7, 0]
    assert [row.next_pair for row in growth.rows] == [*merges, None]
    assert growth.rows[-1].bytes_per_token == 79 / 47


@pytest.mark.parametrize(
    ("every", "merges", "at"),
    [
        (64, 130, [0, 64, 128, 130]),
        (64, 128, [0, 64, 128]),
        (64, 3, [0, 3]),
        (64, 0, [0]),
        (1, 2, [0, 1, 2]),
    ],
)
def test_rows_are_at_every_so_many_merges_and_at_the_last(
    every: int, merges: int, at: list[int]
) -> None:
    pairs = [(bytes([1 + i]), b"x") for i in range(merges)]
    growth = replay_merges({b"low": 1}, pairs, every=every, base_vocab_size=300)
    assert [row.merges for row in growth.rows] == at
    assert [row.vocab_size for row in growth.rows] == [300 + i for i in at]
    assert {row.num_tokens for row in growth.rows} == {3}  # none of these pairs occurs


def recounted(
    words: Mapping[bytes, int], merges: Sequence[tuple[bytes, bytes]]
) -> Iterator[tuple[int, int, int]]:
    """(symbols in use, tokens, occurrences of the next pair), each from the whole text again."""
    text = {word: [word[i : i + 1] for i in range(len(word))] for word in words}
    for pair in [*merges, None]:
        counts: Counter[bytes] = Counter()
        next_count = 0
        for word, symbols in text.items():
            for symbol in symbols:
                counts[symbol] += words[word]
            next_count += words[word] * sum(p == pair for p in pairwise(symbols))
        yield len(counts), counts.total(), next_count
        if pair is None:
            return
        for word, symbols in text.items():
            merged = []
            rest = list(symbols)
            while rest:
                if tuple(rest[:2]) == pair:
                    merged.append(pair[0] + pair[1])
                    del rest[:2]
                else:
                    merged.append(rest.pop(0))
            text[word] = merged


SYMBOL = st.sampled_from([b"a", b"b", b"ab", b"aa", b"aab", b"ba", b"aaa", b"abab"])


@given(
    words=st.dictionaries(
        st.text("ab", min_size=1, max_size=12).map(str.encode), st.integers(1, 5), min_size=1
    ),
    merges=st.lists(st.tuples(SYMBOL, SYMBOL), unique=True, max_size=12),
)
def test_replay_equals_recounting_for_any_list_of_merges(
    words: dict[bytes, int], merges: list[tuple[bytes, bytes]]
) -> None:
    """Merges in any order: pairs that never occur, overlaps, one token made in several ways."""
    rows = replay_merges(words, merges, every=1).rows
    found = [(row.symbols_in_use, row.num_tokens, row.next_count) for row in rows]
    assert found == list(recounted(words, merges))


@pytest.mark.parametrize(("pattern", "num_merges"), [("gpt2", 500), ("none", 200)])
def test_replay_over_the_training_text_equals_the_trainer(
    prose: str, pattern: str, num_merges: int
) -> None:
    text = prose if pattern == "gpt2" else prose[:20_000]
    words = count_pretokens([text], pattern)
    steps = list(islice(iter_merges(words), num_merges))
    rows = replay_merges(words, [step.pair for step in steps], every=1).rows
    assert [row.next_count for row in rows[:-1]] == [step.count for step in steps]
    assert [row.num_tokens for row in rows[1:]] == [step.num_tokens for step in steps]
    assert [row.symbols_in_use for row in rows[1:]] == [step.symbols_in_use for step in steps]


def test_symbols_in_use_rise_and_fall(prose: str) -> None:
    """With every merge of a small text made, each word is one symbol: all others are gone."""
    words = count_pretokens([prose[:5000]])
    merges = [step.pair for step in iter_merges(words)]
    in_use = [row.symbols_in_use for row in replay_merges(words, merges, every=1).rows]
    assert in_use[-1] == len(words)
    assert max(in_use) > in_use[0]
    assert max(in_use) > in_use[-1]


def test_growth_needs_text_and_sensible_steps() -> None:
    with pytest.raises(UsageError, match="no text"):
        replay_merges({}, [(b"a", b"b")])
    with pytest.raises(UsageError, match="--every 0"):
        replay_merges({b"ab": 1}, [(b"a", b"b")], every=0)
    with pytest.raises(UsageError, match="'char' makes no merges"):
        vocab_growth(["ab"], CharTokenizer("ab"))


# -- Heaps' curve -----------------------------------------------------------------------------


def test_heaps_curve_by_hand() -> None:
    points = heaps_curve([4, 4, 2, 4, 7, 7, 2], every=3)
    assert [(p.tokens_read, p.distinct) for p in points] == [(3, 2), (6, 3), (7, 3)]
    assert heaps_curve([]) == []
    assert heaps_curve([], every=2) == []
    assert [(p.tokens_read, p.distinct) for p in heaps_curve([5])] == [(1, 1)]
    assert [p.tokens_read for p in heaps_curve([5] * 8)] == [1, 2, 4, 8]
    assert [p.tokens_read for p in heaps_curve([5] * 6, every=3)] == [3, 6]
    with pytest.raises(UsageError, match="every 0"):
        heaps_curve([5], every=0)


@given(st.lists(st.integers(0, 20)), st.none() | st.integers(1, 9))
def test_heaps_curve_equals_counting(ids: list[int], every: int | None) -> None:
    points = heaps_curve(np.asarray(ids, dtype=np.uint32), every=every)
    for point in points:
        assert point.distinct == len(set(ids[: point.tokens_read]))
    assert not ids or points[-1].tokens_read == len(ids)
