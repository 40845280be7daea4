"""What --track-internals costs: the same training with and without, in turns.

    python benchmarks/tracking_internals.py
    python benchmarks/tracking_internals.py --size micro --rounds 6 --every 100

Both trainings are in one process and take turns after every N steps, so that a slow minute hits
both. A turn with tracking has one snapshot in it: a traced forward pass, gradients, statistics and
a file. The ratio of a pair of turns is what is reported, as a median; the claim is at most 1.05. By
the clock, and by the processor's time of this process, which other work on the machine does not
change (but in which waiting for the disk is not contained).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from measuring import machine

from toolkit.pipeline import TrainingSession
from toolkit.training import StepDone

TEXT = "ROMEO: I am the man that loves thee, and the man"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="nano,micro", help="sizes of gpt, in commas")
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(json.dumps({**machine(), "threads": options.threads, "every": options.every}))
    print(
        "model     s a turn   with / without: clock   processor        (medians; lowest, highest)"
    )
    for size in options.size.split(","):
        with tempfile.TemporaryDirectory() as folder:
            report(size, options.every, options.rounds, Path(folder))


def report(size: str, every: int, rounds: int, folder: Path) -> None:
    """One line for a size."""
    steps = every * (rounds + 1)
    plain = turns(session(size, steps, every, folder / "plain"), every)
    tracked = turns(session(size, steps, every, folder / "tracked", tracked=True), every)
    before, after = [], []
    for number in range(rounds + 1):
        # Each is the first one in every second round.
        first, second = (plain, tracked) if number % 2 else (tracked, plain)
        seconds = {first: next(first), second: next(second)}
        if number:  # the first turn warms up
            before.append(seconds[plain])
            after.append(seconds[tracked])
    shown = []
    for which in (0, 1):
        ratios = sorted(b[which] / a[which] for a, b in zip(before, after, strict=True))
        shown.append(f"{statistics.median(ratios):.3f} ({ratios[0]:.3f}, {ratios[-1]:.3f})")
    usual = statistics.median(clock for clock, _ in before)
    print(f"{size:8} {usual:9.2f}   {'   '.join(shown)}", flush=True)


def session(
    size: str, steps: int, every: int, out: Path, *, tracked: bool = False
) -> TrainingSession:
    tracking: dict[str, Any] = {"track_internals": every, "track_text": TEXT} if tracked else {}
    return TrainingSession.start(
        "tiny-shakespeare",
        "char",
        size=size,
        max_steps=steps,
        log_every=every,
        eval_every=10 * steps,
        sample_every=0,
        checkpoint_every=0,
        device="cpu",
        out=out,
        latest=False,
        **tracking,
    )


def turns(session: TrainingSession, every: int) -> Iterator[tuple[float, float]]:
    """The seconds of each `every` steps, by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    for event in session.events():
        if isinstance(event, StepDone) and event.step % every == 0:
            yield time.perf_counter() - clock, time.process_time() - processor
            clock, processor = time.perf_counter(), time.process_time()


if __name__ == "__main__":
    main()
