"""What `toolkit ladder` shows: a table that fills while the models train, or a line for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from toolkit import console
from toolkit.ladder import LadderEvent, RungFinished, RungStarted
from toolkit.reporting.ladder_report import Ladder
from toolkit.training import Evaluated, StepDone

OnEvent = Callable[[str, LadderEvent], None]
_COLUMNS = ("parameters", "step", "train loss", "val loss", "bits/byte", "time")
_SAMPLE_LINES = 4


@dataclass
class _Row:
    """What is known of a model so far, as it is shown."""

    state: str = "waiting"
    parameters: str = ""
    step: str = ""
    train_loss: str = ""
    val_loss: str = ""
    bits: str = ""
    time: str = ""

    def take(self, event: LadderEvent) -> None:
        if isinstance(event, RungStarted):
            self.state, self.parameters = "training", f"{event.num_params:,}"
        elif isinstance(event, StepDone):
            self.step, self.train_loss = f"{event.step:,}", f"{event.loss:.4f}"
            self.time = f"{event.elapsed:.1f} s"
        elif isinstance(event, Evaluated):
            self.step, self.val_loss = f"{event.step:,}", f"{event.val_loss:.4f}"
            self.bits, self.time = f"{event.bits_per_byte:.3f}", f"{event.elapsed:.1f} s"
        elif isinstance(event, RungFinished):
            self.state, rung = "done", event.rung
            self.step, self.val_loss = f"{rung.steps:,}", f"{rung.val_loss:.4f}"
            self.bits, self.time = f"{rung.bits_per_byte:.3f}", f"{rung.seconds:.1f} s"

    def cells(self) -> tuple[str, ...]:
        return (
            self.parameters,
            self.step,
            self.train_loss,
            self.val_loss,
            self.bits,
            self.time,
        )


@contextmanager
def showing(
    names: Sequence[str], *, as_json: bool, quiet: bool, verbose: bool
) -> Iterator[OnEvent]:
    """Yield a listener that suits where the output goes."""
    rows = {name: _Row() for name in names}
    if as_json or quiet:
        yield lambda name, event: None
    elif console.out().is_terminal:
        with Live(console=console.out(), refresh_per_second=8, get_renderable=lambda: _table(rows)):
            yield lambda name, event: rows[name].take(event)
    else:
        width = max(len(name) for name in names)

        def tell(name: str, event: LadderEvent) -> None:
            # Not before something has begun: until then an error may still be all there is to say.
            if isinstance(event, RungStarted) and name == names[0]:
                _print_line("model".ljust(width), _COLUMNS)
            rows[name].take(event)
            if isinstance(event, RungFinished) or (verbose and isinstance(event, Evaluated)):
                _print_line(name.ljust(width), rows[name].cells())

        yield tell


def _print_line(name: str, cells: Sequence[str]) -> None:
    print(name, *(cell.rjust(10) for cell in cells), sep="  ", flush=True)


def _table(rows: dict[str, _Row]) -> Table:
    table = Table("model", box=None, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, justify="right", min_width=9)
    styles = {"waiting": "dim", "training": "bold cyan", "done": ""}
    for name, row in rows.items():
        table.add_row(name, *row.cells(), style=styles[row.state])
    return table


def print_result(ladder: Ladder, files: Sequence[Path], *, quiet: bool) -> None:
    """The samples, what was left out, and where everything is."""
    if quiet:
        print(ladder.folder)
        return
    out = console.out()
    for rung in ladder.rungs:
        out.print(f"\n[bold]{rung.name}[/bold]")
        lines = (ladder.prompt + rung.sample).strip("\n").splitlines()[:_SAMPLE_LINES]
        for line in lines:
            out.print(f"    [dim]|[/dim] {escape(line)}")
    out.print(f"\nEach model: {ladder.budget}, on {escape(ladder.corpus)}, seed {ladder.seed}.")
    if ladder.left_out:
        out.print(f"Left out: {', '.join(ladder.left_out)}.")
    if ladder.interrupted:
        out.print("Stopped by Ctrl-C: the models after that are not trained.")
    out.print(f"Runs    {ladder.folder}")
    for path in files:
        if path.suffix in (".png", ".html"):
            out.print(f"{'Figure' if path.suffix == '.png' else 'Page':6}  {path}")
    if ladder.rungs:
        last = ladder.rungs[-1].folder
        out.print(f'Inside  [cyan]toolkit inspect "some text" --run {escape(str(last))}[/cyan]')
