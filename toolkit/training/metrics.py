"""metrics.jsonl: one line for a step that was logged, or an evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from toolkit.jsonable import to_jsonable

METRICS_FILE = "metrics.jsonl"


class MetricsFile:
    """Appends to a file; `size` says how much of it belongs to the steps done so far.

    A checkpoint keeps `size`: lines that an interrupted run wrote after its last checkpoint will
    be written again, and `drop_later` takes them away.
    """

    def __init__(self, folder: Path) -> None:
        self.size = 0
        self._path = folder / METRICS_FILE

    def append(self, row: dict[str, Any]) -> None:
        """Write one line."""
        line = (json.dumps(to_jsonable(row)) + "\n").encode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(line)
        self.size += len(line)

    def drop_later(self) -> None:
        """Cut the file off after `size` bytes."""
        if self._path.exists():
            with self._path.open("rb+") as file:
                file.truncate(min(self.size, self._path.stat().st_size))
