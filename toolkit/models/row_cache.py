"""Keys and values of rows of different lengths, for texts that grow side by side and come and go.

The memory is made once: B rows of S slots, each row a ring as in `cache` (position p of a row lies
in slot p mod S). The rows in use are the first ones, without gaps: a row that leaves is replaced by
the last. So a step reads one piece of memory, and copies none of it.

A row begins with what `LanguageModel.extend` has computed of its prompt alone, and grows by one
position at each step of all rows (see `GPTModel.extend_rows`).

Shapes: L layers, B rows, G key/value heads, S slots, D head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.errors import UsageError
from toolkit.models.cache import KVCache


class LayerRows:
    """The keys and values of one layer: views (B, G, S, D) into the `RowCache` that made it."""

    def __init__(self, cache: RowCache, layer: int) -> None:
        self._cache = cache
        self._keys, self._values = cache.keys[layer], cache.values[layer]

    @property
    def starts(self) -> bool:
        """Never: a row has a beginning."""
        return False

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep those of one more position in each row in use (B, G, 1, D).

        Returns:
            What the queries of these positions read, in the order of `RowCache.mask`.
        """
        index, slots = self._cache.next_places
        self._keys[index, :, slots] = keys[:, :, 0]
        self._values[index, :, slots] = values[:, :, 0]
        rows, filled = self._cache.rows, self._cache.filled
        return self._keys[:rows, :, :filled], self._values[:rows, :, :filled]


class RowCache:
    """The keys and values of all layers for rows of different lengths.

    Attributes:
        keys, values: (L, B, G, S, D), made once.
        layers: one `LayerRows` for each layer.
        rows: how many are in use; they are the first ones.
        lengths: how many tokens each row has so far, int64 (B) on the CPU.
        limit: the most tokens that a row can have; None for no bound.
        next_places: where the next position of each row in use goes, its row and its slot (B), and
        filled: how many slots are in use with it; see `advance`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        *,
        span: int,
        limit: int | None,
        capacity: int | None = None,
        like: Tensor,
    ) -> None:
        """Make room.

        Args:
            shape: (L, B, G, D).
            span: how many of the last positions attention sees.
            limit: see above.
            capacity: the most tokens that a row will have; None: as many as the limit allows.
            like: a tensor of the dtype and the device.
        """
        n_layer, rows, n_kv_head, head_dim = shape
        slots = span if capacity is None else max(1, min(span, capacity))
        size = (n_layer, rows, n_kv_head, slots, head_dim)
        self.keys = torch.zeros(size, dtype=like.dtype, device=like.device)
        self.values = torch.zeros_like(self.keys)
        self.layers = [LayerRows(self, layer) for layer in range(n_layer)]
        self.rows = 0
        self.lengths = torch.zeros(rows, dtype=torch.long)
        # A ring of fewer slots than attention sees must not come round.
        self.limit = slots if slots < span else limit
        nothing = torch.zeros(0, dtype=torch.long, device=like.device)
        self.next_places, self.filled = (nothing, nothing), 0

    @property
    def slots(self) -> int:
        """S."""
        return self.keys.size(3)

    def add(self, beginning: KVCache) -> int:
        """Take one more row into use, with what a cache of one row has kept; returns its number.

        Raises:
            UsageError: all rows are in use, or it has more tokens than a row can have.
        """
        if self.rows == len(self.lengths):
            raise UsageError(f"All {self.rows} rows of the cache are in use.")
        if self.limit is not None and beginning.length > self.limit:
            raise UsageError(f"A row of {beginning.length} tokens: at most {self.limit} fit here.")
        row, kept = self.rows, min(beginning.length, self.slots)
        self.keys[:, row, :, :kept] = beginning.keys[:, 0, :, :kept]
        self.values[:, row, :, :kept] = beginning.values[:, 0, :, :kept]
        self.lengths[row] = beginning.length
        self.rows += 1
        return row

    def remove(self, row: int) -> int:
        """A row leaves; the last one takes its number. Returns the number that the last one had."""
        self.rows -= 1
        last = self.rows
        if row != last:
            self.keys[:, row] = self.keys[:, last]
            self.values[:, row] = self.values[:, last]
            self.lengths[row] = self.lengths[last]
        return last

    def advance(self) -> Tensor:
        """Make ready for one more position in each row in use: their numbers (B), on the CPU.

        Raises:
            UsageError: no row is in use, or one of them is full.
        """
        positions = self.lengths[: self.rows].clone()
        if not self.rows:
            raise UsageError("No row of the cache is in use.")
        longest = int(positions.max())
        if self.limit is not None and longest >= self.limit:
            raise UsageError(f"A row has {longest} tokens already, and no more fit here.")
        device = self.keys.device
        slots = (positions % self.slots).to(device)
        self.next_places = (torch.arange(self.rows, device=device), slots)
        self.filled = min(longest + 1, self.slots)
        return positions

    def mask(self, slopes: Tensor | None) -> Tensor | None:
        """Which slots a row's next position sees, after `advance`, with its own among them.

        Returns:
            Booleans (B, 1, 1, S), or numbers (B, H, 1, S) as `layers.attention_mask` gives them;
            None where all is seen.
        """
        last = self.lengths[: self.rows, None]  # (B, 1)
        # A slot holds the newest position that falls into it; below 0 there has been none.
        slots = torch.arange(self.filled)
        distance = (last - slots) % self.slots  # (B, S)
        seen = distance <= last
        if slopes is None:
            if bool(seen.all()):
                return None
            return seen[:, None, None].to(self.keys.device)
        bias = -slopes[:, None, None] * distance[:, None, None].to(slopes.device)  # (B, H, 1, S)
        return bias.masked_fill(~seen[:, None, None].to(slopes.device), float("-inf"))
