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
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from toolkit.corpora import Corpus
from toolkit.data.building import (
    FORMAT,
    INDEX_FILE,
    SPLITS,
    OnProgress,
    Shard,
    Split,
    build_token_files,
    id_dtype,
)
from toolkit.data.locking import exclusive_lock
from toolkit.errors import RunError, UnknownNameError, UsageError
from toolkit.files import recover_folder
from toolkit.tokenizers import Tokenizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from toolkit.data.loader import BatchLoader

SHARD_TOKENS = 1 << 24

TokenArray = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


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
        """The arrays of a part ("train" or "val"), memory-mapped where they are files.

        Raises:
            UnknownNameError: there is no such part.
        """
        if split not in self._parts:
            raise UnknownNameError("split", split, self._parts)
        return self._parts[split]

    def num_tokens(self, split: str) -> int:
        """How many ids a part has."""
        return sum(len(shard) for shard in self.shards(split))

    def num_bytes(self, split: str) -> int:
        """How many bytes of UTF-8 the ids of a part stand for."""
        self.shards(split)
        return self._num_bytes[split]

    def read(self, split: str, start: int, stop: int) -> TokenArray:
        """The ids `start … stop - 1` of a part, as far as there are so many."""
        pieces: list[npt.NDArray[Any]] = []
        first = 0  # of the shard's ids
        for shard in self.shards(split):
            if first < stop and start < first + len(shard):
                pieces.append(shard[max(start - first, 0) : stop - first])
            first += len(shard)
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces or [np.zeros(0, np.uint16)])

    def loader(
        self,
        *,
        batch_size: int,
        block_size: int,
        seed: int,
        device: str | torch.device = "cpu",
        rows: slice = slice(None),
    ) -> BatchLoader:
        """Random windows to train on; see `BatchLoader`."""
        from toolkit.data.loader import BatchLoader

        return BatchLoader(
            self,
            batch_size=batch_size,
            block_size=block_size,
            seed=seed,
            device=device,
            rows=rows,
        )

    def evaluation_batches(
        self,
        *,
        batch_size: int,
        block_size: int,
        device: str | torch.device = "cpu",
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[Tensor, ...]]:
        """Every token of the held-out part once; see `evaluation_batches`."""
        from toolkit.data.loader import evaluation_batches

        return evaluation_batches(
            self, batch_size=batch_size, block_size=block_size, device=device, part=part
        )

    def tokens(self, split: str) -> TokenArray:
        """A part as one array: the file itself where there is one shard, else a copy of all."""
        return self.read(split, 0, self.num_tokens(split))

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
            if ids.size and (ids.ndim != 1 or ids.dtype.kind not in "iu"):
                raise UsageError(
                    f"The {name} ids must be one row of whole numbers, not {ids.dtype} of shape "
                    f"{ids.shape}."
                )
            if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= vocab_size):
                raise UsageError(f"The {name} ids are not all in 0 … {vocab_size - 1}.")
        kind = id_dtype(vocab_size)
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
            vocab_size = int(index["vocab_size"])
            kind = id_dtype(vocab_size)
            if index["dtype"] != kind.str:
                raise ValueError(f"dtype {index['dtype']!r} for {vocab_size} tokens")
            splits = {name: _read_split(index["splits"][name]) for name in SPLITS}
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

        Files that are damaged are built again. Of several processes that ask at once, one builds
        and the others wait for it.

        Raises:
            UsageError, RunError: as for `build`.
        """
        key = f"{corpus.sha256}/{tokenizer.fingerprint()}/{held_out}/{FORMAT}"
        folder = Path(root) / hashlib.sha256(key.encode()).hexdigest()[:32]
        try:
            return cls.open(folder)
        except RunError:
            pass
        with exclusive_lock(_lock_path(folder)):
            recover_folder(folder)
            try:
                return cls.open(folder)  # another process built it while this one waited
            except RunError:
                pass
            report = on_progress or (lambda done, total: None)
            build_token_files(
                corpus,
                tokenizer,
                folder,
                held_out=held_out,
                shard_tokens=SHARD_TOKENS,
                report=report,
            )
            return cls.open(folder)

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

        Token files that are there already are replaced once the new ones are finished.

        Args:
            held_out: the share of the text, at its end, to validate on.
            shard_tokens: ids in a file before the next one begins.
            on_progress: told how many bytes of text are done, and how many there are.

        Raises:
            UsageError: text that the tokenizer has no token for, a wrong option, or a `folder`
                that holds something else than token files.
            RunError: files that cannot be written.
        """
        folder = Path(folder)
        if folder.is_dir() and any(folder.iterdir()) and not (folder / INDEX_FILE).exists():
            raise UsageError(
                f"{folder} is not empty and holds no token files ({INDEX_FILE} is missing). "
                "Choose another folder."
            )
        with exclusive_lock(_lock_path(folder)):
            build_token_files(
                corpus,
                tokenizer,
                folder,
                held_out=held_out,
                shard_tokens=shard_tokens,
                report=on_progress or (lambda done, total: None),
            )
            return cls.open(folder)


def bits_per_byte(loss: float, num_tokens: int, num_bytes: int) -> float:
    """A loss in nats per token as bits per byte of text: comparable between tokenizers.

    >>> round(bits_per_byte(2.0794415, num_tokens=100, num_bytes=300), 3)
    1.0
    """
    return loss / float(np.log(2)) * num_tokens / num_bytes if num_bytes else float("nan")


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _read_split(value: Mapping[str, Any]) -> Split:
    shards = tuple(Shard(**shard) for shard in value["shards"])
    for shard in shards:
        if Path(shard.name).name != shard.name:
            raise ValueError(f"'{shard.name}' is no name of a shard")
    return Split(shards, int(value["num_bytes"]))


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
