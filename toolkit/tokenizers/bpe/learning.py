"""Learning merges from texts, by whichever way suits: in plain Python or in compiled code.

Both give the same merges. A text of some kilobytes is done in plain Python before the compiled
code would be loaded, so that is what it gets; everything larger takes `fast/`.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from toolkit.errors import UsageError
from toolkit.tokenizers.bpe.patterns import SplitPattern, split_pattern
from toolkit.tokenizers.bpe.trainer import (
    BYTE_ORDER,
    MergeStep,
    check_options,
    count_pretokens,
    iter_merges,
)

if TYPE_CHECKING:
    from toolkit.tokenizers.bpe.fast.counting import WordCounts

SMALL_TEXT = 1 << 16
"""Characters that are not worth loading compiled code for."""

SMALLEST_MEMORY = 32 << 20
_POLL_SECONDS = 0.005

OnMerge = Callable[[MergeStep], object]
OnProgress = Callable[[str, int, int | None], object]


class RareWordsDropped(UserWarning):
    """Training forgot the rarest pre-tokens because they did not fit into `max_memory`."""


@dataclass(frozen=True)
class LearnOptions:
    """What and how to learn; the attributes are those of `BPETokenizer.train`."""

    num_merges: int
    min_frequency: int = 0
    max_token_length: int | None = None
    byte_order: Sequence[int] = BYTE_ORDER
    num_threads: int | None = None
    max_memory: int | None = None


def learn_merges(
    texts: Iterable[str],
    pattern: str | SplitPattern,
    options: LearnOptions,
    *,
    on_merge: OnMerge | None = None,
    on_progress: OnProgress | None = None,
) -> list[tuple[int, int]]:
    """The merges that `iter_merges` gives for the pre-tokens of `texts`, as pairs of ids.

    Args:
        texts: documents, read once.
        pattern: how they are split.
        options: how many merges, and the rest.
        on_merge: called after each merge, in order (a little later than it was made).
        on_progress: told ("counting", characters, None) and ("merging", merges, of how many).

    Raises:
        UsageError: an option that cannot be, or texts that are none.
    """
    check_options(options.min_frequency, options.max_token_length)
    if options.num_threads is not None and options.num_threads < 1:
        raise UsageError(f"num_threads {options.num_threads} must be at least 1")
    if options.max_memory is not None and options.max_memory < SMALLEST_MEMORY:
        raise UsageError(
            f"max_memory {options.max_memory} must be at least {SMALLEST_MEMORY} bytes (32 MiB)"
        )
    report = on_progress or (lambda stage, done, total: None)
    split = split_pattern(pattern)
    first, rest = _beginning(_checked(texts))
    if rest is None or not can_compile():
        return _learn_plainly(chain(first, rest or ()), split, options, on_merge, report)
    words = _count(chain(first, rest), split, options, report)
    if words.dropped_words:
        warnings.warn(
            f"max_memory: {words.dropped_words:,} rare pre-tokens were dropped while counting, "
            f"{words.dropped_occurrences:,} occurrences in all; {len(words):,} were kept",
            RareWordsDropped,
            stacklevel=3,
        )
    return _merge(words, options, on_merge, report)


def count_words_of(texts: Iterable[str], pattern: str | SplitPattern) -> dict[bytes, int]:
    """`count_pretokens`, in compiled code where the texts are long enough."""
    split = split_pattern(pattern)
    first, rest = _beginning(_checked(texts))
    if rest is None or not can_compile():
        return count_pretokens(chain(first, rest or ()), split)
    return _count(chain(first, rest), split, LearnOptions(0), lambda *_: None).to_dict()


def _checked(texts: Iterable[str]) -> Iterator[str]:
    if isinstance(texts, str):
        raise UsageError("texts must be an iterable of texts: put a single one into a list")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(f"Document {number} is {type(text).__name__}, not str")
        yield text


def _beginning(texts: Iterator[str]) -> tuple[list[str], Iterator[str] | None]:
    """The first texts, up to `SMALL_TEXT` characters; and what follows, or None for nothing."""
    first: list[str] = []
    length = 0
    for text in texts:
        first.append(text)
        length += len(text)
        if length > SMALL_TEXT:
            return first, texts
    return first, None


def can_compile() -> bool:
    """Whether there is compiled code; with NUMBA_DISABLE_JIT=1 there is none."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return False
    from toolkit.jit import COMPILED

    return COMPILED


