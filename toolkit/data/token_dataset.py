"""Token files: a corpus as ids on disk, memory-mapped, made once and used by every run.

    <folder>/index.json      what it was made from, and its shards with their sizes and checksums
    <folder>/train-00000.bin, val-00000.bin …   ids, little-endian uint16 (or uint32 if needed)

The folder's name in the cache comes from the corpus's hash, the tokenizer's fingerprint and the
split, so that it can never belong to another. It is made beside its place and renamed; a build
that was killed goes on after its last finished shard. A document is encoded as a whole: memory
holds one at a time, and one shard.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.corpora import Corpus
from toolkit.errors import RunError, UsageError
from toolkit.files import sync_folder, write_bytes, write_json
from toolkit.tokenizers import Tokenizer

FORMAT = 1
INDEX_FILE = "index.json"
PROGRESS_FILE = "progress.json"
SPLITS = ("train", "val")
SHARD_TOKENS = 1 << 24
END_OF_TEXT = "<|endoftext|>"

OnProgress = Callable[[int, int | None], None]
TokenArray = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Shard:
    """One file of ids.

    Attributes:
        name: of the file.
        num_tokens: how many ids.
        crc32: of its bytes.
    """

    name: str
    num_tokens: int
    crc32: int


@dataclass(frozen=True)
class Split:
    """The shards of one part of the corpus, and how much text they hold."""

    shards: tuple[Shard, ...]
    num_bytes: int

    @property
    def num_tokens(self) -> int:
        return sum(shard.num_tokens for shard in self.shards)


class TokenDataset:
    """The ids of a corpus, in a part to train on and a part to validate on.

    Attributes:
        vocab_size: of the tokenizer.
        folder: where the files are; None for a dataset in memory.
    """

    def __init__(
        self,
        vocab_size: int,
        parts: dict[str, list[TokenArray]],
        num_bytes: dict[str, int],
        folder: Path | None = None,
    ) -> None:
        self.vocab_size = vocab_size
        self.folder = folder
        self._parts = parts
        self._num_bytes = num_bytes

    def shards(self, split: str) -> list[TokenArray]:
        """The arrays of a part, memory-mapped where they are files."""
        return self._parts[split]

    def num_tokens(self, split: str) -> int:
        """How many ids a part has."""
        return sum(len(shard) for shard in self._parts[split])

    def num_bytes(self, split: str) -> int:
        """How many bytes of UTF-8 the ids of a part stand for."""
        return self._num_bytes[split]

    def tokens(self, split: str) -> TokenArray:
        """A part as one array: the file itself where there is one shard, else a copy of all."""
        shards = self._parts[split]
        if len(shards) == 1:
            return shards[0]
        return np.concatenate(shards) if shards else np.zeros(0, np.uint16)

    @classmethod
    def from_ids(
        cls,
        train: npt.ArrayLike,
        val: npt.ArrayLike,
        vocab_size: int,
        num_bytes: dict[str, int] | None = None,
    ) -> TokenDataset:
        """A dataset in memory. Without `num_bytes`, one byte a token is assumed."""
        parts = {"train": np.asarray(train), "val": np.asarray(val)}
        for name, ids in parts.items():
            if ids.size and not (0 <= int(ids.min()) and int(ids.max()) < vocab_size):
                raise UsageError(f"The {name} ids are not all in 0 … {vocab_size - 1}.")
        kind = _dtype(vocab_size)
        sizes = num_bytes or {name: ids.size for name, ids in parts.items()}
        return cls(vocab_size, {n: [ids.astype(kind)] for n, ids in parts.items()}, sizes)

    @classmethod
    def open(cls, folder: str | Path) -> TokenDataset:
        """Open a folder that `build` made.

        Raises:
            RunError: no index, a newer format, or shards that are missing or not what they were.
        """
        folder = Path(folder)
        path = folder / INDEX_FILE
        try:
            index = json.loads(path.read_bytes())
            version = index["format"]
            if version > FORMAT:
                raise RunError(f"{path} has format {version}; this toolkit reads up to {FORMAT}.")
            kind = np.dtype(index["dtype"])
            splits = {name: _read_split(index["splits"][name]) for name in SPLITS}
            vocab_size = int(index["vocab_size"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is no index of token files: {error}.") from error
        parts: dict[str, list[TokenArray]] = {}
        for name, split in splits.items():
            parts[name] = [_map_shard(folder, shard, kind) for shard in split.shards]
        sizes = {name: split.num_bytes for name, split in splits.items()}
        return cls(vocab_size, parts, sizes, folder)

    @classmethod
    def cached(
        cls,
        corpus: Corpus,
        tokenizer: Tokenizer,
        root: str | Path,
        *,
        held_out: float = 0.1,
        on_progress: OnProgress | None = None,
    ) -> TokenDataset:
        """Open the token files of this corpus and tokenizer under `root`, or build them there.

        Files that are damaged are built again.
        """
        key = f"{corpus.sha256}/{tokenizer.fingerprint()}/{held_out}/{FORMAT}"
        folder = Path(root) / hashlib.sha256(key.encode()).hexdigest()[:32]
        try:
            return cls.open(folder)
        except RunError:
            if folder.exists():
                shutil.rmtree(folder, ignore_errors=True)
        return cls.build(corpus, tokenizer, folder, held_out=held_out, on_progress=on_progress)

    @classmethod
    def build(
        cls,
        corpus: Corpus,
        tokenizer: Tokenizer,
        folder: str | Path,
        *,
        held_out: float = 0.1,
        shard_tokens: int = SHARD_TOKENS,
        on_progress: OnProgress | None = None,
    ) -> TokenDataset:
        """Encode a corpus into `folder`; a build that was cut short goes on where it was.

        Args:
            held_out: the share of the text, at its end, to validate on.
            shard_tokens: ids in a file before the next one begins.
            on_progress: told how many bytes of text are done, and how many there are.

        Raises:
            VocabularyError: text that the tokenizer has no token for.
            ToolkitError: files that cannot be written.
        """
        folder = Path(folder)
        work = folder.with_name(f".{folder.name}.part")
        work.mkdir(parents=True, exist_ok=True)
        with _only_builder(work):
            if (folder / INDEX_FILE).exists():
                return cls.open(folder)  # another process was faster
            done = _read_progress(work)
            report = on_progress or (lambda done, total: None)
            parts = dict(zip(SPLITS, corpus.split(held_out), strict=True))
            kind = _dtype(tokenizer.vocab_size)
            splits: dict[str, Split] = {}
            before = 0
            for name, part in parts.items():
                if name in done:
                    splits[name] = done[name]
                else:
                    shift = before
                    splits[name] = _encode_part(
                        name,
                        part,
                        tokenizer,
                        work,
                        kind,
                        shard_tokens,
                        lambda size, shift=shift: report(shift + size, corpus.num_bytes),
                    )
                    done[name] = splits[name]
                    write_json(work / PROGRESS_FILE, {n: asdict(s) for n, s in done.items()})
                before += splits[name].num_bytes
            index = {
                "format": FORMAT,
                "dtype": kind.str,
                "vocab_size": tokenizer.vocab_size,
                "corpus": {"name": corpus.name, "sha256": corpus.sha256},
                "tokenizer": tokenizer.fingerprint(),
                "held_out": held_out,
                "splits": {name: asdict(split) for name, split in splits.items()},
            }
            write_json(work / INDEX_FILE, index)
            (work / PROGRESS_FILE).unlink(missing_ok=True)
            (work / _LOCK_FILE).unlink(missing_ok=True)
            work.rename(folder)
            sync_folder(folder.parent)
        return cls.open(folder)


def bits_per_byte(loss: float, num_tokens: int, num_bytes: int) -> float:
    """A loss in nats per token as bits per byte of text: comparable between tokenizers.

    >>> round(bits_per_byte(2.0794415, num_tokens=100, num_bytes=300), 3)
    1.0
    """
    return loss / float(np.log(2)) * num_tokens / num_bytes if num_bytes else float("nan")


_LOCK_FILE = "lock"


class _only_builder:  # noqa: N801  # used like a function
    """Hold a lock while building, where the OS has one; two builders then take turns."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _LOCK_FILE

    def __enter__(self) -> None:
        self._file = self._path.open("a")
        if os.name != "nt":
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_EX)
            # The one who was faster renamed the folder away: this lock guards nothing now.
            self._path.parent.mkdir(parents=True, exist_ok=True)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _encode_part(
    name: str,
    part: Corpus,
    tokenizer: Tokenizer,
    folder: Path,
    kind: np.dtype[Any],
    shard_tokens: int,
    report: Callable[[int], None],
) -> Split:
    shards: list[Shard] = []
    num_bytes = 0
    waiting: list[npt.NDArray[Any]] = []
    num_waiting = 0

    def write(ids: npt.NDArray[Any]) -> None:
        data = ids.astype(kind).tobytes()
        shard = Shard(f"{name}-{len(shards):05d}.bin", len(ids), zlib.crc32(data))
        write_bytes(folder / shard.name, data)
        shards.append(shard)

    for ids, size in _encoded_documents(part, tokenizer):
        waiting.append(ids)
        num_waiting += len(ids)
        num_bytes += size
        report(num_bytes)
        while num_waiting >= shard_tokens:
            joined = np.concatenate(waiting)
            write(joined[:shard_tokens])
            waiting = [joined[shard_tokens:]]
            num_waiting -= shard_tokens
    if num_waiting:
        write(np.concatenate(waiting))
    return Split(tuple(shards), num_bytes)


