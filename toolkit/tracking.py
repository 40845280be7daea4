"""Trackers: listeners that write a training's events for TensorBoard or Weights & Biases.

    toolkit.train("tiny-shakespeare", "char", track="tensorboard", out="runs/first")
    # tensorboard --logdir runs

Both get the numbers of metrics.jsonl under the same names, the samples as text and all options. A
resumed run goes on in the same place: TensorBoard is told to forget what came after the checkpoint,
and Weights & Biases, which cannot forget, is not told again what it knows.

Both packages are the extra `track`; they are imported when a tracker is made.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from toolkit.errors import MissingExtraError, ToolkitError, UnknownNameError
from toolkit.run import Run
from toolkit.training.events import Evaluated, Event, Sampled, StepDone

TENSORBOARD_FOLDER = "tensorboard"
_EXTRA = "track"


class Tracker(ABC):
    """What takes the events of one run."""

    note: str
    """Where the numbers go, for a display."""

    @abstractmethod
    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Numbers of a step, by name."""

    @abstractmethod
    def sample(self, step: int, text: str) -> None:
        """Text that the model wrote."""

    @abstractmethod
    def close(self, *, failed: bool) -> None:
        """The training has ended."""

    def tell(self, event: Event) -> None:
        """Write what an event says; most of them say nothing that is tracked."""
        if isinstance(event, Sampled):
            self.sample(event.step, event.text)
        elif isinstance(event, StepDone | Evaluated):
            self.scalars(event.step, scalars_of(event))


def scalars_of(event: StepDone | Evaluated) -> dict[str, float]:
    """The numbers of an event, by the names that trackers show."""
    if isinstance(event, StepDone):
        return {
            "train/loss": event.loss,
            "train/lr": event.lr,
            "train/grad_norm": event.grad_norm,
            "train/tokens_per_second": event.tokens_per_second,
        }
    scores = {f"val/{name}": value for name, value in event.scores.items()}
    return {"val/loss": event.val_loss, "val/bits_per_byte": event.bits_per_byte, **scores}


def tracker_names(track: str | Iterable[str]) -> tuple[str, ...]:
    """The names in `track`, in commas or one by one, each once; their packages are installed.

    >>> tracker_names("tensorboard, tensorboard")
    ('tensorboard',)

    Raises:
        UnknownNameError: no such tracker.
        MissingExtraError: its package is not installed.
    """
    given = [track] if isinstance(track, str) else list(track)
    names = [name.strip() for part in given for name in part.split(",") if name.strip()]
    for name in names:
        if name not in _TRACKERS:
            raise UnknownNameError("tracker", name, _TRACKERS)
        try:
            __import__(name)
        except ImportError as error:
            raise MissingExtraError(_EXTRA, f"tracking with {name}") from error
    return tuple(dict.fromkeys(names))


def open_tracker(name: str, run: Run, step: int) -> Tracker:
    """Begin to track `run`, or go on after `step` steps; run.json remembers the tracker.

    Raises:
        UnknownNameError, MissingExtraError: as `tracker_names`.
        ToolkitError: it could not start.
    """
    tracker_names(name)
    return _TRACKERS[name](run, step)


# -- TensorBoard ------------------------------------------------------------------------------


class TensorBoardTracker(Tracker):
    """Event files in RUN/tensorboard, written with TensorBoard's own writer: no TensorFlow."""

    def __init__(self, run: Run, step: int) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = run.folder / TENSORBOARD_FOLDER
        self.note = f"tensorboard, tensorboard --logdir {folder}"
        self._event: Any = event_pb2.Event
        try:
            self._writer = EventFileWriter(str(folder))
        except OSError as error:
            raise ToolkitError(f"Could not write {folder}: {error.strerror}.") from error
        if step:
            # Readers drop what they have at this step and later: an interrupted run may have
            # gone further than its checkpoint.
            started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._add(step + 1, session_log=started)
        else:
            options = {name: _plain(value) for name, value in options_of(run).items()}
            summary = hparams_pb(options, trial_id=run.name, start_time_secs=time.time())
            self._add(0, summary=summary)
        run.update(tracking={**run.info.tracking, "tensorboard": {}})

    def scalars(self, step: int, values: dict[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        numbers = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(step, summary=Summary(value=numbers))

    def sample(self, step: int, text: str) -> None:
        from tensorboard.plugins.text.summary_v2 import text_pb

        # Indented, so that it is shown as it is: the text is taken for Markdown.
        indented = "\n".join(f"    {line}" for line in text.splitlines())
        self._add(step, summary=text_pb("sample", indented))

    def close(self, *, failed: bool) -> None:
        self._writer.close()

    def _add(self, step: int, **content: Any) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, **content))


