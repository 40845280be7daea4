"""Encoding a corpus into token files in bounded memory, so that a killed build can go on.

Work happens in `.<folder>.part` beside the target. Each finished shard is recorded there, with the
corpus, tokenizer and split that it belongs to; the next build of the same skips the documents that
the recorded shards hold. The finished folder takes its place in one step. The caller holds the
lock that keeps other builders away.

A document is encoded as a whole, because cutting it could change its tokens: memory holds the
longest document, or a few million characters where documents are short.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.corpora import Corpus
from toolkit.errors import RunError, UsageError
from toolkit.files import replace_folder, write_bytes, write_json
from toolkit.tokenizers import Tokenizer
from toolkit.tokenizers.special import END_OF_TEXT

FORMAT = 1
INDEX_FILE = "index.json"
PROGRESS_FILE = "progress.json"
SPLITS = ("train", "val")
# Enough text at once for every core to have work; nothing beside a model's memory.
BATCH_CHARS = 4_000_000

OnProgress = Callable[[int, int | None], None]


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


@dataclass
class PartProgress:
    """What the finished shards of one part hold.

    Attributes:
        documents: how many documents are in them to the end.
        num_bytes: of those documents.
        skip: how many ids of the next document are in them too.
    """

    shards: list[Shard] = field(default_factory=list)
    documents: int = 0
    num_bytes: int = 0
    skip: int = 0
    complete: bool = False


def id_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest dtype of token files that holds every id.

    >>> id_dtype(65536).itemsize, id_dtype(65537).itemsize
    (2, 4)
    """
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


def build_token_files(
    corpus: Corpus,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    held_out: float,
    shard_tokens: int,
    report: OnProgress,
) -> None:
    """Encode `corpus` and put the finished files at `folder`, replacing what is there.

    Raises:
        UsageError: text without tokens, or a tokenizer whose ids do not fit its vocab_size.
        RunError: the files cannot be written. Finished shards are kept for the next attempt.
    """
    if shard_tokens < 1:
        raise UsageError(f"shard_tokens {shard_tokens} must be at least 1")
    parts = dict(zip(SPLITS, corpus.split(held_out), strict=True))
    work = folder.with_name(f".{folder.name}.part")
    try:
        builder = _Builder(corpus, tokenizer, work, held_out, shard_tokens, report)
        for name, part in parts.items():
            builder.encode(name, part)
        builder.finish(folder)
    except OSError as error:
        raise RunError(
            f"Could not write token files to {folder}: {error.strerror or error}. What was "
            "finished is kept; run again to go on."
        ) from error
    except UsageError:
        # The next attempt would meet the same text: nothing here is worth keeping.
        shutil.rmtree(work, ignore_errors=True)
        raise


