"""Reports on paper and on the screen: figures, CSV, JSON, and pages that need no network.

    from toolkit.reporting import VocabReport, write_page, write_report
    write_report(report, Path("out"))  # growth.png, growth.svg, growth.csv, …, vocab_stats.json
    write_page(report, Path("report.html"))

Here are only drawing and writing: the numbers come as dataclasses from those who counted them.
Every name is imported when it is first used, and matplotlib (the extra `plots`) not before a figure
is drawn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.reporting.figures import require_plots as require_plots
    from toolkit.reporting.figures import save_figure as save_figure
    from toolkit.reporting.ladder_report import Ladder as Ladder
    from toolkit.reporting.ladder_report import Rung as Rung
    from toolkit.reporting.ladder_report import write_ladder as write_ladder
    from toolkit.reporting.vocab_report import VocabReport as VocabReport
    from toolkit.reporting.vocab_report import write_page as write_page
    from toolkit.reporting.vocab_report import write_report as write_report

_HOME = {
    "Ladder": "ladder_report",
    "Rung": "ladder_report",
    "VocabReport": "vocab_report",
    "require_plots": "figures",
    "save_figure": "figures",
    "write_ladder": "ladder_report",
    "write_page": "vocab_report",
    "write_report": "vocab_report",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'toolkit.reporting' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"toolkit.reporting.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
