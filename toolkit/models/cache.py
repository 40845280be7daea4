"""Keys and values that a transformer keeps from token to token, so that none is computed twice.

The keys and values of a position do not change when tokens come after it: attention looks back
only. So a step of generation computes one position, and reads those of all others here.

The memory is a ring. Position p lies in slot p mod S of S slots, and a position beyond the last
`span` makes room for the newest. Attention does not mind the order of slots: a key carries its
rotation with it, and ALiBi's distances are computed from the slots.

Shapes: L layers, B rows, G key/value heads, S slots, D head width. Rows of different lengths are
in `row_cache`. Left out: keys and values in fewer bits than the model's own numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.errors import UsageError
from toolkit.models.layers import attention_mask


class LayerCache:
    """The keys and values of one layer: views (B, G, S, D) into the `KVCache` that made it."""

    def __init__(self, cache: KVCache, layer: int) -> None:
        self._cache = cache
        self._keys, self._values = cache.keys[layer], cache.values[layer]

    @property
    def starts(self) -> bool:
        """Whether nothing is kept from before: what is computed now is all that there is."""
        return self._cache.length == 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep those of the next T positions (B, G, T, D).

        Returns:
            What the queries of these positions read, in the order of `KVCache.mask`.
        """
        start, slots, t = self._cache.length, self._keys.size(2), keys.size(2)
        if t == 1:
            slot = start % slots
            self._keys[:, :, slot] = keys[:, :, 0]
            self._values[:, :, slot] = values[:, :, 0]
            filled = min(start + 1, slots)
            return self._keys[:, :, :filled], self._values[:, :, :filled]
        read = (keys, values)
        if start:
            # What is read must outlive what is overwritten: the first of the new positions see
            # old ones that the last of them no longer do.
            filled = min(start, slots)
            read = (
                torch.cat((self._keys[:, :, :filled], keys), dim=2),
                torch.cat((self._values[:, :, :filled], values), dim=2),
            )
        kept = min(t, slots)
        places = torch.arange(start + t - kept, start + t, device=keys.device) % slots
        self._keys[:, :, places] = keys[:, :, t - kept :]
        self._values[:, :, places] = values[:, :, t - kept :]
        return read


class KVCache:
    """The keys and values of all layers for B rows of equally many tokens.

    Attributes:
        keys, values: (L, B, G, S, D), made once; `reserve` alone makes them anew.
        layers: one `LayerCache` for each layer.
        length: how many tokens the rows have so far; the next one's position.
        span: how many of the last positions attention sees.
        limit: the most tokens that there can be; None for models whose window slides.
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
            span, limit: see above.
            capacity: how many tokens to make room for at first; None: as many as are ever kept.
            like: a tensor of the dtype and the device.
        """
        n_layer, rows, n_kv_head, head_dim = shape
        self.span, self.limit, self.length = span, limit, 0
        slots = span if capacity is None else max(1, min(span, capacity))
        size = (n_layer, rows, n_kv_head, slots, head_dim)
        self.keys = torch.zeros(size, dtype=like.dtype, device=like.device)
        self.values = torch.zeros_like(self.keys)
        self._view_layers()

    @property
    def rows(self) -> int:
        """B."""
        return self.keys.size(1)

    @property
    def slots(self) -> int:
        """S."""
        return self.keys.size(3)

    @property
    def numbers_per_row(self) -> int:
        """How many numbers are kept for each row."""
        n_layer, _, n_kv_head, slots, head_dim = self.keys.shape
        return 2 * n_layer * n_kv_head * slots * head_dim

    def has_room(self, tokens: int) -> bool:
        """Whether the rows can grow by so many tokens."""
        return self.limit is None or self.length + tokens <= self.limit

    def reserve(self, tokens: int) -> None:
        """Have slots for so many more tokens, as far as they are ever kept. Where there are too
        few, their number at least doubles: growing token by token costs little.

        Raises:
            UsageError: more tokens than the `limit`.
        """
        if not self.has_room(tokens):
            raise UsageError(
                f"{self.length + tokens} tokens is longer than the model's --block-size "
                f"{self.limit}. Give it the last ones only."
            )
        needed = min(self.span, self.length + tokens)
        if needed <= self.slots:
            return
        slots = min(self.span, max(needed, 2 * self.slots))
        # Until all slots of the span are there no position has left, and position p is in slot p.
        more = (0, 0, 0, slots - self.slots)
        self.keys = torch.nn.functional.pad(self.keys, more)
        self.values = torch.nn.functional.pad(self.values, more)
        self._view_layers()

    def can_truncate(self, length: int) -> bool:
        """Whether `truncate` can: where the ring has come round, what would be seen again has made
        room for what would go."""
        return length == self.length or (length < self.length <= self.slots)

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first `length` of each row.

        Raises:
            UsageError: there are fewer, or `can_truncate` says no.
        """
        if not self.can_truncate(length):
            raise UsageError(
                f"{self.length} tokens in {self.slots} slots cannot be cut to the first {length}."
            )
        self.length = length  # what lies in the other slots is read no more, and written over

    def mask(self, t: int, slopes: Tensor | None) -> Tensor | None:
        """`attention_mask` for the next t positions over what `LayerCache.append` returns.

        None where they see all of it but what comes after them.
        """
        if slopes is None and (t == 1 or (self.length == 0 and t <= self.span)):
            return None
        device = self.keys.device
        queries = torch.arange(self.length, self.length + t, device=device)
        if t == 1:
            keys = self._positions(self.length + 1)
        else:
            keys = torch.cat((self._positions(self.length), queries))
        return attention_mask(queries, keys, window=self.span, slopes=slopes)

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order; a row may be taken more than once."""
        chosen = list(rows)
        if chosen == list(range(self.rows)):
            return
        index = torch.tensor(chosen, dtype=torch.long, device=self.keys.device)
        self.keys = self.keys.index_select(1, index)
        self.values = self.values.index_select(1, index)
        self._view_layers()

    def _positions(self, length: int) -> Tensor:
        """The positions in the filled slots after `length` tokens."""
        filled = min(length, self.slots)
        last = length - 1
        slots = torch.arange(filled, device=self.keys.device)
        return last - (last - slots) % self.slots

    def _view_layers(self) -> None:
        self.layers = [LayerCache(self, layer) for layer in range(self.keys.size(0))]
