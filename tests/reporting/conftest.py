"""Small texts and tokenizers with real numbers."""

import pytest

from toolkit.tokenizers.byte import ByteTokenizer
from toolkit.tokenizers.char import CharTokenizer
from toolkit.tokenizers.comparison import ComparedTokenizer, compare_tokenizers
from toolkit.tokenizers.growth import VocabGrowth, VocabSuggestion, replay_merges
from toolkit.tokenizers.word import WordTokenizer

TEXTS = [
    "the cat sat on the mat and the dog sat on the log",
    "кот и пёс, <script>alert(1)</script>",
]


@pytest.fixture(scope="session")
def rows() -> list[ComparedTokenizer]:
    """Three tokenizers on one text."""
    tokenizers = {
        "char": CharTokenizer.train(TEXTS),
        "word": WordTokenizer.train(TEXTS),
        "byte": ByteTokenizer(),
    }
    return compare_tokenizers(
        tokenizers, TEXTS, ["the cat"], corpus="tale", n_embd=64, by_script=True
    )


@pytest.fixture(scope="session")
def growth() -> VocabGrowth:
    """Symbols in use 4, 5, 5, 4 and tokens 17, 12, 9, 7, by hand; every word whole at the end."""
    merges = [(b"a", b"b"), (b"ab", b"c"), (b"ab", b"d")]
    return replay_merges({b"abc": 3, b"abd": 2, b"a": 1, b"b": 1}, merges, every=1)


@pytest.fixture(scope="session")
def suggestion(growth: VocabGrowth) -> VocabSuggestion:
    """A knee after the second merge, of what is no real search for one."""
    return VocabSuggestion(
        knee=growth.rows[2],
        last=growth.rows[-1],
        gain_share=0.625,
        saved_before=0.47,
        saved_after=0.22,
        after_vocab_size=259,
    )
