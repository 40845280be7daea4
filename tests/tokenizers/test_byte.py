"""The byte tokenizer: ids are bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import UnknownNameError, UsageError, VocabularyError
from toolkit.tokenizers import ByteTokenizer
from toolkit.tokenizers.testing import check_tokenizer


@given(st.text())
def test_ids_are_the_utf8_bytes(text: str) -> None:
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(text)
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode_batch([text, "x"])[0].tolist() == ids


def test_surrogates_are_repaired_as_in_bpe() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.decode(tokenizer.encode("a\ud83d\ude00\ud83d")) == "a\U0001f600\ufffd"


def test_special_tokens_come_after_the_bytes() -> None:
    tokenizer = ByteTokenizer(["<|end|>", "<|end|>of text"])
    assert tokenizer.vocab_size == 258
    assert tokenizer.special_tokens == {"<|end|>": 256, "<|end|>of text": 257}
    text = "é<|end|>of text"
    assert tokenizer.encode(text) == list(text.encode())
    assert tokenizer.encode(text, allowed_special={"<|end|>"}) == [195, 169, 256, *b"of text"]
    # Of two that begin at the same place, the longer one.
    assert tokenizer.encode(text, allowed_special=set(tokenizer.special_tokens)) == [195, 169, 257]
    assert tokenizer.decode([195, 169, 257]) == text


def test_bytes_that_are_not_utf8_decode_to_replacement_characters() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.decode([0xFF, 0x61, 0xC3]) == "\ufffda\ufffd"
    assert tokenizer.decode_bytes(np.array([0xFF, 0x61])) == b"\xffa"


def test_what_is_wrong_is_named() -> None:
    tokenizer = ByteTokenizer(["<|end|>"])
    with pytest.raises(VocabularyError, match=r"the id 257: .* 0 to 256"):
        tokenizer.decode([97, 257])
    with pytest.raises(VocabularyError, match="the id -1"):
        tokenizer.token_bytes(-1)
    with pytest.raises(UnknownNameError, match=r"'<\|edn\|>'\. Did you mean '<\|end\|>'"):
        tokenizer.encode("x", allowed_special={"<|edn|>"})
    with pytest.raises(UsageError, match="this tokenizer has none"):
        ByteTokenizer().encode("x", allowed_special={"<|end|>"})
    with pytest.raises(UsageError, match="must be a set of names, not str 'all'"):
        tokenizer.encode("x", allowed_special="all")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(UsageError, match="given twice"):
        ByteTokenizer(["<s>", "<s>"])
    with pytest.raises(UsageError, match="at least 1 character"):
        ByteTokenizer([""])
    with pytest.raises(UsageError, match="must be a list of names"):
        ByteTokenizer("<s>")
    with pytest.raises(UsageError, match="no UTF-8 form"):
        ByteTokenizer(["\ud800"])
    with pytest.raises(UsageError, match="comes ready-made"):
        ByteTokenizer.train(["text"])


def test_keeps_the_contract() -> None:
    check_tokenizer(ByteTokenizer(["<|end|>", "two words"]), ["a text", "naïve 你好"])
