"""Merges replayed over counted words: compiled and plain alike, and the textbook's example."""

import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolkit.errors import UsageError
from toolkit.tokenizers import BPETokenizer, suggest_vocab_size, vocab_growth
from toolkit.tokenizers.bpe.learning import can_compile, count_words_of
from toolkit.tokenizers.bpe.replay import MergeCounts, count_merges, count_merges_plainly
from toolkit.tokenizers.growth import GrowthRow, VocabGrowth

needs_compiler = pytest.mark.skipif(not can_compile(), reason="NUMBA_DISABLE_JIT: nothing compiled")


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Before a test is timed: the first use on a machine compiles."""
    if can_compile():
        from toolkit.tokenizers.bpe.fast.replaying import prepare_replaying

        prepare_replaying()


SYMBOL = st.sampled_from([b"a", b"b", b"c", b"ab", b"ba", b"aa", b"abc"])


def recounted(words: dict[bytes, int], merges: list[tuple[bytes, bytes]]) -> MergeCounts:
    """The definition: every word in turn, every merge in turn, from the left."""
    occurrences, replaced = [0] * len(merges), [0] * len(merges)
    for word, count in words.items():
        symbols = [word[i : i + 1] for i in range(len(word))]
        for rank, (left, right) in enumerate(merges):
            occurrences[rank] += count * list(pairwise(symbols)).count((left, right))
            merged = []
            while symbols:
                if symbols[:2] == [left, right]:
                    merged.append(left + right)
                    replaced[rank] += count
                    symbols = symbols[2:]
                else:
                    merged.append(symbols.pop(0))
            symbols = merged
    return MergeCounts(occurrences, replaced)


WORDS = st.dictionaries(
    st.text("abc", min_size=1, max_size=12).map(str.encode), st.integers(1, 9), max_size=6
)
MERGES = st.lists(st.tuples(SYMBOL, SYMBOL), unique=True, max_size=12)


@given(WORDS, MERGES)
@example({b"aaaa": 1, b"aaab": 2}, [(b"a", b"a"), (b"aa", b"a"), (b"aa", b"aa")])
@example({b"": 3}, [(b"a", b"b")])
def test_plain_replay_is_the_definition(
    words: dict[bytes, int], merges: list[tuple[bytes, bytes]]
) -> None:
    assert count_merges_plainly(words, merges) == recounted(words, merges)


@needs_compiler
@given(WORDS, MERGES)
@example({b"aaaa": 1, b"aaab": 2}, [(b"a", b"a"), (b"aa", b"a"), (b"aa", b"aa")])
@example({b"": 3}, [(b"a", b"b")])
@example({}, [(b"a", b"b")])
@example({b"ab": 1}, [])
def test_compiled_replay_is_the_plain_one(
    words: dict[bytes, int], merges: list[tuple[bytes, bytes]]
) -> None:
    from toolkit.tokenizers.bpe.fast.replaying import replay

    assert replay(words, merges) == count_merges_plainly(words, merges)


@needs_compiler
def test_long_words_and_many_merges() -> None:
    """Longer than the compiled loop takes, and so many that the compiled way is chosen."""
    letters = random.Random(1)
    texts = ["".join(letters.choices("abcde ", (5, 3, 2, 1, 1, 2), k=400)) for _ in range(400)]
    texts += ["ab" * 5000, "a" * 3001]
    tokenizer = BPETokenizer.train(texts, vocab_size=900)
    words = count_words_of(texts, "gpt2")
    assert max(map(len, words)) > 512
    assert sum(map(len, words)) > 1 << 16
    found = count_merges(words, tokenizer.merges)
    assert found == count_merges_plainly(words, tokenizer.merges)
    assert min(found.replaced) > 0


# -- the textbook -----------------------------------------------------------------------------

SENNRICH = " ".join(["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3)


def test_the_textbooks_words_to_the_end() -> None:
    """Sennrich et al. 2016, figure 1, by hand: low ×5, lower ×2, newest ×6, widest ×3, each with
    the mark </w>: 20 + 12 + 42 + 21 = 95 symbols of 11 kinds (l o w e r n s t i d </w>).

    e s, s t and t </w> occur 9 times each. Of equal counts the pair of smaller ids comes first: the
    bytes e s, then t </w> (the mark is the last byte), and es t</w> makes est</w> as in the paper.
    Then l o and lo w (7), e w, n ew and new est</w> (6), low </w> (5), and so on.
    """
    tokenizer = BPETokenizer.train(
        [SENNRICH], vocab_size=1000, pattern="whitespace", end_of_word=True
    )
    growth = vocab_growth([SENNRICH], tokenizer, every=1)
    assert tokenizer.merges == [
        (b"e", b"s"),
        (b"t", b"</w>"),
        (b"es", b"t</w>"),
        (b"l", b"o"),
        (b"lo", b"w"),
        (b"e", b"w"),
        (b"n", b"ew"),
        (b"new", b"est</w>"),
        (b"low", b"</w>"),
        (b"d", b"est</w>"),
        (b"i", b"dest</w>"),
        (b"w", b"idest</w>"),
        (b"e", b"r"),
        (b"low", b"er"),
        (b"lower", b"</w>"),
    ]
    assert [row.next_pair for row in growth.rows[:-1]] == tokenizer.merges
    counts = [9, 9, 9, 7, 7, 6, 6, 6, 5, 3, 3, 3, 2, 2, 2]
    assert [row.next_count for row in growth.rows] == [*counts, 0]
    tokens = [95 - sum(counts[:done]) for done in range(16)]
    assert [row.num_tokens for row in growth.rows] == tokens
    assert growth.rows[0].symbols_in_use == 11
    assert growth.rows[-1].symbols_in_use == growth.distinct_words == 4
    assert growth.rows[-1].num_tokens == growth.num_words == 16
    assert growth.complete
    assert tokenizer.vocab_size == 256 + 15  # nothing is left to merge, whatever was asked for


def test_symbols_rise_to_a_peak_and_fall_to_the_words() -> None:
    words = [
        "the",
        "bank",
        "was",
        "banking",
        "on",
        "bankers",
        "who",
        "bank",
        "banks",
        "thanks",
        "to",
        "thankless",
        "tankers",
    ]
    text = " ".join(words * 3)
    tokenizer = BPETokenizer.train([text], vocab_size=1000, pattern="whitespace", end_of_word=True)
    growth = vocab_growth([text], tokenizer, every=1)
    in_use = [row.symbols_in_use for row in growth.rows]
    assert in_use[0] == len(set("".join(words))) + 1
    assert growth.peak.symbols_in_use == max(in_use) > in_use[0]
    assert growth.peak.merges == in_use.index(max(in_use))
    assert in_use[-1] == len(set(words)) == growth.distinct_words
    assert growth.complete
    thinned = vocab_growth([text], tokenizer, every=10)
    assert thinned.peak == growth.peak  # wherever the rows are
    assert not vocab_growth([text + " unseen"], tokenizer).complete


def test_marked_words_decode_with_a_space_after_each() -> None:
    tokenizer = BPETokenizer.train(
        [SENNRICH], vocab_size=1000, pattern="whitespace", end_of_word=True
    )
    ids = tokenizer.encode("lowest \n newer")
    assert [tokenizer.token_bytes(i) for i in ids] == [b"low", b"est ", b"new", b"er", b" "]
    assert tokenizer.decode(ids) == "lowest newer "
    assert tokenizer.explain("low")[0].tokens == (b"low</w>",)
    assert tokenizer.to_huggingface() is None


def test_a_mark_needs_words_between_whitespace() -> None:
    with pytest.raises(UsageError, match="it needs pattern='whitespace', not 'gpt2'"):
        BPETokenizer.train([SENNRICH], end_of_word=True)


@pytest.mark.parametrize("save", ["save_huggingface", "save_tiktoken", "save_vocab_and_merges"])
def test_files_that_know_no_marks(save: str, tmp_path: Path) -> None:
    tokenizer = BPETokenizer.train(
        [SENNRICH], vocab_size=260, pattern="whitespace", end_of_word=True
    )
    with pytest.raises(UsageError):
        getattr(tokenizer, save)(f"{tmp_path}/file")
    assert not list(tmp_path.iterdir())


# -- the knee ---------------------------------------------------------------------------------


def curve(bytes_per_token: list[float], step: int = 100) -> VocabGrowth:
    rows = [
        GrowthRow(
            merges=step * i,
            vocab_size=200 + step * i,
            symbols_in_use=10 + i,
            num_tokens=round(12_000 / value),
            bytes_per_token=value,
            next_pair=None,
            next_count=0,
        )
        for i, value in enumerate(bytes_per_token)
    ]
    return VocabGrowth(12_000, 1, 1, rows[-1], rows)


def test_the_knee_worked_by_hand() -> None:
    """Scaled to 0 … 1 the gains are 0, 0.5, 0.8, 0.9, 1 at 0, ¼, ½, ¾, 1: above the straight line
    by 0, 0.25, 0.3, 0.15, 0. The knee is the third row, 400 tokens; its half is 200, its double
    800, of which the curve has only 600."""
    found = suggest_vocab_size(curve([1.0, 2.0, 2.6, 2.8, 3.0]))
    assert found.knee.vocab_size == 400
    assert found.gain_share == pytest.approx(0.8)
    assert found.last.vocab_size == found.after_vocab_size == 600
    assert found.saved_before == pytest.approx(1 - 1.0 / 2.6, abs=1e-3)
    assert found.saved_after == pytest.approx(1 - 2.6 / 3.0, abs=1e-3)


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0], [2.0, 2.0, 2.0]])
def test_no_knee(values: list[float]) -> None:
    with pytest.raises(UsageError, match="There is no knee to find"):
        suggest_vocab_size(curve(values))
