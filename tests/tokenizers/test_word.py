"""The word tokenizer: where it cuts, which words it keeps, what it says about the others."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import RunError, UsageError, VocabularyError
from toolkit.tokenizers.word import WordTokenizer

SHAKESPEARE = Path(__file__).parents[3] / "shared" / "corpora" / "tiny_shakespeare.txt"
WILD = "naïve «e\u0301»  हिन्दी 你好_2 \t😀\x1c\x85\u00a0x\u2028 'tis rock’n’roll — 3.14\r\n\n"


@pytest.fixture(scope="module")
def prose() -> str:
    if SHAKESPEARE.exists():
        return SHAKESPEARE.read_text("utf-8")[:200_000]
    return "To be, or not to be: that's the question.\n" * 200 + WILD


def cut(text: str, **options: Any) -> list[str]:
    """The words of a text as the tokenizer sees them."""
    tokenizer = WordTokenizer.train([text], **options)
    return [tokenizer.token_bytes(token_id).decode() for token_id in tokenizer.encode(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("to be, or", ["to", " be", ",", " or"]),
        ("don't o'er-leap", ["don't", " o'er", "-", "leap"]),
        ("'tis the dogs' (so)", ["'", "tis", " the", " dogs", "'", " (", "so", ")"]),
        ("a  b\n\n c", ["a", " ", " b", "\n", "\n", " c"]),
        ("x_1 = 3.14", ["x_1", " =", " 3", ".", "14"]),
        ("rock’n’roll", ["rock’n’roll"]),
        ("cafe\u0301 हिन्दी", ["cafe\u0301", " हिन्दी"]),
        ("...😀 ", [".", ".", ".", "😀", " "]),
        ("a\u00a0b\tc", ["a", "\u00a0", "b", "\t", "c"]),
    ],
)
def test_where_the_rule_words_cuts(text: str, words: list[str]) -> None:
    assert cut(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("to be,  or\n\n", ["to", " ", "be,", "  ", "or", "\n\n"]),
        (" \t<unk> ", [" \t", "<unk>", " "]),
    ],
)
def test_where_the_rule_whitespace_cuts(text: str, words: list[str]) -> None:
    assert cut(text, rule="whitespace") == words


@pytest.mark.parametrize("rule", ["words", "whitespace"])
@given(text=st.text(min_size=1))
def test_every_text_comes_back(rule: str, text: str) -> None:
    text = text.encode("utf-8", "ignore").decode() or "a"  # without halves of surrogate pairs
    tokenizer = WordTokenizer.train([text], rule=rule)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_order_is_by_frequency_then_by_code_point(prose: str) -> None:
    tokenizer = WordTokenizer.train([prose])
    counts = Counter(tokenizer.encode(prose))
    words = [tokenizer.token_bytes(i).decode() for i in range(tokenizer.vocab_size)]
    keys = [(-counts[i], word) for i, word in enumerate(words)]
    assert keys == sorted(keys)
    assert tokenizer.decode(tokenizer.encode(prose)) == prose


def test_min_count_leaves_rare_words_out() -> None:
    tokenizer = WordTokenizer.train(["a a b b b c"], rule="whitespace", min_count=2)
    assert [tokenizer.token_bytes(i) for i in range(4)] == [b" ", b"b", b"a", b"<unk>"]
    assert tokenizer.unk_id == 3
    assert tokenizer.encode("a c") == [2, 0, 3]
    assert tokenizer.decode(tokenizer.encode("a c")) == "a <unk>"
    assert tokenizer.count_unknown("a c d b") == (2, 7)


def test_vocab_size_counts_unk() -> None:
    tokenizer = WordTokenizer.train(["a a b b b c"], rule="whitespace", vocab_size=3)
    assert [tokenizer.token_bytes(i) for i in range(3)] == [b" ", b"b", b"<unk>"]
    larger = WordTokenizer.train(["a b"], vocab_size=100)
    assert larger.vocab_size == 3
    exact = WordTokenizer.train(["a b"], vocab_size=2, unknown="error")
    assert exact.vocab_size == 2
    assert exact.unk_id is None


def test_a_policy_that_would_refuse_its_own_text_is_refused() -> None:
    with pytest.raises(UsageError, match="keep 2 of the text's 3 words"):
        WordTokenizer.train(["a b c"], vocab_size=2, unknown="error")
    with pytest.raises(UsageError, match="keep 2 of the text's 3 words"):
        WordTokenizer.train(["a a b"], rule="whitespace", min_count=2, unknown="error")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 1}, "vocab_size 1 must be at least 2"),
        ({"vocab_size": 0, "unknown": "error"}, "vocab_size 0 must be at least 1"),
        ({"min_count": 0}, "min_count 0 must be at least 1"),
        ({"min_count": 9}, "No word occurs 9 times"),
        ({"rule": "word"}, "Did you mean 'words'"),
        ({"unknown": "skip"}, "Available: error, unk"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        WordTokenizer.train(["a b c"], **options)


def test_nothing_to_learn_from() -> None:
    with pytest.raises(UsageError, match="no words"):
        WordTokenizer.train([""])
    with pytest.raises(UsageError, match="no words"):
        WordTokenizer.train([], min_count=2)
    with pytest.raises(UsageError, match="put a single one into a list"):
        WordTokenizer.train("a b")


@pytest.mark.parametrize(
    ("text", "named", "position"),
    [
        ("be not proud", "' proud'", 6),
        ("be;", "';' (U+003B)", 2),
        ("be " + "z" * 50, "' " + "z" * 39 + "…'", 2),
        ("be\ud83d", r"'\ud83d' (U+D83D)", 2),
    ],
)
def test_an_unknown_word_is_named_with_its_place(text: str, named: str, position: int) -> None:
    tokenizer = WordTokenizer.train(["be not"])
    with pytest.raises(VocabularyError) as caught:
        tokenizer.encode(text)
    assert f"The word {named} at position {position} is not" in str(caught.value)


def test_lowercase() -> None:
    tokenizer = WordTokenizer.train(["The THE the dog"], lowercase=True)
    assert tokenizer.encode("the Dog") == tokenizer.encode("THE dog")
    assert tokenizer.decode(tokenizer.encode("THE dog")) == "the dog"
    assert tokenizer.to_huggingface() is None
    # "İ" is two characters in lower case; the place is that in the text as given.
    wide = WordTokenizer.train(["İİ a"], lowercase=True)
    with pytest.raises(VocabularyError, match="The word ' B' at position 4"):
        wide.encode("İİ A B")


def test_unk_between_words_when_it_is_allowed() -> None:
    tokenizer = WordTokenizer.train(["a b"], unknown="unk")
    assert tokenizer.encode("a<unk> b", allowed_special={"<unk>"}) == [1, 2, 0]
    assert tokenizer.encode("a<unk> b") == [1, 2, 2, 2, 0]  # "<", "unk", ">"


def test_a_text_that_holds_unk_as_a_word_of_its_own() -> None:
    """As the Penn Treebank does: it is a word like any other, with an id of its own."""
    tokenizer = WordTokenizer.train(["a <unk> b"], rule="whitespace", unknown="unk")
    own = tokenizer.encode("<unk>")
    assert own != [tokenizer.unk_id]
    assert tokenizer.encode("c") == [tokenizer.unk_id]
    assert tokenizer.to_huggingface() is None


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"words": [1], "unknown": "error", "rule": "words", "lowercase": False},
        {"words": ["a"], "unknown": "error", "rule": "syllables", "lowercase": False},
    ],
)
def test_a_damaged_file_is_called_damaged(tmp_path: Path, state: object) -> None:
    saved = {"format": 1, "tokenizer": "word", "state": state}
    (tmp_path / "toolkit.json").write_text(json.dumps(saved))
    with pytest.raises(RunError, match="is damaged"):
        WordTokenizer.load(tmp_path)


@pytest.mark.parametrize("rule", ["words", "whitespace"])
@pytest.mark.parametrize("unknown", ["error", "unk"])
def test_hugging_face_gives_the_same_ids(prose: str, rule: str, unknown: str) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    text = prose + WILD
    tokenizer = WordTokenizer.train([text], rule=rule, unknown=unknown)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer.to_huggingface()))
    assert theirs.encode(text).ids == tokenizer.encode(text)
    assert theirs.decode(tokenizer.encode(text)) == text
    if unknown == "unk":
        strange = "Beware the Jabberwock,\n\nmy <unk> son!"
        assert theirs.encode(strange).ids == tokenizer.encode(strange)
        assert tokenizer.unk_id in tokenizer.encode(strange)
