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
    from toolkit.inspection.pair_snapshots import PairSnapshot as PairSnapshot
    from toolkit.inspection.pair_snapshots import take_pair_snapshot as take_pair_snapshot
    from toolkit.inspection.pairs import PairInspector as PairInspector
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
    from toolkit.inspection.walkthrough import walk_pair as walk_pair

_HOME = {
    "Analysis": "report",
    "Inspector": "inspector",
    "PairInspector": "pairs",
    "PairSnapshot": "pair_snapshots",
    "Snapshot": "snapshots",
    "Step": "walkthrough",
    "Tracer": "tracer",
    "analyse": "report",
    "summary": "report",
    "take_pair_snapshot": "pair_snapshots",
    "take_snapshot": "snapshots",
    "Walk": "walkthrough",
    "walk": "walkthrough",
    "walk_pair": "walkthrough",
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
