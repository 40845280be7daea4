"""Every tokenizer that has a tokenizer.json has the same ids in Hugging Face's library."""

import json
import unicodedata
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from toolkit.tokenizers import Tokenizer, load_tokenizer

hf = pytest.importorskip("tokenizers")

SHAKESPEARE = Path(__file__).parents[3] / "shared" / "corpora" / "tiny_shakespeare.txt"
HELP = [text for _, text in sorted(topics.items())]
WILD = [
    "Die Größe der Übung, ¿qué pasó? Привет, мир! 你好,世界。日本語 👩‍👩‍👧 🏳️‍🌈 e\u0301",
    "  two  spaces,\ttabs\r\n\r\n and \u00a0 odd \u2003 ones \u200b\ufeff ",
    "\x00\x7f\x85\u2028 <unk> <s> <0x41>",
    "",
    " ",
]
SPECS = [
    "char",
    "word",
    "byte",
    "bpe:1k",
    "sentencepiece:unigram:1k",
    "sentencepiece:bpe:1k",
    "sentencepiece:char:1k",
]


@pytest.fixture(scope="module")
def documents() -> list[str]:
    texts = HELP + WILD
    if SHAKESPEARE.exists():
        texts = [*texts, *SHAKESPEARE.read_text("utf-8")[:300_000].split("\n\n")]
    # Characters that one engine's Unicode knows and another's does not yet may be cut differently.
    assert all(unicodedata.category(c) != "Cn" for text in texts for c in text)
    return texts


@pytest.mark.parametrize("spec", SPECS)
def test_hugging_face_gives_the_same_ids(spec: str, documents: list[str]) -> None:
    tokenizer = load_tokenizer(spec, documents)
    theirs = hf.Tokenizer.from_str(json.dumps(tokenizer.to_huggingface()))
    encodings = theirs.encode_batch(documents, add_special_tokens=False)
    batch = tokenizer.encode_batch(documents)
    differing = [
        text
        for number, (text, encoding) in enumerate(zip(documents, encodings, strict=True))
        if batch[number].tolist() != encoding.ids
    ]
    assert differing == []
    assert theirs.get_vocab_size(with_added_tokens=True) == tokenizer.vocab_size
    for number, text in enumerate(documents):
        # Hugging Face's decoder puts "" for no tokens and the text for all others, as we do.
        assert theirs.decode(batch[number].tolist(), skip_special_tokens=False) == text


@pytest.mark.parametrize("spec", ["sentencepiece:unigram:600", "sentencepiece:bpe:600", "bpe:600"])
def test_special_tokens_keep_their_ids(spec: str, documents: list[str]) -> None:
    tokenizer = load_tokenizer(spec, documents, special_tokens=["<|endoftext|>"])
    theirs = hf.Tokenizer.from_str(json.dumps(tokenizer.to_huggingface()))
    text = "to be<|endoftext|>or not"
    expected = tokenizer.encode(text, allowed_special={"<|endoftext|>"})
    assert theirs.encode(text, add_special_tokens=False).ids == expected
    assert tokenizer.special_tokens["<|endoftext|>"] in expected


@pytest.mark.parametrize("spec", SPECS)
def test_what_is_exported_opens_again(spec: str, documents: list[str], tmp_path: Path) -> None:
    tokenizer = load_tokenizer(spec, documents)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer.to_huggingface()), "utf-8")
    opened: Tokenizer = load_tokenizer(f"hf:{path}")
    for text in documents[:50]:
        assert opened.encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize(
    "spec", ["sentencepiece:word:1k", "word"], ids=["sentencepiece:word", "word in lower case"]
)
def test_some_cannot_be_expressed(spec: str, documents: list[str]) -> None:
    options = {"lowercase": True} if spec == "word" else {}
    assert load_tokenizer(spec, documents, **options).to_huggingface() is None
