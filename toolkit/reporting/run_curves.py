"""The curves of trainings: loss on top, learning rate and gradient norm in small panels beneath.

One run shows its training loss behind its mean, and the validation loss with its best point marked.
Of many runs each has one colour: the validation loss is the strong line, the training loss the
light one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.errors import UnknownNameError, UsageError
from toolkit.reporting.figures import (
    PALETTE,
    legend_below,
    legend_height,
    new_figure,
    number_label,
    paper_style,
    plain,
    plain_numbers,
    series_style,
)
from toolkit.smoothing import centred_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

X_LABELS = {"step": "step", "tokens": "tokens", "seconds": "seconds of training"}
Y_LABELS = {
    "loss": "loss, nats a token",
    "bits_per_byte": "bits per byte",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "tokens_per_second": "tokens/s",
}
DEFAULT_Y = ("loss", "lr", "grad_norm")
DEFAULT_SMOOTH = 10
_LEAST_SHOWN, _MARGIN = 1.0, 0.05

Points = tuple[list[float], list[float]]


@dataclass(frozen=True)
class RunCurves:
    """What a run has measured, a list for each column; lists of one group are equally long.

    Attributes:
        name: of the run.
        step: the logged steps, with tokens and seconds by then, and at each of them loss,
            learning rate, gradient norm and tokens_per_second.
        evaluated: the steps with an evaluation, with tokens and seconds by then, and the
            validation loss and bits per byte of each.
    """

    name: str
    step: dict[str, list[float]]
    evaluated: dict[str, list[float]]

    @property
    def best(self) -> int | None:
        """Which evaluation has the lowest loss; None where there is none."""
        losses = self.evaluated["loss"]
        return min(range(len(losses)), key=losses.__getitem__) if losses else None

    def logged(self, x: str, y: str) -> Points:
        """The points of a column of logged steps; none where it is not logged."""
        return (self.step[x], self.step[y]) if y in self.step else ([], [])

    def evaluations(self, x: str, y: str) -> Points:
        """The points of a column of the evaluations; none where it is not measured there."""
        return (self.evaluated[x], self.evaluated[y]) if y in self.evaluated else ([], [])


def check_columns(x: str, y: Sequence[str], smooth: int) -> None:
    """Refuse what `curves_figure` cannot draw.

    Raises:
        UsageError: an unknown axis, no panel, one twice, or no smoothing that there is.
    """
    if x not in X_LABELS:
        raise UnknownNameError("x axis", x, X_LABELS)
    for name in y:
        if name not in Y_LABELS:
            raise UnknownNameError("y axis", name, Y_LABELS)
    if not y or len(set(y)) < len(y):
        raise UsageError(f"--y takes one or more different names of {', '.join(Y_LABELS)}.")
    if smooth < 1:
        raise UsageError(f"--smooth {smooth} must be at least 1, which smooths nothing")


def curves_figure(
    runs: Sequence[RunCurves],
    *,
    x: str = "step",
    y: Sequence[str] = DEFAULT_Y,
    smooth: int = DEFAULT_SMOOTH,
) -> Figure:
    """One figure of all runs: a panel for each of `y`, the first one large.

    Args:
        x: "step", "tokens" or "seconds".
        y: "loss", "bits_per_byte", "lr", "grad_norm", "tokens_per_second".
        smooth: how many logged steps a point of training loss, gradient norm or speed is the mean
            of.

    Raises:
        UsageError: no runs, or what `check_columns` refuses.
        MissingExtraError: matplotlib is not installed.
    """
    check_columns(x, y, smooth)
    if not runs:
        raise UsageError("Nothing to draw: no runs.")
    with paper_style():
        handles = _handles(runs, y)
        labels = [str(handle.get_label()) for handle in handles]
        shown = new_figure(2.4 + 1.0 * (len(y) - 1) + legend_height(labels))
        heights = [2.4, *[1.0] * (len(y) - 1)]
        panels: Any = shown.subplots(len(y), 1, sharex=True, squeeze=False, height_ratios=heights)
        for number, (name, axes) in enumerate(zip(y, panels[:, 0], strict=True)):
            for place, run in enumerate(runs):
                color = PALETTE[0] if len(runs) == 1 else series_style(place).color
                if name in ("loss", "bits_per_byte"):
                    _draw_losses(axes, run, x, name, smooth, place if len(runs) > 1 else None)
                else:
                    across, up = run.logged(x, name)
                    mean = centred_mean(up, 1 if name == "lr" else smooth)
                    line = "-" if len(runs) == 1 else series_style(place).line
                    axes.plot(across, mean, color=color, linestyle=line, lw=0.9)
            axes.set_ylabel(Y_LABELS[name])
            plain_numbers(axes.yaxis, most=6 if number == 0 else 3)
        last = panels[-1, 0]
        last.set_xlabel(X_LABELS[x])
        last.set_xlim(left=0)
        plain_numbers(last.xaxis, most=5)
        shown.align_ylabels()
        if handles:
            legend_below(shown, handles)
    return shown


def _draw_losses(
    axes: Any, run: RunCurves, x: str, name: str, smooth: int, place: int | None
) -> None:
    """Training and validation of one run; `place` is its number among many, None if it is alone."""
    training = run.logged(x, name)
    validation = run.evaluations(x, name)
    mean = centred_mean(training[1], smooth)
    alone = place is None
    look = series_style(place or 0)
    if alone:
        if smooth > 1:
            axes.plot(*training, color=PALETTE[0], alpha=0.25, lw=0.6)
        axes.plot(training[0], mean, color=PALETTE[0], lw=1.0)
    elif mean:
        strong = not validation[1]
        axes.plot(
            training[0],
            mean,
            color=look.color,
            alpha=1.0 if strong else 0.35,
            lw=1.0 if strong else 0.7,
            linestyle=look.line if strong else "-",
        )
    if not validation[1]:
        return
    color = PALETTE[1] if alone else look.color
    marker = "o" if alone else look.marker
    line = "-" if alone else look.line
    axes.plot(*validation, color=color, marker=marker, ms=2.6, linestyle=line, lw=1.0, zorder=3)
    best = run.best
    assert best is not None
    across, up = validation[0][best], validation[1][best]
    axes.plot([across], [up], color=color, marker="*", ms=9, mec="white", mew=0.6, lw=0, zorder=5)
    _leave_out_beginnings(axes, up)


def _leave_out_beginnings(axes: Any, best: float) -> None:
    """A run that went wild for a moment must not press all curves flat: at most 4 × the best is
    shown. Where that is next to nothing, as of a task that is learned to the end, it is 1."""
    low, high = axes.get_ylim()
    limit = max(4 * best, _LEAST_SHOWN)
    if math.isfinite(best) and best > 0 and high > limit:
        axes.set_ylim(max(low, -_MARGIN * limit), limit)


def _handles(runs: Sequence[RunCurves], y: Sequence[str]) -> list[Any]:
    """What the legend explains: of one run the kinds of curves, of many the runs."""
    from matplotlib.lines import Line2D

    if len(runs) > 1:
        handles = []
        for place, run in enumerate(runs):
            look = series_style(place)
            style: dict[str, Any] = {
                "color": look.color,
                "linestyle": look.line,
                "marker": look.marker,
            }
            handles.append(Line2D([], [], ms=3, label=_label(run), **style))
        return handles
    if not {"loss", "bits_per_byte"} & set(y):
        return []
    (run,) = runs
    handles = [Line2D([], [], color=PALETTE[0], label="training")] if "loss" in y else []
    if run.best is not None:
        color = PALETTE[1]
        handles.append(Line2D([], [], color=color, marker="o", ms=3, label="validation"))
        column = "loss" if "loss" in y else "bits_per_byte"
        best, step = run.evaluated[column][run.best], run.evaluated["step"][run.best]
        label = f"best {best:.4f} at step {number_label(step)}"
        handles.append(Line2D([], [], color=color, marker="*", ms=8, lw=0, label=label))
    return handles


def _label(run: RunCurves) -> str:
    """The run's name, with its best loss where there is one."""
    best = "" if run.best is None else f": {run.evaluated['loss'][run.best]:.3f}"
    return plain(run.name, most=40 - len(best)) + best
