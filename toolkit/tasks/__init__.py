"""Pairs of texts to learn from: made by a rule, or read from a file.

task = load_task("reverse")
task.pool(0, 2, seed=1)       # two pairs to train on
task.held_out                 # pairs that no pool has
"""

from __future__ import annotations

from toolkit.tasks.base import Pair, PairTask, is_held_out
from toolkit.tasks.files import FileTask
from toolkit.tasks.registry import available_tasks, load_task
from toolkit.tasks.synthetic import SyntheticTask

__all__ = [
    "FileTask",
    "Pair",
    "PairTask",
    "SyntheticTask",
    "available_tasks",
    "is_held_out",
    "load_task",
]
