"""`BPETokenizer` as a whole: training options, special tokens, decoding, saving."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import RunError, UnknownNameError, UsageError, VocabularyError
from toolkit.tokenizers import BPETokenizer, Tokenizer
from toolkit.tokenizers.bpe import MergeStep, Vocabulary
from toolkit.tokenizers.testing import check_tokenizer, check_training

TEXTS = ["the cat sat on the mat\n" * 3, "that is the thing — naïve 你好 你好", "x = x + 1\n"]
SPECIAL = ["<|endoftext|>", "<|end", "two words"]


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(TEXTS, vocab_size=290, special_tokens=SPECIAL)


@pytest.mark.parametrize("pattern", ["gpt2", "cl100k", "o200k", "none", r"[a-z]+|\s"])
def test_keeps_the_contract(pattern: str) -> None:
    options: dict[str, Any] = {
        "vocab_size": 290,
        "pattern": pattern,
        "special_tokens": SPECIAL,
    }
    check_tokenizer(BPETokenizer.train(TEXTS, **options), TEXTS)
    check_training(BPETokenizer, TEXTS, **options)


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    tokenizer = BPETokenizer.train(TEXTS, vocab_size=280)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_ids_are_bytes_then_merges_then_special_tokens() -> None:
    steps: list[MergeStep] = []
    tokenizer = BPETokenizer.train(
        ["abababab"],
        vocab_size=260,
        pattern="none",
        special_tokens=["<b>", "<a>"],
        on_merge=steps.append,
    )
    assert tokenizer.merges == [(b"a", b"b"), (b"ab", b"ab")]
    assert [step.pair for step in steps] == tokenizer.merges
    assert [step.new_id for step in steps] == [256, 257]
    assert tokenizer.special_tokens == {"<b>": 258, "<a>": 259}
    assert tokenizer.vocab_size == 260
    assert [tokenizer.token_bytes(i) for i in (0, 97, 255, 256, 257, 258)] == [
        *(b"\x00", b"a", b"\xff"),
        *(b"ab", b"abab", b"<b>"),
    ]
    assert tokenizer.encode("abab<a>") == [257, *b"<a>"]
    assert tokenizer.encode("abab<a>", allowed_special={"<a>"}) == [257, 259]


def test_too_little_text_gives_a_smaller_vocabulary() -> None:
    tokenizer = BPETokenizer.train(["aaa"], vocab_size=4096, special_tokens=["<s>"])
    assert tokenizer.merges == [(b"a", b"a"), (b"aa", b"a")]
    assert tokenizer.vocab_size == 259
    assert tokenizer.special_tokens == {"<s>": 258}
    assert BPETokenizer.train([], vocab_size=300).vocab_size == 256


def test_min_frequency_and_max_token_length_reach_the_trainer() -> None:
    texts = ["abcd abcd xy"]
    frequent = BPETokenizer.train(texts, min_frequency=2, pattern="none")
    assert frequent.merges == [(b"a", b"b"), (b"c", b"d"), (b"ab", b"cd"), (b"abcd", b" ")]
    short = BPETokenizer.train(texts, min_frequency=2, max_token_length=3)
    assert [left + right for left, right in short.merges] == [b"ab", b"cd"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 255}, "vocab_size 255 must be at least 256: 256 bytes and 0 special"),
        ({"vocab_size": 257, "special_tokens": ["a", "b"]}, "must be at least 258"),
        ({"special_tokens": ["a", "a"]}, "'a' is given twice"),
        ({"special_tokens": "abc"}, "must be a list of names"),
        ({"pattern": "gpt3"}, "No split pattern 'gpt3'. Did you mean 'gpt2'"),
        ({"pattern": "("}, "is not a regular expression"),
        ({"min_frequency": -1}, "min_frequency -1"),
        ({"max_token_length": 0}, "max_token_length 0"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        BPETokenizer.train(TEXTS, **options)


def test_one_text_instead_of_several_is_refused() -> None:
    with pytest.raises(UsageError, match="put a single one into a list"):
        BPETokenizer.train("the text")


def test_special_tokens_have_to_be_allowed_by_name(tokenizer: BPETokenizer) -> None:
    text = "the cat<|endoftext|>two words"
    plain = tokenizer.encode(text)
    assert max(plain) < tokenizer.special_tokens["<|endoftext|>"]
    assert tokenizer.decode(plain) == text
    ids = tokenizer.encode(text, allowed_special={"<|end"})
    assert ids.count(tokenizer.special_tokens["<|end"]) == 1
    ids = tokenizer.encode(text, allowed_special=set(SPECIAL))
    # "<|end" begins at the same place and is shorter.
    assert ids == [
        *tokenizer.encode("the cat"),
        *(tokenizer.special_tokens[s] for s in SPECIAL[::2]),
    ]
    assert tokenizer.decode(ids) == text


def test_wrong_allowed_special_is_named(tokenizer: BPETokenizer) -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean '<\|endoftext\|>'"):
        tokenizer.encode("x", allowed_special={"<|endoftxt|>"})
    with pytest.raises(UsageError, match="must be a set"):
        tokenizer.encode("x", allowed_special="all")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(UsageError, match="must be a set"):
        tokenizer.encode("x", allowed_special=[])  # type: ignore[arg-type]  # wrong on purpose


def test_surrogates_become_what_tiktoken_makes_of_them(tokenizer: BPETokenizer) -> None:
    text = "x\ud83d\ude00 \ud83d<|endoftext|>"
    ids = tokenizer.encode(text, allowed_special={"<|endoftext|>"})
    assert tokenizer.decode(ids) == "x\U0001f600 \ufffd<|endoftext|>"


def test_parts_of_characters_decode_to_replacement_characters(tokenizer: BPETokenizer) -> None:
    assert tokenizer.decode([0xC3]) == "\ufffd"
    assert tokenizer.decode([0xC3, 0xA9, 0xFF]) == "é\ufffd"


def test_decoding_takes_ids_in_any_container(tokenizer: BPETokenizer) -> None:
    torch = pytest.importorskip("torch")
    ids = tokenizer.encode("the cat")
    for given_ids in (tuple(ids), iter(ids), np.array(ids, np.uint16), torch.tensor(ids)):
        assert tokenizer.decode(given_ids) == "the cat"
    assert tokenizer.decode(list(np.array(ids))) == "the cat"


@pytest.mark.parametrize("wrong", [-1, 290, 10**12])
def test_unknown_ids_are_named(tokenizer: BPETokenizer, wrong: int) -> None:
    for ids in ([97, wrong], np.array([97, wrong])):
        with pytest.raises(VocabularyError, match=f"the id {wrong}: .* 0 to 289"):
            tokenizer.decode(ids)


def test_unused_ids_stand_for_nothing() -> None:
    tokens = [*(bytes([byte]) for byte in range(256)), None, b"ab"]
    tokenizer = BPETokenizer(Vocabulary(tokens, [(97, 98)]), "gpt2", {"<s>": 260})
    assert tokenizer.vocab_size == 261
    assert tokenizer.decode([256, 257, 258, 259, 260]) == "ab<s>"


def test_special_ids_must_be_free() -> None:
    vocabulary = Vocabulary([bytes([byte]) for byte in range(256)], [])
    with pytest.raises(UsageError, match="The id 97 stands for both '<s>' and b'a'"):
        BPETokenizer(vocabulary, "gpt2", {"<s>": 97})
    with pytest.raises(UsageError, match="The id 256 stands for both '<t>' and '<s>'"):
        BPETokenizer(vocabulary, "gpt2", {"<s>": 256, "<t>": 256})
    with pytest.raises(UsageError, match="'<s>' has the id -1"):
        BPETokenizer(vocabulary, "gpt2", {"<s>": -1})


# -- saving -----------------------------------------------------------------------------------


def test_saved_and_loaded_it_is_the_same(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    for loaded in (Tokenizer.load(tmp_path), BPETokenizer.load(tmp_path)):
        assert isinstance(loaded, BPETokenizer)
        assert loaded.merges == tokenizer.merges
        assert loaded.pattern == tokenizer.pattern
        assert loaded.special_tokens == tokenizer.special_tokens
        assert loaded.fingerprint() == tokenizer.fingerprint()
        for text in TEXTS:
            assert loaded.encode(text) == tokenizer.encode(text)


def test_the_fingerprint_sees_what_changes_ids_and_nothing_else(tokenizer: BPETokenizer) -> None:
    def train(**options: Any) -> str:
        options = {"vocab_size": 290, "special_tokens": SPECIAL, **options}
        return BPETokenizer.train(TEXTS, **options).fingerprint()

    same = tokenizer.fingerprint()
    assert train() == same
    assert train(on_merge=lambda step: None) == same
    assert train(pattern=tokenizer.pattern.regex) == same  # a name is not more than its regex
    assert train(pattern="none") != same
    assert train(vocab_size=289) != same
    assert train(special_tokens=SPECIAL[::-1]) != same


def test_pickled_it_is_the_same_and_small(tokenizer: BPETokenizer) -> None:
    cold = len(pickle.dumps(tokenizer))
    tokenizer.encode("some text that fills the cache 1 2 3 4 5 6 7")
    pickled = pickle.dumps(tokenizer)
    assert len(pickled) == cold
    copy = pickle.loads(pickled)
    assert copy.encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])
    assert copy.fingerprint() == tokenizer.fingerprint()


def change(state: dict[str, Any], key: str, value: Any) -> None:
    state[key] = value


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("tokens"), "KeyError: 'tokens'"),
        (lambda s: s["merges"].append("q q"), "makes b'qq' of b'q' and b'q', which is no token"),
        (lambda s: s["merges"].append("q"), "in merges, 'q' is no pair of its tokens"),
        (lambda s: s["merges"].append("nosuch q"), "line 1 is damaged: in merges, 'nosuch q'"),
        (lambda s: s["tokens"].append("q"), "are both the token b'q'"),
        (lambda s: s["tokens"].append("a b"), "' ' stands for no byte"),
        (lambda s: change(s, "pattern", "("), "is not a regular expression"),
        (lambda s: change(s, "special_tokens", {"<s>": 3}), "The id 3 stands for both"),
        (lambda s: change(s, "tokens", s["tokens"][1:]), "the byte 0x00"),
        (lambda s: change(s, "tokens", 7), "TypeError"),
    ],
)
def test_a_damaged_file_is_explained_in_one_line(
    tokenizer: BPETokenizer, tmp_path: Path, damage: Any, message: str
) -> None:
    tokenizer.save(tmp_path)
    path = tmp_path / "toolkit.json"
    description = json.loads(path.read_text("utf-8"))
    damage(description["state"])
    path.write_text(json.dumps(description), "utf-8")
    with pytest.raises(RunError) as caught:
        BPETokenizer.load(tmp_path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
