"""The contract, run on every tokenizer here, and on broken ones that it has to catch."""

import io
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    TokenBatch,
    Tokenizer,
    WordTokenizer,
    available_tokenizers,
    load_tokenizer,
    vocab_growth,
    vocab_stats,
)
from toolkit.tokenizers.testing import check_tokenizer, check_training

TEXTS = [
    "First Citizen:\nBefore we proceed any further, hear me speak.\n\n",
    "Don't   say “naïve” — 你好 👩‍👩‍👧 e\u0301!\t1593\r\n  ",
    "a",
    "aaaaaaaaaaab aaab",
]
NO_SPECIAL = " a special token with spaces "
FINGERPRINTS = {
    "char": "9652961c80991769",
    "word": "a8920c902daa8900",
    "byte": "c90ebc2eaf449c75",
    "bpe": "4d5136b5e3d9f059",
}

TOKENIZERS: dict[str, tuple[type[Tokenizer], dict[str, Any]]] = {
    "char": (CharTokenizer, {}),
    "char-unk": (CharTokenizer, {"unknown": "unk"}),
    "word": (WordTokenizer, {}),
    "word-unk": (WordTokenizer, {"unknown": "unk"}),
    "word-whitespace": (WordTokenizer, {"rule": "whitespace"}),
    "word-whitespace-unk": (WordTokenizer, {"rule": "whitespace", "unknown": "unk"}),
    "bpe": (BPETokenizer, {"vocab_size": 320}),
    "bpe-specials": (
        BPETokenizer,
        {"vocab_size": 300, "special_tokens": ["<|endoftext|>", NO_SPECIAL, "<|end"]},
    ),
    "bpe-cl100k": (BPETokenizer, {"vocab_size": 300, "pattern": "cl100k"}),
    "bpe-o200k": (BPETokenizer, {"vocab_size": 300, "pattern": "o200k"}),
    "bpe-none": (BPETokenizer, {"vocab_size": 300, "pattern": "none"}),
    "bpe-custom": (BPETokenizer, {"vocab_size": 300, "pattern": r"[a-z]+|\s+|."}),
    "bpe-custom-with-gaps": (BPETokenizer, {"vocab_size": 300, "pattern": r"(\w)+"}),
    "bpe-no-merges": (BPETokenizer, {"vocab_size": 256}),
    "bpe-whitespace": (BPETokenizer, {"vocab_size": 300, "pattern": "whitespace"}),
    "sentencepiece-unigram": (SentencePieceTokenizer, {"vocab_size": 400}),
    "sentencepiece-bpe": (SentencePieceTokenizer, {"model_type": "bpe", "vocab_size": 400}),
    "sentencepiece-char": (SentencePieceTokenizer, {"model_type": "char", "vocab_size": 400}),
    "sentencepiece-word": (SentencePieceTokenizer, {"model_type": "word", "vocab_size": 400}),
    "sentencepiece-word-error": (
        SentencePieceTokenizer,
        {"model_type": "word", "vocab_size": 400, "unknown": "error"},
    ),
    "sentencepiece-specials": (
        SentencePieceTokenizer,
        {"vocab_size": 400, "special_tokens": ["<|endoftext|>", NO_SPECIAL, "<|end"]},
    ),
}


def sentencepiece_model(**options: Any) -> bytes:
    """What SentencePiece trains with its own defaults: NFKC, a space before the text, `<s>`."""
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter("\n".join(TEXTS).splitlines()),
        model_writer=model,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def huggingface_json(kind: str) -> dict[str, Any]:
    """A tokenizer.json of a kind that is no byte-level BPE, trained by Hugging Face's library."""
    from tokenizers import Tokenizer as Theirs
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    if kind == "wordpiece":
        theirs = Theirs(models.WordPiece(unk_token="[UNK]"))
        theirs.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
        theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        theirs.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]", "[CLS]"])
    elif kind == "unigram":
        theirs = Theirs(models.Unigram())
        theirs.pre_tokenizer = pre_tokenizers.Metaspace()
        theirs.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=200, special_tokens=["<unk>", "<s>"], unk_token="<unk>"
        )
    elif kind == "wordlevel":
        theirs = Theirs(models.WordLevel(unk_token="[UNK]"))
        theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordLevelTrainer(special_tokens=["[UNK]"])
    elif kind == "byte-level-with-nfc":
        theirs = Theirs(models.BPE())
        theirs.normalizer = normalizers.NFC()
        theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        theirs.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<|e|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    else:  # as Llama 2's: characters, with bytes to fall back to
        theirs = Theirs(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        theirs.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        theirs.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=names)
    theirs.train_from_iterator(TEXTS, trainer)
    content: dict[str, Any] = json.loads(theirs.to_str())
    content["added_tokens"] = content["added_tokens"][:3]  # the bytes are ordinary tokens
    return content