class _Builder:
    def __init__(
        self,
        corpus: Corpus,
        tokenizer: Tokenizer,
        work: Path,
        held_out: float,
        shard_tokens: int,
        report: OnProgress,
    ) -> None:
        self._corpus = corpus
        self._tokenizer = tokenizer
        self._work = work
        self._shard_tokens = shard_tokens
        self._report = report
        self._kind = id_dtype(tokenizer.vocab_size)
        self._end = tokenizer.special_tokens.get(END_OF_TEXT)
        # Shards of an earlier build are taken over only if all of this is the same.
        self._identity: dict[str, Any] = {
            "format": FORMAT,
            "dtype": self._kind.str,
            "vocab_size": tokenizer.vocab_size,
            "corpus": {"name": corpus.name, "sha256": corpus.sha256},
            "tokenizer": tokenizer.fingerprint(),
            "held_out": held_out,
        }
        self._done = self._read_progress()

    def _read_progress(self) -> dict[str, PartProgress]:
        fresh = {name: PartProgress() for name in SPLITS}
        try:
            record = json.loads((self._work / PROGRESS_FILE).read_bytes())
            done = {name: _read_part(record["parts"][name]) for name in SPLITS}
            usable = record["identity"] == self._identity
        except (OSError, ValueError, KeyError, TypeError):
            usable = False
        if not usable or not all(self._is_whole(s) for p in done.values() for s in p.shards):
            shutil.rmtree(self._work, ignore_errors=True)
            done = fresh
        self._work.mkdir(parents=True, exist_ok=True)
        return done

    def _is_whole(self, shard: Shard) -> bool:
        path = self._work / shard.name
        return path.is_file() and path.stat().st_size == shard.num_tokens * self._kind.itemsize

    def _record(self) -> None:
        parts = {name: asdict(part) for name, part in self._done.items()}
        write_json(self._work / PROGRESS_FILE, {"identity": self._identity, "parts": parts})

    def encode(self, name: str, part: Corpus) -> None:
        """Write the shards of one part that are not there yet."""
        done = self._done[name]
        if done.complete:
            return
        waiting: list[npt.NDArray[Any]] = []
        num_waiting = 0
        number, num_bytes, skip = done.documents, done.num_bytes, done.skip
        for texts in _batches(islice(iter(part), number, None)):
            ids, ends = self._ids_of(texts, number)
            sizes = np.cumsum([_num_bytes(text) for text in texts])
            begin = skip  # what a recorded shard holds of the first document
            skip = 0
            while num_waiting + len(ids) - begin >= self._shard_tokens:
                cut = begin + self._shard_tokens - num_waiting
                self._write(name, np.concatenate([*waiting, ids[begin:cut]]))
                waiting, num_waiting, begin = [], 0, cut
                whole = int(np.searchsorted(ends, cut, side="right"))
                done.documents = number + whole
                done.num_bytes = num_bytes + (int(sizes[whole - 1]) if whole else 0)
                done.skip = cut - (int(ends[whole - 1]) if whole else 0)
                self._record()
            waiting.append(ids[begin:])
            num_waiting += len(ids) - begin
            number += len(texts)
            num_bytes += int(sizes[-1])
            before = sum(part.num_bytes for key, part in self._done.items() if key != name)
            self._report(before + num_bytes, self._corpus.num_bytes)
        if num_waiting:
            self._write(name, np.concatenate(waiting))
        done.documents, done.num_bytes, done.skip, done.complete = number, num_bytes, 0, True
        self._record()

    def _ids_of(
        self, texts: Sequence[str], number: int
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """The ids of some documents, the first of them document `number` of its part, and where
        those of each end. An end-of-text token stands between each two documents."""
        batch = self._tokenizer.encode_batch(texts)
        ids, ends = batch.ids, batch.offsets[1:]
        if len(ids) and int(ids.max()) >= self._tokenizer.vocab_size:
            raise UsageError(
                f"The tokenizer '{self._tokenizer.name}' gave the id {int(ids.max())}; with "
                f"vocab_size {self._tokenizer.vocab_size} ids must be below it."
            )
        if self._end is None:
            return ids, ends
        first = 0 if number else 1  # nothing stands before the very first document
        ids = np.insert(ids, batch.offsets[first:-1], self._end)
        return ids, ends + np.arange(1 - first, len(texts) + 1 - first)

    def _write(self, name: str, ids: npt.NDArray[Any]) -> None:
        shards = self._done[name].shards
        data = np.ascontiguousarray(ids, self._kind).data.cast("B")
        shard = Shard(f"{name}-{len(shards):05d}.bin", len(ids), zlib.crc32(data))
        write_bytes(self._work / shard.name, data)
        shards.append(shard)

    def finish(self, folder: Path) -> None:
        """Write the index and put everything in its place in one step."""
        splits = {
            name: asdict(Split(tuple(part.shards), part.num_bytes))
            for name, part in self._done.items()
        }
        with replace_folder(folder) as finished:
            for part in self._done.values():
                for shard in part.shards:
                    (self._work / shard.name).rename(finished / shard.name)
            write_json(finished / INDEX_FILE, {**self._identity, "splits": splits})
        shutil.rmtree(self._work, ignore_errors=True)


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    """Documents in groups of at most BATCH_CHARS characters; a longer one is a group alone."""
    group: list[str] = []
    chars = 0
    for document in documents:
        if group and chars + len(document) > BATCH_CHARS:
            yield group
            group, chars = [], 0
        group.append(document)
        chars += len(document)
    if group:
        yield group


def _num_bytes(text: str) -> int:
    """The length of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8"))


def _read_part(value: Any) -> PartProgress:
    return PartProgress(
        [Shard(**shard) for shard in value["shards"]],
        int(value["documents"]),
        int(value["num_bytes"]),
        int(value["skip"]),
        bool(value["complete"]),
    )
