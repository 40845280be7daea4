"""Which figures a report about vocabularies has, and what each of them shows in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.errors import UsageError
from toolkit.reporting.comparison_columns import by_corpus
from toolkit.reporting.comparison_figures import comparison_figure, row_names, scripts_figure
from toolkit.reporting.vocab_figures import growth_figure, heaps_figure, zipf_figure
from toolkit.tokenizers.comparison import ComparedTokenizer
from toolkit.tokenizers.growth import VocabGrowth, VocabSuggestion

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_SERIES = 12  # in a figure: there are no more markers

_GROWTH = (
    "With each merge the text gets shorter, and the number of different symbols in it rises until "
    "late merges take as many out of use as they bring. All merges of the tokenizer are replayed "
    "in order over the text, cut into words once, and symbols and tokens are counted after each."
)
_HEAPS = (
    "A vocabulary that is soon complete (characters) flattens; one that never is (words) keeps "
    "rising. The points are counted in the text in order, and the lines are Heaps’ law, K·nᵝ for "
    "n tokens, fitted by least squares of the logarithms to points evenly spread on that scale."
)
_ZIPF = (
    "A few tokens occur very often and most of them rarely; a line that falls less steeply means "
    "tokens that are used more evenly. Tokens are sorted by how often they occur, and the lines "
    "are Zipf’s law, C·r⁻ˢ for rank r, fitted in the same way as Heaps’ law."
)
_COMPARISON = (
    "Higher is a shorter text for the model to read, further right a larger table of embeddings to "
    "pay for. Bytes per token are the bytes of the text in UTF-8 by its tokens, the parameters the "
    "vocabulary size times the width of the model, and the bars repeat three columns of the table."
)
_SCRIPTS = (
    "A tokenizer that saw little of a script cuts its words into more pieces, down to bytes. Each "
    "word (a run of characters without whitespace) is encoded by itself, with or without a "
    "space before it, whichever is shorter, and counts for the script of most of its letters."
)


@dataclass(frozen=True)
class Picture:
    """A figure of a report.

    Attributes:
        name: of its files, without an ending; letters, digits and hyphens.
        title: what it is called.
        caption: two sentences: what it shows, and how that is computed.
        figure: the drawing.
        rows: what it was drawn from.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    rows: Sequence[ComparedTokenizer]


def vocab_pictures(
    rows: Sequence[ComparedTokenizer],
    growth: VocabGrowth | None = None,
    suggestion: VocabSuggestion | None = None,
) -> list[Picture]:
    """All figures that apply.

    One figure shows the tokenizers on one text, or one tokenizer on several; several of both are
    drawn text by text.

    Raises:
        UsageError: no rows, or more than 12 for a figure.
        MissingExtraError: matplotlib is not installed.
    """
    if not rows:
        raise UsageError("There are no tokenizers to report on.")
    pictures = []
    if growth is not None:
        figure = growth_figure(growth, suggestion)
        title = f"Growth with each merge ({rows[0].tokenizer})"
        pictures.append(Picture("growth", title, _GROWTH, figure, rows[:1]))
    for suffix, part in _groups(rows).items():
        if len(part) > MOST_SERIES:
            raise UsageError(
                f"{len(part)} tokenizers in a figure could not be told apart: compare at most "
                f"{MOST_SERIES} at once."
            )
        of = f" ({part[0].corpus})" if suffix else ""
        curves = {name: row.stats for name, row in zip(row_names(part), part, strict=True)}
        drawn = [
            ("heaps", "Distinct tokens: Heaps’ law", _HEAPS, heaps_figure(curves)),
            ("zipf", "Rank and frequency: Zipf’s law", _ZIPF, zipf_figure(curves)),
        ]
        if len(part) > 1:
            shown = comparison_figure(part)
            drawn.insert(0, ("comparison", "Compression and size", _COMPARISON, shown))
        if any(row.stats.scripts for row in part):
            shown = scripts_figure(part)
            drawn.append(("scripts", "Tokens per word by script", _SCRIPTS, shown))
        for name, title, caption, figure in drawn:
            pictures.append(Picture(name + suffix, title + of, caption, figure, part))
    return pictures


def _groups(rows: Sequence[ComparedTokenizer]) -> dict[str, list[ComparedTokenizer]]:
    """The rows that share a figure, by what is added to its name."""
    texts = by_corpus(rows)
    if len(texts) == 1 or len({row.tokenizer for row in rows}) == 1:
        return {"": list(rows)}
    groups: dict[str, list[ComparedTokenizer]] = {}
    for corpus, part in texts.items():
        suffix = "-" + (re.sub(r"[^A-Za-z0-9]+", "-", corpus).strip("-") or "text")
        while suffix in groups:  # "a b" and "a_b"
            suffix += "-2"
        groups[suffix] = part
    return groups
