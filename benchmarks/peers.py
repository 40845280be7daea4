"""Other tokenizer libraries behind one face, each only where it is installed.

The libraries that run on rayon take their number of threads from RAYON_NUM_THREADS, which has to
be set before their first use: `use_threads` does that.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from measuring import OURS, one_line, version_of

from toolkit import BPETokenizer, TokenBatch
from toolkit.tokenizers.bpe import PATTERNS
from toolkit.tokenizers.bpe.alphabet import characters_to_bytes
from toolkit.tokenizers.bpe.tiktoken_files import load_tiktoken_encoding

NUM_BYTES = 256
ENCODING = "cl100k_base"
SPLIT = PATTERNS["gpt2"] or ""


def use_threads(num_threads: int) -> None:
    """Limit the libraries that have no option for it; call before any of them is used."""
    os.environ["RAYON_NUM_THREADS"] = str(num_threads)


# -- training -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lesson:
    """What to train on.

    Attributes:
        documents: the texts.
        path: a file that holds them one after the other.
        vocab_size: V, with the 256 bytes.
        num_threads: how many threads to use, where that can be said.
        alphabet_size: how many of the bytes occur.
    """

    documents: Iterable[str]
    path: Path
    vocab_size: int
    num_threads: int
    alphabet_size: int = NUM_BYTES


@dataclass(frozen=True)
class Trainer:
    """A library that trains byte-level BPE with GPT-2's split pattern.

    Attributes:
        name: the package.
        train: does it, and gives whatever the library gives.
        tokens: the tokens in that, in the order learned, without the single bytes.
        slow: whether it is too slow for large corpora to be trained often.
        note: in what it differs.
    """

    name: str
    train: Callable[[Lesson], Any]
    tokens: Callable[[Any], list[bytes]]
    slow: bool = False
    note: str = ""

    @property
    def version(self) -> str:
        return version_of(self.name)

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"


def _toolkit_trainer() -> Trainer:
    def train(lesson: Lesson) -> BPETokenizer:
        return BPETokenizer.train(
            lesson.documents,
            vocab_size=lesson.vocab_size,
            pattern="gpt2",
            num_threads=lesson.num_threads,
        )

    return Trainer(OURS, train, lambda trained: [a + b for a, b in trained.merges])


def _gigabpe_trainer() -> Trainer:
    gigabpe = import_module("gigabpe")

    def train(lesson: Lesson) -> Any:
        return gigabpe.train_bpe(
            [str(lesson.path)],
            lesson.vocab_size - NUM_BYTES + lesson.alphabet_size,  # it leaves the others out
            special_tokens=[],
            pretokenizer="bytelevel",
            threads=lesson.num_threads,
        )

    def tokens(trained: Any) -> list[bytes]:
        return [characters_to_bytes(left + right) for left, right in trained[1]]

    return Trainer("gigabpe", train, tokens, note="reads the file itself, line by line")


def _rustbpe_trainer() -> Trainer:
    rustbpe = import_module("rustbpe")

    def train(lesson: Lesson) -> Any:
        tokenizer = rustbpe.Tokenizer()
        tokenizer.train_from_iterator(lesson.documents, lesson.vocab_size, pattern=SPLIT)
        return tokenizer

    def tokens(trained: Any) -> list[bytes]:
        ranks = sorted(trained.get_mergeable_ranks(), key=lambda item: item[1])
        return [bytes(token) for token, _ in ranks[NUM_BYTES:]]

    return Trainer("rustbpe", train, tokens)


def _huggingface_trainer() -> Trainer:
    hf = import_module("tokenizers")

    def train(lesson: Lesson) -> Any:
        tokenizer = hf.Tokenizer(hf.models.BPE())
        tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = hf.trainers.BpeTrainer(
            vocab_size=lesson.vocab_size,
            initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(lesson.documents, trainer)
        return tokenizer

    return Trainer(
        "tokenizers",
        train,
        lambda trained: [left + right for left, right in huggingface_merges(trained)],
        slow=True,
    )


def huggingface_merges(tokenizer: Any) -> list[tuple[bytes, bytes]]:
    """The merges of a Hugging Face tokenizer, as bytes."""
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(characters_to_bytes(left), characters_to_bytes(right)) for left, right in merges]


def _bpeasy_trainer() -> Trainer:
    bpeasy = import_module("bpeasy")
    longest = 256  # it insists on a limit

    def train(lesson: Lesson) -> Any:
        return bpeasy.train_bpe(iter(lesson.documents), SPLIT, longest, lesson.vocab_size)

    def tokens(trained: Any) -> list[bytes]:
        return sorted(trained, key=trained.__getitem__)[NUM_BYTES:]

    return Trainer("bpeasy", train, tokens, slow=True, note="one thread")


def _sentencepiece_trainer() -> Trainer:
    sentencepiece = import_module("sentencepiece")

    def train(lesson: Lesson) -> Any:
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(line for text in lesson.documents for line in text.splitlines()),
            model_writer=model,
            model_type="bpe",
            vocab_size=lesson.vocab_size,
            byte_fallback=True,
            character_coverage=1.0,
            num_threads=lesson.num_threads,
            max_sentence_length=1 << 24,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        return model.getvalue()

    note = "another algorithm: merges characters, not bytes, within words"
    return Trainer("sentencepiece", train, lambda trained: [], slow=True, note=note)


_TRAINERS = {
    OURS: _toolkit_trainer,
    "gigabpe": _gigabpe_trainer,
    "rustbpe": _rustbpe_trainer,
    "tokenizers": _huggingface_trainer,
    "bpeasy": _bpeasy_trainer,
    "sentencepiece": _sentencepiece_trainer,
}


def find_trainers() -> tuple[dict[str, Trainer], dict[str, str]]:
    """The trainers that are installed, ours first, and why the others are not here."""
    return _find(_TRAINERS)


def find_trainer(name: str) -> Trainer:
    """One of them.

    Raises:
        ImportError: it is not installed.
    """
    return _TRAINERS[name]()


# -- encoding -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoder:
    """A tokenizer for cl100k_base, ready to encode. Special tokens in a text are plain text.

    Attributes:
        encode: the ids of a text, as a list.
        encode_batch: the ids of texts in NumPy arrays, on so many threads.
        count_batch: how many ids each text has; libraries that cannot count encode.
        decode_batch: the texts of lists of ids; None where there is no such method.
    """

    encode: Callable[[str], list[int]]
    encode_batch: Callable[[Sequence[str], int], TokenBatch]
    count_batch: Callable[[Sequence[str], int], Sequence[int] | npt.NDArray[np.int64]]
    decode_batch: Callable[[Sequence[Sequence[int]], int], list[str]] | None


@dataclass(frozen=True)
class Encoding:
    """A library that has cl100k_base.

    Attributes:
        name: the package.
        build: a new tokenizer, that has seen no text.
        slow: whether it is too slow to be timed often.
        note: where it differs.
    """

    name: str
    build: Callable[[], Encoder]
    slow: bool = False
    note: str = ""

    @property
    def version(self) -> str:
        return version_of(self.name)

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"


def _toolkit_encoding() -> Encoding:
    encoding = load_tiktoken_encoding(ENCODING)

    def build() -> Encoder:
        tokenizer = BPETokenizer.from_tiktoken(encoding)
        return Encoder(
            tokenizer.encode,
            lambda texts, threads: tokenizer.encode_batch(texts, num_threads=threads),
            lambda texts, threads: tokenizer.count_batch(texts, num_threads=threads),
            lambda batch, threads: tokenizer.decode_batch(batch),
        )

    return Encoding(OURS, build)


def _tiktoken_encoding() -> Encoding:
    tiktoken = import_module("tiktoken")
    known = load_tiktoken_encoding(ENCODING)

    def build() -> Encoder:
        encoding = tiktoken.Encoding(
            ENCODING,
            pat_str=known._pat_str,
            mergeable_ranks=known._mergeable_ranks,
            special_tokens=known._special_tokens,
        )

        def encode_to_numpy(text: str) -> Any:
            return encoding.encode_to_numpy(text, disallowed_special=())

        def encode_batch(texts: Sequence[str], threads: int) -> TokenBatch:
            if threads == 1:
                return TokenBatch.from_lists([encode_to_numpy(text) for text in texts])
            with ThreadPoolExecutor(threads) as pool:
                return TokenBatch.from_lists(list(pool.map(encode_to_numpy, texts)))

        return Encoder(
            encoding.encode_ordinary,
            encode_batch,
            lambda texts, threads: _lengths(
                encoding.encode_ordinary_batch(texts, num_threads=threads)
            ),
            lambda batch, threads: encoding.decode_batch(batch, num_threads=threads),
        )

    return Encoding("tiktoken", build)


def _huggingface_encoding() -> Encoding:
    hf = import_module("tokenizers")
    # Without the special tokens, which it would find in every text.
    plain = BPETokenizer.from_tiktoken(load_tiktoken_encoding(ENCODING), special_tokens={})
    description = json.dumps(plain.to_huggingface())

    def build() -> Encoder:
        tokenizer = hf.Tokenizer.from_str(description)

        def encode_lists(texts: Sequence[str], threads: int) -> list[list[int]]:
            with _huggingface_threads(threads):
                return [encoded.ids for encoded in tokenizer.encode_batch_fast(texts)]

        def decode_batch(batch: Sequence[Sequence[int]], threads: int) -> list[str]:
            with _huggingface_threads(threads):
                decoded: list[str] = tokenizer.decode_batch(batch)
                return decoded

        return Encoder(
            lambda text: tokenizer.encode(text).ids,
            lambda texts, threads: TokenBatch.from_lists(encode_lists(texts, threads)),
            lambda texts, threads: _lengths(encode_lists(texts, threads)),
            decode_batch,
        )

    note = "opens the tokenizer.json of the toolkit's to_huggingface"
    return Encoding("tokenizers", build, slow=True, note=note)


@contextmanager
def _huggingface_threads(num_threads: int) -> Iterator[None]:
    """It knows one thread, or all that RAYON_NUM_THREADS allows; it looks at every call."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false" if num_threads == 1 else "true"
    try:
        yield
    finally:
        del os.environ["TOKENIZERS_PARALLELISM"]


