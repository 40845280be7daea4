"""From ids to text while the ids come, never showing half a character.

A token of a byte-level vocabulary may end inside a character: "é" is the two bytes c3 a9, an emoji
four, and each may be a token of its own. `Tokenizer.stream_decoder()` gives the decoder that suits
a tokenizer; joined, what it shows is `tokenizer.decode` of all ids.
"""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.tokenizers.base import Tokenizer

# Tokens that are decoded again with each new one: decoders look back one token, a character is at
# most four of them.
_CONTEXT = 8
_REPLACEMENT = "\ufffd"
_LONGEST_CHARACTER = 4  # in bytes of UTF-8


class StreamDecoder(ABC):
    """Ids one at a time to pieces of text."""

    @abstractmethod
    def push(self, token_id: int) -> str:
        """The text that is complete with this id; "" while a character is not.

        Raises:
            VocabularyError: the tokenizer has no such id.
        """

    @abstractmethod
    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that was never completed."""


class ByteStreamDecoder(StreamDecoder):
    """For tokenizers that decode to the bytes of their tokens, one after the other.

    >>> from toolkit.tokenizers import ByteTokenizer
    >>> decoder = ByteStreamDecoder(ByteTokenizer())
    >>> [decoder.push(byte) for byte in "né".encode()], decoder.finish()
    (['n', '', 'é'], '')
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # "replace", as `decode` does: bytes that are not UTF-8 become U+FFFD.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class RedecodingStreamDecoder(StreamDecoder):
    """For tokenizers whose `decode` does more than join: puts spaces in, or takes one away.

    Decodes the last few ids with each new one and shows by how much their text has grown. Text that
    ends in U+FFFD is held back, for as long as it could be the beginning of a character.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._num_shown = 0  # characters of the decoded ids
        self._num_held = 0  # pushes that showed nothing

    def push(self, token_id: int) -> str:
        self._ids.append(token_id)
        text = self._tokenizer.decode(self._ids)
        if text.endswith(_REPLACEMENT) and self._num_held < _LONGEST_CHARACTER - 1:
            self._num_held += 1
            return ""
        piece = text[self._num_shown :]
        self._num_held = 0
        self._num_shown = len(text)
        if len(self._ids) > 2 * _CONTEXT:
            del self._ids[:-_CONTEXT]
            self._num_shown = len(self._tokenizer.decode(self._ids))
        return piece

    def finish(self) -> str:
        text = self._tokenizer.decode(self._ids)
        piece = text[self._num_shown :]
        self._num_shown = len(text)
        return piece
