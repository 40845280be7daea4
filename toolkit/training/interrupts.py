"""Ctrl-C and termination as a request to stop after the step at hand."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class StopOnSignal:
    """While it is entered, the first SIGINT or SIGTERM sets `stopped`; a second one acts as usual.

    Outside the main thread Python delivers no signals, and nothing is changed.

    Of several processes all have to stop at the same step. Then `agree` says, from whether this
    one was asked to, whether any was; reading `stopped` asks it. Further signals do nothing there:
    whoever starts several processes may well send each of them two, and has other ways to end one
    that does not stop.
    """

    def __init__(self, agree: Callable[[bool], bool] | None = None) -> None:
        self._asked = False
        self._agreed = False
        self._agree = agree
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopOnSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    @property
    def stopped(self) -> bool:
        """Whether to stop."""
        if self._agree is None:
            return self._asked
        self._agreed = self._agreed or self._agree(self._asked)
        return self._agreed

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if self._agree is None:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def __exit__(self, *_: object) -> None:
        self._restore()