def _bpe_openai_encoding() -> Encoding:
    bpe_openai = import_module("bpe_openai")

    def build() -> Encoder:
        encoding = bpe_openai.get_encoding(ENCODING)

        def encode_lists(texts: Sequence[str], threads: int) -> list[list[int]]:
            if threads == 1:
                return [encoding.encode_ordinary(text) for text in texts]
            lists: list[list[int]] = encoding.encode_ordinary_batch(texts, num_threads=threads)
            return lists

        return Encoder(
            encoding.encode_ordinary,
            lambda texts, threads: TokenBatch.from_lists(encode_lists(texts, threads)),
            lambda texts, threads: _lengths(encode_lists(texts, threads)),
            lambda batch, threads: encoding.decode_batch(batch, num_threads=threads),
        )

    return Encoding("bpe-openai", build)


def _splintr_encoding() -> Encoding:
    splintr = import_module("splintr")

    def build() -> Encoder:
        tokenizer = splintr.Tokenizer.from_pretrained(ENCODING)

        def encode_batch(texts: Sequence[str], threads: int) -> TokenBatch:
            if threads == 1:
                return TokenBatch.from_lists([tokenizer.encode_ordinary(text) for text in texts])
            ids, offsets = tokenizer.encode_batch_flat(texts)
            return TokenBatch(
                np.frombuffer(ids, dtype=np.uint32), np.frombuffer(offsets, dtype=np.int64)
            )

        return Encoder(
            tokenizer.encode_ordinary,
            encode_batch,
            lambda texts, threads: np.diff(encode_batch(texts, threads).offsets),
            lambda batch, threads: tokenizer.decode_batch(batch),
        )

    return Encoding("splintr-rs", build)


