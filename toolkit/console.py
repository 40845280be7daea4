"""Everything that is printed, in one style: tables, generated text, errors.

Results go to standard output, notices and progress to standard error, so that a pipe gets only
what was asked for. The training display is in `display.py`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

# `cli` and `display` look for both under the name of this module.
from toolkit.jsonable import bytes_to_json as bytes_to_json
from toolkit.jsonable import to_jsonable as to_jsonable
from toolkit.terminal_plot import format_number

if TYPE_CHECKING:
    from toolkit.corpora import CorpusInfo
    from toolkit.exporting import Exported
    from toolkit.run import Run
    from toolkit.token_files import TokenizedCorpus

_PIPE_WIDTH = 200
_PROMPT_STYLE = "bold cyan"


def out() -> Console:
    """Standard output as it is now (tests replace it)."""
    return _console(sys.stdout)


def err() -> Console:
    """Standard error as it is now."""
    return _console(sys.stderr)


def _console(file: TextIO) -> Console:
    # A pipe has no width of its own; 80 columns would cut tables that somebody wants to grep.
    width = None if file.isatty() else _PIPE_WIDTH
    return Console(file=file, highlight=False, soft_wrap=True, width=width)


def print_error(message: str) -> None:
    """One line on standard error."""
    line = " ".join(message.split("\n"))
    err().print(Text.assemble(("Error: ", "bold red"), line))


def print_warning(message: str) -> None:
    """One line on standard error."""
    err().print(Text.assemble(("Warning: ", "bold yellow"), " ".join(message.split("\n"))))


def notice(message: str) -> None:
    """A dim line on standard error: what is being done, what was chosen."""
    err().print(Text(message, style="dim"))


def print_json(value: Any) -> None:
    """A JSON document on standard output; dataclasses and bytes are understood."""
    sys.stdout.write(json.dumps(to_jsonable(value), indent=2, ensure_ascii=False) + "\n")


def print_json_line(value: Any) -> None:
    """A JSON document on a line of its own, at once."""
    sys.stdout.write(json.dumps(to_jsonable(value), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def format_size(num_bytes: int | float) -> str:
    """Bytes for people: 1115394 is "1.1 MB"."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= limit:
            return f"{num_bytes / limit:.1f} {unit}"
    return f"{num_bytes:.0f} B"


def format_duration(seconds: float) -> str:
    """Seconds for people: 75 is "1:15", 3700 is "1:01:40"."""
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{whole:02d}" if hours else f"{minutes}:{whole:02d}"


OnProgress = Callable[[str, int, int | None], None]
_PLAIN_SECONDS = 5.0
_COUNTED = {"merging": "merges", "counting": "characters"}  # everything else comes in bytes


@contextmanager
def progress_bars(quiet: bool = False) -> Iterator[OnProgress]:
    """Yield a function (name of the work, done, total or None) that shows how it goes.

    In a terminal a bar for each name, with its speed; otherwise a line now and then, and none for
    work that ends soon. All of it on standard error.
    """
    if quiet:
        yield lambda name, done, total: None
        return
    began: dict[str, float] = {}
    console = err()
    if not console.is_terminal:
        said: dict[str, float] = {}

        def say(name: str, done: int, total: int | None) -> None:
            now = time.monotonic()
            start = began.setdefault(name, now)
            if now - said.setdefault(name, now) >= _PLAIN_SECONDS:
                said[name] = now
                percent = f" {done / total:.0%}," if total else ""
                notice(f"{name}:{percent} {_amount(name, done, total, now - start)}")

        yield say
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:>10}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, total: int | None) -> None:
            now = time.monotonic()
            start = began.setdefault(name, now)
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total, amount="")
            amount = _amount(name, done, total, now - start)
            bars.update(tasks[name], completed=done, total=total, amount=amount)

        yield show


def _amount(name: str, done: int, total: int | None, seconds: float) -> str:
    """How much is done, of how much, and how fast."""
    unit = _COUNTED.get(name)
    shown = [format_size(n) if unit is None else f"{n:,}" for n in (done, total) if n is not None]
    text = " of ".join(shown) + (f" {unit}" if unit else "")
    if seconds < 0.2:
        return text
    rate = done / seconds
    return f"{text}, {format_size(rate)}/s" if unit is None else f"{text}, {rate:,.0f} {unit}/s"


