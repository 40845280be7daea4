"""What happens while training, for whoever listens: displays, logs, tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class TrainResult:
    """How training ended.

    Attributes:
        steps: optimizer steps done.
        best_val_loss, best_step: the lowest validation loss in nats a token, and when.
        best_bits_per_byte: the same as bits per byte of text.
        train_loss: a running mean at the end.
        tokens: how many were trained on.
        elapsed: seconds of training, over all parts of a resumed run.
        interrupted: stopped from outside; it can be resumed.
        early_stopped: stopped because the validation loss no longer fell.
        overfitting: after the best loss the validation loss rose while the training loss fell.
        scores: what else was measured when the loss was best, by name.
    """

    steps: int
    best_val_loss: float | None
    best_step: int | None
    best_bits_per_byte: float | None
    train_loss: float | None
    tokens: int
    elapsed: float
    interrupted: bool = False
    early_stopped: bool = False
    overfitting: bool = False
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Compiled:
    """The training step was compiled, or, where `problem` says why, it was not."""

    seconds: float
    problem: str | None = None


@dataclass(frozen=True)
class StepDone:
    """A step that was logged (every `log_every` steps). `eta` is in seconds.

    `loss` is the plain cross-entropy, with label smoothing too. `grad_norm` is infinite where
    float16 overflowed and the step was left out.
    """

    step: int
    max_steps: int | None
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    tokens_per_second: float
    elapsed: float
    eta: float | None


@dataclass(frozen=True)
class Evaluated:
    """The validation part was measured, all of it; `scores` are what else was, by name."""

    step: int
    train_loss: float | None
    val_loss: float
    bits_per_byte: float
    best: bool
    elapsed: float
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sampled:
    """Text from the model as it is now."""

    step: int
    text: str


@dataclass(frozen=True)
class CheckpointSaved:
    """All that resuming needs is on disk."""

    step: int
    path: Path


@dataclass(frozen=True)
class Overfitting:
    """The validation loss has risen above its best, and the training loss went on falling.

    `stops_after` is the number of evaluations without a better loss that ends this training; 0:
    it goes on.
    """

    step: int
    val_loss: float
    train_loss: float
    best_val_loss: float
    best_step: int
    stops_after: int


@dataclass(frozen=True)
class EarlyStopped:
    """The validation loss has not fallen for `patience` evaluations."""

    step: int
    patience: int


@dataclass(frozen=True)
class Interrupted:
    """Ctrl-C: the state is saved (`CheckpointSaved` came before), training ends."""

    step: int


@dataclass(frozen=True)
class Finished:
    """The last event."""

    result: TrainResult


Event = (
    Compiled
    | StepDone
    | Evaluated
    | Overfitting
    | Sampled
    | CheckpointSaved
    | EarlyStopped
    | Interrupted
    | Finished
)
