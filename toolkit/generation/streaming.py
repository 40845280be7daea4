"""From ids to text while the ids come, without ever showing half a character or half a stop."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from toolkit.tokenizers import Tokenizer


class StreamDecoder:
    """Ids one at a time to pieces of text; joined, the pieces are `tokenizer.decode` of all ids.

    A token may end inside a character. Its bytes are kept until the rest comes.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text that is complete with this id; maybe nothing yet."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """What is left: U+FFFD for a character that was never completed."""
        return self._decoder.decode(b"", final=True)


class StopScanner:
    """Text in pieces, held back where it may be the beginning of a stop string.

    >>> scanner = StopScanner(["END"])
    >>> scanner.push("the E"), scanner.push("ast E"), scanner.push("ND of it"), scanner.stopped
    ('the ', 'East ', '', True)
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = [text for text in stop if text]
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """What can be shown now; after a stop string nothing more, and not the string itself."""
        if self.stopped:
            return ""
        self._held += text
        found = [at for at in map(self._held.find, self._stop) if at >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = max((self._overlap(stop) for stop in self._stop), default=0)
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return shown

    def finish(self) -> str:
        """What was held back and turned out to be text."""
        shown, self._held = self._held, ""
        return shown

    def _overlap(self, stop: str) -> int:
        """How much of the end of the held text is a beginning of `stop`."""
        for length in range(min(len(stop) - 1, len(self._held)), 0, -1):
            if self._held.endswith(stop[:length]):
                return length
        return 0
