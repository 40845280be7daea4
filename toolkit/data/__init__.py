"""From a corpus to batches: token files on disk, and the loader that draws from them.

`TokenDataset` needs NumPy alone; torch comes in with the loader.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.data.loader import BatchLoader as BatchLoader
    from toolkit.data.loader import bits_per_byte as bits_per_byte
    from toolkit.data.loader import evaluation_batches as evaluation_batches
    from toolkit.data.token_array import TokenArray as TokenArray
    from toolkit.data.token_dataset import TokenDataset as TokenDataset

_WHERE = {
    "BatchLoader": "loader",
    "TokenArray": "token_array",
    "TokenDataset": "token_dataset",
    "bits_per_byte": "loader",
    "evaluation_batches": "loader",
}

__all__ = sorted(_WHERE)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'toolkit.data' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"toolkit.data.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
