"""The trainer against a recount of everything after each merge."""

from collections import Counter
from itertools import islice, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolkit.errors import UsageError
from toolkit.tokenizers.bpe import (
    Encoder,
    MergeStep,
    MergeTrainer,
    Vocabulary,
    count_pretokens,
    iter_merges,
    split_pattern,
)
from toolkit.tokenizers.bpe.reference import count_pairs, merge_pair, train_reference

WORD_COUNTS = st.dictionaries(
    st.text("abc", min_size=1, max_size=12).map(str.encode), st.integers(1, 4), max_size=8
)


def recount(words: dict[tuple[int, ...], int]) -> tuple[int, int]:
    """Tokens and symbols in use of a segmented corpus."""
    symbols: Counter[int] = Counter()
    for word, count in words.items():
        for symbol in word:
            symbols[symbol] += count
    return symbols.total(), sum(count > 0 for count in symbols.values())


@given(WORD_COUNTS)
@example({b"aaaa": 1, b"aaa": 2})
@example({b"aaaaaaaaaaa": 1, b"abaabaaba": 3})
@example({b"abababab": 1})
@example({})
def test_every_step_equals_a_recount(word_counts: dict[bytes, int]) -> None:
    trainer = MergeTrainer(word_counts)
    words = {tuple(word): count for word, count in word_counts.items()}
    merges = []
    while True:
        assert (trainer.num_tokens, trainer.symbols_in_use) == recount(words)
        counts = count_pairs(words)
        following = trainer.next_pair()
        step = trainer.merge_next()
        if not counts:
            assert following is None
            assert step is None
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        assert following is not None
        assert (following.left, following.right, following.count) == (*best, counts[best])
        new_id = 256 + len(merges)
        words = {merge_pair(word, best, new_id): count for word, count in words.items()}
        num_tokens, in_use = recount(words)
        tokens = trainer.tokens
        assert step == MergeStep(
            rank=len(merges),
            left=best[0],
            right=best[1],
            new_id=new_id,
            pair=(tokens[best[0]], tokens[best[1]]),
            count=counts[best],
            num_tokens=num_tokens,
            symbols_in_use=in_use,
        )
        assert step.token == tokens[new_id] == tokens[best[0]] + tokens[best[1]]
        merges.append(best)
    assert merges == train_reference(word_counts, len(merges) + 1)
    assert len(set(trainer.tokens)) == len(trainer.tokens)  # no token is made twice


def test_overlapping_occurrences_all_count_but_merge_once() -> None:
    first = next(iter_merges({b"aaaaa": 3}))
    assert first.count == 12  # four overlapping pairs, three times
    assert first.num_tokens == 9  # (aa)(aa)a
    assert first.symbols_in_use == 2


def test_a_symbol_that_is_always_merged_away_falls_out_of_use() -> None:
    trainer = MergeTrainer({b"qu": 5, b"u": 1})
    assert (trainer.num_tokens, trainer.symbols_in_use) == (11, 2)
    step = trainer.merge_next()
    assert step is not None
    assert (step.num_tokens, step.symbols_in_use) == (6, 2)  # "qu" and "u": "q" is gone


def test_ties_go_to_the_smaller_ids() -> None:
    tokens = [step.token for step in iter_merges({b"cd": 2, b"ab": 2, b"ad": 2, b"ba": 2})]
    assert tokens == [b"ab", b"ad", b"ba", b"cd"]


def test_byte_order_decides_ties_and_ids() -> None:
    byte_order = list(range(255, -1, -1))
    steps = list(iter_merges({b"cd": 2, b"ab": 2}, byte_order=byte_order))
    assert [step.pair for step in steps] == [(b"c", b"d"), (b"a", b"b")]
    assert (steps[0].left, steps[0].right) == (255 - ord("c"), 255 - ord("d"))


@given(WORD_COUNTS, st.integers(0, 6))
def test_min_frequency_ends_at_the_first_rarer_pair(
    word_counts: dict[bytes, int], min_frequency: int
) -> None:
    every = list(iter_merges(word_counts))
    kept = list(iter_merges(word_counts, min_frequency=min_frequency))
    # Counts never rise from one merge to the next, so all above the threshold come first.
    assert all(b.count <= a.count for a, b in pairwise(every))
    assert kept == [step for step in every if step.count >= min_frequency]


@given(WORD_COUNTS, st.integers(1, 5))
def test_max_token_length_leaves_out_longer_merges(
    word_counts: dict[bytes, int], longest: int
) -> None:
    words = {tuple(word): count for word, count in word_counts.items()}
    tokens = [bytes([byte]) for byte in range(256)]
    steps = []
    while True:  # the naive loop, with one more condition
        counts = count_pairs(words)
        fitting = [p for p in counts if len(tokens[p[0]] + tokens[p[1]]) <= longest]
        if not fitting:
            break
        best = min(fitting, key=lambda pair: (-counts[pair], pair))
        words = {merge_pair(w, best, len(tokens)): count for w, count in words.items()}
        tokens.append(tokens[best[0]] + tokens[best[1]])
        steps.append(best)
    trained = list(iter_merges(word_counts, max_token_length=longest))
    assert [(step.left, step.right) for step in trained] == steps


def test_one_long_word_costs_no_more_than_many_short_ones() -> None:
    # 40,000 symbols in a row: rescanning the word for each of its merges would take minutes.
    text = " ".join(str(n * n) for n in range(6000)).encode()
    steps = list(islice(iter_merges({text: 1}), 500))
    tokens = [bytes([byte]) for byte in range(256)] + [step.token for step in steps]
    vocabulary = Vocabulary(tokens, [(step.left, step.right) for step in steps])
    ids = Encoder(vocabulary, split_pattern("none")).encode_word(text)
    assert len(steps) == 500
    assert (steps[-1].num_tokens, steps[-1].symbols_in_use) == (len(ids), len(set(ids)))


def test_words_are_counted_over_all_texts() -> None:
    assert count_pretokens(["a b", " b a", ""], "gpt2") == {b"a": 1, b" b": 2, b" a": 1}
    assert count_pretokens(["a b"], "none") == {b"a b": 1}
    assert count_pretokens(iter(["x\ud800"]), "gpt2") == {b"x": 1, "\ufffd".encode(): 1}


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UsageError, match="put a single one into a list"):
        count_pretokens("one text")
    with pytest.raises(UsageError, match="Document 1 is bytes, not str"):
        count_pretokens(["text", b"bytes"])  # type: ignore[list-item]  # wrong on purpose
    with pytest.raises(UsageError, match="min_frequency -1"):
        MergeTrainer({}, min_frequency=-1)
    with pytest.raises(UsageError, match="max_token_length 0"):
        MergeTrainer({}, max_token_length=0)
