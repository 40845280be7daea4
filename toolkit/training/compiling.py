"""torch.compile: one program for a training step instead of one kernel after another.

What is compiled is the forward pass of training, and with it the backward pass. The model itself
stays as it is: its parameters keep their names, so that a checkpoint or a saved model opens
anywhere, and evaluation and samples, whose shapes change from call to call, compile nothing anew.

Batches of pairs have other lengths each time. Their program is made for lengths that vary: one for
all of them, from two tokens on, which every text has with its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.errors import TrainingError, UsageError
from toolkit.models import LanguageModel, LMOutput
from toolkit.training.config import TrainConfig
from toolkit.training.distributed import World

BACKEND = "inductor"
# Where nobody has said. Compiling may take a minute, which a shorter training does not earn back.
MIN_STEPS = 2000
MIN_SECONDS = 600.0


@dataclass(frozen=True)
class Compilation:
    """What became of it.

    Attributes:
        forward: computes what the model computes; the model itself where there is a `problem`.
        seconds: how long it took.
        problem: why there is no faster one, in one line.
    """

    forward: Callable[..., LMOutput]
    seconds: float
    problem: str | None = None


def compiling_pays(config: TrainConfig, device: torch.device) -> bool:
    """Whether to compile where nobody has said: in long trainings on cuda.

    Not on a CPU: of a model of size "micro" a step took as long as without (0.36 s and 0.35 s, on
    one core of a busy machine), and compiling took three minutes.
    """
    if device.type != "cuda":
        return False
    many_steps = config.max_steps is None or config.max_steps >= MIN_STEPS
    return many_steps and (config.max_time is None or config.max_time >= MIN_SECONDS)


def require_compilable(config: TrainConfig, world: World) -> None:
    """Raise UsageError where compiling is asked for, and the world's processes cannot have it."""
    if config.compile and not world.takes_compiled:
        raise UsageError("--compile is not for --parallel fsdp: leave one of them out.")


def compile_training(model: LanguageModel, config: TrainConfig, world: World) -> Compilation:
    """What `compile_model` makes of a training's model, in all processes or in none.

    Raises:
        TrainingError: it was asked for, and it fails.
    """
    rows = config.batch_size // world.size
    found = compile_model(model, rows, with_targets=not config.label_smoothing)
    if not world.any(found.problem is not None):
        return found
    problem = found.problem or "it failed in another process"
    if config.compile:
        raise TrainingError(
            f"--compile: torch.compile does not work here: {problem}. "
            "Train without it: --no-compile."
        )
    return Compilation(model, found.seconds, problem)


def compile_model(model: LanguageModel, rows: int, *, with_targets: bool) -> Compilation:
    """Compile the model's forward and backward pass for batches of so many rows, and try them.

    torch.compile works when it is first called: without trying, a missing C++ compiler or Triton
    would show in the middle of a training. The model's gradients are dropped.
    """
    began = time.monotonic()
    ids, targets, *source = _example(model, rows)
    forward = torch.compile(model, backend=BACKEND, dynamic=True if source else None)
    try:
        output = forward(ids, targets if with_targets else None, *source)
        loss = output.logits.float().mean() if output.loss is None else output.loss
        torch.autograd.backward(loss)
    except Exception as error:  # whatever a compiler raises: its classes differ by backend
        cause = getattr(error, "inner_exception", error)  # torch says first that it wraps one
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0].rstrip(".:")
        return Compilation(model, time.monotonic() - began, reason)
    finally:
        model.zero_grad(set_to_none=True)
    return Compilation(forward, time.monotonic() - began)


def _example(model: LanguageModel, rows: int) -> list[Tensor]:
    """A batch of the shapes that are trained on: ids and targets (B, T), maybe a source (B, S)."""

    def zeros(length: int) -> Tensor:
        return torch.zeros(rows, length, dtype=torch.int64, device=model.device)

    if not model.takes_source:
        return [zeros(model.block_size), zeros(model.block_size)]
    # Of sizes that are equal here, or 1, or the most there can be, torch would conclude that they
    # always are, and compile anew where they are not.
    lengths = [n for n in range(2, model.block_size) if n != rows] or [model.block_size]
    target, source = lengths[-1], lengths[max(len(lengths) - 2, 0)]
    return [zeros(target), zeros(target), zeros(source)]