def _encoded_documents(
    part: Corpus, tokenizer: Tokenizer
) -> Iterator[tuple[npt.NDArray[Any], int]]:
    """The ids of each document and its size in bytes; an end-of-text token between documents."""
    end = tokenizer.special_tokens.get(END_OF_TEXT)
    for number, text in enumerate(part):
        batch = tokenizer.encode_batch([text])
        ids = batch[0]
        if number and end is not None:
            ids = np.concatenate([np.array([end], ids.dtype), ids])
        yield ids, len(text.encode("utf-8", errors="surrogatepass"))


def _dtype(vocab_size: int) -> np.dtype[Any]:
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


def _read_split(value: dict[str, Any]) -> Split:
    return Split(tuple(Shard(**shard) for shard in value["shards"]), int(value["num_bytes"]))


def _read_progress(folder: Path) -> dict[str, Split]:
    try:
        value = json.loads((folder / PROGRESS_FILE).read_bytes())
        return {name: _read_split(split) for name, split in value.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _map_shard(folder: Path, shard: Shard, kind: np.dtype[Any]) -> TokenArray:
    path = folder / shard.name
    try:
        size = path.stat().st_size
    except OSError as error:
        raise RunError(f"The token file {path} is missing: {error.strerror}.") from error
    if size != shard.num_tokens * kind.itemsize:
        raise RunError(f"The token file {path} has {size} bytes, not what its index says.")
    array = np.memmap(path, dtype=kind, mode="r")
    if zlib.crc32(array) != shard.crc32:  # type: ignore[arg-type]  # any contiguous buffer will do
        raise RunError(f"The token file {path} is damaged: its checksum is wrong.")
    return array
