"""The figure of a sweep: for each option that varied, what its values gave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toolkit.errors import UsageError
from toolkit.reporting.figures import PALETTE, new_figure, paper_style, plain, plain_numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_PANELS = 8
_IN_A_ROW = 5  # different numbers of a grid stand side by side, with each of them at the axis
_LOG_FROM = 10.0  # values that span more than this factor are spread on a logarithmic axis


def sweep_figure(options: Sequence[dict[str, Any]], scores: Sequence[float], label: str) -> Figure:
    """A panel for each option (eight at most), a dot for each trial, a star for the best.

    Args:
        options: what varied, of each trial.
        scores: of each trial; lower is better.
        label: what the scores are.

    Raises:
        UsageError: no trials.
        MissingExtraError: matplotlib is not installed.
    """
    if not scores:
        raise UsageError("Nothing to draw: no trial was trained to its end.")
    names = list(dict.fromkeys(name for point in options for name in point))[:_MOST_PANELS]
    columns = min(2, len(names))
    rows = math.ceil(len(names) / columns)
    best = min(range(len(scores)), key=scores.__getitem__)
    with paper_style():
        shown = new_figure(0.3 + 1.7 * rows, width=3.5 if columns == 1 else 5.0)
        panels: Any = shown.subplots(rows, columns, sharey=True, squeeze=False)
        for number, axes in enumerate(panels.flat):
            if number >= len(names):
                axes.set_visible(False)
                continue
            name = names[number]
            places = _places(axes, [point.get(name) for point in options])
            axes.plot(places, scores, "o", color=PALETTE[0], ms=3.5, alpha=0.7, mew=0)
            axes.plot(
                places[best], scores[best], "*", color=PALETTE[1], ms=10, mec="white", mew=0.6
            )
            axes.set_xlabel(plain(name))
            plain_numbers(axes.yaxis, most=5)
            if number % columns == 0:
                axes.set_ylabel(label)
    return shown


def _places(axes: Any, values: Sequence[Any]) -> list[float]:
    """Where the values stand on the axis: many numbers by size, few of them or words in a row."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    all_numbers = len(numbers) == len(values)
    different: list[Any] = (
        sorted(set(numbers)) if all_numbers else list(dict.fromkeys(map(str, values)))
    )
    if not all_numbers or len(different) <= _IN_A_ROW:
        labels = [plain(_label(value), most=14) for value in different]
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlim(-0.5, len(labels) - 0.5)
        if len(labels) > 3 and not all_numbers:
            axes.tick_params(axis="x", rotation=45)
        return [float(different.index(v if all_numbers else str(v))) for v in values]
    if min(numbers) > 0 and max(numbers) > _LOG_FROM * min(numbers):
        axes.set_xscale("log")
    else:
        plain_numbers(axes.xaxis, most=4, whole=all(isinstance(v, int) for v in numbers))
    return [float(number) for number in numbers]


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