@contextmanager
def progress(description: str, quiet: bool = False) -> Iterator[Callable[[int, int | None], None]]:
    """`progress_bars` for a single work: yields a function (done, total or None)."""
    with progress_bars(quiet) as show:
        yield lambda done, total: show(description, done, total)


# -- tables -----------------------------------------------------------------------------------


def print_corpora(corpora: Sequence[CorpusInfo]) -> None:
    """The table of `toolkit corpora`."""
    table = Table("name", "title", "size", "licence", "cached", box=None, pad_edge=False)
    for corpus in corpora:
        size = format_size(corpus.num_bytes) if corpus.num_bytes else "–"
        cached = "yes" if corpus.cached else "no"
        table.add_row(corpus.name, corpus.title, size, corpus.licence, cached)
    out().print(table)


def print_runs(runs: Sequence[Run], latest: str | None) -> None:
    """The table of `toolkit runs`, the newest last."""
    table = Table(box=None, pad_edge=False)
    for name in ("run", "status", "corpus", "tokenizer", "model"):
        table.add_column(name)
    for name in ("params", "steps", "val loss", "bits/byte", "time"):
        table.add_column(name, justify="right")
    for run in runs:
        info, result = run.info, run.info.result
        table.add_row(
            escape(run.name) + (" ←" if run.name == latest else ""),
            info.status,
            str(info.corpus.get("name", "?")),
            str(info.tokenizer.get("spec", "?")),
            str(info.model.get("name", "?")),
            format_number(info.model.get("num_params", 0)),
            str(result.get("steps", "–")),
            _maybe(result.get("best_val_loss"), "{:.4f}"),
            _maybe(result.get("best_bits_per_byte"), "{:.3f}"),
            _maybe(result.get("elapsed"), None),
        )
    out().print(table)
    if latest:
        out().print("[dim]← the newest run, which commands take by default[/dim]")


def _maybe(value: Any, pattern: str | None) -> str:
    if value is None:
        return "–"
    return format_duration(value) if pattern is None else pattern.format(value)


def print_tokenized(result: TokenizedCorpus) -> None:
    """What `toolkit corpora tokenize` made."""
    tokens = result.train_tokens + result.val_tokens
    out().print(
        f"{result.folder}: {result.train_tokens:,} tokens to train on, {result.val_tokens:,} held "
        f"out, {result.num_bytes / tokens if tokens else 0:.3f} bytes per token"
    )
    speed = f", {format_size(result.num_bytes / result.seconds)}/s" if result.seconds else ""
    notice(f"{format_size(result.num_bytes)} encoded in {result.seconds:.1f} s{speed}")


# -- a server --------------------------------------------------------------------------------


def print_address(name: str, url: str) -> None:
    """Where a server of a model is."""
    out().print(Text.assemble(f"{name} at ", (url, "bold cyan"), "; Ctrl-C ends it"))


# -- generated text ---------------------------------------------------------------------------


def print_exported(exported: Exported, *, verbose: bool) -> None:
    """What `toolkit export` wrote, and how it was checked."""
    rows = [
        ("written", f"{exported.path}, {format_size(exported.num_bytes)} of {exported.dtype}"),
        ("tokenizer", "in it" if exported.has_tokenizer else "not in it"),
        ("compared", exported.checked),
    ]
    if exported.largest_difference is not None:
        rows.append(("difference", f"{exported.largest_difference:.1e} at most"))
    if verbose:
        rows.append(("files", ", ".join(file.name for file in exported.files)))
    for name, value in rows:
        out().print(Text.assemble((f"{name:>10}  ", "dim"), value))


def print_prompt(prompt: str) -> None:
    """The prompt, in its own style, with no newline after it."""
    out().print(Text(prompt, style=_PROMPT_STYLE), end="")


def print_rule() -> None:
    """A line between two samples."""
    out().rule(style="dim")


def print_pieces(pieces: Iterator[str]) -> None:
    """Text as it comes, unstyled and unwrapped, then a newline."""
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    sys.stdout.flush()
