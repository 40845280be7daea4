"""How fast cl100k_base encodes and decodes, beside other libraries.

    python benchmarks/bpe_encoding.py --threads 2

First every library's ids are checked against tiktoken's. Then all take turns. A warm tokenizer has
seen the texts before, a cold one is new in each round (making it is not timed). `pip install
'toolkit[bench]'` installs the libraries to compare with.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import (
    OURS,
    Task,
    Timing,
    machine,
    one_line,
    ratio_table,
    time_in_turns,
    time_once,
)
from peers import Encoder, Encoding, find_encodings, use_threads
from texts import mixture

SIZE = 10_000_000
DOCUMENT_SIZE = 4096
REFERENCE = "tiktoken"
SLOW_REPEATS = 2

SHORT_TEXT = "The quick brown fox doesn't jump over 13 lazy dogs; it walks around them."
CALLS = 2000

LONG_SIZES = (10_000, 100_000, 1_000_000)  # bytes
LONG_REPEATS = 3
PATIENCE = 60.0  # seconds that a long text may take
EMOJI = "😀🎉🚀🧠"

# What a contestant does with texts, as a task to time.
Action = Callable[[Encoder], Task]


def main() -> int:
    options = parse_options()
    use_threads(options.threads)
    texts = mixture(options.size, DOCUMENT_SIZE, multilingual=True)
    print(f"{texts.describe()}\n")
    encodings, skipped = find_encodings()
    for encoding in encodings.values():
        if encoding.note:
            print(f"{encoding.label}: {encoding.note}")
    for name, reason in skipped.items():
        print(f"{name}: left out, {reason}")
    if OURS not in encodings or REFERENCE not in encodings:
        print(f"Without {REFERENCE} and its ranks nothing can be checked.", file=sys.stderr)
        return 1

    warm = {name: encoding.build() for name, encoding in encodings.items()}
    differing = check_ids(texts.documents, encodings, warm, options.threads)
    if differing[OURS]:
        print("\nOur ids are not right, so their speed is of no interest.", file=sys.stderr)
        return 1

    labels = {
        name: f"{encoding.label}{' (other ids)' if differing[name] else ''}"
        for name, encoding in encodings.items()
    }
    race = Race(encodings, warm, labels, options.repeats)
    measure_documents(race, texts.documents, texts.num_bytes, options.threads)
    measure_short_calls(race)
    growth = measure_long_texts(race)

    if options.json:
        results = {
            "machine": machine(),
            "texts": texts.summary(),
            "threads": options.threads,
            "versions": {name: encoding.version for name, encoding in encodings.items()},
            "skipped": skipped,
            "documents that differ": differing,
            "seconds": race.results,
            "long texts": growth,
        }
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Time cl100k_base beside other libraries.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--size", type=int, default=SIZE, help="bytes of text")
    parser.add_argument("--threads", type=int, default=2, help="threads, where there is a choice")
    parser.add_argument("--repeats", type=int, default=7, help="rounds that are counted")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    return parser.parse_args()


# -- correctness --------------------------------------------------------------------------------


def check_ids(
    documents: Sequence[str],
    encodings: Mapping[str, Encoding],
    encoders: Mapping[str, Encoder],
    num_threads: int,
) -> dict[str, int | str]:
    """For each library, in how many documents something is not as tiktoken has it."""
    expected = [encoders[REFERENCE].encode(document) for document in documents]
    print(f"\nencode, encode_batch, count_batch and decode_batch against {REFERENCE}'s ids:")
    differing: dict[str, int | str] = {}
    for name, encoder in encoders.items():
        label = encodings[name].label
        try:
            wrong = find_differences(documents, expected, encoder, num_threads)
        except Exception as error:
            differing[name] = one_line(error)
            print(f"  {label}: {differing[name]}")
            continue
        differing[name] = len(wrong)
        verdict = f"DIFFERS in {len(wrong):,} documents" if wrong else "the same"
        print(f"  {label}: {verdict}")
    return differing


def find_differences(
    documents: Sequence[str],
    expected: Sequence[list[int]],
    encoder: Encoder,
    num_threads: int,
) -> set[int]:
    wrong = {i for i, ids in enumerate(expected) if encoder.encode(documents[i]) != ids}
    for threads in {1, num_threads}:
        batch = encoder.encode_batch(documents, threads)
        wrong |= {i for i, ids in enumerate(expected) if batch[i].tolist() != ids}
        counts = np.asarray(encoder.count_batch(documents, threads))
        wrong |= {i for i, ids in enumerate(expected) if counts[i] != len(ids)}
    if encoder.decode_batch is not None:
        decoded = encoder.decode_batch(expected, num_threads)
        wrong |= {i for i, text in enumerate(documents) if decoded[i] != text}
    return wrong


# -- documents ----------------------------------------------------------------------------------


class Race:
    """All libraries, to be timed again and again.

    Attributes:
        results: the seconds of every table printed so far.
    """

    def __init__(
        self,
        encodings: Mapping[str, Encoding],
        warm: Mapping[str, Encoder],
        labels: Mapping[str, str],
        repeats: int,
    ) -> None:
        self.encodings = encodings
        self.warm = warm
        self.labels = labels
        self.repeats = repeats
        self.results: dict[str, Any] = {}

    def run(
        self,
        title: str,
        action: Action,
        unit: str,
        convert: Callable[[float], float],
        *,
        cold: bool = False,
        without: Sequence[str] = (),
    ) -> None:
        """Time one action of every library and print the table."""

        def prepare(name: str) -> Task:
            if not cold:
                return action(self.warm[name])
            encoder = self.encodings[name].build()
            encoder.encode(SHORT_TEXT)  # what is built at the first use
            return action(encoder)

        names = [name for name in self.encodings if name not in without]
        slow = {name for name in names if self.encodings[name].slow}
        fewer = dict.fromkeys(slow, SLOW_REPEATS) if self.repeats > SLOW_REPEATS else {}
        contestants = {name: partial(prepare, name) for name in names}
        timings = time_in_turns(contestants, self.repeats, fewer=fewer, warm_up=not cold)
        self.show(title, timings, unit, convert)

    def show(
        self,
        title: str,
        timings: Mapping[str, Timing],
        unit: str,
        convert: Callable[[float], float],
    ) -> None:
        print(f"\n{ratio_table(title, timings, unit, convert, self.labels)}", flush=True)
        self.results[title] = {name: timing.summary() for name, timing in timings.items()}


def measure_documents(
    race: Race, documents: Sequence[str], num_bytes: int, num_threads: int
) -> None:
    """Encoding, counting and decoding documents."""

    def megabytes(seconds: float) -> float:
        return num_bytes / seconds / 1e6

    def encode_each(encoder: Encoder) -> Task:
        return lambda: [encoder.encode(document) for document in documents]

    def encode_batch(threads: int, encoder: Encoder) -> Task:
        return lambda: encoder.encode_batch(documents, threads)

    def count_batch(encoder: Encoder) -> Task:
        return lambda: encoder.count_batch(documents, num_threads)

    for cold in (False, True):
        state = "cold" if cold else "warm"
        race.run(f"encode, lists, {state}", encode_each, "MB/s", megabytes, cold=cold)
    for threads in sorted({1, num_threads}):
        for cold in (False, True):
            state = "cold" if cold else "warm"
            title = f"encode_batch, NumPy, {_threads(threads)}, {state}"
            race.run(title, partial(encode_batch, threads), "MB/s", megabytes, cold=cold)
    race.run(f"count_batch, {_threads(num_threads)}, warm", count_batch, "MB/s", megabytes)
    measure_decoding(race, documents, megabytes, num_threads)


def measure_decoding(
    race: Race,
    documents: Sequence[str],
    megabytes: Callable[[float], float],
    num_threads: int,
) -> None:
    lists = [race.warm[REFERENCE].encode(document) for document in documents]

    def decode(encoder: Encoder) -> Task:
        assert encoder.decode_batch is not None
        return partial(encoder.decode_batch, lists, num_threads)

    unable = [name for name, encoder in race.warm.items() if encoder.decode_batch is None]
    title = f"decode_batch, lists, {_threads(num_threads)}"
    race.run(title, decode, "MB/s", megabytes, without=unable)


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


# -- one short text, one long text --------------------------------------------------------------


def measure_short_calls(race: Race) -> None:
    def call_often(encoder: Encoder) -> Task:
        encode = encoder.encode

        def task() -> None:
            for _ in range(CALLS):
                encode(SHORT_TEXT)

        return task

    title = f"one call of encode on {len(SHORT_TEXT)} characters, warm"
    race.run(title, call_often, "µs", lambda seconds: seconds / CALLS * 1e6)


def measure_long_texts(race: Race) -> dict[str, dict[str, dict[int, float]]]:
    """Texts that are one pre-token: what they take, and how that grows with their length."""
    makers: dict[str, Callable[[int], str]] = {
        '"a" × 10^6': lambda size: "a" * size,
        '" " × 10^6': lambda size: " " * size,
        "1 MB of emoji": lambda size: (EMOJI * (size // len(EMOJI.encode()) + 1))[: size // 4],
    }
    growth: dict[str, dict[str, dict[int, float]]] = {}
    for title, make in makers.items():
        timings: dict[str, Timing] = {}
        growth[title] = {}
        for name, encoder in race.warm.items():
            seconds, failure = climb(encoder, make)
            growth[title][name] = seconds
            largest = LONG_SIZES[-1]
            timings[name] = Timing([seconds[largest]] if largest in seconds else [], failure)
        race.show(f"{title}, one call of encode", timings, "s", float)
        ours = growth[title][OURS]
        if len(ours) == len(LONG_SIZES):
            factor = ours[LONG_SIZES[-1]] / ours[LONG_SIZES[-2]]
            print(f"  {OURS}: {factor:.1f} times as long as a tenth of it (linear: 10)")
    return growth


def climb(encoder: Encoder, make: Callable[[int], str]) -> tuple[dict[int, float], str]:
    """The seconds for longer and longer texts, up to where the next would take too long.

    Each text is new, a little longer than the last: no cache has met it.
    """
    seconds: dict[int, float] = {}
    expected = 0.0
    for size in LONG_SIZES:
        if expected > PATIENCE:
            done = max(seconds)
            remark = f"left out: {seconds[done]:.3g} s for {done:,} bytes already"
            return seconds, remark
        try:
            attempts = []
            for attempt in range(LONG_REPEATS):
                text = make(size + 4 * attempt)
                attempts.append(time_once(partial(encoder.encode, text)))
                if attempts[-1] > PATIENCE / 20:
                    break
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a panic of Rust is no Exception
            return seconds, one_line(error)
        seconds[size] = min(attempts)
        # The first step up may grow with the square, the next as the one before.
        previous = seconds.get(size // 10)
        expected = seconds[size] * (seconds[size] / previous if previous else 100)
    return seconds, ""


if __name__ == "__main__":
    sys.exit(main())