HUGGINGFACE = ("wordpiece", "unigram", "wordlevel", "byte-level-with-nfc", "byte-fallback")


def test_every_built_in_tokenizer_is_checked() -> None:
    checked = {kind.name for kind, _ in TOKENIZERS.values()} | {ByteTokenizer.name}
    assert {"bpe", "byte", "char", "sentencepiece", "word"} <= checked
    assert checked <= set(available_tokenizers())


@pytest.mark.parametrize("name", TOKENIZERS)
def test_trained_tokenizers_keep_the_contract(name: str) -> None:
    kind, options = TOKENIZERS[name]
    check_tokenizer(kind.train(TEXTS, **options), TEXTS)
    check_training(kind, TEXTS, **options)


@pytest.mark.parametrize("special_tokens", [[], ["<|endoftext|>", NO_SPECIAL]])
def test_the_byte_tokenizer_keeps_the_contract(special_tokens: list[str]) -> None:
    check_tokenizer(ByteTokenizer(special_tokens), TEXTS)


@pytest.mark.parametrize("unknown", ["error", "unk"])
@pytest.mark.parametrize("kind", HUGGINGFACE)
def test_hugging_faces_tokenizers_keep_the_contract(kind: str, unknown: str) -> None:
    tokenizer = HuggingFaceTokenizer(huggingface_json(kind), unknown)
    check_tokenizer(tokenizer, TEXTS, lossless=False)


@pytest.mark.parametrize("unknown", ["error", "unk"])
@pytest.mark.parametrize("model_type", ["unigram", "bpe", "char", "word"])
def test_opened_sentencepiece_models_keep_the_contract(model_type: str, unknown: str) -> None:
    model = sentencepiece_model(model_type=model_type, vocab_size=300)
    check_tokenizer(SentencePieceTokenizer(model, unknown), TEXTS, lossless=False)


def test_an_opened_sentencepiece_model_with_bytes_keeps_the_contract() -> None:
    model = sentencepiece_model(model_type="bpe", vocab_size=400, byte_fallback=True)
    check_tokenizer(SentencePieceTokenizer(model), TEXTS, lossless=False)


@pytest.mark.slow
def test_a_tiktoken_encoding_keeps_the_contract() -> None:
    check_tokenizer(load_tokenizer("tiktoken:cl100k_base"), TEXTS)


def test_marked_words_keep_the_contract_but_for_the_spaces() -> None:
    options = {"vocab_size": 300, "pattern": "whitespace", "end_of_word": True}
    tokenizer = BPETokenizer.train(TEXTS, special_tokens=["<|endoftext|>"], **options)
    check_tokenizer(tokenizer, TEXTS, lossless=False)
    check_training(BPETokenizer, TEXTS, **options)


def test_fingerprints_are_the_same_in_every_process() -> None:
    """Whatever order Python's hashes put sets in: token files and runs are found by them."""
    program = (
        "import test_contract as t\n"
        "for name, (kind, options) in t.TOKENIZERS.items():\n"
        "    print(name, kind.train(t.TEXTS, **options).fingerprint())\n"
    )
    here = {
        name: kind.train(TEXTS, **options).fingerprint()
        for name, (kind, options) in TOKENIZERS.items()
    }
    for seed in ("1", "2"):
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        result = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        assert dict(line.split() for line in result.stdout.splitlines()) == here


def test_fingerprints_stay_as_they_are() -> None:
    """Runs and token files made by earlier versions carry these."""
    found = {
        "char": CharTokenizer.train(["abba"]).fingerprint()[:16],
        "word": WordTokenizer.train(["to be or not to be"]).fingerprint()[:16],
        "byte": ByteTokenizer(["<|endoftext|>"]).fingerprint()[:16],
        "bpe": BPETokenizer.train(["low lower lowest"], vocab_size=260).fingerprint()[:16],
    }
    assert found == FINGERPRINTS


