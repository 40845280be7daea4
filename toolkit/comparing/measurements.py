"""Time and memory of two models, measured in turn, so that what else the machine does hits both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from toolkit.comparing.result import Memory
from toolkit.training import Trainer
from toolkit.training.devices import autocast

ROUNDS = 5  # of generation, after one that does not count


class Step(NamedTuple):
    """One step: `allocated` are on cuda the bytes that it had at most beyond those before."""

    loss: float
    grad_norm: float
    seconds: float
    allocated: int | None


def timed_step(trainer: Trainer) -> Step:
    """Do one step, and measure it."""
    cuda = trainer.device.type == "cuda"
    before = 0
    if cuda:
        torch.cuda.synchronize(trainer.device)
        torch.cuda.reset_peak_memory_stats(trainer.device)
        before = torch.cuda.memory_allocated(trainer.device)
    began = time.perf_counter()
    loss, norm, _ = trainer.train_step()
    if not cuda:
        return Step(loss, norm, time.perf_counter() - began, None)
    torch.cuda.synchronize(trainer.device)
    seconds = time.perf_counter() - began
    most = torch.cuda.max_memory_allocated(trainer.device)
    return Step(loss, norm, seconds, most - before)


def step_memory(trainer: Trainer, forward: Callable[[], Tensor], transient: int | None) -> Memory:
    """The bytes of a step.

    Args:
        forward: the loss of a batch; its backward pass is not run.
        transient: a step's `allocated`.
    """
    module = trainer.trained
    # Tables that are not learned are no weights: transformers has some of them as parameters.
    weights = gradients = sum(_num_bytes(p) for p in module.parameters() if p.requires_grad)
    optimizer = sum(
        _num_bytes(value)
        for state in trainer.optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )
    with _kept(module) as kept, autocast(trainer.device, trainer.dtype):
        forward()
    peak = None if transient is None else weights + optimizer + transient
    return Memory(weights, gradients, optimizer, sum(kept.values()), peak)


@contextmanager
def _kept(module: nn.Module) -> Iterator[dict[int, int]]:
    """Yield the bytes that autograd keeps, by storage: views of one are one, weights are none."""
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}
    alive: list[Any] = []  # so that no address is given away twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def generation_speeds(
    writers: dict[str, Callable[[int], list[int]]], new_tokens: int, device: torch.device
) -> tuple[dict[str, float], dict[str, list[int]]]:
    """Tokens a second of each writer, the median of several rounds in which all take their turn;
    and what each wrote."""
    seconds: dict[str, list[float]] = {name: [] for name in writers}
    texts: dict[str, list[int]] = {}
    for number in range(ROUNDS + 1):
        for name, write in writers.items():
            began = time.perf_counter()
            texts[name] = write(new_tokens)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:  # the first round loads and compiles
                seconds[name].append(time.perf_counter() - began)
    return {name: new_tokens / statistics.median(times) for name, times in seconds.items()}, texts
