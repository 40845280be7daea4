"""Tokenizers side by side, on one text or several: what one looks at to choose one.

The numbers are those of `stats.py`, with two more that cost: parameters of the embedding, and time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from toolkit.errors import UsageError
from toolkit.tokenizers.base import Tokenizer
from toolkit.tokenizers.stats import VocabStats, vocab_stats

_TIMED_BYTES = 4_000_000  # of text; slow tokenizers take seconds for it
_TIMED_RUNS = 3


@dataclass(frozen=True)
class ComparedTokenizer:
    """One tokenizer on one text.

    Attributes:
        tokenizer: what the user calls it, such as "bpe:4k".
        corpus: the name of the text.
        stats: what it does to the text.
        embedding_params: `vocab_size` × n_embd: the parameters of a model's table of embeddings.
        encode_speed: megabytes of text (10^6 bytes) encoded in a second on this machine; None where
            it was not measured.
    """

    tokenizer: str
    corpus: str
    stats: VocabStats
    embedding_params: int
    encode_speed: float | None


def compare_tokenizers(
    tokenizers: Mapping[str, Tokenizer],
    texts: Iterable[str],
    held_out_texts: Iterable[str] | None = None,
    *,
    corpus: str = "text",
    top: int = 20,
    n_embd: int = 768,
    by_script: bool = False,
    measure_speed: bool = True,
) -> list[ComparedTokenizer]:
    """Each tokenizer on the same texts.

    Args:
        tokenizers: by the name to show.
        texts: documents; read once for each tokenizer, so no iterator that is empty afterwards.
        held_out_texts: documents for the unknown rate, likewise.
        corpus: the name of the texts, to show.
        top: length of the lists of tokens in `stats`.
        n_embd: channels of a model that would use the vocabulary.
        by_script: fill in `stats.scripts`.
        measure_speed: time the encoding of up to 4 MB of the texts.

    Raises:
        UsageError: the texts are empty or an iterator, or n_embd is below 1.
        VocabularyError: a tokenizer has no token for a part of `texts`.
    """
    if n_embd < 1:
        raise UsageError(f"--n-embd {n_embd} must be at least 1")
    if iter(texts) is texts or (
        held_out_texts is not None and iter(held_out_texts) is held_out_texts
    ):
        raise UsageError("compare_tokenizers reads the texts several times: give a list of them")
    rows = []
    for name, tokenizer in tokenizers.items():
        stats = vocab_stats(tokenizer, texts, held_out_texts, top=top, by_script=by_script)
        speed = encode_speed(tokenizer, texts) if measure_speed else None
        rows.append(ComparedTokenizer(name, corpus, stats, tokenizer.vocab_size * n_embd, speed))
    return rows


def encode_speed(tokenizer: Tokenizer, texts: Iterable[str]) -> float:
    """Megabytes of `texts` (10^6 bytes) that `encode_batch` does in a second: the best of three
    runs over up to 4 MB.

    Raises:
        UsageError: the texts are empty.
    """
    sample: list[str] = []
    room = _TIMED_BYTES
    for text in texts:
        sample.append(text[:room])
        room -= len(sample[-1])
        if room <= 0:
            break
    num_bytes = sum(len(text.encode("utf-8", "surrogatepass")) for text in sample)
    if not num_bytes:
        raise UsageError("There is no text to time the encoding of.")
    best = min(_seconds(tokenizer, sample) for _ in range(_TIMED_RUNS))
    return num_bytes / best / 1e6


def _seconds(tokenizer: Tokenizer, texts: list[str]) -> float:
    began = time.perf_counter()
    tokenizer.encode_batch(texts)
    return time.perf_counter() - began
