"""compare.json and the figure of a comparison."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.comparing.result import LOSS_TOLERANCE, TOLERANCE, Comparison, Difference
from toolkit.errors import MissingExtraError
from toolkit.files import write_json
from toolkit.jsonable import to_jsonable
from toolkit.reporting.figures import (
    GREY,
    SeriesStyle,
    legend_below,
    new_figure,
    paper_style,
    plain_numbers,
    save_figure,
    series_style,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOWEST = 1e-10  # drawn for a difference of 0, which a logarithm has no place for
_MOST_NAMES = 60  # that fit beside each other


def comparison_to_json(found: Comparison) -> dict[str, Any]:
    """The content of compare.json: what was measured, and what follows from it."""
    value: dict[str, Any] = to_jsonable(dataclasses.asdict(found))
    for side in (found.toolkit, found.huggingface):
        value[side.name]["median_seconds"] = side.median_seconds
        value[side.name]["memory"]["total"] = side.memory.total
    return {
        **value,
        "steps": found.steps,
        "largest_loss_difference": found.largest_loss_difference,
        "largest_gradient": dataclasses.asdict(found.largest_gradient),
        "loss_tolerance": LOSS_TOLERANCE,
        "tolerance": TOLERANCE,
        "first_step": found.first_step,
        "first_own_step": found.first_own_step,
        "first_layer": found.first_layer,
    }


def write_comparison(found: Comparison, folder: Path) -> list[Path]:
    """Write compare.json and, where matplotlib is installed, compare.png and compare.svg.

    Returns:
        What was written.

    Raises:
        ToolkitError: a file could not be written.
    """
    path = folder / "compare.json"
    write_json(path, comparison_to_json(found))
    try:
        return [path, *save_figure(comparison_figure(found), folder, "compare")]
    except MissingExtraError:
        return [path]


def comparison_figure(found: Comparison) -> Figure:
    """Losses of both, how they differ, the time of each step, and the hidden states by layer.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with paper_style():
        figure = new_figure(5.6, width=7.2)
        axes: Any = figure.subplot_mosaic(
            [["losses", "differences", "seconds"], ["hidden"] * 3], height_ratios=[1.0, 1.1]
        )
        styles = [series_style(0), series_style(1)]
        lines = _draw_losses(axes["losses"], found, styles)
        lines += _draw_loss_differences(axes["differences"], found)
        _draw_seconds(axes["seconds"], found, styles)
        limit = _draw_hidden(axes["hidden"], found)
        for name in ("losses", "differences", "seconds"):
            plain_numbers(axes[name].xaxis, most=5, whole=True)
        legend_below(figure, [*lines, limit])
    return figure


def _draw_losses(axes: Any, found: Comparison, styles: list[SeriesStyle]) -> list[Any]:
    steps = range(1, found.steps + 1)
    lines = []
    # The second one dashed and thin over the first: where they agree both are seen.
    for side, style, width in zip(
        (found.toolkit, found.huggingface), styles, (2.4, 1.1), strict=True
    ):
        (line,) = axes.plot(
            steps, side.losses, color=style.color, ls=style.line, lw=width, label=side.name
        )
        lines.append(line)
    axes.set(xlabel="step", ylabel="loss, nats a token")
    return lines


def _draw_loss_differences(axes: Any, found: Comparison) -> list[Any]:
    steps = range(1, found.steps + 1)

    def draw(differences: tuple[float, ...], look: str, **style: Any) -> Any:
        drawn = [max(abs(difference), _LOWEST) for difference in differences]
        (points,) = axes.plot(steps, drawn, look, **style)
        return points

    named = [draw(found.loss_differences, "o", color="black", ms=2.5, label="between the two")]
    if found.own_differences:
        color = series_style(2).color
        named += [draw(found.own_differences, "x", color=color, ms=3, label="last bits changed")]
    axes.axhline(LOSS_TOLERANCE, color=GREY, lw=0.9, ls=(0, (4, 1.5)))
    axes.set_yscale("log")
    axes.set(xlabel="step (0 is drawn at the bottom)", ylabel="|difference of the losses|")
    return named


def _draw_seconds(axes: Any, found: Comparison, styles: list[SeriesStyle]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    steps = range(1, found.steps + 1)
    for side, style in zip((found.toolkit, found.huggingface), styles, strict=True):
        milliseconds = [1000 * seconds for seconds in side.seconds]
        axes.plot(steps, milliseconds, style.marker, color=style.color, ms=2.5)
        axes.axhline(1000 * side.median_seconds, color=style.color, lw=0.9, ls=style.line)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    plain_numbers(axes.yaxis)
    axes.set(xlabel="step (lines: medians)", ylabel="milliseconds a step")


def _draw_hidden(axes: Any, found: Comparison) -> Any:
    points: tuple[Difference, ...] = (*found.hidden, found.logits)
    places = range(len(points))
    axes.plot(places, [max(point.relative, _LOWEST) for point in points], "o", color="black", ms=3)
    limit = axes.axhline(
        TOLERANCE, color=GREY, lw=0.9, ls=(0, (4, 1.5)), label=f"tolerance, {TOLERANCE:g}"
    )
    axes.set_yscale("log")
    every = -(-len(points) // _MOST_NAMES)
    shown = [place for place in places if place % every == 0 or place == len(points) - 1]
    names = [points[place].name.replace("blocks.", "") for place in shown]
    axes.set_xticks(shown, names, rotation=90)
    axes.margins(x=0.01)
    axes.set(
        xlabel="hidden states and logits, as they are computed (0 is drawn at the bottom)",
        ylabel="difference / largest number",
    )
    return limit
