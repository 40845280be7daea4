"""The contract, run on every tokenizer here, and on broken ones that it has to catch."""

import itertools
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
    TokenBatch,
    Tokenizer,
    WordTokenizer,
    available_tokenizers,
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
}


def test_every_built_in_tokenizer_is_checked() -> None:
    checked = {kind.name for kind, _ in TOKENIZERS.values()} | {ByteTokenizer.name}
    assert {"bpe", "byte", "char", "word"} <= checked
    assert checked <= set(available_tokenizers())


@pytest.mark.parametrize("name", TOKENIZERS)
def test_trained_tokenizers_keep_the_contract(name: str) -> None:
    kind, options = TOKENIZERS[name]
    check_tokenizer(kind.train(TEXTS, **options), TEXTS)
    check_training(kind, TEXTS, **options)


@pytest.mark.parametrize("special_tokens", [[], ["<|endoftext|>", NO_SPECIAL]])
def test_the_byte_tokenizer_keeps_the_contract(special_tokens: list[str]) -> None:
    check_tokenizer(ByteTokenizer(special_tokens), TEXTS)


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
