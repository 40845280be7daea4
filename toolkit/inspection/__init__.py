"""Looking inside a model: every number of a forward pass, and what the numbers say together.

    from toolkit.inspection import Inspector, Tracer
    with Tracer(model, "blocks.*.attn.weights") as trace:
        model(ids)

Every name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.inspection.tracer import Tracer as Tracer
    from toolkit.inspection.walkthrough import Step as Step
    from toolkit.inspection.walkthrough import walk as walk

_HOME = {
    "Step": "walkthrough",
    "Tracer": "tracer",
    "walk": "walkthrough",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'toolkit.inspection' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"toolkit.inspection.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
