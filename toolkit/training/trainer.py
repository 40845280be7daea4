"""The training loop. It yields events and prints nothing.

Same seed, same machine, same result; on a CPU a resumed run equals an uninterrupted one bit for
bit. To that end nothing that only looks (evaluation, logging, samples) touches the random state,
and a checkpoint holds all of the rest.

Several processes run the same loop side by side; what they have to agree on is in `distributed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from toolkit.data import TrainingData, bits_per_byte
from toolkit.errors import RunError, TrainingError, UsageError
from toolkit.models import LanguageModel
from toolkit.training.checkpoint import CHECKPOINT_FOLDER, save_checkpoint
from toolkit.training.clock import Clock
from toolkit.training.compiling import compile_training, compiling_pays, require_compilable
from toolkit.training.config import TrainConfig
from toolkit.training.devices import autocast, resolve_dtype, tf32
from toolkit.training.distributed import World, join_world
from toolkit.training.ema import AveragedWeights
from toolkit.training.evaluation import validation_loss
from toolkit.training.events import (
    CheckpointSaved,
    Compiled,
    EarlyStopped,
    Evaluated,
    Event,
    Finished,
    Interrupted,
    Sampled,
    StepDone,
    TrainResult,
)
from toolkit.training.interrupts import StopOnSignal
from toolkit.training.layer_rates import require_layers
from toolkit.training.metrics import MetricsFile, Speed, evaluation_row, step_row
from toolkit.training.optimizer_step import DivergenceError, OptimizerStep
from toolkit.training.optimizers import Optimizer, make_optimizer
from toolkit.training.progress import Progress
from toolkit.training.randomness import OwnRandom
from toolkit.training.schedules import scheduled_rate
from toolkit.training.state import TrainingState

if TYPE_CHECKING:
    from toolkit.data.training_data import Batch


class Trainer:
    """Trains a model on a dataset.

    With a `folder`, metrics.jsonl and checkpoint/ are written there.
    """

    def __init__(
        self,
        model: LanguageModel,
        dataset: TrainingData,
        config: TrainConfig,
        *,
        folder: str | Path | None = None,
        sample: Callable[[LanguageModel], str] | None = None,
        score: Callable[[LanguageModel], dict[str, float]] | None = None,
        save_best: Callable[[LanguageModel], None] | None = None,
        observe: Callable[[LanguageModel, int], None] | None = None,
        world: World | None = None,
    ) -> None:
        """
        Args:
            dataset: what to train and to validate on.
            sample: makes a text from the model, every `sample_every` steps.
            score: measures something else than the loss, at every evaluation, and leaves the model
                as it is.
            save_best: called when the validation loss is the lowest so far, and at the end of a
                training without validation.
            observe: shown the model and its step, before training and every `track_internals`
                steps; it leaves the model as it is.
            world: the processes that train together; None: as torchrun's variables say.

        Raises:
            UsageError: too little text for a window, a device that is not there, an option for
                layers and a model without, or --compile with --parallel fsdp.
        """
        if dataset.vocab_size > model.config.vocab_size:
            raise UsageError(
                f"The dataset has {dataset.vocab_size} tokens, the model knows "
                f"{model.config.vocab_size}: they do not belong together."
            )
        require_layers(model, config)
        self.config = config
        self.dataset = dataset
        self._world = world or join_world(config.parallel, config.device)
        require_compilable(config, self._world)
        self.device = self._world.device(config.device)
        self.dtype = resolve_dtype(config.dtype, self.device)
        rows = self._world.rows(config.batch_size)
        self.model = model.to(self.device)
        model.gradient_checkpointing = config.gradient_checkpointing
        module, self.optimizer = self._prepare()
        self.loader = dataset.loader(
            batch_size=config.batch_size,
            block_size=model.block_size,
            seed=config.seed,
            device=self.device,
            rows=rows,
        )
        self.progress = Progress()
        self._folder = Path(folder) if folder is not None else None
        self._sample = sample
        self._score = score
        self._save_best = save_best
        self._observe = observe
        # Each process drops out other channels; with one process it is the seed itself.
        self._random = OwnRandom(config.seed + self._world.rank, self.device)
        self.average = AveragedWeights(model, config.ema) if config.ema else None
        # Evaluation and samples call the model itself.
        self._stepper = OptimizerStep(
            model,
            module,
            self.optimizer,
            config,
            dtype=self.dtype,
            world=self._world,
            random=self._random,
        )
        writes = self._folder is not None and self._world.is_main
        self._metrics = MetricsFile(self._folder) if self._folder and writes else None

    def _prepare(self) -> tuple[nn.Module, Optimizer]:
        """What to call in training, and what changes the weights."""
        return self._world.prepare(self.model), make_optimizer(self.model, self.config)

    @property
    def trained(self) -> nn.Module:
        """Whose parameters the optimizer changes: the model."""
        return self.model

    def close(self) -> None:
        """Let go of what training has started beside the caller: here nothing."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.progress.step

    def run(self) -> Iterator[Event]:
        """Train to the end of `max_steps` or `max_time`, or until a signal or early stopping.

        Raises:
            TrainingError: the loss or a gradient is not a finite number; the last checkpoint is
                from before.
            ToolkitError: a checkpoint could not be written; the one before is still there.
        """
        agree = self._world.any if self._world.size > 1 else None
        with StopOnSignal(agree) as signals:
            yield from self._loop(signals)

    def _loop(self, signals: StopOnSignal) -> Iterator[Event]:
        config, progress = self.config, self.progress
        clock = Clock(config, self._world, progress)
        early_stopped = False
        if self._metrics is not None:
            self._metrics.drop_later()
        self.model.train()
        if self._compiles() and not clock.is_over():
            yield self._compile()
        speed = Speed(self._tokens())
        while True:
            # First what belongs after the step that was done last, also by an interrupted run.
            # Asked once: time may run out below, and the last step must not miss its evaluation.
            over = clock.is_over()
            for event in self._after_step(clock, signals, over):
                yield event
                early_stopped = early_stopped or isinstance(event, EarlyStopped)
            if signals.stopped or early_stopped or over:
                break
            loss, grad_norm, lr = self.train_step()
            progress.elapsed = clock.elapsed()
            if progress.step % config.log_every == 0 or progress.step == 1:
                yield self._log(loss, grad_norm, lr, speed, clock)
        if not signals.stopped and progress.best_step is None:
            with self._averaged():
                self._save_weights()
        if self._folder is not None:
            yield self._checkpoint()
        if signals.stopped:
            yield Interrupted(progress.step)
        yield Finished(self._result(interrupted=signals.stopped, early_stopped=early_stopped))

    # -- one step -----------------------------------------------------------------------------

    def train_step(self) -> tuple[float, float, float]:
        """One optimizer step and nothing else; returns loss, gradient norm and learning rate.

        Raises:
            TrainingError: the loss or a gradient is not a finite number.
        """
        lr = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        batches = [self.loader.next_batch() for _ in range(self.config.grad_accumulation)]
        try:
            loss, grad_norm = self._update(batches)
        except DivergenceError as problem:
            raise self._divergence(problem) from None
        if self.average is not None:
            self.average.update(self.progress.step)
        self.progress.note_step(loss)
        return loss, grad_norm, lr

    def _update(self, batches: list[Batch]) -> tuple[float, float]:
        """Change the weights by the batches of one step; returns loss and gradient norm."""
        return self._stepper.take(batches)

    @property
    def _scaler(self) -> torch.GradScaler:
        return self._stepper.scaler

    def _divergence(self, what: DivergenceError) -> TrainingError:
        kept = ""
        if self._folder is not None and (self._folder / CHECKPOINT_FOLDER).exists():
            kept = f" The last good checkpoint is kept in {self._folder / CHECKPOINT_FOLDER}."
        return TrainingError(
            f"{what} at step {self.progress.step + 1}: training has diverged. Try a lower "
            f"--learning-rate than {self.config.learning_rate:g}, or a longer --warmup-steps.{kept}"
        )

    def _learning_rate(self) -> float:
        return scheduled_rate(self.config, self.progress.step, self.progress.elapsed)

    def _tokens(self) -> int:
        return self.loader.num_tokens(self.progress.step * self.config.grad_accumulation)

    # -- between steps ------------------------------------------------------------------------

    def _after_step(self, clock: Clock, signals: StopOnSignal, last: bool) -> Iterator[Event]:
        config, progress = self.config, self.progress
        step = progress.step
        self._show_inside()
        if step == 0:
            return
        if (last or step % config.eval_every == 0) and progress.evaluated_at != step:
            yield from self._evaluate(clock, signals)
        if signals.stopped:
            return
        due = config.sample_every > 0 and step % config.sample_every == 0
        if due and progress.sampled_at != step and self._sample is not None:
            progress.sampled_at = step
            text: str | None = None
            with self._random.lent(keep=False), self._averaged():
                model = self._world.whole(self.model)
                if model is not None:
                    text = self._sample(model)
                    model.train()
            if text is not None:
                yield Sampled(step, text)
        progress.elapsed = clock.elapsed()
        patience = progress.patience(config.early_stop)
        if patience and progress.evaluations_without_better >= patience:
            yield EarlyStopped(step, patience)
            return
        due = config.checkpoint_every > 0 and step % config.checkpoint_every == 0
        if due and not last and self._folder is not None:
            yield self._checkpoint()

    def _show_inside(self) -> None:
        """Twice after the same step, where training is resumed: with the same result."""
        every, step = self.config.track_internals, self.progress.step
        if self._observe is None or not every or step % every:
            return
        with self._random.lent(keep=False), self._averaged():
            model = self._world.whole(self.model)
            if model is not None:
                self._observe(model, step)

    def _evaluate(self, clock: Clock, signals: StopOnSignal) -> Iterator[Event]:
        """Measure the validation part, unless there is none, or a signal cuts it short."""
        if self.dataset.num_tokens("val") < 2:
            return
        progress = self.progress
        first = progress.best_step is None
        with self._averaged(), self._tf32():
            if first:
                # Measuring takes time, and nothing can be better yet: have it safe before.
                self._save_weights()
            loss = validation_loss(
                self.model,
                self.dataset,
                dtype=self.dtype,
                stop=lambda: signals.stopped,
                world=self._world,
            )
            if loss is None:
                return
            progress.elapsed = clock.elapsed()
            if not math.isfinite(loss):
                raise self._divergence(DivergenceError(loss, 0.0))
            best = progress.note_evaluation(loss)
            if best and not first:
                self._save_weights()
            scores = self._scores()
            if best:
                progress.best_scores = scores
        event = Evaluated(
            progress.step,
            progress.last_train_loss,
            loss,
            self._bits_per_byte(loss),
            best,
            progress.elapsed,
            scores,
        )
        if self._metrics is not None:
            self._metrics.append(evaluation_row(event))
        yield event
        overfitting = progress.notice_overfitting(loss, self.config.early_stop)
        if overfitting is not None:
            yield overfitting

    def _scores(self) -> dict[str, float]:
        """What is measured beside the loss; nothing in processes beside the main one."""
        if self._score is None:
            return {}
        model = self._world.whole(self.model)
        return {} if model is None else self._score(model)

    def _save_weights(self) -> None:
        if self._save_best is None:
            return
        model = self._world.whole(self.model)
        if model is not None:
            self._save_best(model)

    def _bits_per_byte(self, loss: float) -> float:
        dataset = self.dataset
        return bits_per_byte(loss, dataset.num_tokens("val"), dataset.num_bytes("val"))

    def _log(
        self, loss: float, grad_norm: float, lr: float, speed: Speed, clock: Clock
    ) -> StepDone:
        progress, tokens = self.progress, self._tokens()
        event = StepDone(
            progress.step,
            self.config.max_steps,
            loss,
            lr,
            grad_norm,
            tokens,
            speed.tokens_per_second(tokens),
            progress.elapsed,
            clock.eta(),
        )
        if self._metrics is not None:
            self._metrics.append(step_row(event))
        return event

    def _result(self, *, interrupted: bool, early_stopped: bool) -> TrainResult:
        progress = self.progress
        best = progress.best_val_loss
        return TrainResult(
            progress.step,
            best,
            progress.best_step,
            None if best is None else self._bits_per_byte(best),
            progress.train_loss,
            self._tokens(),
            progress.elapsed,
            interrupted,
            early_stopped,
            overfitting=progress.overfitting_from is not None,
            scores=progress.best_scores,
        )

    # -- how it computes ----------------------------------------------------------------------

    def _averaged(self) -> AbstractContextManager[None]:
        """A context in which the model is the one to look at: with --ema the averaged one."""
        return nullcontext() if self.average is None else self.average.applied()

    def _tf32(self) -> AbstractContextManager[None]:
        return tf32(self.device, self.dtype, self.config.tf32)

    def _compiles(self) -> bool:
        """Whether to compile the training step: as was said, or where it pays."""
        if self.config.compile is not None:
            return self.config.compile
        # Where batches differ in shape, or are divided, it has not been measured.
        alike = self._world.size == 1 and not self.model.takes_source
        return alike and compiling_pays(self.config, self.device)

    def _compile(self) -> Compiled:
        """Compile the training step; where it fails, training goes on without.

        Raises:
            TrainingError: it was asked for, and it fails.
        """
        with self._random.lent(keep=False), self._tf32(), autocast(self.device, self.dtype):
            found = compile_training(self.model, self.config, self._world)
        if found.problem is None:
            self._stepper.use(found.forward)
        return Compiled(found.seconds, found.problem)

    # -- checkpoints and randomness -----------------------------------------------------------

    def _checkpoint(self) -> CheckpointSaved:
        assert self._folder is not None
        folder, world = self._folder / CHECKPOINT_FOLDER, self._world
        checkpoint = self._state().gather(self.progress, world)
        if world.is_main:
            save_checkpoint(folder, checkpoint)
        return CheckpointSaved(self.progress.step, folder)

    def load_checkpoint(self) -> None:
        """Continue where the checkpoint in `folder` was written.

        Raises:
            RunError: no checkpoint, or one that is damaged, newer, or of another model.
        """
        if self._folder is None:
            raise RunError("A Trainer without a folder has no checkpoint to load.")
        self.progress = self._state().restore(self._folder / CHECKPOINT_FOLDER, self._world)

    def _state(self) -> TrainingState:
        return TrainingState(
            self.model,
            self.trained,
            self.optimizer,
            self._scaler,
            self.loader,
            self._random,
            self.average,
            self._metrics,
        )
