"""Pairs from a file: tab-separated lines, or JSON lines with a source and a target.

A source is on one side only, to train on or held out, whatever its targets are. The same pair twice
counts once. Left out: columns with names, and quoted tabs; a text with a tab or a line break needs
JSON lines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.errors import UsageError
from toolkit.tasks.base import Pair, PairTask, check_share, is_held_out

SUFFIXES = (".tsv", ".jsonl")


class FileTask(PairTask):
    """The pairs of a file, in another order in every epoch.

    Attributes:
        training: the pairs to train on, in the file's order.
    """

    is_prose = True

    def __init__(self, path: str | Path, *, held_out: float = 0.1) -> None:
        """Read a file.

        Raises:
            UsageError: a file that cannot be read, a line that is no pair, or too few pairs.
        """
        check_share(held_out)
        path = Path(path)
        self.name, self.spec = path.stem, str(path)
        self._share = held_out
        pairs = list(dict.fromkeys(read_pairs(path)))
        self._all = pairs
        self.training = [pair for pair in pairs if not is_held_out(pair.source, held_out)]
        self._held_out = [pair for pair in pairs if is_held_out(pair.source, held_out)]
        self._check()
        self._epoch: tuple[tuple[int, int], npt.NDArray[np.int64]] | None = None

    def keep(self, fits: Callable[[Sequence[Pair]], Sequence[bool]]) -> int:
        """Leave out the pairs that do not fit; returns how many.

        Raises:
            UsageError: none is left to train on, or none to measure on.
        """
        before = len(self.training) + len(self.held_out)
        self.training = _chosen(self.training, fits)
        self._held_out = _chosen(self._held_out, fits)
        self._check()
        self._epoch = None
        return before - len(self.training) - len(self.held_out)

    @property
    def held_out(self) -> Sequence[Pair]:
        return self._held_out

    def pool(self, number: int, size: int, seed: int) -> list[Pair]:
        return [self._at(place, seed) for place in range(number * size, (number + 1) * size)]

    def examples(self) -> list[Pair]:
        return self.training

    def target_of(self, source: str) -> str | None:
        """The first that the file has for it."""
        return next((pair.target for pair in self._all if pair.source == source), None)

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for pair in self._all:
            digest.update(json.dumps(pair).encode("ascii") + b"\n")
        return digest.hexdigest()

    @property
    def summary(self) -> str:
        return f"{self.name}, {len(self.training):,} to train on, {len(self.held_out):,} held out"

    def _at(self, place: int, seed: int) -> Pair:
        """The pair at a place of the endless row: one epoch after the other."""
        epoch, within = divmod(place, len(self.training))
        if self._epoch is None or self._epoch[0] != (seed, epoch):
            generator = np.random.Generator(np.random.PCG64([seed, epoch]))
            self._epoch = ((seed, epoch), generator.permutation(len(self.training)))
        return self.training[int(self._epoch[1][within])]

    def _check(self) -> None:
        if not self.training or not self.held_out:
            raise UsageError(
                f"{self.spec} leaves {len(self.training)} pairs to train on and "
                f"{len(self.held_out)} to measure on; it takes at least one of each. Give more "
                "pairs, another --held-out, or a longer --block-size."
            )


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a `.tsv` file (source, tab, target) or a `.jsonl` file (objects with the fields
    `source` and `target`), in order; empty lines are left out.

    Raises:
        UsageError: another suffix, a file that cannot be read, or a line that is no pair.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--task {path}: pairs come from a .tsv or a .jsonl file.")
    try:
        # Reading text makes "\n" of "\r\n". Not splitlines: it also cuts at such as U+2028.
        lines = path.read_text("utf-8-sig").split("\n")
    except OSError as error:
        raise UsageError(f"--task {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--task {path} is not UTF-8 (at offset {error.start}).") from error
    read = _from_json if path.suffix.lower() == ".jsonl" else _from_columns
    pairs = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            pairs.append(read(line, f"{path}, line {number}"))
    return pairs


def _from_columns(line: str, where: str) -> Pair:
    columns = line.split("\t")
    if len(columns) != 2:
        raise UsageError(
            f"{where}: expected a source, a tab and a target, not {len(columns)} column"
            f"{'s' if len(columns) != 1 else ''}."
        )
    return _checked(columns[0], columns[1], where)


def _from_json(line: str, where: str) -> Pair:
    try:
        value: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where} is not JSON: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{where} has a number of too many digits, or too many lists in each other."
        ) from error
    found = value if isinstance(value, dict) else {}
    source, target = found.get("source"), found.get("target")
    if not isinstance(source, str) or not isinstance(target, str):
        raise UsageError(f'{where}: expected an object such as {{"source": "a", "target": "b"}}.')
    if "\\u" in line and any("\ud800" <= char <= "\udfff" for char in source + target):
        raise UsageError(f"{where} has half of a surrogate pair (\\uD800 …), which is no text.")
    return _checked(source, target, where)


def _checked(source: str, target: str, where: str) -> Pair:
    if not source or not target:
        raise UsageError(f"{where}: the {'target' if source else 'source'} is empty.")
    return Pair(source, target)


def _chosen(pairs: Sequence[Pair], fits: Callable[[Sequence[Pair]], Sequence[bool]]) -> list[Pair]:
    return [pair for pair, fitting in zip(pairs, fits(pairs), strict=True) if fitting]