def _learn_plainly(
    texts: Iterable[str],
    split: SplitPattern,
    options: LearnOptions,
    on_merge: OnMerge | None,
    report: OnProgress,
) -> list[tuple[int, int]]:
    steps = iter_merges(
        count_pretokens(texts, split),
        min_frequency=options.min_frequency,
        max_token_length=options.max_token_length,
        byte_order=options.byte_order,
    )
    merges = []
    for step in islice(steps, options.num_merges):
        merges.append((step.left, step.right))
        if on_merge is not None:
            on_merge(step)
        if len(merges) % 64 == 0:
            report("merging", len(merges), options.num_merges)
    return merges


def _count(
    texts: Iterable[str], split: SplitPattern, options: LearnOptions, report: OnProgress
) -> WordCounts:
    from toolkit.tokenizers.bpe.fast import counting
    from toolkit.tokenizers.bpe.fast.encoding import prepare_encoding_beside
    from toolkit.tokenizers.bpe.fast.scanners import SCANNERS

    prepare_encoding_beside()  # what is trained will be used
    counting.prepare_counting()
    if split.name not in SCANNERS:
        if options.max_memory is not None:
            raise UsageError(
                f"max_memory needs one of the split patterns {', '.join(SCANNERS)}; the words of "
                "another regular expression are counted without a limit"
            )
        return counting.WordCounts.from_dict(count_pretokens(texts, split))
    return counting.count_words(
        texts,
        SCANNERS[split.name],
        num_threads=options.num_threads,
        max_memory=options.max_memory,
        on_progress=lambda done: report("counting", done, None),
    )


def _merge(
    words: WordCounts, options: LearnOptions, on_merge: OnMerge | None, report: OnProgress
) -> list[tuple[int, int]]:
    """Merge in a thread of its own, so that this one can report and be interrupted."""
    from toolkit.tokenizers.bpe.fast import merging

    merging.prepare_merging()
    run = merging.MergeRun(
        words,
        options.num_merges,
        min_frequency=options.min_frequency,
        max_token_length=options.max_token_length,
        byte_order=options.byte_order,
    )
    watch = _Watch(options, on_merge, report)
    thread = threading.Thread(target=run.run, name="toolkit-bpe-merging", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            seen = run.num_done
            thread.join(_POLL_SECONDS)
            # Only rows that were complete before the pause: another thread writes them.
            watch.show(run.steps, seen)
    except BaseException:
        run.stop()
        thread.join()
        raise
    steps = run.result()
    watch.show(steps, len(steps))
    return list(zip(steps[:, 0].tolist(), steps[:, 1].tolist(), strict=True))


class _Watch:
    """Turns rows of the table of steps into calls."""

    def __init__(self, options: LearnOptions, on_merge: OnMerge | None, report: OnProgress) -> None:
        self._num_merges = options.num_merges
        self._on_merge = on_merge
        self._report = report
        self._tokens = [bytes([byte]) for byte in options.byte_order]
        self._shown = 0

    def show(self, steps: np.ndarray, until: int) -> None:
        if until == self._shown:
            return
        if self._on_merge is not None:
            for rank, row in enumerate(steps[self._shown : until].tolist(), start=self._shown):
                left, right, count, num_tokens, symbols_in_use = row
                pair = self._tokens[left], self._tokens[right]
                new_id = len(self._tokens)
                self._tokens.append(pair[0] + pair[1])
                self._on_merge(
                    MergeStep(rank, left, right, new_id, pair, count, num_tokens, symbols_in_use)
                )
        self._shown = until
        self._report("merging", until, self._num_merges)