def test_a_lower_casing_tokenizer_keeps_the_contract_but_for_the_case() -> None:
    tokenizer = WordTokenizer.train(TEXTS, lowercase=True)
    check_tokenizer(tokenizer, TEXTS, lossless=False)
    with pytest.raises(AssertionError, match=r"'First Citizen.* comes back as 'first citizen"):
        check_tokenizer(tokenizer, TEXTS)


@pytest.mark.parametrize("name", ["char", "word", "bpe"])
def test_one_character_is_enough_to_learn_from(name: str) -> None:
    kind, _ = TOKENIZERS[name]
    check_tokenizer(kind.train(["a"]), ["a"])


def test_statistics_and_growth_agree_on_every_bpe() -> None:
    for kind, options in TOKENIZERS.values():
        if kind is not BPETokenizer:
            continue
        tokenizer = BPETokenizer.train(TEXTS, **options)
        stats = vocab_stats(tokenizer, TEXTS, TEXTS)
        last = vocab_growth(TEXTS, tokenizer, every=7).rows[-1]
        assert last.vocab_size == stats.vocab_size == tokenizer.vocab_size
        assert last.num_tokens == stats.num_tokens
        assert last.symbols_in_use == stats.distinct_tokens
        assert last.bytes_per_token == stats.bytes_per_token
        assert stats.unknown_rate == 0.0


# -- broken ones ------------------------------------------------------------------------------


class WrongSize(CharTokenizer):
    """Leaves the last id out."""

    @property
    def vocab_size(self) -> int:
        return super().vocab_size - 1


class NoSize(CharTokenizer):
    @property
    def vocab_size(self) -> int:
        return 0


class SpecialOutside(CharTokenizer):
    @property
    def special_tokens(self) -> Mapping[str, int]:
        return {"<s>": self.vocab_size}


class SpecialTwice(CharTokenizer):
    @property
    def special_tokens(self) -> Mapping[str, int]:
        return {"<s>": 0, "<t>": 0}


class SecretUnk(CharTokenizer):
    """Has an id for unknowns that is no special token."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return {}


class TokensAsText(CharTokenizer):
    def token_bytes(self, token_id: int) -> bytes:
        return super().token_bytes(token_id).decode()  # type: ignore[return-value]  # wrong on purpose


class AnyId(CharTokenizer):
    """Takes -1 for the last token, as a list does."""

    def token_bytes(self, token_id: int) -> bytes:
        return self._token_bytes[token_id]


class ArrayOfIds(CharTokenizer):
    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        return np.asarray(super().encode(text))  # type: ignore[return-value]  # wrong on purpose


class NumPyIds(CharTokenizer):
    """A list, but of NumPy's numbers, which `json` cannot write."""

    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        return list(np.asarray(super().encode(text)))


class Moody(CharTokenizer):
    """Gives other ids every second time."""

    def __init__(self, alphabet: Sequence[str], unknown: str = "error") -> None:
        super().__init__(alphabet, unknown)
        self.calls = itertools.count()

    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        ids = super().encode(text, allowed_special=allowed_special)
        return ids[::-1] if next(self.calls) % 2 else ids


class StartsWithSomething(CharTokenizer):
    """Puts a token before every text."""

    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        return [0, *super().encode(text)]


class Stripping(CharTokenizer):
    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        return super().encode(text.strip())


class DecodesWithSpaces(CharTokenizer):
    """decode and decode_bytes are of two minds."""

    def decode(self, ids: Iterable[int]) -> str:
        return super().decode(ids).replace("\n\n", "\n")


class BytesOfItsOwn(CharTokenizer):
    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return super().decode_bytes(ids).replace(b"aa", b"AA")


class ListsOnly(CharTokenizer):
    def decode(self, ids: Iterable[int]) -> str:
        return super().decode(ids) if isinstance(ids, list | tuple) else "?"


class OtherInBatches(CharTokenizer):
    def encode_batch(self, texts: Sequence[str], *, num_threads: int | None = None) -> TokenBatch:
        return super().encode_batch([text.rstrip() for text in texts])


