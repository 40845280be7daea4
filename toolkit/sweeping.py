"""Sweeps: a training for each set of options, one table, and the same command goes on.

What `toolkit sweep` does, as a call:

    result = toolkit.sweep("lr.toml", out="runs/lr")
    result.best.options

Every trial is a run of its own in the sweep's folder, and sweep.json beside them holds the plan and
what became of each. Finished and failed trials are not tried again; an interrupted one goes on from
its checkpoint, to the bit. It prints nothing: listeners are told what happens.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from toolkit.corpora import DEFAULT_CORPUS, Corpus, load_corpus
from toolkit.errors import MissingExtraError, RunError, TrainingError, UsageError
from toolkit.files import write_bytes, write_json
from toolkit.jsonable import to_jsonable
from toolkit.pipeline import TrainingSession
from toolkit.preparing import DEFAULT_TOKENIZER
from toolkit.reporting.figures import render
from toolkit.reporting.sweep_figure import sweep_figure
from toolkit.run import DESCRIPTION_FILE, RUNS_FOLDER, Run
from toolkit.sweep_plan import (
    OF_TOKENIZER,
    READING,
    SweepPlan,
    make_plan,
    options_of_tokenizer,
    read_plan,
)
from toolkit.tokenizers import Tokenizer
from toolkit.training import Event, Finished
from toolkit.training.checkpoint import CHECKPOINT_FOLDER

SWEEP_FORMAT = 1
SWEEP_FILE = "sweep.json"
FIGURE_FILE = "sweep.png"
_OVER = ("finished", "failed")
# Options that `TrainingSession.start` is given in another form.
_OF_SESSION = (*READING, *OF_TOKENIZER, "corpus", "tokenizer")


@dataclass(frozen=True)
class Trial:
    """One set of options, and what it gave.

    Attributes:
        name: "trial-001" …, also of its folder.
        options: those in which trials differ.
        status: "waiting", "running", "interrupted", "finished" or "failed".
        steps, train_loss, best_val_loss, best_step, bits_per_byte, seconds: as in the run.
        error: why it failed.
    """

    name: str
    options: dict[str, Any]
    status: str = "waiting"
    steps: int = 0
    train_loss: float | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    bits_per_byte: float | None = None
    seconds: float = 0.0
    error: str | None = None

    @property
    def score(self) -> float | None:
        """What trials are compared by, lower is better: bits per byte, which tokenizers share; the
        training loss where nothing was held out. None until it is finished."""
        if self.status != "finished":
            return None
        return self.train_loss if self.bits_per_byte is None else self.bits_per_byte


@dataclass(frozen=True)
class TrialStarted:
    """A trial begins, or goes on."""

    trial: Trial


@dataclass(frozen=True)
class TrialEnded:
    """A trial is finished, failed or interrupted."""

    trial: Trial


SweepEvent = TrialStarted | Event | TrialEnded


@dataclass(frozen=True)
class Sweep:
    """A sweep as far as it has come.

    Attributes:
        folder: of sweep.json and the trials' runs.
        trials: in their order.
        interrupted: whether Ctrl-C ended it.
        files: what was written beside the runs.
    """

    folder: Path
    plan: SweepPlan
    trials: tuple[Trial, ...]
    interrupted: bool = False
    files: tuple[Path, ...] = ()

    @property
    def ranked(self) -> list[Trial]:
        """The best first, then those without a score in their order."""
        return sorted(self.trials, key=lambda t: (t.score is None, t.score or 0.0))

    @property
    def best(self) -> Trial | None:
        """The finished trial with the lowest score; None without any."""
        first = self.ranked[0]
        return None if first.score is None else first

    @property
    def complete(self) -> bool:
        """Whether every trial is finished or failed."""
        return all(trial.status in _OVER for trial in self.trials)


def sweep(
    plan: SweepPlan | str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    max_time: float | None = None,
    on_event: Callable[[str, SweepEvent], None] | None = None,
    on_progress: Callable[[str, int, int | None], None] | None = None,
) -> Sweep:
    """Train every trial of a plan, or go on where that was stopped.

    A trial whose options make it diverge or cannot start is recorded as failed, and the next one
    begins. runs/latest stays as it is.

    Args:
        plan: a TOML file, the same as a mapping, or a plan (`toolkit.sweep_plan`).
        out: the folder; None: runs/sweep-NAME of a file NAME.toml, runs/sweep otherwise.
        max_time: seconds after which no trial begins; the same call goes on with them.
        on_event: told the trial's name and what happens to it.
        on_progress: told how far preparations are.

    Returns:
        The result; after Ctrl-C as far as it came.

    Raises:
        UsageError: what is wrong with the plan, before anything is trained; or a folder with a
            sweep of another plan.
        ToolkitError: no corpus, a full disk, … The same call goes on when it is mended.
    """
    if max_time is not None and not max_time > 0:
        raise UsageError(f"--max-time {max_time} must be above 0 seconds")
    stem = f"sweep-{Path(plan).stem}" if isinstance(plan, str | Path) else "sweep"
    if isinstance(plan, str | Path):
        plan = read_plan(plan)
    elif not isinstance(plan, SweepPlan):
        plan = make_plan(plan)
    folder = RUNS_FOLDER / stem if out is None else Path(out)
    trials = _open(folder, plan)
    runner = _Runner(folder, plan, trials, on_event, on_progress)
    interrupted = runner.run(max_time)
    result = Sweep(folder, plan, tuple(runner.trials), interrupted, (folder / SWEEP_FILE,))
    figure = _write_figure(result)
    return result if figure is None else dataclasses.replace(result, files=(*result.files, figure))


class _Runner:
    """Trains the trials one after the other and keeps sweep.json up to date."""

    def __init__(
        self,
        folder: Path,
        plan: SweepPlan,
        trials: list[Trial],
        on_event: Callable[[str, SweepEvent], None] | None,
        on_progress: Callable[[str, int, int | None], None] | None,
    ) -> None:
        self.trials = trials
        self._folder = folder
        self._plan = plan
        self._tell = on_event or (lambda name, event: None)
        self._report = on_progress or (lambda name, done, total: None)
        self._corpora: dict[str, Corpus] = {}
        self._tokenizers: dict[str, Tokenizer] = {}

    def run(self, max_time: float | None) -> bool:
        """Train what is not over; whether Ctrl-C came."""
        began = time.monotonic()
        waiting = [place for place, trial in enumerate(self.trials) if trial.status not in _OVER]
        if waiting:
            for place in waiting:  # a corpus that is not there stops the sweep before it begins
                options = {**self._plan.base, **self.trials[place].options}
                if options.get("task") is None:
                    self._corpus(options)
            self._save()
        for place in waiting:
            if max_time is not None and time.monotonic() - began >= max_time:
                return False
            name = self.trials[place].name
            self._change(place, status="running")
            self._tell(name, TrialStarted(self.trials[place]))
            try:
                self._train(place)
            except (TrainingError, UsageError, torch.OutOfMemoryError) as error:
                # What the options have caused. Anything else would hit the next trial as well.
                reason = " ".join(str(error).split("\n"))
                self._change(place, status="failed", error=reason)
            self._tell(name, TrialEnded(self.trials[place]))
            if self.trials[place].status == "interrupted":
                return True
        return False

    def _train(self, place: int) -> None:
        trial = self.trials[place]
        session = self._session(trial)
        finished: Finished | None = None
        for event in session.events():
            if isinstance(event, Finished):
                finished = event
            self._tell(trial.name, event)
        assert finished is not None
        result = finished.result
        self._change(
            place,
            status="interrupted" if result.interrupted else "finished",
            steps=result.steps,
            train_loss=result.train_loss,
            best_val_loss=result.best_val_loss,
            best_step=result.best_step,
            bits_per_byte=result.best_bits_per_byte,
            seconds=result.elapsed,
        )

    def _session(self, trial: Trial) -> TrainingSession:
        """The trial's training: new, or from its checkpoint."""
        folder = self._folder / trial.name
        if (folder / CHECKPOINT_FOLDER).exists() and (folder / DESCRIPTION_FILE).exists():
            return TrainingSession.resume(folder.absolute())
        # What a kill left there before the first checkpoint: nothing of it can be used.
        shutil.rmtree(folder, ignore_errors=True)
        options = {**self._plan.base, **trial.options}
        others = {name: options[name] for name in options if name not in _OF_SESSION}
        if options.get("task") is not None:
            return TrainingSession.start(
                tokenizer=options.get("tokenizer"),
                out=folder,
                latest=False,
                tokenizer_options=options_of_tokenizer(options),
                on_progress=self._report,
                **others,
            )
        corpus = self._corpus(options)
        spec = options.get("tokenizer", DEFAULT_TOKENIZER)
        key = _key(options, "corpus", "tokenizer", "held_out", "size", *READING, *OF_TOKENIZER)
        known = self._tokenizers.get(key)
        session = TrainingSession.start(
            corpus,
            spec if known is None else known,
            tokenizer_spec=spec,
            out=folder,
            latest=False,
            tokenizer_options=options_of_tokenizer(options),
            on_progress=self._report,
            **others,
        )
        self._tokenizers[key] = session.tokenizer
        return session

    def _corpus(self, options: Mapping[str, Any]) -> Corpus:
        key = _key(options, "corpus", *READING)
        if key not in self._corpora:
            self._corpora[key] = load_corpus(
                options.get("corpus", DEFAULT_CORPUS),
                on_progress=lambda done, total: self._report("reading", done, total),
                **{name: options[name] for name in READING if name in options},
            )
        return self._corpora[key]

    def _change(self, place: int, **changes: Any) -> None:
        self.trials[place] = dataclasses.replace(self.trials[place], **changes)
        self._save()

    def _save(self) -> None:
        content = {
            "format": SWEEP_FORMAT,
            "plan": to_jsonable(self._plan),
            "trials": to_jsonable(self.trials),
        }
        write_json(self._folder / SWEEP_FILE, content)


