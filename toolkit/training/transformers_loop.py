"""transformers' `Trainer`, asked for one optimizer step at a time.

Its loop calls those who listen; ours is asked for the next event by whoever shows it. So their loop
runs in a thread of its own and stands still wherever it wants more batches: one of the two sides
runs while the other waits, never both, and nothing depends on which is faster.

    loop = TransformersLoop(twin, optimizer, options)
    loss, grad_norm = loop.step(batches)
    loop.close()

What it is given are our optimizer, our learning rates and our batches; forward, backward,
accumulation, mixed precision, clipping and the exchange between processes are transformers' and
accelerate's. It prints nothing, reports nowhere and saves nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import random
import tempfile
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from toolkit.models.hf_twin import HuggingFaceTwin
from toolkit.training.distributed import SET_BY_TORCHRUN, launched
from toolkit.training.optimizers import Optimizer
from toolkit.training.transformers_loss import StepLoss

if TYPE_CHECKING:
    from toolkit.data.training_data import Batch


@dataclass(frozen=True)
class LoopOptions:
    """What transformers' `TrainingArguments` are made from.

    Attributes:
        device, dtype: of the computation.
        grad_accumulation: batches of a step.
        grad_clip: the largest gradient norm; 0: no limit.
        label_smoothing: see `TrainConfig`.
        batch_size: rows of a batch, of this process.
        seed: of this process.
    """

    device: torch.device
    dtype: torch.dtype
    grad_accumulation: int
    grad_clip: float
    label_smoothing: float
    batch_size: int
    seed: int


class TransformersLoop:
    """One training by transformers' `Trainer`.

    Attributes:
        scaler: of float16's gradients; None in other dtypes.
    """

    def __init__(self, twin: HuggingFaceTwin, optimizer: Optimizer, options: LoopOptions) -> None:
        self._twin = twin
        self._orders: queue.Queue[list[Batch] | None] = queue.Queue()
        self._outcomes: queue.Queue[BaseException | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._loss = torch.zeros((), device=options.device)
        self._grad_norm = math.nan
        with _quiet(), _without_variables():
            self._trainer = _make_trainer(self, twin, optimizer, options)
        self.scaler: torch.GradScaler | None = self._trainer.accelerator.scaler

    def step(self, batches: list[Batch]) -> tuple[Tensor, float]:
        """One optimizer step on these batches: its loss, a scalar of this process, and the length
        of the gradient before it was clipped."""
        self._loss = torch.zeros_like(self._loss)
        if self._thread is None:
            # A daemon: whoever forgets `close` can end nevertheless.
            self._thread = threading.Thread(target=self._run, name="transformers", daemon=True)
            self._thread.start()
        self._orders.put(batches)
        problem = self._outcomes.get()
        if problem is not None:
            self._thread = None
            raise problem
        return self._loss, self._grad_norm

    def close(self) -> None:
        """End transformers' loop."""
        if self._thread is not None:
            self._orders.put(None)
            self._thread.join()
            self._thread = None

    # -- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._trainer.train()
        except _Ended:  # the caller does not wait
            return
        except BaseException as problem:  # for the caller's side to raise
            self._outcomes.put(problem)

    def batches(self) -> Iterator[dict[str, Tensor]]:
        """What transformers' loop reads; whoever asks for more has done a step."""
        first = True
        while True:
            if not first:
                self._outcomes.put(None)
            first = False
            order = self._orders.get()
            if order is None:
                raise _Ended
            for batch in order:
                yield self._twin.inputs(*batch)

    def note_loss(self, loss: Tensor) -> None:
        """A batch's share of the step's plain loss."""
        self._loss = self._loss + loss

    def note_grad_norm(self, norm: float) -> None:
        """The length of the step's gradient."""
        self._grad_norm = norm


class _Ended(Exception):  # noqa: N818  # a signal, no error
    """The loop was closed."""


class _Batches(IterableDataset[dict[str, Tensor]]):
    """The loop's batches, as transformers wants them."""

    def __init__(self, loop: TransformersLoop) -> None:
        self._loop = loop

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self._loop.batches()


