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
    from toolkit.inspection.ablation import without_head as without_head
    from toolkit.inspection.ablation import without_part as without_part
    from toolkit.inspection.inspector import Inspector as Inspector
    from toolkit.inspection.report import Analysis as Analysis
    from toolkit.inspection.report import analyse as analyse
    from toolkit.inspection.report import summary as summary
    from toolkit.inspection.report import write_analysis as write_analysis
    from toolkit.inspection.snapshots import Snapshot as Snapshot
    from toolkit.inspection.snapshots import take_snapshot as take_snapshot
    from toolkit.inspection.tracer import Tracer as Tracer
    from toolkit.inspection.walkthrough import Step as Step
    from toolkit.inspection.walkthrough import Walk as Walk
    from toolkit.inspection.walkthrough import walk as walk

_HOME = {
    "Analysis": "report",
    "Inspector": "inspector",
    "Snapshot": "snapshots",
    "Step": "walkthrough",
    "Tracer": "tracer",
    "analyse": "report",
    "summary": "report",
    "take_snapshot": "snapshots",
    "Walk": "walkthrough",
    "walk": "walkthrough",
    "without_head": "ablation",
    "without_part": "ablation",
    "write_analysis": "report",
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
