"""Decoding in compiled code: the bytes of many tokens, copied one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from toolkit.errors import VocabularyError
from toolkit.jit import kernel
from toolkit.tokenizers.base import TokenBatch
from toolkit.tokenizers.bpe.fast.kept import KERNELS
from toolkit.tokenizers.bpe.fast.memory import PADDING, Bytes, Ids, Int, Ints, put, to_int, word_at


@kernel
def measure_tokens(ids: Ids, offsets: Ints, starts: Ints, ends: Ints) -> Int:
    """Write where the bytes of each document end; returns the place of an id that is none, or -1.

    Document i has the ids `ids[offsets[i]:offsets[i + 1]]`.
    """
    size = 0
    for document in range(len(ends)):
        for index in range(offsets[document], offsets[document + 1]):
            token = ids[index]
            if token >= len(starts) - 1:
                return index
            size += starts[token + 1] - starts[token]
        ends[document] = size
    return -1


@kernel
def join_tokens(ids: Ids, data: Bytes, starts: Ints, out: Bytes) -> None:
    """Write the bytes of all tokens to `out`, which has room for 8 bytes more than they are."""
    at = 0
    for index in range(len(ids)):
        token = ids[index]
        begin = starts[token]
        length = starts[token + 1] - begin
        # Eight at a time: what is too much is written over by the next token.
        position = 0
        while position < length:
            word = word_at(data, begin + position)
            for byte in range(8):
                put(out, at + position + byte, to_int(word >> np.uint64(8 * byte)))
            position += 8
        at += length


class Decoder:
    """The bytes of every id, ready to be copied."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._data = np.frombuffer(b"".join([*tokens, bytes(PADDING)]), np.uint8)
        self._starts = np.zeros(len(tokens) + 1, np.int64)
        np.cumsum([len(token) for token in tokens], out=self._starts[1:])

    def decode_batch(self, batch: TokenBatch) -> list[str]:
        """The text of each document; bytes that are not UTF-8 become U+FFFD.

        Raises:
            VocabularyError: an id that there is not.
        """
        ends = np.empty(len(batch), np.int64)
        wrong = measure_tokens(batch.ids, batch.offsets, self._starts, ends)
        if wrong >= 0:
            raise VocabularyError(
                f"No token has the id {int(batch.ids[wrong])}: the ids of this bpe tokenizer are "
                f"0 to {len(self._starts) - 2}."
            )
        first, last = int(batch.offsets[0]), int(batch.offsets[-1])
        out = np.empty((int(ends[-1]) if len(ends) else 0) + PADDING, np.uint8)
        join_tokens(batch.ids[first:last], self._data, self._starts, out)
        view = out.data
        texts = []
        begin = 0
        for end in ends.tolist():
            texts.append(str(view[begin:end], "utf-8", "replace"))
            begin = end
        return texts


@cache
def prepare_decoding() -> None:
    """Compile, or load, all that decoding needs."""

    def run() -> None:
        Decoder([b"a", b"b"]).decode_batch(TokenBatch(np.zeros(2, np.uint32), np.array([0, 1, 2])))

    KERNELS.prepare("decoding", [measure_tokens, join_tokens], run)