class OtherInTwoThreads(CharTokenizer):
    def encode_batch(self, texts: Sequence[str], *, num_threads: int | None = None) -> TokenBatch:
        return super().encode_batch(texts[::-1] if num_threads == 2 else texts)


class WideBatches(CharTokenizer):
    def encode_batch(self, texts: Sequence[str], *, num_threads: int | None = None) -> TokenBatch:
        batch = super().encode_batch(texts)
        return TokenBatch(batch.ids.astype(np.int64), batch.offsets)


class EagerSpecials(ByteTokenizer):
    """Finds special tokens in any text."""

    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        return super().encode(text, allowed_special=set(self.special_tokens))


class NoSpecials(ByteTokenizer):
    """Never finds special tokens."""

    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        return super().encode(text)


class SilentOnUnknowns(CharTokenizer):
    """Drops what it does not know."""

    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        return super().encode("".join(c for c in text if c in self.alphabet))


class NoUnk(CharTokenizer):
    """Drops what it does not know, though it has `<unk>`."""

    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        ids = super().encode(text, allowed_special=allowed_special)
        return ids if allowed_special else [i for i in ids if i != self.unk_id]


class KeyErrors(CharTokenizer):
    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        return [self._token_ids[character] for character in text]


class VagueErrors(CharTokenizer):
    def locate(self, text: str, index: int) -> tuple[str, int]:
        return "?", index


class MisplacedErrors(CharTokenizer):
    def locate(self, text: str, index: int) -> tuple[str, int]:
        return text[index], index + 1000


class KnowsAll(CharTokenizer):
    def count_unknown(self, text: str) -> tuple[int, int]:
        return 0, len(text)


class KnowsNothing(CharTokenizer):
    def count_unknown(self, text: str) -> tuple[int, int]:
        return len(text), len(text)


class NotJson(CharTokenizer):
    def state(self) -> dict[str, Any]:
        return {**super().state(), "set": {1, 2}}


class ForgetsItsPolicy(CharTokenizer):
    def state(self) -> dict[str, Any]:
        return {**super().state(), "unknown": "error"}


class RandomFingerprint(CharTokenizer):
    def fingerprint(self) -> str:
        return str(id(self))


class HoldsALock(CharTokenizer):
    def __init__(self, alphabet: Sequence[str], unknown: str = "error") -> None:
        super().__init__(alphabet, unknown)
        self.lock = threading.Lock()


class NotRegistered(CharTokenizer):
    name = "not-registered"


class RegisteredAsAnother(CharTokenizer):
    """Saves itself as "char", so that another class opens it."""


class SharedBuffer(CharTokenizer):
    """Writes ids to one list that all threads share."""

    # Saved copies are compared before threads are tried; this name leads back to this class.
    name = "test_contract:SharedBuffer"

    def __init__(self, alphabet: Sequence[str], unknown: str = "error") -> None:
        super().__init__(alphabet, unknown)
        self.buffer: list[int] = []

    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        self.buffer.clear()
        time.sleep(1e-5)  # lets another thread in, which here and there would happen anyway
        self.buffer.extend(super().encode(text, allowed_special=allowed_special))
        return list(self.buffer)


