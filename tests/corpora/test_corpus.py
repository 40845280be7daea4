"""Corpus: documents, sizes, the hash and the split, against hand-worked values and hashlib."""

import hashlib
import math
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.corpora import Corpus
from toolkit.errors import UsageError

DOCUMENTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=8)


def some_text(documents: list[str]) -> bool:
    return any(documents)


class Counted:
    """Documents that count how often they were read through."""

    def __init__(self, documents: list[str]) -> None:
        self.documents = documents
        self.times = 0

    def __iter__(self) -> Iterator[str]:
        self.times += 1
        return iter(self.documents)


def test_sizes_are_in_documents_characters_and_bytes() -> None:
    corpus = Corpus.from_documents(["naïve", "", "日本", "𝄞"], "mixed")
    assert corpus.num_documents == 3  # the empty one is left out
    assert corpus.num_chars == 5 + 2 + 1
    assert corpus.num_bytes == 6 + 6 + 4
    assert corpus.text() == "naïve日本𝄞"
    assert list(corpus) == list(corpus) == ["naïve", "日本", "𝄞"]
    assert (corpus.name, corpus.title) == ("mixed", "mixed")


def test_sizes_and_hash_cost_one_pass() -> None:
    documents = Counted(["ab", "c"])
    corpus = Corpus("counted", documents)
    assert documents.times == 0
    assert (corpus.num_bytes, corpus.num_chars, corpus.num_documents) == (3, 3, 2)
    assert corpus.sha256 == corpus.sha256
    assert documents.times == 1


def test_hash_of_one_document_is_the_plain_one() -> None:
    text = "Zeile\r\nzwei ä\n"
    assert Corpus.from_text(text).sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_hash_of_several_documents_frames_each() -> None:
    framed = b"\xff" + bytes([0] * 7 + [2]) + b"ab" + bytes([0] * 7 + [2]) + "é".encode()
    corpus = Corpus.from_documents(["ab", "é"])
    assert corpus.sha256 == hashlib.sha256(framed).hexdigest()


@given(DOCUMENTS.filter(some_text), DOCUMENTS.filter(some_text))
def test_hashes_differ_exactly_when_documents_do(one: list[str], other: list[str]) -> None:
    a, b = Corpus.from_documents(one), Corpus.from_documents(other)
    assert (a.sha256 == b.sha256) == (list(a) == list(b))


def test_same_text_divided_otherwise_has_another_hash() -> None:
    divisions = [["abc"], ["a", "bc"], ["ab", "c"], ["a", "b", "c"]]
    assert len({Corpus.from_documents(division).sha256 for division in divisions}) == 4


@given(DOCUMENTS.filter(some_text), st.integers(0, 99))
def test_split_is_a_partition_at_the_exact_position(documents: list[str], percent: int) -> None:
    corpus = Corpus.from_documents(documents)
    cut = math.floor(corpus.num_chars * Fraction(100 - percent, 100))
    if cut == 0:
        with pytest.raises(UsageError, match="too short to hold out"):
            corpus.split(percent / 100)
        return
    first, rest = corpus.split(percent / 100)
    assert first.text() == corpus.text()[:cut]
    assert rest.text() == corpus.text()[cut:]
    assert (first.num_chars, rest.num_chars) == (cut, corpus.num_chars - cut)
    # At most one document is cut in two; all others are whole.
    straddles = first.num_documents + rest.num_documents - corpus.num_documents
    assert straddles in (0, 1)
    if straddles == 0:
        assert [*first, *rest] == list(corpus)


def test_split_cuts_the_straddling_document() -> None:
    first, rest = Corpus.from_documents(["abcd", "efgh", "ij"], "letters").split(0.5)
    assert list(first) == ["abcd", "e"]
    assert list(rest) == ["fgh", "ij"]
    assert (first.name, rest.name) == ("letters:train", "letters:held-out")
    assert list(first.split(0.4)[1]) == ["d", "e"]  # a part splits like any corpus


@pytest.mark.parametrize(
    ("num_chars", "held_out", "train"),
    [
        (1_115_394, 0.1, 1_003_854),  # the split of tiny Shakespeare that others publish
        (10, 0.9, 1),  # 10 · (1 - 0.9) is 0.9999999999999998 in floating point
        (100, 0.07, 93),
        (3, 0.0, 3),
    ],
)
def test_split_position(num_chars: int, held_out: float, train: int) -> None:
    first, rest = Corpus.from_text("x" * num_chars).split(held_out)
    assert (first.num_chars, rest.num_chars) == (train, num_chars - train)


def test_training_part_does_not_read_past_the_cut() -> None:
    def documents() -> Iterator[str]:
        yield "abcde"
        yield "fghij"
        pytest.fail("read past the cut")

    class Documents:
        def __iter__(self) -> Iterator[str]:
            return documents()

    class Measured(Corpus):
        num_chars = 15

    first, _ = Measured("lazy", Documents()).split(0.5)
    assert next(iter(first)) == "abcde"
    assert first.text() == "abcdefg"


@pytest.mark.parametrize("held_out", [-0.1, 1, 1.5, float("nan")])
def test_split_refuses_what_is_no_fraction(held_out: float) -> None:
    with pytest.raises(UsageError, match="at least 0, less than 1"):
        Corpus.from_text("abc").split(held_out)


@pytest.mark.parametrize("documents", [[], [""], ["", ""]])
def test_a_corpus_without_text_is_refused(documents: list[str]) -> None:
    with pytest.raises(UsageError, match="The corpus 'nothing' is empty"):
        Corpus.from_documents(documents, "nothing")
    with pytest.raises(UsageError, match="is empty"):
        Corpus.from_text("")


def test_what_can_be_read_only_once_is_refused() -> None:
    with pytest.raises(UsageError, match="pass a list"):
        Corpus("once", iter(["a"]))
    with pytest.raises(UsageError, match="from_text"):
        Corpus("string", "abc")


def test_half_of_a_surrogate_pair_is_located() -> None:
    corpus = Corpus.from_documents(["fine", "ab\ud83d"], "broken")
    with pytest.raises(UsageError, match=r"Document 2 .*'broken'.*U\+D83D.* character 2"):
        _ = corpus.sha256
