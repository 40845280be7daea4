"""What `toolkit learn` prints: pages, exercises, and what became of them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from toolkit import console

if TYPE_CHECKING:
    from toolkit.learning import Exercise, Page, Result


def prints_on_standard_error() -> contextlib.AbstractContextManager[object]:
    """While this lasts, what a learner's functions print does not get between the results."""
    return contextlib.redirect_stdout(sys.stderr)


def print_pages(pages: Sequence[Page]) -> None:
    """The table of `toolkit learn`."""
    table = Table("page", "name", "what it is about", box=None, pad_edge=False)
    for page in pages:
        table.add_row(str(page.number), page.name, page.summary)
    console.out().print(table)
    console.notice("Read docs/tutorial/N_NAME.md; then toolkit learn show N, start N, check N.")


def print_exercises(page: Page, exercises: Sequence[Exercise]) -> None:
    """The tasks of a page, with their signatures."""
    out = console.out()
    out.print(Text(f"Page {page.number}, {page.name}: {page.summary}", style="bold"))
    for number, exercise in enumerate(exercises, start=1):
        out.print()
        head = (f"{number}. ", (exercise.name, "bold cyan"), exercise.signature)
        out.print(Text.assemble(*head))
        for line in exercise.task.splitlines():
            out.print(Text(f"   {line}" if line else ""))


def print_results(results: Sequence[Result], *, quiet: bool = False) -> None:
    """A line for each exercise, and below it what is known of a failure."""
    out = console.out()
    for result in results:
        if result.passed and quiet:
            continue
        text = Text(str(result))
        text.highlight_words(["passed  "], "green")
        text.highlight_words(["failed  "], "bold red")
        text.highlight_words(["hint: "], "bold yellow")
        out.print(text)