class _Rates:
    """What transformers takes for a learning-rate schedule.

    The rates are in the optimizer already when a step begins: they depend on the time, too.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def step(self) -> None:
        """The next rate is set by the caller of the loop."""

    def get_last_lr(self) -> list[float]:
        """Of each group."""
        return [group["lr"] for group in self._optimizer.param_groups]


class _AsTorchs(torch.optim.Optimizer):
    """Muon as accelerate wants an optimizer: of torch's class."""

    def __init__(self, optimizer: Optimizer) -> None:
        # Not torch's own __init__, which would make groups and state of its own.
        self._optimizer = optimizer
        self.param_groups = optimizer.param_groups
        self.state = optimizer.state
        self.defaults = {}

    def step(self, closure: Any = None) -> Any:
        self._optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self._optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: accelerate reads it and gives it back, moved to where it is already."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""


def _make_trainer(
    loop: TransformersLoop, twin: HuggingFaceTwin, optimizer: Optimizer, options: LoopOptions
) -> Any:
    """transformers' Trainer for a loop; its classes exist where transformers is installed."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    own_loss = twin.model.takes_source or options.label_smoothing > 0
    step_loss = StepLoss(options.label_smoothing) if own_loss else None

    class Listener(TrainerCallback):
        def on_log(
            self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
        ) -> None:
            if logs and "grad_norm" in logs:
                loop.note_grad_norm(float(logs["grad_norm"]))
            # It would keep every step's until the end.
            state.log_history.clear()

    class SteppedTrainer(Trainer):
        def get_train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
            # Not accelerate's, which reads one batch ahead: where a checkpoint is written, what was
            # read is what was trained on. Its own generator: torch's belongs to dropout.
            own = torch.Generator().manual_seed(0)
            return DataLoader(_Batches(loop), batch_size=None, generator=own)

        def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
            loss: Tensor = super().training_step(*args, **kwargs)
            # It makes its loss larger by that, for the mean over the processes that comes after.
            processes = self.accelerator.num_processes
            loop.note_loss(loss if step_loss is None else step_loss.plain * processes)
            return loss

    arguments = TrainingArguments(
        # Nothing is saved there, but it is made.
        output_dir=tempfile.gettempdir(),
        # Whoever asks for the steps knows when it is enough.
        max_steps=2**31,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.grad_accumulation,
        # A batch's loss is a part of the mean over the targets of all processes' batches.
        average_tokens_across_devices=True,
        ddp_find_unused_parameters=False,
        max_grad_norm=options.grad_clip or math.inf,
        bf16=options.dtype == torch.bfloat16,
        fp16=options.dtype == torch.float16,
        use_cpu=options.device.type == "cpu",
        seed=options.seed % 2**32,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        log_level="error",
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
        eval_strategy="no",
        remove_unused_columns=False,
    )
    if options.device.type == "cuda":
        # Several devices in one process would each get a copy of the model (DataParallel).
        arguments._n_gpu = 1
    theirs = optimizer if isinstance(optimizer, torch.optim.Optimizer) else _AsTorchs(optimizer)
    rates: Any = _Rates(optimizer)  # declared as a class of torch's; this is what is used of it
    trainer = SteppedTrainer(
        model=twin.hf,
        args=arguments,
        compute_loss_func=step_loss,
        train_dataset=_Batches(loop),
        optimizers=(theirs, rates),
        callbacks=[Listener()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A context in which transformers says nothing; afterwards it speaks as before, and the random
    states of Python and NumPy, which it seeds, are the caller's again."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    states = random.getstate(), np.random.get_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        random.setstate(states[0])
        np.random.set_state(states[1])


@contextlib.contextmanager
def _without_variables() -> Iterator[None]:
    """A context without the variables that change what our options say, or what is printed.

    accelerate reads its own where `TrainingArguments` say nothing: in bfloat16 it computes with
    ACCELERATE_MIXED_PRECISION=bf16, and `accelerate launch` sets more. Of torchrun's, which others
    set as well, it takes a part for the whole. With WANDB_MODE transformers writes to standard
    output when it is imported; to wandb it reports nothing here.
    """
    away = {name for name in os.environ if name.startswith("ACCELERATE_")} | {"WANDB_MODE"}
    if not launched():
        away |= set(SET_BY_TORCHRUN)
    names = away & os.environ.keys()
    taken = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(taken)
