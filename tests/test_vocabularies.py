"""Vocabularies measured on texts: what is trained on what, and what the report holds."""

import pytest

from toolkit.corpora import Corpus
from toolkit.errors import UnknownNameError, UsageError
from toolkit.tokenizers import load_tokenizer, vocab_growth, vocab_stats
from toolkit.vocabularies import SUGGEST_UP_TO, measure_vocabularies

FIRST = Corpus.from_text("to be or not to be, that is the question. " * 40, name="first")
SECOND = Corpus.from_text("мир и война, low lower lowest; " * 40, name="second")


def test_the_numbers_are_those_of_the_first_part_and_its_own_tokenizer() -> None:
    seen, kept = FIRST.split(0.1)
    report = measure_vocabularies(["char", "bpe:270"], [FIRST], n_embd=32, top=4)
    assert [row.tokenizer for row in report.rows] == ["char", "bpe:270"]
    for row in report.rows:
        tokenizer = load_tokenizer(row.tokenizer, seen)
        assert row.stats == vocab_stats(tokenizer, seen, kept, top=4)
        assert row.embedding_params == tokenizer.vocab_size * 32
    assert report.growth is None
    assert report.title == "char, bpe:270 on first"


def test_one_tokenizer_alone_has_its_growth() -> None:
    seen, _ = FIRST.split(0.1)
    report = measure_vocabularies(["bpe:270"], [FIRST])
    assert report.growth == vocab_growth(seen, load_tokenizer("bpe:270", seen), every=1)
    assert len(report.growth.rows) == 15
    assert measure_vocabularies(["char"], [FIRST]).growth is None


def test_each_text_trains_its_own_tokenizer() -> None:
    report = measure_vocabularies(["char", "byte"], [FIRST, SECOND], by_script=True)
    found = [(row.corpus, row.tokenizer, row.stats.vocab_size) for row in report.rows]
    chars = [len(set(corpus.split(0.1)[0].text())) for corpus in (FIRST, SECOND)]
    assert found == [
        ("first", "char", chars[0]),
        ("first", "byte", 256),
        ("second", "char", chars[1]),
        ("second", "byte", 256),
    ]
    scripts = [script.script for script in report.rows[2].stats.scripts]
    assert set(scripts) == {"Cyrillic", "Latin"}
    assert set(report.corpora) == {"first", "second"}


def test_a_tokenizer_of_another_text_meets_unknowns_and_goes_on() -> None:
    report = measure_vocabularies(["char", "word"], [SECOND], train_on=FIRST)
    char, word = report.rows
    assert char.stats.vocab_size == len(set(FIRST.split(0.1)[0].text())) + 1  # and <unk>
    kept = SECOND.split(0.1)[1].text()
    known = set(FIRST.split(0.1)[0].text())
    assert char.stats.unknown_rate == sum(c not in known for c in kept) / len(kept)
    assert word.stats.unknown_rate is not None
    assert word.stats.unknown_rate > 0.5


def test_options_go_to_the_tokenizers_that_have_them() -> None:
    report = measure_vocabularies(["word", "bpe:270"], [FIRST], options={"min_count": 41})
    assert report.rows[0].stats.vocab_size < report.rows[1].stats.vocab_size
    assert report.rows[1].stats.vocab_size == 270
    with pytest.raises(UsageError, match="None of the tokenizers char, bpe has an option 'rule'"):
        measure_vocabularies(["char", "bpe"], [FIRST], options={"rule": "words"})
    with pytest.raises(UsageError, match="'char' has no option 'rule'; it has unknown"):
        measure_vocabularies(["char"], [FIRST], options={"rule": "words"})
    with pytest.raises(UsageError, match=r"The option min_count is 'many'; expected a whole numb"):
        measure_vocabularies(["word"], [FIRST], options={"min_count": "many"})


def test_a_suggestion_looks_at_a_large_vocabulary() -> None:
    report = measure_vocabularies(["bpe"], [FIRST], suggest=True)
    assert report.growth is not None
    assert report.growth.complete  # long before so many
    assert report.rows[0].stats.vocab_size < SUGGEST_UP_TO
    assert report.suggestion is not None
    assert report.suggestion.last == report.growth.rows[-1]
    small = measure_vocabularies(["bpe:270"], [FIRST], suggest=True)
    assert small.suggestion is not None
    assert small.suggestion.last.vocab_size == 270


def test_what_cannot_be_measured() -> None:
    with pytest.raises(UsageError, match="at least one tokenizer"):
        measure_vocabularies([], [FIRST])
    with pytest.raises(UsageError, match="at least one tokenizer"):
        measure_vocabularies(["char"], [])
    with pytest.raises(UsageError, match="Two of the texts are named 'first'"):
        measure_vocabularies(["char"], [FIRST, SECOND, FIRST])
    with pytest.raises(UsageError, match="--suggest looks at one tokenizer on one text"):
        measure_vocabularies(["bpe", "char"], [FIRST], suggest=True)
    with pytest.raises(UsageError, match="--suggest needs a tokenizer with merges, not 'char'"):
        measure_vocabularies(["char"], [FIRST], suggest=True)
    with pytest.raises(UnknownNameError, match="No tokenizer 'chr'"):
        measure_vocabularies(["chr"], [FIRST])
    with pytest.raises(UsageError, match="--n-embd 0"):
        measure_vocabularies(["char"], [FIRST], n_embd=0)
