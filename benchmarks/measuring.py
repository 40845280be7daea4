"""Timing in turns, peak memory, and tables with the ratios first."""

from __future__ import annotations

import gc
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

OURS = "toolkit"

Task = Callable[[], object]


@dataclass
class Timing:
    """What one contestant needed in every round, in seconds, or why it has no times."""

    seconds: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def best(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def summary(self) -> dict[str, object]:
        """For JSON."""
        if self.failure:
            return {"failure": self.failure}
        return {"best": self.best, "median": self.median, "seconds": self.seconds}


def time_in_turns(
    contestants: Mapping[str, Callable[[], Task]],
    repeats: int,
    *,
    fewer: Mapping[str, int] | None = None,
    warm_up: bool = True,
) -> dict[str, Timing]:
    """Time every contestant once in each round, so that a slow minute hits all alike.

    Args:
        contestants: for each name, a function that prepares a task: only the task is timed.
        repeats: how many rounds there are.
        fewer: contestants that take part only in so many rounds, and not in the one to warm up.
        warm_up: whether there is a round before the first that is not counted.
    """
    rounds = dict.fromkeys(contestants, repeats) | dict(fewer or {})
    timings = {name: Timing() for name in contestants}
    for turn in range(-1 if warm_up else 0, repeats):
        for name, prepare in contestants.items():
            timing = timings[name]
            if timing.failure or turn >= rounds[name] or (turn < 0 and rounds[name] < repeats):
                continue
            try:
                seconds = time_once(prepare())
            except Exception as error:
                timing.failure = one_line(error)
                continue
            if turn >= 0:
                timing.seconds.append(seconds)
    return timings


def time_once(task: Task) -> float:
    """The seconds that a task takes; freeing its result is not among them."""
    gc.collect()
    start = time.perf_counter()
    result = task()
    seconds = time.perf_counter() - start
    del result
    return seconds


def ratio_table(
    title: str,
    timings: Mapping[str, Timing],
    unit: str,
    convert: Callable[[float], float],
    labels: Mapping[str, str],
) -> str:
    """A table of the fastest first: ratios of best times to ours, then best and median.

    Args:
        unit: what `convert` makes of seconds: "s", "MB/s", "µs".
        labels: what to call the contestants.
    """
    width = max(len(label) for label in labels.values())
    lines = [f"{title}\n  {'':{width}}  {'ratio':<14}{'best':>9}  {'median':>9}"]
    ours = timings.get(OURS)
    raced = {name: timing for name, timing in timings.items() if not timing.failure}
    for name, timing in sorted(raced.items(), key=lambda item: item[1].best):
        relation = compare(timing.best, ours.best) if ours and ours.seconds else ""
        best, median = convert(timing.best), convert(timing.median)
        lines.append(
            f"  {labels[name]:{width}}  {relation:<14}{_number(best):>9}  {_number(median):>9} "
            f"{unit} ({len(timing.seconds)}×)"
        )
    for name, timing in timings.items():
        if timing.failure:
            lines.append(f"  {labels[name]:{width}}  {timing.failure}")
    return "\n".join(lines)


def compare(seconds: float, ours: float) -> str:
    """How another time relates to ours.

    >>> compare(3.0, 2.0), compare(1.0, 2.0), compare(2.0, 2.0)
    ('1.50× slower', '2.00× faster', '1.00×')
    """
    if f"{seconds / ours:.2f}" == "1.00":
        return "1.00×"
    if seconds > ours:
        return f"{seconds / ours:.2f}× slower"
    return f"{ours / seconds:.2f}× faster"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def peak_memory() -> int:
    """The most bytes of memory that this process has held at once."""
    with suppress(OSError):
        # On Linux, ru_maxrss of a child starts at what the parent held before the child's exec.
        peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        if peak is not None:
            return int(peak[1]) * 1024
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak_memory() -> None:
    """Let the peak start again from what is held now, where the system can do that (Linux)."""
    gc.collect()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "?"


def one_line(error: BaseException) -> str:
    """An error as a remark in a table."""
    text = " ".join(str(error).split()) or "no message"
    return f"failed: {type(error).__name__}: {text[:120]}"


def machine() -> dict[str, object]:
    """What the numbers hold for."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
    }


def _processor() -> str:
    with suppress(OSError):
        model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        if model is not None:
            return model[1]
    return platform.processor()
