"""What `toolkit sweep` shows: a table that fills while trials train, then sorted by what they gave.

In a pipe, a line for each trial when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from toolkit import console
from toolkit.sweeping import Sweep, SweepEvent, Trial, TrialEnded, TrialStarted
from toolkit.training import Evaluated, StepDone

OnEvent = Callable[[str, SweepEvent], None]
_COLUMNS = ("step", "loss", "best loss", "bits/byte", "time", "status")
_STYLES = {"running": "bold cyan", "failed": "red", "waiting": "dim", "best": "bold green"}
_MOST_ROWS = 20  # of the table that fills: a longer one would leave the screen


class _Row:
    """What is known of a trial so far, as it is shown."""

    def __init__(self, trial: Trial) -> None:
        self.options = [_short(value) for value in trial.options.values()]
        self.take(TrialEnded(trial))

    def take(self, event: SweepEvent) -> None:
        if isinstance(event, TrialStarted | TrialEnded):
            trial = event.trial
            self.status = trial.status
            self.step = f"{trial.steps:,}" if trial.steps else ""
            self.loss = "" if trial.train_loss is None else f"{trial.train_loss:.4f}"
            self.best = "" if trial.best_val_loss is None else f"{trial.best_val_loss:.4f}"
            self.bits = "" if trial.bits_per_byte is None else f"{trial.bits_per_byte:.3f}"
            self.time = console.format_duration(trial.seconds) if trial.seconds else ""
        elif isinstance(event, StepDone):
            self.step, self.loss = f"{event.step:,}", f"{event.loss:.4f}"
            self.time = console.format_duration(event.elapsed)
        elif isinstance(event, Evaluated) and event.best:
            self.best, self.bits = f"{event.val_loss:.4f}", f"{event.bits_per_byte:.3f}"

    def cells(self) -> list[str]:
        return [*self.options, self.step, self.loss, self.best, self.bits, self.time, self.status]


@contextmanager
def showing(*, quiet: bool) -> Iterator[OnEvent]:
    """Yield a listener that suits where the output goes."""
    rows: dict[str, _Row] = {}
    names: list[str] = []
    if quiet:
        yield lambda name, event: None
        return

    def take(name: str, event: SweepEvent) -> None:
        if isinstance(event, TrialStarted) and name not in rows:
            names[:] = names or list(event.trial.options)
            rows[name] = _Row(event.trial)
        rows[name].take(event)

    if console.out().is_terminal:
        with Live(
            console=console.out(),
            refresh_per_second=8,
            transient=True,
            get_renderable=lambda: _table(
                names, [(name, row.cells()) for name, row in rows.items()][-_MOST_ROWS:]
            ),
        ):
            yield take
        return

    def tell(name: str, event: SweepEvent) -> None:
        take(name, event)
        if isinstance(event, TrialEnded):
            trial = event.trial
            found = "" if trial.score is None else f"  bits/byte {rows[name].bits}"
            loss = f"  best loss {rows[name].best}" if rows[name].best else ""
            options = "  ".join(f"{key}={_short(value)}" for key, value in trial.options.items())
            why = f": {trial.error}" if trial.error else ""
            print(f"{name}  {options}  {trial.status}{why}{loss}{found}", flush=True)

    yield tell


def print_result(result: Sweep, *, quiet: bool) -> None:
    """The trials from best to worst, and what to do next."""
    if quiet:
        print(result.folder)
        return
    out = console.out()
    ranked = result.ranked
    rows = [(trial.name, _Row(trial).cells()) for trial in ranked]
    out.print()
    out.print(_table(list(ranked[0].options), rows, best=result.best))
    for trial in ranked:
        if trial.error:
            out.print(f"[dim]{trial.name}: {escape(trial.error)}[/dim]")
    done = sum(trial.status in ("finished", "failed") for trial in ranked)
    state = "Stopped" if result.interrupted else "Done"
    out.print(f"\n[bold]{state}[/bold]: {done} of {len(ranked)} trials.")
    if not result.complete:
        out.print("The same command goes on.")
    for path in result.files:
        out.print(f"{'Figure' if path.suffix == '.png' else 'Numbers':7}  {path}")
    if result.best is not None:
        folder = result.folder / result.best.name
        out.print(f"Best     {folder}")
        out.print(f"Curves   [cyan]toolkit plot {result.folder}/trial-*[/cyan]")


def _table(
    names: Sequence[str], rows: Sequence[tuple[str, list[str]]], best: Trial | None = None
) -> Table:
    table = Table("trial", box=None, pad_edge=False)
    for name in (*names, *_COLUMNS):
        table.add_column(escape(name), justify="left" if name == "status" else "right")
    for name, cells in rows:
        look = "best" if best is not None and name == best.name else cells[-1]
        table.add_row(name, *map(escape, cells), style=_STYLES.get(look, ""))
    return table


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
