"""The training display: listeners to what a `TrainingSession` yields.

Three of them: a live panel in a terminal, plain lines in a pipe, JSON lines for programs.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from toolkit import console
from toolkit.materials import Stage
from toolkit.pipeline import TrainingSession
from toolkit.smoothing import exponential_mean
from toolkit.terminal_plot import format_number, line_chart
from toolkit.training import (
    CheckpointSaved,
    Compiled,
    EarlyStopped,
    Evaluated,
    Event,
    Finished,
    Interrupted,
    Overfitting,
    Sampled,
    StepDone,
    TrainResult,
)

if TYPE_CHECKING:
    from toolkit.inspection import Walk
    from toolkit.tokenizers import Tokenizer

_SAMPLE_LINES = 8


def training_display(
    *, as_json: bool, quiet: bool, verbose: bool, silent: bool = False
) -> TrainingDisplay:
    """The display that suits where the output goes; a silent one shows nothing at all."""
    if silent:
        return SilentDisplay()
    if as_json:
        return JsonDisplay()
    if quiet:
        return QuietDisplay()
    if console.out().is_terminal:
        return LiveDisplay()
    return PlainDisplay(verbose)


class TrainingDisplay(ABC):
    """What a display does: stages before training, then events, then a summary."""

    def stage(self, stage: Stage) -> None:
        """Something was done before training."""
        console.out().print(f"[dim]{stage.name:>10}[/dim]  {stage.detail}")

    @contextmanager
    def preparing(self) -> Iterator[console.OnProgress]:
        """Yield a progress function for the work before training."""
        with console.progress_bars() as show:
            yield show

    def run(self, session: TrainingSession) -> None:
        """Train, showing every event, then the summary."""
        result = None
        for event in session.events():
            self.show(event)
            if isinstance(event, Finished):
                result = event.result
        if result is not None:
            self.summary(session, result)

    @abstractmethod
    def show(self, event: Event) -> None:
        """Show one event."""

    def walk(self, walk: Walk, tokenizer: Tokenizer, source_tokenizer: Tokenizer | None) -> None:
        """The forward pass of the step that comes next."""
        from toolkit import trace_view

        out = console.out()
        what = "this pair" if walk.source_ids else f"these {len(walk.ids)} tokens"
        out.print(f"\nThe next step begins with {what}.\n")
        trace_view.print_walk(walk, tokenizer, source_tokenizer=source_tokenizer)
        out.print()

    def drawn(self, files: Sequence[Path]) -> None:
        """Figures of a training that was followed; there may be none."""
        names = [file.name for file in files if file.suffix in (".png", ".gif")]
        if names:
            folder = files[0].parent.parent
            figures = "1 figure" if len(names) == 1 else f"{len(names)} figures"
            console.out().print(f"Seen from inside     {figures} in {folder}")

    def summary(self, session: TrainingSession, result: TrainResult) -> None:
        """Where the run is, how good it is, what to type next."""
        folder = session.run.folder
        out = console.out()
        took = console.format_duration(result.elapsed)
        state = "Stopped" if result.interrupted else "Done"
        out.print(f"\n[bold]{state}[/bold] after {result.steps:,} steps, {took}.")
        if result.best_val_loss is not None:
            bits = result.best_bits_per_byte
            tail = f" ({bits:.3f} bits per byte)" if bits is not None else ""
            when = f" at step {result.best_step:,}" if result.best_step != result.steps else ""
            out.print(f"Best validation loss {result.best_val_loss:.4f}{tail}{when}")
        if result.scores:
            out.print(f"Held-out pairs       {_scores(result.scores)}")
        if result.overfitting:
            out.print(
                "Overfitting          it only got worse from there; the best weights are kept"
            )
        out.print(f"Run folder           {folder}")
        if result.interrupted:
            out.print(f"Continue with        [cyan]toolkit train --resume --out {folder}[/cyan]")
        if (folder / "model.safetensors").exists():
            command = f'toolkit generate --run {folder} "{session.materials.first_prompt()}"'
            out.print(f"Generate with        [cyan]{command}[/cyan]")


class PlainDisplay(TrainingDisplay):
    """One line for what matters: for pipes, logs and CI."""

    def __init__(self, verbose: bool = False) -> None:
        self._verbose = verbose
        self._last: StepDone | None = None

    def show(self, event: Event) -> None:
        line = self._line(event)
        if line is not None:
            print(line, flush=True)

    def _line(self, event: Event) -> str | None:
        if isinstance(event, StepDone):
            self._last = event
            return _step_line(event) if self._verbose else None
        if isinstance(event, Evaluated):
            speed = (
                f"  {format_number(self._last.tokens_per_second)} tokens/s" if self._last else ""
            )
            eta = self._last.eta if self._last else None
            left = f"  {console.format_duration(eta)} left" if eta else ""
            train = f"train {event.train_loss:.4f}  " if event.train_loss is not None else ""
            best = "  best" if event.best else ""
            measure = _scores(event.scores) or f"{event.bits_per_byte:.3f} bits/byte"
            return (
                f"step {event.step:>6,}  {train}val {event.val_loss:.4f}  "
                f"{measure}{speed}{left}{best}"
            )
        if isinstance(event, Sampled):
            return "\n".join(f"    | {line}" for line in _sample_lines(event.text))
        return _rare_line(event, self._verbose)


class QuietDisplay(PlainDisplay):
    """Nothing but the last line: the run folder."""

    def stage(self, stage: Stage) -> None:
        pass

    @contextmanager
    def preparing(self) -> Iterator[console.OnProgress]:
        with console.progress_bars(quiet=True) as show:
            yield show

    def walk(self, walk: Walk, tokenizer: Tokenizer, source_tokenizer: Tokenizer | None) -> None:
        pass

    def show(self, event: Event) -> None:
        pass

    def drawn(self, files: Sequence[Path]) -> None:
        pass

    def summary(self, session: TrainingSession, result: TrainResult) -> None:
        print(session.run.folder)


class SilentDisplay(QuietDisplay):
    """Nothing: for a process beside the one that talks."""

    def summary(self, session: TrainingSession, result: TrainResult) -> None:
        pass


class JsonDisplay(TrainingDisplay):
    """One JSON object a line: `{"event": "Evaluated", "step": 100, …}`."""

    def stage(self, stage: Stage) -> None:
        self._write("Stage", dataclasses.asdict(stage))

    def walk(self, walk: Walk, tokenizer: Tokenizer, source_tokenizer: Tokenizer | None) -> None:
        from toolkit import trace_view

        told = trace_view.walk_to_json(walk, tokenizer, source_tokenizer=source_tokenizer)
        self._write("Walk", told)

    def drawn(self, files: Sequence[Path]) -> None:
        if files:
            self._write("Drawn", {"files": [str(file) for file in files]})

    def show(self, event: Event) -> None:
        self._write(type(event).__name__, console.to_jsonable(event))

    def summary(self, session: TrainingSession, result: TrainResult) -> None:
        self._write("Run", {"folder": str(session.run.folder), **session.run.info.to_json()})

    def _write(self, name: str, fields: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps({"event": name, **fields}, ensure_ascii=False) + "\n")
        sys.stdout.flush()


class LiveDisplay(TrainingDisplay):
    """A panel that redraws itself: progress, numbers, the loss curves, the newest sample."""

    def __init__(self) -> None:
        self._step: StepDone | None = None
        self._evaluated: Evaluated | None = None
        self._steps: list[float] = []
        self._losses: list[float] = []
        self._best: float | None = None
        self._sample = ""
        self._notes: list[str] = []
        self._live: Live | None = None

    def run(self, session: TrainingSession) -> None:
        with Live(console=console.out(), refresh_per_second=8, transient=False) as live:
            self._live = live
            result = None
            for event in session.events():
                self.show(event)
                if isinstance(event, Finished):
                    result = event.result
        if result is not None:
            self.summary(session, result)

    def show(self, event: Event) -> None:
        if isinstance(event, StepDone):
            self._step = event
            self._steps.append(event.step)
            self._losses.append(event.loss)
        elif isinstance(event, Evaluated):
            self._evaluated = event
            if self._best is None or event.val_loss < self._best:
                self._best = event.val_loss
        elif isinstance(event, Sampled):
            self._sample = event.text
        else:
            line = _rare_line(event, verbose=False)
            if line:
                self._notes.append(line)
        if self._live is not None:
            self._live.update(self._panel())

    def _panel(self) -> Group:
        parts: list[Any] = []
        if self._step is not None:
            parts.append(self._progress(self._step))
            parts.append(self._numbers(self._step))
        chart = line_chart(self._steps, exponential_mean(self._losses), width=56, height=6)
        if chart:
            parts.append(Text("training loss", style="dim"))
            parts.append(Text("\n".join(chart), style="green"))
        if self._sample:
            sample = Text("\n".join(_sample_lines(self._sample)))
            parts.append(Panel(sample, title="a sample", title_align="left", border_style="dim"))
        parts.extend(Text(note, style="yellow") for note in self._notes)
        return Group(*parts)

    def _progress(self, step: StepDone) -> Table:
        row = Table.grid(padding=(0, 1))
        share = _share_done(step)
        bar = BarColumn(bar_width=40)
        progress = Progress(bar, TextColumn("{task.percentage:>3.0f}%"))
        progress.add_task("", total=1000, completed=round(1000 * share))
        of = f" of {step.max_steps:,}" if step.max_steps else ""
        eta = f"{console.format_duration(step.eta)} left" if step.eta is not None else ""
        row.add_row(f"step {step.step:,}{of}", progress.get_renderable(), eta)
        return row

    def _numbers(self, step: StepDone) -> Table:
        row = Table.grid(padding=(0, 3))
        cells = [f"train loss [bold]{step.loss:.4f}[/bold]"]
        if self._evaluated is not None:
            cells.append(f"val loss [bold]{self._evaluated.val_loss:.4f}[/bold]")
            cells.append(f"best {self._best:.4f}")
            bits = f"{self._evaluated.bits_per_byte:.3f} bits/byte"
            cells.append(_scores(self._evaluated.scores) or bits)
        cells.append(f"{format_number(step.tokens_per_second)} tokens/s")
        cells.append(f"lr {step.lr:.2g}")
        row.add_row(*cells)
        return row


def _step_line(event: StepDone) -> str:
    return (
        f"step {event.step:>6,}  loss {event.loss:.4f}  lr {event.lr:.2e}  "
        f"grad norm {event.grad_norm:.3f}  {format_number(event.tokens_per_second)} tokens/s"
    )


def _rare_line(event: Event, verbose: bool) -> str | None:
    if isinstance(event, EarlyStopped):
        return (
            f"step {event.step:>6,}  the validation loss has not improved for {event.patience} "
            "evaluations: stopping; the best weights are kept"
        )
    if isinstance(event, Overfitting):
        return f"step {event.step:>6,}  {_overfitting_line(event)}"
    if isinstance(event, Compiled):
        if event.problem is not None:
            return f"not compiled, which would be faster: {event.problem}"
        return f"compiled in {console.format_duration(event.seconds)}"
    if isinstance(event, Interrupted):
        return f"step {event.step:>6,}  interrupted; saved, so that --resume continues here"
    if isinstance(event, CheckpointSaved) and verbose:
        return f"step {event.step:>6,}  checkpoint in {event.path}"
    return None


def _overfitting_line(event: Overfitting) -> str:
    if event.stops_after:
        end = f"it stops after {event.stops_after} evaluations without a better loss"
    else:
        end = "--early-stop N ends such a run sooner"
    return (
        f"overfitting: since step {event.best_step:,} the validation loss rose from "
        f"{event.best_val_loss:.4f} to {event.val_loss:.4f} while the training loss fell to "
        f"{event.train_loss:.4f}: the model learns its text by heart. The weights of step "
        f"{event.best_step:,} are kept. More text, a smaller model or --dropout helps; {end}"
    )


def _sample_lines(text: str) -> list[str]:
    lines = text.strip("\n").splitlines()
    shown = lines[:_SAMPLE_LINES]
    return [*shown, "…"] if len(lines) > _SAMPLE_LINES else shown


def _share_done(step: StepDone) -> float:
    by_steps = step.step / step.max_steps if step.max_steps else 0.0
    if step.eta is None:
        return by_steps
    total = step.elapsed + step.eta
    return max(by_steps, step.elapsed / total if total else 0.0)


def _scores(scores: Mapping[str, float]) -> str:
    """What was measured beside the loss: shares in percent, BLEU and chrF as they are."""
    shown = []
    for name, value in scores.items():
        points = name in ("bleu", "chrf")
        label = {"bleu": "BLEU", "chrf": "chrF"}.get(name, name.replace("_", " "))
        shown.append(f"{label} {value:.1f}" if points else f"{label} {value:.1%}")
    return ", ".join(shown)
