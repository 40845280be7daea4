"""What a row of a batch consists of so far, for what decides by the tokens before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Context:
    """One sequence in the making.

    Attributes:
        prompt_ids: what it started from.
        new_ids: what was drawn since; it grows.
        source_ids: what an encoder read beside it, if there is one.
        memory: what a processor keeps about this row, by the processor. A copy of the row starts
            without it.

    >>> row = Context([1, 2], [3])
    >>> row.ids, row.grown([4, 5]).ids
    ([1, 2, 3], [1, 2, 3, 4, 5])
    """

    prompt_ids: Sequence[int]
    new_ids: list[int] = field(default_factory=list)
    memory: dict[object, Any] = field(default_factory=dict)
    source_ids: Sequence[int] = ()

    @property
    def ids(self) -> list[int]:
        """The prompt and what came after it."""
        return [*self.prompt_ids, *self.new_ids]

    @property
    def length(self) -> int:
        """How many ids it has."""
        return len(self.prompt_ids) + len(self.new_ids)

    def grown(self, ids: Sequence[int]) -> Context:
        """A new context that has these ids as well."""
        return Context(self.prompt_ids, [*self.new_ids, *ids], source_ids=self.source_ids)
