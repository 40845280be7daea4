"""Text that is shown while it comes, and never half a stop string of it.

A stop string may come in several tokens: text that could be its beginning is held back until the
next piece decides. (That no half character is shown is up to the tokenizer's `stream_decoder`.)
"""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.errors import UsageError


class StopScanner:
    """Text in pieces, cut before the first stop string.

    The first is the one that ends first, and among those that end together the longest: what is
    shown then depends on the text alone, not on where it was cut into pieces.

    >>> scanner = StopScanner(["END"])
    >>> scanner.push("the E"), scanner.push("ast E"), scanner.push("ND of it"), scanner.stopped
    ('the ', 'East ', '', True)

    Raises:
        UsageError: an empty stop string.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        for text in stop:
            if not isinstance(text, str) or not text:
                raise UsageError(f"--stop {text!r} must be a text of at least one character")
        self._stop = list(stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """What can be shown now; from a stop string on nothing more."""
        if self.stopped:
            return ""
        self._held += text
        # str.find gives each string's first place, which is also where it ends first.
        places = [(self._held.find(stop), stop) for stop in self._stop]
        ends = [(at + len(stop), at) for at, stop in places if at >= 0]
        if ends:
            self.stopped = True
            _, start = min(ends)
            shown, self._held = self._held[:start], ""
            return shown
        keep = max((self._overlap(stop) for stop in self._stop), default=0)
        border = len(self._held) - keep
        shown, self._held = self._held[:border], self._held[border:]
        return shown

    def finish(self) -> str:
        """What was held back and turned out to be text."""
        shown, self._held = self._held, ""
        return shown

    def _overlap(self, stop: str) -> int:
        """How many characters at the end of the held text are a beginning of `stop`."""
        for length in range(min(len(stop) - 1, len(self._held)), 0, -1):
            if self._held.endswith(stop[:length]):
                return length
        return 0
