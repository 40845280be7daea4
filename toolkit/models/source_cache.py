"""What a decoder keeps from token to token: keys and values of the target, and of the source.

Those of the target grow, as in any transformer (`cache`); those of the source are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.models.cache import KVCache
from toolkit.models.cross_attention import KeysAndValues


class SourceCache(KVCache):
    """A `KVCache` of targets, with what their cross-attention reads.

    Attributes:
        sources: keys and values (B, H, S, D) of each layer.
        seen: (B, 1, 1, S), True where there is a token of the source.
    """

    def __init__(
        self,
        sources: Sequence[KeysAndValues],
        seen: Tensor,
        *,
        limit: int,
        capacity: int | None = None,
    ) -> None:
        """An empty cache of as many rows as there are sources.

        Args:
            limit: the most target tokens that there can be.
            capacity: for how many of them to make room at first; None: for all.
        """
        keys, _ = sources[0]
        rows, n_head, _, head_dim = keys.shape
        super().__init__(
            (len(sources), rows, n_head, head_dim),
            span=limit,
            limit=limit,
            capacity=capacity,
            like=keys,
        )
        self.sources, self.seen = list(sources), seen

    @property
    def numbers_per_row(self) -> int:
        """How many numbers are kept for each row."""
        of_source = sum(keys[0].numel() + values[0].numel() for keys, values in self.sources)
        return super().numbers_per_row + of_source

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order; a row may be taken more than once."""
        chosen = list(rows)
        if chosen == list(range(self.rows)):
            return
        super().select(chosen)
        index = torch.tensor(chosen, dtype=torch.long, device=self.seen.device)
        self.sources = [
            (keys.index_select(0, index), values.index_select(0, index))
            for keys, values in self.sources
        ]
        self.seen = self.seen.index_select(0, index)