# -- Weights & Biases -------------------------------------------------------------------------


class WandbTracker(Tracker):
    """A run of Weights & Biases with its files in RUN/wandb.

    Without an account (nobody is logged in) it is an offline run: `wandb sync` uploads it later.
    WANDB_MODE, WANDB_PROJECT and wandb's other variables mean what they always mean.
    """

    def __init__(self, run: Run, step: int) -> None:
        import wandb

        mode, why = _wandb_mode(wandb)
        known = run.info.tracking.get("wandb", {})
        self._known = _measured_steps(run) if known else {}
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "toolkit"),
                name=run.name,
                id=known.get("id"),
                resume="allow",
                dir=str(run.folder),
                config=options_of(run),
                mode=mode,
                # Nothing is printed and nothing of the terminal is recorded.
                settings=wandb.Settings(silent=True, console="off", disable_git=True),
            )
        except (wandb.Error, OSError) as error:
            reason = " ".join(str(error).split())
            raise ToolkitError(
                f"wandb could not start: {reason}. WANDB_MODE=offline tracks without a network."
            ) from error
        self.note = f"wandb, {self._run.url or _offline_note(self._run, why)}"
        run.update(tracking={**run.info.tracking, "wandb": {"id": self._run.id}})

    def scalars(self, step: int, values: dict[str, float]) -> None:
        new = {
            name: value
            for name, value in values.items()
            if step > self._known.get(name.partition("/")[0], 0)
        }
        if new:
            self._run.log(new, step=step)

    def sample(self, step: int, text: str) -> None:
        if step > self._known.get("sample", 0):
            self._run.log({"sample": text}, step=step)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=1 if failed else 0)


def _wandb_mode(wandb: Any) -> tuple[Any, str]:
    """What to give `wandb.init`, and why; None leaves it to WANDB_MODE."""
    if os.environ.get("WANDB_MODE"):
        return None, "as WANDB_MODE says"
    # With silent settings: the answer is all that is asked for, and nobody is prompted.
    wandb.setup(wandb.Settings(silent=True))
    return (None, "") if wandb.login(prompt=False, verify=False) else ("offline", "not logged in")


def _offline_note(run: Any, why: str) -> str:
    return f"offline ({why}), upload with: wandb sync {run.dir.removesuffix('/files')}"


# -- both -------------------------------------------------------------------------------------

_TRACKERS: dict[str, Callable[[Run, int], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
}


def options_of(run: Run) -> dict[str, Any]:
    """Everything that a run was started with, flat: "training/learning_rate", "corpus/name" …"""
    info = run.info
    options = {
        "corpus/name": info.corpus["name"],
        "corpus/sha256": info.corpus["sha256"],
        "corpus/held_out": info.corpus["held_out"],
        "tokenizer/spec": info.tokenizer["spec"],
        "tokenizer/vocab_size": info.tokenizer["vocab_size"],
        "model/name": info.model["name"],
        "model/size": info.model["size"],
        "model/num_params": info.model["num_params"],
        "device": info.device,
    }
    options |= {f"model/{name}": value for name, value in info.model["config"].items()}
    return options | {f"training/{name}": value for name, value in info.training.items()}


def _plain(value: Any) -> bool | int | float | str:
    """What TensorBoard's table of options can hold."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def _measured_steps(run: Run) -> dict[str, int]:
    """Up to which step a run has been tracked, which may be beyond its checkpoint.

    metrics.jsonl has it: of "train" and "val" the last line each. A sample comes after the line of
    its step, so that of the last step may be missing.
    """
    last = {"step": 0, "evaluation": 0}
    for row in run.metrics():
        last[str(row.get("kind"))] = int(row.get("step", 0))
    return {"train": last["step"], "val": last["evaluation"], "sample": last["step"] - 1}
