"""From ids to text while the ids come, never showing half a character or half a stop string.

A token of a byte-level vocabulary may end inside a character: "é" is the two bytes c3 a9, an emoji
four, and each may be a token of its own. And a stop string may come in several tokens: text that
could be its beginning is held back until the next piece decides.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from toolkit.errors import UsageError
from toolkit.tokenizers import Tokenizer


class StreamDecoder:
    """Ids one at a time to pieces of text; joined, the pieces are `tokenizer.decode` of all ids.

    >>> from toolkit.tokenizers import ByteTokenizer
    >>> decoder = StreamDecoder(ByteTokenizer())
    >>> [decoder.push(byte) for byte in "né".encode()], decoder.finish()
    (['n', '', 'é'], '')
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # "replace", as `decode` does: bytes that are not UTF-8 become U+FFFD.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text that is complete with this id; "" while a character is not.

        Raises:
            VocabularyError: the tokenizer has no such id.
        """
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that was never completed."""
        return self._decoder.decode(b"", final=True)


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
