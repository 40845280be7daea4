"""The index of a folder of token files: what is in them, and how to tell that they are whole.

    <folder>/index.json
    <folder>/train-00000.bin, train-00001.bin, …, val-00000.bin, …

A `.bin` file is nothing but ids, little-endian, two bytes each (`uint16`) where the vocabulary
fits into them and four (`uint32`) where it does not. Read one with `np.fromfile(path, "<u2")`.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.errors import RunError

FORMAT_VERSION = 1
INDEX_FILE = "index.json"
SPLITS = ("train", "val")
_DTYPES = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
_CRC_CHUNK = 1 << 24


@dataclass(frozen=True)
class ShardInfo:
    """One `.bin` file: its name, how many ids it holds, and the CRC-32 of its bytes."""

    file: str
    num_tokens: int
    crc32: int


@dataclass(frozen=True)
class SplitInfo:
    """One split: its shards in order, and how much text they stand for.

    Attributes:
        num_bytes: of the text in UTF-8; None for ids that came without a text.
        num_chars: of the text; None likewise.
    """

    shards: tuple[ShardInfo, ...]
    num_tokens: int
    num_bytes: int | None
    num_chars: int | None


@dataclass(frozen=True)
class DatasetIndex:
    """The content of index.json.

    Attributes:
        dtype: "uint16" or "uint32".
        vocab_size: ids are below it.
        corpus_sha256: of the corpus that was encoded.
        tokenizer_fingerprint: of the tokenizer that encoded it.
        held_out: the share of the text in the split "val".
        splits: "train" and "val".
    """

    dtype: str
    vocab_size: int
    corpus_sha256: str
    tokenizer_fingerprint: str
    held_out: float
    splits: Mapping[str, SplitInfo]

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        return _DTYPES[self.dtype]

    def to_json(self) -> dict[str, Any]:
        """As index.json holds it, with the format's version first."""
        return {"format": FORMAT_VERSION, **dataclasses.asdict(self)}


def dtype_for(vocab_size: int) -> str:
    """The smallest dtype that holds every id.

    >>> dtype_for(65536), dtype_for(65537)
    ('uint16', 'uint32')
    """
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def read_index(folder: Path) -> DatasetIndex:
    """Read and check `folder/index.json`; the shards are not looked at.

    Raises:
        RunError: missing, not JSON, of a newer format, or with fields that are wrong.
    """
    path = folder / INDEX_FILE
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"No token files in {folder}: {INDEX_FILE} is missing.") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}. Delete {folder} to rebuild it.") from error
    version = value.get("format") if isinstance(value, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise RunError(
            f"{path} has format {version}, written by a newer toolkit; this one reads up to "
            f"{FORMAT_VERSION}. Upgrade toolkit, or delete {folder} to rebuild it."
        )
    try:
        return _parse(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{path} is damaged ({type(error).__name__}: {error}). Delete {folder} to rebuild it."
        ) from error


def check_shards(folder: Path, index: DatasetIndex, *, checksums: bool) -> None:
    """Check that every shard is there and whole.

    Raises:
        RunError: one is missing, has another length, or (with `checksums`) other bytes.
    """
    for split in index.splits.values():
        for shard in split.shards:
            path = folder / shard.file
            expected = shard.num_tokens * index.numpy_dtype.itemsize
            size = path.stat().st_size if path.is_file() else None
            if size is None:
                raise RunError(f"{path} is missing. Delete {folder} to rebuild it.")
            if size != expected:
                raise RunError(
                    f"{path} has {size} bytes, expected {expected}. "
                    f"Delete {folder} to rebuild it."
                )
            if checksums and crc32_of(path) != shard.crc32:
                raise RunError(
                    f"{path} is damaged: its checksum differs from {INDEX_FILE}. "
                    f"Delete {folder} to rebuild it."
                )


def crc32_of(path: Path) -> int:
    """The CRC-32 of a file's bytes, in bounded memory."""
    checksum = 0
    with path.open("rb") as handle:
        while chunk := handle.read(_CRC_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def parse_shard(value: Any) -> ShardInfo:
    """The inverse of `dataclasses.asdict(shard)`.

    Raises:
        KeyError, TypeError, ValueError: other fields or types, or a name that leaves the folder.
    """
    name = str(value["file"])
    if Path(name).name != name:
        raise ValueError(f"'{name}' is not the name of a shard")
    return ShardInfo(name, int(value["num_tokens"]), int(value["crc32"]))


def _parse(value: Any) -> DatasetIndex:
    splits = {}
    for name in SPLITS:
        split = value["splits"][name]
        shards = tuple(parse_shard(shard) for shard in split["shards"])
        num_tokens = sum(shard.num_tokens for shard in shards)
        if num_tokens != split["num_tokens"]:
            raise ValueError(f"the shards of '{name}' hold {num_tokens} tokens")
        splits[name] = SplitInfo(shards, num_tokens, split["num_bytes"], split["num_chars"])
    if value["dtype"] not in _DTYPES:
        raise ValueError(f"dtype {value['dtype']!r}")
    return DatasetIndex(
        dtype=value["dtype"],
        vocab_size=int(value["vocab_size"]),
        corpus_sha256=str(value["corpus_sha256"]),
        tokenizer_fingerprint=str(value["tokenizer_fingerprint"]),
        held_out=float(value["held_out"]),
        splits=splits,
    )