def _key(options: Mapping[str, Any], *names: str) -> str:
    return json.dumps([options.get(name) for name in names])


def _open(folder: Path, plan: SweepPlan) -> list[Trial]:
    """The trials as the folder knows them, or all new ones.

    Raises:
        UsageError: the folder is of another plan, or of something else.
        RunError: its sweep.json is damaged or newer.
    """
    path = folder / SWEEP_FILE
    if not path.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} is not empty and not a sweep. Choose another --out.")
        return [
            Trial(f"trial-{number:03d}", options)
            for number, options in enumerate(plan.varied(), start=1)
        ]
    try:
        content = json.loads(path.read_bytes())
        version, recorded = content["format"], content["plan"]
        trials = [Trial(**trial) for trial in content["trials"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged: {type(error).__name__} {error}.") from error
    if version > SWEEP_FORMAT:
        raise RunError(f"{path} was written by a newer toolkit. Upgrade toolkit to go on with it.")
    if recorded != to_jsonable(plan):
        raise UsageError(
            f"{folder} holds a sweep of other options. Choose another --out, or restore the file "
            "that it was started with."
        )
    return [_as_far(folder, trial) for trial in trials]


def _as_far(folder: Path, trial: Trial) -> Trial:
    """The trial with what its run says: a kill may have come before sweep.json was written."""
    if trial.status in _OVER or not (folder / trial.name / DESCRIPTION_FILE).exists():
        return trial
    info = Run.open((folder / trial.name).absolute()).info
    if info.status != "finished":
        return trial
    result = info.result
    return dataclasses.replace(
        trial,
        status="finished",
        steps=result["steps"],
        train_loss=result["train_loss"],
        best_val_loss=result["best_val_loss"],
        best_step=result["best_step"],
        bits_per_byte=result["best_bits_per_byte"],
        seconds=result["elapsed"],
    )


def _write_figure(result: Sweep) -> Path | None:
    """sweep.png; None without matplotlib or without a finished trial."""
    done = [(trial.options, trial.score) for trial in result.trials if trial.score is not None]
    if not done:
        return None
    unit = "training loss" if any(t.bits_per_byte is None for t in result.trials if t.score) else ""
    try:
        figure = sweep_figure(
            [options for options, _ in done], [score for _, score in done], unit or "bits per byte"
        )
    except MissingExtraError:
        return None
    path = result.folder / FIGURE_FILE
    write_bytes(path, render(figure, "png"))
    return path
