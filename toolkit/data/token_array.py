"""The ids of one split as a single sequence, whichever number of shards holds them.

A shard is a one-dimensional array, usually a memory map: what is not touched is not read. Leaves
out writing; the ids of a dataset never change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


class TokenArray:
    """A read-only sequence of token ids over one or more shards.

    >>> ids = TokenArray([np.array([1, 2, 3], np.uint16), np.array([4, 5], np.uint16)])
    >>> len(ids), ids[3], ids[1:4].tolist()
    (5, 4, [2, 3, 4])
    >>> ids.windows(np.array([0, 2]), 3).tolist()
    [[1, 2, 3], [3, 4, 5]]
    """

    def __init__(self, shards: Sequence[Ids], dtype: npt.DTypeLike = np.uint16) -> None:
        """`dtype` is that of the empty sequence; shards bring their own."""
        # Plain arrays over the same memory: indexing np.memmap itself makes a subclass each time.
        self._shards = [np.asarray(shard) for shard in shards if len(shard)]
        self.dtype = self._shards[0].dtype if self._shards else np.dtype(dtype)
        lengths = [len(shard) for shard in self._shards]
        self._ends = np.cumsum(lengths, dtype=np.int64)
        self._starts = self._ends - np.array(lengths, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def shape(self) -> tuple[int]:
        return (len(self),)

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> Ids: ...
    def __getitem__(self, key: int | slice) -> int | Ids:
        """One id, or an array of a slice's ids (a view where they lie in one shard)."""
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step != 1:
                return np.asarray(self)[key]
            return self._slice(start, max(start, stop))
        position = key + len(self) if key < 0 else key
        if not 0 <= position < len(self):
            raise IndexError(f"token {key} of {len(self)}")
        shard = int(np.searchsorted(self._ends, position, side="right"))
        return int(self._shards[shard][position - self._starts[shard]])

    def __iter__(self) -> Iterator[int]:
        for shard in self._shards:
            yield from shard.tolist()

    def __array__(self, dtype: npt.DTypeLike = None, copy: bool | None = None) -> npt.NDArray[Any]:
        whole = self._slice(0, len(self))
        return np.array(whole, dtype=dtype) if copy else np.asarray(whole, dtype=dtype)

    def __repr__(self) -> str:
        return f"<TokenArray of {len(self)} {self.dtype} ids in {len(self._shards)} shards>"

    def windows(self, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """The ids at `starts[b] … starts[b] + length - 1`, as (B, length); shards may be crossed.

        Raises:
            IndexError: a window reaches outside the sequence.
        """
        if len(starts) and (starts.min() < 0 or starts.max() + length > len(self)):
            raise IndexError(f"a window of {length} ids reaches outside the {len(self)} there are")
        positions = starts[:, None] + np.arange(length, dtype=np.int64)  # (B, length)
        if len(self._shards) == 1:
            return self._shards[0][positions].astype(np.int64)
        found = np.empty(positions.shape, dtype=np.int64)
        owner = np.searchsorted(self._ends, positions, side="right")
        # One pass for each shard that is touched, not for each window.
        for shard in np.unique(owner):
            here = owner == shard
            found[here] = self._shards[shard][positions[here] - self._starts[shard]]
        return found

    def _slice(self, start: int, stop: int) -> Ids:
        pieces = [
            shard[max(start - first, 0) : max(stop - first, 0)]
            for shard, first, end in zip(self._shards, self._starts, self._ends, strict=True)
            if first < stop and start < end
        ]
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.zeros(0, dtype=self.dtype)
