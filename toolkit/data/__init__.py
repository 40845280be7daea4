"""From a corpus to batches: token files on disk, and the loader that draws from them.

`TokenDataset` needs NumPy alone; torch comes in with the loader.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.data.loader import BatchLoader as BatchLoader
    from toolkit.data.loader import evaluation_batches as evaluation_batches
    from toolkit.data.loader import require_length as require_length
    from toolkit.data.pairs import PairDataset as PairDataset
    from toolkit.data.pairs import PairLoader as PairLoader
    from toolkit.data.token_dataset import TokenDataset as TokenDataset
    from toolkit.data.token_dataset import bits_per_byte as bits_per_byte
    from toolkit.data.training_data import Loader as Loader
    from toolkit.data.training_data import TrainingData as TrainingData

_WHERE = {
    "BatchLoader": "loader",
    "Loader": "training_data",
    "PairDataset": "pairs",
    "PairLoader": "pairs",
    "TokenDataset": "token_dataset",
    "TrainingData": "training_data",
    "bits_per_byte": "token_dataset",
    "evaluation_batches": "loader",
    "require_length": "loader",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'toolkit.data' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"toolkit.data.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
