"""The numbers of a vocabulary report as CSV and JSON: all of them, and none rounded."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from toolkit.files import write_json, write_text
from toolkit.jsonable import bytes_to_json, to_jsonable
from toolkit.reporting.comparison_columns import COLUMNS
from toolkit.tokenizers.comparison import ComparedTokenizer
from toolkit.tokenizers.growth import VocabGrowth


def write_growth_csv(growth: VocabGrowth, path: Path) -> None:
    r"""A line for each row of the growth. A token that is not UTF-8 is written as `\x..` bytes.

    Raises:
        ToolkitError: the file could not be written.
    """
    header = (
        "merges",
        "vocab_size",
        "symbols_in_use",
        "num_tokens",
        "bytes_per_token",
        "next_left",
        "next_right",
        "next_count",
    )
    _write(
        path,
        header,
        (
            (
                row.merges,
                row.vocab_size,
                row.symbols_in_use,
                row.num_tokens,
                row.bytes_per_token,
                *(map(bytes_to_json, row.next_pair) if row.next_pair else ("", "")),
                row.next_count,
            )
            for row in growth.rows
        ),
    )


def write_curves_csv(
    rows: Sequence[ComparedTokenizer], path: Path, curve: Literal["heaps", "zipf"]
) -> None:
    """A line for each point of the curve of each row, with the value of the fitted law beside it.

    Raises:
        ToolkitError: the file could not be written.
    """
    lines: list[tuple[Any, ...]] = []
    for row in rows:
        stats = row.stats
        if curve == "heaps":
            law = stats.heaps_law
            points = [(point.tokens_read, point.distinct) for point in stats.heaps]
        else:
            law = stats.zipf_law
            points = [(point.rank, point.count) for point in stats.zipf]
        for x, y in points:
            lines.append((row.tokenizer, row.corpus, x, y, law.at(x) if law else ""))
    names = ("tokens_read", "distinct") if curve == "heaps" else ("rank", "count")
    _write(path, ("tokenizer", "corpus", *names, "fitted"), lines)


def write_comparison_csv(rows: Sequence[ComparedTokenizer], path: Path) -> None:
    """A line for each row: what the table shows, and the sizes and laws behind it.

    Raises:
        ToolkitError: the file could not be written.
    """
    keys = [column.key for column in COLUMNS]
    header = ("tokenizer", "corpus", *keys, "distinct_tokens", "num_bytes", "num_chars")
    header += ("num_words", "heaps_coefficient", "heaps_exponent")
    header += ("zipf_coefficient", "zipf_exponent")
    lines = []
    for row in rows:
        stats = row.stats
        laws: list[float | str] = []
        for law in (stats.heaps_law, stats.zipf_law):
            laws += [law.coefficient, law.exponent] if law else ["", ""]
        values = (column.value(row) for column in COLUMNS)
        sizes = (stats.distinct_tokens, stats.num_bytes, stats.num_chars, stats.num_words)
        lines.append((row.tokenizer, row.corpus, *values, *sizes, *laws))
    _write(path, header, lines)


def write_scripts_csv(rows: Sequence[ComparedTokenizer], path: Path) -> None:
    """A line for each script of each row.

    Raises:
        ToolkitError: the file could not be written.
    """
    names = (
        "script",
        "num_words",
        "num_chars",
        "tokens_per_word",
        "tokens_per_char",
        "one_token_words",
    )
    lines = (
        (row.tokenizer, row.corpus, *(getattr(script, name) for name in names))
        for row in rows
        for script in row.stats.scripts
    )
    _write(path, ("tokenizer", "corpus", *names), lines)


def write_report_json(report: Any, path: Path) -> None:
    """A dataclass with everything in it, as JSON.

    Raises:
        ToolkitError: the file could not be written.
    """
    write_json(path, to_jsonable(report))


def _write(path: Path, header: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    # csv writes floats so that they are read back the same, and None as an empty field. Texts are
    # all quoted: left to itself it does not quote a lone carriage return, which ends a line.
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(header)
    writer.writerows(lines)
    write_text(path, text.getvalue())
