"""Curves of finished and running trainings: from metrics.jsonl to a table and a figure.

    toolkit.plot_runs(["runs/first", "runs/second"], out="both.png")

matplotlib (the extra `plots`) is needed for figures alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import MissingExtraError, RunError, UsageError
from toolkit.files import write_bytes
from toolkit.reporting.run_curves import (
    DEFAULT_SMOOTH,
    DEFAULT_Y,
    RunCurves,
    check_columns,
    curves_figure,
)
from toolkit.run import Run
from toolkit.training.metrics import METRICS_FILE

TRAINING_CURVES = "training_curves"
LOSS_CURVES = "loss_curves"
_FORMATS = ("png", "svg")


@dataclass(frozen=True)
class RunSummary:
    """A run in numbers, as far as it has come.

    Attributes:
        name, folder: of the run.
        status: "running", "interrupted", "failed" or "finished".
        steps: of the last line in metrics.jsonl.
        train_loss: of the last logged step.
        best_val_loss, best_step, best_bits_per_byte: of the best evaluation; None without any.
        tokens_per_second: over all of the training, evaluations included.
        seconds: of training.
    """

    name: str
    folder: Path
    status: str
    steps: int
    train_loss: float | None
    best_val_loss: float | None
    best_step: int | None
    best_bits_per_byte: float | None
    tokens_per_second: float | None
    seconds: float


@dataclass(frozen=True)
class RunPlot:
    """Runs that were drawn: their numbers, their curves, and the files."""

    runs: tuple[RunSummary, ...]
    curves: tuple[RunCurves, ...]
    files: tuple[Path, ...]


def plot_runs(
    runs: Sequence[str | Path | Run] | str | Path | Run | None = None,
    *,
    out: str | Path | None = None,
    x: str = "step",
    y: Sequence[str] = DEFAULT_Y,
    smooth: int = DEFAULT_SMOOTH,
) -> RunPlot:
    """Draw the curves of one or many runs, finished or not.

    Args:
        runs: folders, names under runs/ or opened runs; None: the newest one.
        out: a file (.png, .svg) or a folder for both. None: training_curves.png in the folder of
            a single run, loss_curves.png here for several.
        x, y, smooth: as `curves_figure` takes them.

    Raises:
        RunError: no such run, or one that has measured nothing yet.
        UsageError: axes or a format that there is not.
        MissingExtraError: matplotlib is not installed.
        ToolkitError: the figure cannot be written.
    """
    check_columns(x, y, smooth)
    if runs is None or isinstance(runs, str | Path | Run):
        runs = [runs] if isinstance(runs, Run) else [Run.open(runs)]
    opened = [run if isinstance(run, Run) else Run.open(run) for run in runs]
    if not opened:
        raise UsageError("Nothing to draw: name at least one run.")
    name = TRAINING_CURVES if len(opened) == 1 else LOSS_CURVES
    if out is None:
        out = (opened[0].folder if len(opened) == 1 else Path()) / f"{name}.png"
    files = _files(Path(out), name)
    curves = [read_curves(run) for run in opened]
    figure = curves_figure(curves, x=x, y=y, smooth=smooth)
    from toolkit.reporting.figures import render

    for file in files:
        write_bytes(file, render(figure, file.suffix[1:]))
    summaries = tuple(map(_summary, opened, curves))
    return RunPlot(summaries, tuple(curves), tuple(files))


def write_training_curves(run: Run) -> Path | None:
    """training_curves.png in the run's folder; None, and nothing, without matplotlib or metrics.

    Raises:
        ToolkitError: the file could not be written.
    """
    try:
        return plot_runs(run).files[0]
    except (MissingExtraError, RunError):
        return None


def read_curves(run: Run) -> RunCurves:
    """What metrics.jsonl of a run holds, as columns; a half-written last line is left out.

    Raises:
        RunError: it has no measurements yet, or is damaged.
    """
    path = run.folder / METRICS_FILE
    rows = run.metrics()
    steps = [row for row in rows if row.get("kind") == "step"]
    evaluations = [row for row in rows if row.get("kind") == "evaluation"]
    if not steps and not evaluations:
        raise RunError(f"{run.folder} has measured nothing yet: {METRICS_FILE} has no lines.")
    try:
        names = ("step", "loss", "lr", "grad_norm", "tokens", "tokens_per_second")
        step = {name: [float(row[name]) for row in steps] for name in names}
        step["seconds"] = [float(row["elapsed"]) for row in steps]
        # Every step has as many tokens as the others.
        per_step = steps[-1]["tokens"] / steps[-1]["step"] if steps else 0.0
        evaluated = {
            "step": [float(row["step"]) for row in evaluations],
            "tokens": [row["step"] * per_step for row in evaluations],
            "seconds": [float(row["elapsed"]) for row in evaluations],
            "loss": [float(row["val_loss"]) for row in evaluations],
            "bits_per_byte": [float(row["bits_per_byte"]) for row in evaluations],
        }
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise RunError(f"{path} is damaged: {type(error).__name__} {error}.") from error
    return RunCurves(run.name, step, evaluated)


def _files(out: Path, name: str) -> list[Path]:
    if out.is_dir() or not out.suffix:
        return [out / f"{name}.{file_format}" for file_format in _FORMATS]
    if out.suffix.lower()[1:] not in _FORMATS:
        raise UsageError(f"--out {out}: figures are .png or .svg, or a folder for both.")
    return [out]


def _summary(run: Run, curves: RunCurves) -> RunSummary:
    step, evaluated, best = curves.step, curves.evaluated, curves.best
    seconds = max([*step["seconds"][-1:], *evaluated["seconds"][-1:]])
    found: dict[str, Any] = {"best_val_loss": None, "best_step": None, "best_bits_per_byte": None}
    if best is not None:
        found = {
            "best_val_loss": evaluated["loss"][best],
            "best_step": int(evaluated["step"][best]),
            "best_bits_per_byte": evaluated["bits_per_byte"][best],
        }
    return RunSummary(
        name=run.name,
        folder=run.folder,
        status=run.info.status,
        steps=int(max([*step["step"][-1:], *evaluated["step"][-1:]])),
        train_loss=step["loss"][-1] if step["loss"] else None,
        tokens_per_second=step["tokens"][-1] / step["seconds"][-1]
        if step["tokens"] and step["seconds"][-1] > 0
        else None,
        seconds=seconds,
        **found,
    )
