"""Where the time of a training step goes on a CPU.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --threads 1 --dtype bfloat16

Of the two speedruns' models on tiny Shakespeare's characters. The loader and the optimizer (with
clipping) are timed inside real steps. What Python and torch's dispatch cost is measured by steps of
the same model on a single token: hardly anything is left to compute there. The rest is computation:
forward and backward.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from measuring import machine

from toolkit.pipeline import TrainingSession
from toolkit.training.devices import autocast

WARM_UP = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(json.dumps({**machine(), "threads": options.threads, "dtype": options.dtype}))
    print("model            step   loader  optimizer  Python  forward and backward   (ms, medians)")
    for budget in (15.0, 90.0):
        with tempfile.TemporaryDirectory() as folder:
            session = TrainingSession.start(
                "tiny-shakespeare",
                "char",
                speedrun=budget,
                device="cpu",
                dtype=options.dtype,
                out=Path(folder) / "run",
            )
            report(session, options.steps)


def report(session: TrainingSession, steps: int) -> None:
    """One line: milliseconds of each part, and their share of a step."""
    trainer, config = session.trainer, session.model.config
    spent: dict[str, list[float]] = {"step": [], "loader": [], "optimizer": [], "Python": []}
    parts = [
        (trainer.loader, "next_batch", "loader"),
        (trainer.optimizer, "step", "optimizer"),
        (torch.nn.utils, "clip_grad_norm_", "optimizer"),
    ]
    for number in range(WARM_UP + steps):
        if number == WARM_UP:
            for times in spent.values():
                times.clear()
        inside = {"loader": 0.0, "optimizer": 0.0}
        with timed_calls(parts, inside):
            spent["step"].append(seconds(trainer.train_step))
        for name, value in inside.items():
            spent[name].append(value)
        spent["Python"].append(seconds(lambda: one_token(session)))
        trainer.optimizer.zero_grad()
    median = {name: 1000 * statistics.median(times) for name, times in spent.items()}
    step = median.pop("step")
    rest = step - sum(median.values())
    cells = [f"{value:.2f} ({100 * value / step:.1f}%)" for value in [*median.values(), rest]]
    name = f"{config.n_layer} x {config.n_embd}, {config.block_size}"
    print(f"{name:14} {step:6.2f}  " + "  ".join(cells), flush=True)


def one_token(session: TrainingSession) -> None:
    """Forward and backward of one token: all of a step's calls, hardly any of its numbers."""
    ids = torch.zeros(1, 1, dtype=torch.long)
    with autocast(torch.device("cpu"), session.trainer.dtype):
        loss = session.model(ids, ids).loss
    assert loss is not None
    loss.backward()


def seconds(task: Callable[[], Any]) -> float:
    began = time.perf_counter()
    task()
    return time.perf_counter() - began


@contextmanager
def timed_calls(parts: list[tuple[Any, str, str]], spent: dict[str, float]) -> Iterator[None]:
    """While it lasts, the named methods add their time to `spent`."""
    originals = [getattr(owner, method) for owner, method, _ in parts]

    def timed(method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*arguments, **options)
            finally:
                spent[name] += time.perf_counter() - began

        return call

    for (owner, method, name), original in zip(parts, originals, strict=True):
        setattr(owner, method, timed(original, name))
    try:
        yield
    finally:
        for (owner, method, _), original in zip(parts, originals, strict=True):
            setattr(owner, method, original)


if __name__ == "__main__":
    main()
