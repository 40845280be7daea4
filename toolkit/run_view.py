"""What `toolkit plot` prints: a table of the runs, and in a terminal the curve of the best."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from toolkit import console
from toolkit.run_plots import RunPlot
from toolkit.smoothing import exponential_mean
from toolkit.terminal_plot import format_number, line_chart


def print_plot(plot: RunPlot, *, quiet: bool) -> None:
    """The table, the curve where it can be seen, and where the figure is."""
    if not quiet:
        out = console.out()
        out.print(_table(plot))
        if out.is_terminal:
            _print_curve(plot)
    for file in plot.files:
        console.out().print(str(file) if quiet else f"Figure  {escape(str(file))}")


def _table(plot: RunPlot) -> Table:
    table = Table("run", "status", box=None, pad_edge=False)
    for name in ("steps", "best loss", "at step", "bits/byte", "tokens/s", "time"):
        table.add_column(name, justify="right")
    for run in plot.runs:
        table.add_row(
            escape(run.name),
            run.status,
            f"{run.steps:,}",
            _maybe(run.best_val_loss, "{:.4f}"),
            _maybe(run.best_step, "{:,}"),
            _maybe(run.best_bits_per_byte, "{:.3f}"),
            "–" if run.tokens_per_second is None else format_number(run.tokens_per_second),
            console.format_duration(run.seconds),
        )
    return table


def _print_curve(plot: RunPlot) -> None:
    losses = [run.best_val_loss for run in plot.runs]
    known = [number for number, loss in enumerate(losses) if loss is not None]
    best = min(known, key=lambda number: losses[number] or 0.0) if known else 0
    curves = plot.curves[best]
    steps, training = curves.logged("step", "loss")
    chart = line_chart(steps, exponential_mean(training), width=56, height=6)
    if chart:
        console.out().print(f"\n[dim]training loss of {escape(curves.name)}[/dim]")
        console.out().print("\n".join(chart), style="green")


def _maybe(value: Any, pattern: str) -> str:
    return "–" if value is None else pattern.format(value)
