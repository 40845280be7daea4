"""What `toolkit fixtures` prints: the cases, the files made, and how a check came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from toolkit import console
from toolkit.fixtures.case import Case
from toolkit.fixtures.checking import CaseReport, CheckReport
from toolkit.fixtures.making import MadeFile

_LARGE = 20_000_000  # bytes to be told of
_MANY_ULP = 1_000_000
_COLOURS = {"passed": "green", "failed": "bold red", "skipped": "dim"}


def print_cases(cases: Mapping[str, Case]) -> None:
    """A line for each case."""
    table = Table("case", "what", "sizes", box=None, pad_edge=False)
    for name, case in cases.items():
        sizes = " ".join(f"{size}={value}" for size, value in case.sizes.items())
        table.add_row(name, case.summary, sizes)
    console.out().print(table)


def say_sizes(planned: Mapping[str, int]) -> None:
    """A notice before a large set is written: all of it, and the largest file."""
    total, largest = sum(planned.values()), max(planned, key=planned.__getitem__)
    if total >= _LARGE:
        alone = console.format_size(planned[largest])
        console.notice(
            f"about {console.format_size(total)} to write, {largest} alone {alone}; "
            "--compact makes small files, --format safetensors others half as large as JSON"
        )


def print_made(made: Sequence[MadeFile], *, quiet: bool) -> None:
    """The files, and their size together."""
    if not quiet:
        table = Table("case", "file", box=None, pad_edge=False)
        table.add_column("size", justify="right")
        for file in made:
            table.add_row(file.case, escape(str(file.path)), console.format_size(file.num_bytes))
        console.out().print(table)
    total = console.format_size(sum(file.num_bytes for file in made))
    files = f"{len(made)} file{'s' if len(made) > 1 else ''}"
    console.out().print(f"{files}, {total}, in {escape(str(made[0].path.parent))}")


def print_check(report: CheckReport, *, quiet: bool, verbose: bool) -> None:
    """A line for each case, what is wrong with those that failed, and the verdict."""
    if not quiet:
        table = Table("case", "result", box=None, pad_edge=False)
        for name in ("max abs", "allowed", "max rel", "ULP", "cosine"):
            table.add_column(name, justify="right")
        for case in report.cases:
            table.add_row(case.name, f"[{_COLOURS[case.status]}]{case.status}", *_numbers(case))
        console.out().print(table)
    for case in report.cases:
        if case.status == "failed" or (verbose and case.status == "skipped"):
            console.out().print(f"{case.name}: {escape(str(case.problem))}")
            _print_worst(case)
    counts = {
        status: sum(case.status == status for case in report.cases)
        for status in ("passed", "failed", "skipped")
    }
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    console.out().print(f"{'Passed' if report.passed else 'Failed'}: {summary}.")


def _numbers(case: CaseReport) -> list[Any]:
    """Of the array that is furthest off, for what is allowed of it."""
    measured = [array for array in case.arrays if array.errors is not None]
    if not measured:
        return []
    array = max(measured, key=lambda a: (a.num_wrong > 0, a.max_abs / a.atol if a.atol else 0.0))
    numbers = [f"{number:.2g}" for number in (array.max_abs, array.atol, array.max_rel)]
    ulp = f"{array.max_ulp:,.0f}" if array.max_ulp < _MANY_ULP else f"{array.max_ulp:.1e}"
    return [*numbers, ulp, f"{array.cosine:.6f}"]


def _print_worst(case: CaseReport) -> None:
    for array in case.arrays:
        if array.passed:
            continue
        for worst in array.worst[:3]:
            index = ", ".join(map(str, worst.index))
            console.out().print(
                f"  {array.name}\\[{index}] is {worst.found:.6g}, expected {worst.expected:.6g}"
            )
        return  # what follows is often only a consequence of the first
