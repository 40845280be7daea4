"""The speedrun: the options that reach the lowest loss in a budget of wall-clock seconds.

The budget counts from the start of the process to weights that are saved; the validation loss is
measured after that. A short one is best spent on a small model that sees more text: the cost of a
step grows with the model, and what it learns from a character hardly does at first. All of them are
Qwen3's layout, so that a run opens in transformers as it is.

The numbers were chosen on tiny Shakespeare's characters on two CPU cores; `benchmarks/` measures.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import UsageError

DEFAULT_BUDGET = 15.0
_SAVING = 0.3  # seconds for the last step, and for the files of a small model


@dataclass(frozen=True)
class Speedrun:
    """Options for budgets from `seconds` on."""

    seconds: float
    model: dict[str, Any]
    training: dict[str, Any]


_EVERY_TRAINING = {
    "learning_rate": 0.03,
    "batch_size": 12,
    # Once, at the end: what is looked at on the way costs time.
    "eval_every": 1_000_000,
    "sample_every": 0,
    "checkpoint_every": 0,
    "max_steps": None,
    "log_every": 50,
}
_SPEEDRUNS = (
    Speedrun(
        0.0,
        {"n_layer": 3, "n_head": 3, "n_embd": 96, "block_size": 48},
        {"adam_learning_rate": 0.012},
    ),
    Speedrun(
        30.0,
        {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 64},
        {"adam_learning_rate": 0.006},
    ),
)


def speedrun_options(budget: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of model and training for so many seconds.

    >>> speedrun_options(15)[0]["n_embd"], speedrun_options(90)[0]["n_embd"]
    (96, 128)

    Raises:
        UsageError: a budget that is not above 0.
    """
    if not budget > 0:
        raise UsageError(f"--max-time {budget} must be above 0 seconds")
    chosen = [run for run in _SPEEDRUNS if run.seconds <= budget][-1]
    return dict(chosen.model), {**_EVERY_TRAINING, **chosen.training}


def seconds_to_train(budget: float, spent: float) -> float:
    """What is left of a budget for training after `spent` seconds, with the files still to write.

    Raises:
        UsageError: nothing is left.
    """
    left = budget - spent - _SAVING
    if left <= 0:
        raise UsageError(
            f"--max-time {budget:g} is too short for a speedrun: {spent:.1f} s were spent before "
            f"training, and saving takes about {_SAVING} s more."
        )
    return left


def process_age() -> float:
    """Seconds since this process was started, or since this module was imported where the system
    does not say (it does on Linux)."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        # Field 22 of the line is the time of the start in clock ticks after the machine's.
        return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.monotonic() - _IMPORTED


_IMPORTED = time.monotonic()
