"""The learning rate range test (Smith 2015, arXiv:1506.01186, section 3.3).

The learning rate rises by the same factor with every step. Where it is too low the loss stays,
then it falls, and where it is too high it rises; a good rate is where it falls fastest. The loss
against the rate is a picture of one model, batch size and optimizer, so the test runs the very
steps of a training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.data import TrainingData
from toolkit.errors import TrainingError, UsageError
from toolkit.models import LanguageModel
from toolkit.smoothing import exponential_mean
from toolkit.training.config import TrainConfig
from toolkit.training.interrupts import StopOnSignal
from toolkit.training.trainer import Trainer

LOWEST, HIGHEST = 1e-6, 10.0
STEPS = 100
DIVERGED = 4.0  # times the lowest smoothed loss
SMOOTHING = 0.8  # a mean over about 5 steps: longer ones see a fall too late
_LEAST_STEPS = 10

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LearningRateRange:
    """What the range test measured.

    Attributes:
        learning_rates: of each step, a geometric sequence; with "muon" those of the matrices.
        losses: of each step's batch, before the step, in nats a token.
        smoothed: their exponential mean.
        diverged: whether the smoothed loss rose to 4 times its lowest (or was no number), which
            ended the test.
        interrupted: whether Ctrl-C ended it.
    """

    learning_rates: Floats
    losses: Floats
    smoothed: Floats
    diverged: bool
    interrupted: bool = False

    @property
    def suggestion(self) -> float:
        """The rate at which the smoothed loss falls fastest, against the logarithm of the rate.

        Looked for before the lowest smoothed loss; where that is the first step, the first rate.
        """
        end = self._lowest + 1
        if end < 2:
            return float(self.learning_rates[0])
        slopes = np.gradient(self.smoothed[:end], np.log(self.learning_rates[:end]))
        return float(self.learning_rates[int(np.argmin(slopes))])

    @property
    def lowest_loss_rate(self) -> float:
        """The rate with the lowest smoothed loss: the edge, where a training would diverge soon."""
        return float(self.learning_rates[self._lowest])

    @property
    def _lowest(self) -> int:
        return int(np.argmin(self.smoothed))


def rising_rates(low: float, high: float, steps: int) -> Floats:
    """`steps` learning rates from `low` to `high`, each the same factor above the one before.

    >>> rising_rates(0.001, 1, 10)[[0, 3, 6, 9]].round(6).tolist()
    [0.001, 0.01, 0.1, 1.0]

    Raises:
        UsageError: a range that does not rise, or too few steps.
    """
    if not 0 < low < high < np.inf:
        raise UsageError(
            f"Learning rates from {low:g} to {high:g} cannot be tested: the first must be above 0, "
            "and the second above the first."
        )
    if steps < _LEAST_STEPS:
        raise UsageError(f"A range test takes at least {_LEAST_STEPS} steps, not {steps}.")
    return np.asarray(np.geomspace(low, high, steps), dtype=np.float64)


def range_test(
    model: LanguageModel,
    dataset: TrainingData,
    config: TrainConfig,
    *,
    low: float = LOWEST,
    high: float = HIGHEST,
    steps: int = STEPS,
    on_step: Callable[[int, float, float], None] | None = None,
) -> LearningRateRange:
    """Train `model` with rising learning rates, and put its weights back.

    Every group of an optimizer rises in proportion: with "muon", the rate of all else keeps its
    ratio to that of the matrices. Schedule, warm-up and evaluations of `config` play no part.

    Args:
        on_step: told the step, its learning rate and its loss.

    Raises:
        UsageError: a range that does not rise, too few steps, or too little text for a window.
    """
    rates = rising_rates(low, high, steps)
    before = copy.deepcopy(model.state_dict())
    training = model.training
    losses: list[float] = []
    diverged = False
    try:
        trainer = _RisingTrainer(model, dataset, config, rates)
        model.train()
        with StopOnSignal() as signals:
            while len(losses) < steps and not diverged and not (losses and signals.stopped):
                try:
                    loss, *_ = trainer.train_step()
                except TrainingError:
                    diverged = True
                    break
                losses.append(loss)
                smoothed = exponential_mean(losses, SMOOTHING)
                diverged = smoothed[-1] > DIVERGED * min(smoothed)
                if on_step is not None:
                    on_step(len(losses), float(rates[len(losses) - 1]), loss)
    finally:
        model.load_state_dict(before)
        model.train(training)
    if not losses:
        raise TrainingError("The first loss is no number: there is nothing to test.")
    return LearningRateRange(
        rates[: len(losses)].copy(),
        np.array(losses),
        np.array(exponential_mean(losses, SMOOTHING)),
        diverged,
        interrupted=signals.stopped,
    )


class _RisingTrainer(Trainer):
    """A trainer whose steps take given learning rates."""

    def __init__(
        self, model: LanguageModel, dataset: TrainingData, config: TrainConfig, rates: Any
    ):
        super().__init__(model, dataset, config)
        self._rates = rates

    def _learning_rate(self) -> float:
        return float(self._rates[self.progress.step])