BROKEN: list[tuple[type[CharTokenizer], str, str]] = [
    (WrongSize, "error", r"encode\(.*\) gives ids outside 0"),
    (NoSize, "error", "vocab_size is 0"),
    (SpecialOutside, "error", "'<s>' has the id .*, outside 0"),
    (SpecialTwice, "error", "two special tokens share an id"),
    (SecretUnk, "unk", r"unk_id \d+ is not the id of a special token"),
    (TokensAsText, "error", r"token_bytes\(0\) is str, not bytes"),
    (AnyId, "error", r"token_bytes\(-1\) is outside the vocabulary"),
    (ArrayOfIds, "error", r"encode\(''\) is not a list of ints"),
    (NumPyIds, "error", "is not a list of ints"),
    (Moody, "error", "gives other ids a second time"),
    (StartsWithSomething, "error", r"encode\(''\) is not \[\]"),
    (Stripping, "error", "comes back as"),
    (DecodesWithSpaces, "error", "comes back as"),
    (BytesOfItsOwn, "error", "comes back as"),
    (ListsOnly, "error", "a list and a NumPy array"),
    (OtherInBatches, "error", "has other ids in a batch"),
    (OtherInTwoThreads, "error", r"in a batch \(num_threads=2\)"),
    (WideBatches, "error", "ids of int64 .* not uint32"),
    (SilentOnUnknowns, "error", "expected a VocabularyError, got no error"),
    (NoUnk, "unk", "no unk_id among its ids"),
    (KeyErrors, "error", "expected a VocabularyError, got KeyError"),
    (VagueErrors, "error", "does not name it"),
    (MisplacedErrors, "error", "does not say at which position"),
    (KnowsAll, "error", "count_unknown finds nothing unknown"),
    (KnowsNothing, "error", r"count_unknown says that (\d+) of \1 pieces are unknown"),
    (NotJson, "error", r"state\(\) holds more than JSON values"),
    (ForgetsItsPolicy, "unk", r"from_state\(state\(\)\) has vocab_size 48, not 49"),
    (RandomFingerprint, "error", "has another fingerprint"),
    (HoldsALock, "error", "it cannot be pickled: TypeError"),
    (NotRegistered, "error", "Tokenizer.load cannot open what save wrote: No tokenizer 'not-reg"),
    (RegisteredAsAnother, "error", "the saved copy is a CharTokenizer, not a RegisteredAsAnother"),
    (SharedBuffer, "error", "several threads that encode at once"),
]


@pytest.mark.parametrize(
    ("kind", "unknown", "message"), BROKEN, ids=[kind.__name__ for kind, _, _ in BROKEN]
)
def test_broken_tokenizers_are_caught(
    kind: type[CharTokenizer], unknown: str, message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        check_tokenizer(kind.train(TEXTS, unknown=unknown), TEXTS)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (EagerSpecials, "is found in plain text though it is not allowed"),
        (NoSpecials, "is allowed and stands between two texts"),
    ],
)
def test_broken_special_tokens_are_caught(kind: type[ByteTokenizer], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_tokenizer(kind(["<|endoftext|>"]), TEXTS)


class ClosedBytes(ByteTokenizer):
    """Claims that some text has no tokens, and cannot say which."""

    closed_vocabulary = True


class ClaimsAllText(CharTokenizer):
    """Claims that every text has tokens."""

    closed_vocabulary = False
    count_unknown = None  # type: ignore[assignment]  # wrong on purpose


def test_a_wrong_claim_about_the_vocabulary_is_caught() -> None:
    with pytest.raises(AssertionError, match="must have count_unknown"):
        check_tokenizer(ClosedBytes(), TEXTS)
    with pytest.raises(AssertionError, match="unknown part though the vocabulary is not closed"):
        check_tokenizer(ClaimsAllText.train(TEXTS, unknown="unk"), TEXTS)
    with pytest.raises(AssertionError, match="raises VocabularyError: The character"):
        check_tokenizer(ClaimsAllText.train(TEXTS), TEXTS)


class OrderOfReading(CharTokenizer):
    """Learns other ids when the texts come as an iterator."""

    @classmethod
    def train(cls, texts: Iterable[str], *, unknown: str = "error") -> "OrderOfReading":
        alphabet = "".join(dict.fromkeys("".join(texts)))
        return cls(alphabet[::-1] if isinstance(texts, list) else alphabet, unknown)


class LearnsFromNothing(CharTokenizer):
    @classmethod
    def train(cls, texts: Iterable[str], *, unknown: str = "error") -> "LearnsFromNothing":
        return cls(sorted(set("".join(texts))) or ["?"], unknown)


def test_broken_training_is_caught() -> None:
    with pytest.raises(AssertionError, match="another tokenizer for the same texts"):
        check_training(OrderOfReading, TEXTS)
    with pytest.raises(AssertionError, match=r"train\(\[\]\) has nothing to learn from"):
        check_training(LearnsFromNothing, TEXTS)


def test_the_checks_need_a_text(tmp_path: Path) -> None:
    for texts in ([], ["", ""]):
        with pytest.raises(ValueError, match="needs sample texts"):
            check_tokenizer(ByteTokenizer(), texts)
