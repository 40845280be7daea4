"""Tokenizers side by side: words, scripts, and what the comparison adds."""

from collections.abc import Sequence

import pytest

from toolkit.errors import UsageError
from toolkit.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    TokenBatch,
    WordTokenizer,
    compare_tokenizers,
    vocab_stats,
)
from toolkit.tokenizers.comparison import encode_speed
from toolkit.tokenizers.scripts import script_of, script_of_word
from toolkit.tokenizers.stats import ScriptStats, tokens_of_words

TEXTS = ["low low lower low", "мир low 漢字 12 мир!"]


def test_words_by_themselves_worked_by_hand() -> None:
    words = ["low", "lower", "é"]
    assert tokens_of_words(ByteTokenizer(), words).tolist() == [3, 5, 2]
    assert tokens_of_words(CharTokenizer("lower "), words).tolist() == [3, 5, 1]  # é as one unknown
    tokenizer = BPETokenizer.train(["low low lower low"], vocab_size=259)  # lo, low, " low"
    assert tokens_of_words(tokenizer, words).tolist() == [1, 3, 2]
    known_after_space_only = WordTokenizer.train(["a b a b"])
    assert tokens_of_words(known_after_space_only, ["b", "c", "b,"]).tolist() == [1, 1, 2]


def test_the_share_of_one_token_words() -> None:
    """low ×4, lower, мир, 漢字, 12, мир! are 9 words; with lo, low and " low" only low is one."""
    tokenizer = BPETokenizer.train(["low low lower low"], vocab_size=259)
    stats = vocab_stats(tokenizer, TEXTS)
    assert stats.num_words == 9
    assert stats.one_token_words == 4 / 9
    assert vocab_stats(ByteTokenizer(), TEXTS).one_token_words == 0.0
    assert vocab_stats(ByteTokenizer(), ["a bc d"]).one_token_words == 2 / 3


def test_words_by_script_worked_by_hand() -> None:
    stats = vocab_stats(ByteTokenizer(), TEXTS, by_script=True)
    assert stats.scripts == [
        ScriptStats("Latin", 5, 17, 17 / 5, 1.0, 0.0),
        ScriptStats("Cyrillic", 2, 7, (6 + 7) / 2, 13 / 7, 0.0),
        ScriptStats("Han", 1, 2, 6.0, 3.0, 0.0),
        ScriptStats("No letters", 1, 2, 2.0, 1.0, 0.0),
    ]
    assert vocab_stats(ByteTokenizer(), TEXTS).scripts == []


@pytest.mark.parametrize(
    ("word", "script"),
    [
        ("naïve", "Latin"),
        ("Ωmega", "Latin"),
        ("ΩΨa", "Greek"),
        ("aΩ", "Latin"),  # as many of each: the first
        ("עברית", "Hebrew"),
        ("हिन्दी", "Devanagari"),
        ("日本の", "Han"),
        ("のの日", "Hiragana"),
        ("한국어", "Hangul"),
        ("…!?3", "No letters"),
        ("𐌰𐌱", "Other"),  # Gothic
    ],
)
def test_scripts_of_words(word: str, script: str) -> None:
    assert script_of_word(word) == script


def test_a_letter_that_scripts_share_is_other() -> None:
    assert script_of("ª") == "Latin"
    assert script_of("ー") == "Other"  # the long vowel of Hiragana and Katakana alike


def test_the_comparison_is_the_statistics_and_more() -> None:
    tokenizers = {"b": ByteTokenizer(), "c": CharTokenizer.train(TEXTS)}
    rows = compare_tokenizers(tokenizers, TEXTS, ["low ☃"], corpus="words", n_embd=10, top=3)
    assert [row.tokenizer for row in rows] == ["b", "c"]
    for row, tokenizer in zip(rows, tokenizers.values(), strict=True):
        assert row.corpus == "words"
        assert row.stats == vocab_stats(tokenizer, TEXTS, ["low ☃"], top=3)
        assert row.embedding_params == tokenizer.vocab_size * 10
        assert row.encode_speed is not None
        assert row.encode_speed > 0
    assert [row.stats.unknown_rate for row in rows] == [0.0, 1 / 5]
    quick = compare_tokenizers(tokenizers, TEXTS, measure_speed=False)
    assert [row.encode_speed for row in quick] == [None, None]


class Slow(ByteTokenizer):
    """Notes what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[str]] = []

    def encode_batch(self, texts: Sequence[str], *, num_threads: int | None = None) -> TokenBatch:
        self.seen.append(list(texts))
        return super().encode_batch(texts)


def test_the_speed_is_of_four_megabytes_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.tokenizers.comparison._TIMED_BYTES", 10)
    clock = iter([0.0, 2.0, 10.0, 10.5, 20.0, 24.0])
    monkeypatch.setattr("toolkit.tokenizers.comparison.time.perf_counter", lambda: next(clock))
    tokenizer = Slow()
    assert encode_speed(tokenizer, ["12345678", "abcdef", "never"]) == 10 / 0.5 / 1e6
    assert tokenizer.seen == [["12345678", "ab"]] * 3


def test_what_cannot_be_compared() -> None:
    tokenizers = {"byte": ByteTokenizer()}
    with pytest.raises(UsageError, match="--n-embd 0 must be at least 1"):
        compare_tokenizers(tokenizers, TEXTS, n_embd=0)
    with pytest.raises(UsageError, match="give a list of them"):
        compare_tokenizers(tokenizers, iter(TEXTS))
    with pytest.raises(UsageError, match="give a list of them"):
        compare_tokenizers(tokenizers, TEXTS, iter(TEXTS))
    with pytest.raises(UsageError, match="There is no text"):
        compare_tokenizers(tokenizers, [""])
    with pytest.raises(UsageError, match="no text to time"):
        encode_speed(ByteTokenizer(), [""])