def _quicktok_encoding() -> Encoding:
    quicktok = import_module("quicktok")

    def build() -> Encoder:
        quicktok._CACHE.clear()  # it keeps what it has built
        tokenizer = quicktok.get_encoding(ENCODING)
        return Encoder(
            tokenizer.encode_ordinary,
            lambda texts, threads: TokenBatch(*tokenizer.encode_batch(texts, threads)),
            lambda texts, threads: quicktok.count_batch(tokenizer, texts, threads),
            lambda batch, threads: tokenizer.decode_batch(batch),
        )

    return Encoding("quicktok-v1", build)


def _toktok_encoding() -> Encoding:
    toktok = import_module("toktok")

    def build() -> Encoder:
        toktok._CACHE.clear()  # it keeps what it has built
        tokenizer = toktok._encoding(ENCODING)
        return Encoder(
            tokenizer.encode_ordinary,
            lambda texts, threads: TokenBatch(*tokenizer.encode_batch_to_numpy(texts, threads)),
            lambda texts, threads: tokenizer.count_batch(texts, threads),
            lambda batch, threads: tokenizer.decode_batch(batch),
        )

    return Encoding("toktok-rs", build)


def _lengths(lists: Sequence[Sequence[int]]) -> list[int]:
    return [len(ids) for ids in lists]


_ENCODINGS = {
    OURS: _toolkit_encoding,
    "tiktoken": _tiktoken_encoding,
    "toktok-rs": _toktok_encoding,
    "quicktok-v1": _quicktok_encoding,
    "splintr-rs": _splintr_encoding,
    "bpe-openai": _bpe_openai_encoding,
    "tokenizers": _huggingface_encoding,
}


def find_encodings() -> tuple[dict[str, Encoding], dict[str, str]]:
    """The libraries with cl100k_base that are installed, and why the others are not here."""
    found, skipped = _find(_ENCODINGS)
    for name, encoding in list(found.items()):
        try:
            encoding.build().encode("Is it there?")
        except Exception as error:
            skipped[name] = one_line(error)
            del found[name]
    return found, skipped


Found = TypeVar("Found")


def _find(makers: Mapping[str, Callable[[], Found]]) -> tuple[dict[str, Found], dict[str, str]]:
    found: dict[str, Found] = {}
    skipped: dict[str, str] = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except ImportError:
            skipped[name] = "not installed"
        except Exception as error:
            skipped[name] = one_line(error)
    return found, skipped
