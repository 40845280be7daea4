"""The character tokenizer: ids by code point, errors that say where, Hugging Face's ids."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import RunError, UnknownNameError, UsageError, VocabularyError
from toolkit.tokenizers.char import CharTokenizer

SHAKESPEARE = Path(__file__).parents[3] / "shared" / "corpora" / "tiny_shakespeare.txt"
# Characters outside Latin-1 and outside the basic plane, a combining accent, controls.
WILD = "naïve \x00 e\u0301 你好 😀\U0010ffff\r\n"


@pytest.fixture(scope="module")
def prose() -> str:
    if SHAKESPEARE.exists():
        return SHAKESPEARE.read_text("utf-8")[:200_000]
    return "To be, or not to be: that is the question.\n" * 200 + WILD


def test_ids_are_places_among_the_sorted_characters() -> None:
    tokenizer = CharTokenizer.train(["hello ", "world"])
    assert tokenizer.alphabet == " dehlorw"
    assert tokenizer.vocab_size == 8
    assert tokenizer.encode("hold") == [3, 5, 4, 1]
    assert tokenizer.decode([3, 5, 4, 1]) == "hold"
    assert tokenizer.special_tokens == {}
    assert tokenizer.unk_id is None


def test_ids_equal_a_dictionary_of_the_sorted_characters(prose: str) -> None:
    tokenizer = CharTokenizer.train([prose])
    id_of = {character: i for i, character in enumerate(sorted(set(prose)))}
    assert tokenizer.encode(prose) == [id_of[character] for character in prose]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text("ab😀"))
def test_every_text_of_known_characters_comes_back(text: str, other: str) -> None:
    tokenizer = CharTokenizer.train([text, "ab😀"])
    assert tokenizer.decode(tokenizer.encode(text + other)) == text + other
    assert len(tokenizer.encode(text + other)) == len(text + other)
    assert tokenizer.decode_bytes(tokenizer.encode(text)) == text.encode()


@pytest.mark.parametrize(
    ("text", "named", "position"),
    [
        ("abé", "'é' (U+00E9)", 2),
        ("😀", "'😀' (U+1F600)", 0),  # above the whole lookup table
        ("a\nb", r"'\n' (U+000A)", 1),
        ("ba\ud83d", r"'\ud83d' (U+D83D)", 2),
        ("a😀b", "'😀' (U+1F600)", 1),
    ],
)
def test_an_unknown_character_is_named_with_its_place(text: str, named: str, position: int) -> None:
    with pytest.raises(VocabularyError) as caught:
        CharTokenizer("ab").encode(text)
    message = str(caught.value)
    assert f"The character {named} at position {position} " in message
    assert "--unknown unk" in message
    assert "\n" not in message


def test_positions_in_a_batch() -> None:
    with pytest.raises(VocabularyError, match=r"'c' \(U\+0063\) at position 1 of text 2 is not"):
        CharTokenizer("ab").encode_batch(["ab", "", "bc"])
    with pytest.raises(VocabularyError, match="at position 1 is not"):
        CharTokenizer("ab").encode_batch(["ac"])


def test_unk_is_the_last_id_and_plain_text_unless_allowed() -> None:
    tokenizer = CharTokenizer.train(["<unk>"], unknown="unk")
    assert tokenizer.alphabet == "<>knu"
    assert tokenizer.unk_id == 5
    assert tokenizer.vocab_size == 6
    assert tokenizer.special_tokens == {"<unk>": 5}
    assert tokenizer.encode("unknown") == [4, 3, 2, 3, 5, 5, 3]
    assert tokenizer.encode("<unk>") == [0, 4, 3, 2, 1]
    assert tokenizer.encode("u<unk><unk>x", allowed_special={"<unk>"}) == [4, 5, 5, 5]
    with pytest.raises(UnknownNameError, match=r"No special token '<unkn>'. Did you mean '<unk>'"):
        tokenizer.encode("u", allowed_special={"<unkn>"})
    assert tokenizer.token_bytes(5) == b"<unk>"
    assert tokenizer.decode([4, 5]) == "u<unk>"
    assert tokenizer.encode_batch(["ux", "x"]).ids.tolist() == [4, 5, 5]


def test_half_a_surrogate_pair_is_unknown_and_cannot_be_learned() -> None:
    assert CharTokenizer("ab", "unk").encode("a\ud83d\ude00") == [0, 2, 2]
    with pytest.raises(UsageError, match=r"half of a surrogate pair \(U\+DE00\)"):
        CharTokenizer.train(["a\ude00"])


def test_count_unknown() -> None:
    assert CharTokenizer("ab").count_unknown("abcab😀") == (2, 6)
    assert CharTokenizer("ab", "unk").count_unknown("") == (0, 0)


def test_batches_are_flat() -> None:
    batch = CharTokenizer("abc").encode_batch(["ab", "", "c"])
    assert batch.ids.tolist() == [0, 1, 2]
    assert batch.offsets.tolist() == [0, 2, 2, 3]
    assert (batch.ids.dtype, batch.offsets.dtype) == (np.uint32, np.int64)


@pytest.mark.parametrize("token_id", [-1, 3, 2**40])
def test_ids_outside_the_vocabulary_are_refused(token_id: int) -> None:
    with pytest.raises(VocabularyError, match=f"id {token_id}: .* are 0 to 2"):
        CharTokenizer("abc").decode([0, token_id])


def test_nothing_to_learn_from() -> None:
    for texts in ([], [""], ["", ""]):
        with pytest.raises(UsageError, match="no characters"):
            CharTokenizer.train(texts)


def test_one_text_instead_of_several_or_bytes() -> None:
    with pytest.raises(UsageError, match="put a single one into a list"):
        CharTokenizer.train("abba")
    with pytest.raises(UsageError, match="Document 1 is bytes"):
        CharTokenizer.train(["abba", b"abba"])  # type: ignore[list-item]  # wrong on purpose


def test_alphabets_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="'a' is in the vocabulary twice"):
        CharTokenizer("aba")
    with pytest.raises(UsageError, match="'bc', which is not one character"):
        CharTokenizer(["a", "bc"])
    with pytest.raises(UnknownNameError, match="Did you mean 'unk'"):
        CharTokenizer("ab", unknown="unkn")


@pytest.mark.parametrize(
    "state",
    [{}, {"alphabet": "aa", "unknown": "error"}, {"alphabet": 7, "unknown": "error"}, []],
)
def test_a_damaged_file_is_called_damaged(tmp_path: Path, state: object) -> None:
    saved = {"format": 1, "tokenizer": "char", "state": state}
    (tmp_path / "toolkit.json").write_text(json.dumps(saved))
    with pytest.raises(RunError, match="is damaged"):
        CharTokenizer.load(tmp_path)


@pytest.mark.parametrize("unknown", ["error", "unk"])
def test_hugging_face_gives_the_same_ids(prose: str, unknown: str) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    text = prose + WILD + "<unk>"
    tokenizer = CharTokenizer.train([text], unknown=unknown)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer.to_huggingface()))
    assert theirs.encode(text).ids == tokenizer.encode(text)
    assert theirs.decode(tokenizer.encode(text)) == text
    assert theirs.get_vocab_size() == tokenizer.vocab_size
    if unknown == "unk":
        assert theirs.encode("aЖb").ids == tokenizer.encode("aЖb")
    else:
        with pytest.raises(Exception, match="Missing \\[UNK\\]"):
            theirs.encode("aЖb")
