"""What a training learns from: a text (`TextMaterials`), or pairs of texts (`PairMaterials`).

Every name is imported when it is first used: what is not needed costs no time at the start.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.materials.base import Materials as Materials
    from toolkit.materials.base import Stage as Stage
    from toolkit.materials.pairs import PairMaterials as PairMaterials
    from toolkit.materials.texts import TextMaterials as TextMaterials

_WHERE = {"Materials": "base", "Stage": "base", "PairMaterials": "pairs", "TextMaterials": "texts"}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'toolkit.materials' has no attribute '{name}'")
    return getattr(importlib.import_module(f"toolkit.materials.{_WHERE[name]}"), name)
