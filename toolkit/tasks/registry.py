"""The tasks by name. A new one is a subclass of `SyntheticTask` and an entry here."""

from __future__ import annotations

import re
from pathlib import Path

from toolkit.errors import UnknownNameError, UsageError
from toolkit.tasks.base import PairTask
from toolkit.tasks.dates import DateTask
from toolkit.tasks.files import SUFFIXES, FileTask
from toolkit.tasks.synthetic import AddTask, CopyTask, ReverseTask, SortTask, SyntheticTask

TASKS: dict[str, type[SyntheticTask]] = {
    "copy": CopyTask,
    "reverse": ReverseTask,
    "sort": SortTask,
    "add": AddTask,
    "date": DateTask,
}


def available_tasks() -> list[str]:
    """The tasks that are made by a rule.

    >>> available_tasks()
    ['copy', 'reverse', 'sort', 'add', 'date']
    """
    return list(TASKS)


def load_task(spec: str, *, held_out: float = 0.1) -> PairTask:
    """The task that a spec names: `reverse`, `reverse:12` (with a length), or a file of pairs.

    Args:
        held_out: the share of all pairs that is kept to measure on.

    >>> load_task("add:2").spec
    'add:2'

    Raises:
        UsageError: there is no such task, or its file cannot be read.
    """
    name, colon, length = spec.partition(":")
    if name in TASKS:
        # Not more digits than Python reads.
        if colon and not re.fullmatch("[0-9]{1,4300}", length):
            raise UsageError(f"--task {spec}: expected a whole number after the colon.")
        return TASKS[name](name, int(length) if colon else None, held_out=held_out)
    if Path(spec).suffix.lower() in SUFFIXES or _is_there(Path(spec)):
        return FileTask(spec, held_out=held_out)
    raise UnknownNameError("task", spec, [*TASKS, "FILE.tsv", "FILE.jsonl"])


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # no file could have so long a name
        return False
