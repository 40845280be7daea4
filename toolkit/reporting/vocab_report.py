"""A report about vocabularies: the numbers together, written as files or as one page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from toolkit.files import write_text
from toolkit.reporting.figures import save_figure
from toolkit.reporting.vocab_files import (
    write_comparison_csv,
    write_curves_csv,
    write_growth_csv,
    write_report_json,
    write_scripts_csv,
)
from toolkit.reporting.vocab_page import vocab_page
from toolkit.reporting.vocab_pictures import vocab_pictures
from toolkit.tokenizers.comparison import ComparedTokenizer
from toolkit.tokenizers.growth import VocabGrowth, VocabSuggestion


@dataclass(frozen=True)
class VocabReport:
    """Tokenizers on texts.

    Attributes:
        title: the heading of the page.
        corpora: the name of each text, as in `rows`, and a line about it: its title, what part of
            it, its licence. May leave texts out.
        rows: one for each tokenizer on each text; for a tokenizer alone on one text, one.
        growth: how the vocabulary of one of the tokenizers grew; None without merges.
        suggestion: the knee of that growth, where one was looked for.
    """

    title: str
    corpora: dict[str, str] = field(default_factory=dict)
    rows: list[ComparedTokenizer] = field(default_factory=list)
    growth: VocabGrowth | None = None
    suggestion: VocabSuggestion | None = None


def write_report(report: VocabReport, folder: Path) -> list[Path]:
    """Write the figures that apply as PNG and SVG, the numbers as CSV, and all of it as JSON.

    The names are growth, heaps, zipf, comparison (of two tokenizers or more) and scripts (if words
    were counted by script), and vocab_stats.json. Several tokenizers on several texts give a figure
    for each text, such as heaps-NAME.png.

    Returns:
        What was written.

    Raises:
        UsageError: the report has no rows.
        MissingExtraError: matplotlib is not installed; nothing is written.
        ToolkitError: a file could not be written.
    """
    pictures = vocab_pictures(report.rows, report.growth, report.suggestion)
    paths = [
        path for picture in pictures for path in save_figure(picture.figure, folder, picture.name)
    ]

    def path_of(name: str) -> Path:
        paths.append(folder / name)
        return paths[-1]

    if report.growth is not None:
        write_growth_csv(report.growth, path_of("growth.csv"))
    write_curves_csv(report.rows, path_of("heaps.csv"), "heaps")
    write_curves_csv(report.rows, path_of("zipf.csv"), "zipf")
    write_comparison_csv(report.rows, path_of("comparison.csv"))
    if any(row.stats.scripts for row in report.rows):
        write_scripts_csv(report.rows, path_of("scripts.csv"))
    write_report_json(report, path_of("vocab_stats.json"))
    return paths


def write_page(report: VocabReport, path: Path) -> None:
    """Write the report as one HTML file that needs no other and no network.

    Raises:
        UsageError: the report has no rows.
        MissingExtraError: matplotlib is not installed.
        ToolkitError: the file could not be written.
    """
    page = vocab_page(
        report.title,
        report.corpora,
        report.rows,
        report.growth,
        report.suggestion,
    )
    write_text(path, page)
