"""Where a training is, what it has learned so far, and whether it overfits.

A model overfits when it goes on learning its text while what it has learned no longer holds for the
rest: the training loss falls and the validation loss rises. Both are asked for, over several
evaluations and by more than chance does, so that one unlucky evaluation is no alarm.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from toolkit.training.events import Overfitting

OVERFITTING_EVALUATIONS = 3  # without a better loss, before it is called overfitting
OVERFITTING_MARGIN = 0.01  # of the best loss: what two evaluations differ by without a trend
STOP_EVALUATIONS = 10  # without a better loss, before overfitting ends a training by itself


@dataclass
class Progress:
    """Where training is; all of it goes into a checkpoint.

    Attributes:
        best_train_loss: the training loss when the validation loss was best.
        best_scores: what else was measured at the best loss, by name.
        overfitting_from: the step of the best loss, once overfitting was noticed; a better loss
            takes it back.
    """

    step: int = 0
    elapsed: float = 0.0
    evaluated_at: int = -1
    sampled_at: int = -1
    best_val_loss: float | None = None
    best_step: int | None = None
    evaluations_without_better: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    last_train_loss: float | None = None
    best_train_loss: float | None = None
    overfitting_from: int | None = None
    best_scores: dict[str, float] = field(default_factory=dict)

    def note_step(self, loss: float) -> None:
        """A step was done."""
        self.step += 1
        self.loss_sum += loss
        self.loss_count += 1

    def note_evaluation(self, val_loss: float) -> bool:
        """The validation loss was measured; returns whether it is the best so far."""
        self.evaluated_at = self.step
        self.last_train_loss = self.train_loss
        self.loss_sum, self.loss_count = 0.0, 0
        best = self.best_val_loss is None or val_loss < self.best_val_loss
        if best:
            self.best_val_loss, self.best_step = val_loss, self.step
            self.best_train_loss = self.last_train_loss
            self.evaluations_without_better = 0
            self.overfitting_from = None
        else:
            self.evaluations_without_better += 1
        return best

    def notice_overfitting(self, val_loss: float, early_stop: int | None) -> Overfitting | None:
        """Overfitting, where `val_loss`, noted last, is the first sign that is sure enough."""
        best, best_step, train = self.best_val_loss, self.best_step, self.last_train_loss
        if best is None or best_step is None or train is None or self.best_train_loss is None:
            return None
        if self.overfitting_from is not None:
            return None
        if self.evaluations_without_better < OVERFITTING_EVALUATIONS:
            return None
        if val_loss <= best * (1 + OVERFITTING_MARGIN) or train >= self.best_train_loss:
            return None
        self.overfitting_from = best_step
        return Overfitting(self.step, val_loss, train, best, best_step, self.patience(early_stop))

    def patience(self, early_stop: int | None) -> int:
        """After how many evaluations without a better loss to stop; 0: not at all."""
        if early_stop is not None:
            return early_stop
        return STOP_EVALUATIONS if self.overfitting_from is not None else 0

    @property
    def train_loss(self) -> float | None:
        """The mean since the last evaluation, or that of the one before where no step was done."""
        return self.loss_sum / self.loss_count if self.loss_count else self.last_train_loss
