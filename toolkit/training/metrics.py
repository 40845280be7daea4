"""metrics.jsonl: one line for a step that was logged, or an evaluation."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from toolkit.jsonable import to_jsonable
from toolkit.training.events import Evaluated, StepDone

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


class Speed:
    """Tokens per second from one line to the next."""

    def __init__(self, tokens: int) -> None:
        """
        Args:
            tokens: trained on so far.
        """
        self._time = time.monotonic()
        self._tokens = tokens

    def tokens_per_second(self, tokens: int) -> float:
        """Since the call before, when there were fewer tokens."""
        now = time.monotonic()
        before, passed = self._tokens, max(now - self._time, 1e-9)
        self._time, self._tokens = now, tokens
        return (tokens - before) / passed


def step_row(event: StepDone) -> dict[str, Any]:
    """The line of a step."""
    return {
        "kind": "step",
        "step": event.step,
        "loss": event.loss,
        "lr": event.lr,
        "grad_norm": event.grad_norm,
        "tokens": event.tokens,
        "tokens_per_second": round(event.tokens_per_second, 1),
        "elapsed": round(event.elapsed, 3),
    }


def evaluation_row(event: Evaluated) -> dict[str, Any]:
    """The line of an evaluation, with what was measured beside the loss."""
    return {
        "kind": "evaluation",
        "step": event.step,
        "train_loss": event.train_loss,
        "val_loss": event.val_loss,
        "bits_per_byte": event.bits_per_byte,
        **event.scores,
        "elapsed": round(event.elapsed, 3),
    }
