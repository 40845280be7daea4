"""What `toolkit train --find-lr` shows: the curve in a terminal, and the rates to choose from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn

from toolkit import console
from toolkit.terminal_plot import line_chart
from toolkit.training.range_test import LearningRateRange

OnStep = Callable[[int, float, float], None]


@contextmanager
def showing(steps: int, *, quiet: bool) -> Iterator[OnStep]:
    """Yield a listener to the steps of the test; it shows a bar in a terminal."""
    if quiet or not console.err().is_terminal:
        yield lambda step, rate, loss: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[now]}"))
    with Progress(*columns, console=console.err(), transient=True) as bars:
        task = bars.add_task("range test", total=steps, now="")

        def show(step: int, rate: float, loss: float) -> None:
            bars.update(task, completed=step, now=f"lr {rate:.2e}  loss {loss:.4f}")

        yield show


def print_range(found: LearningRateRange, *, quiet: bool) -> None:
    """The suggestion and how it was come by; quiet: the suggestion alone."""
    if quiet:
        print(f"{found.suggestion:.2e}")
        return
    out = console.out()
    if out.is_terminal:
        chart = line_chart(
            found.learning_rates.tolist(), _cut(found), width=56, height=8, log_x=True
        )
        out.print("[dim]smoothed loss against learning rate[/dim]")
        out.print("\n".join(chart), style="green")
    last = found.learning_rates[-1]
    ended = f"diverged at {last:.2e}" if found.diverged else f"did not diverge up to {last:.2e}"
    ended = f"stopped by Ctrl-C at {last:.2e}" if found.interrupted else ended
    out.print(
        f"Range test   {found.learning_rates[0]:.2e} to {last:.2e} in {len(found.losses)} steps; "
        f"{ended}"
    )
    out.print(f"Lowest loss  {min(found.smoothed):.4f} at {found.lowest_loss_rate:.2e}")
    out.print(f"A tenth      {found.lowest_loss_rate / 10:.2e}, of the rate with the lowest loss")
    out.print(f"[bold]Suggestion   {found.suggestion:.2e}[/bold], where the loss falls fastest")
    out.print(f"Train with   [cyan]toolkit train --learning-rate {found.suggestion:.2g} …[/cyan]")


def print_files(files: list[Path], *, quiet: bool) -> None:
    """Where the figure and the numbers are."""
    if quiet:
        return
    for path in files:
        console.out().print(f"{'Figure' if path.suffix == '.png' else 'Numbers':11}  {path}")
    if len(files) == 1:
        console.notice("No figure: that needs pip install 'toolkit[plots]'")


def _cut(found: LearningRateRange) -> list[float]:
    """The curve without the height of its end, which would press all else flat."""
    top = found.smoothed[0] + 0.3 * (found.smoothed[0] - min(found.smoothed))
    return [float(min(loss, top)) for loss in found.smoothed]
