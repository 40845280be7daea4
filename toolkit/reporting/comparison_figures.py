"""Tokenizers side by side: what helps to choose one, and how they treat each script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toolkit.errors import UsageError
from toolkit.reporting.comparison_columns import COLUMNS
from toolkit.reporting.figures import (
    legend_below,
    legend_height,
    new_figure,
    number_label,
    paper_style,
    plain,
    plain_numbers,
    series_style,
)
from toolkit.reporting.labels import label_points
from toolkit.tokenizers.comparison import ComparedTokenizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BARS = {
    "tokens_per_word": ("tokens\nper word", "{:.2f}"),
    "one_token_words": ("one-token\nwords", "{:.0%}"),
    "renyi_efficiency": ("Rényi\nefficiency", "{:.2f}"),
}
_MOST_LETTERS = 25  # beside three panels of bars
_MOST_SCRIPTS = 10
_MOST_BARS = 60
_LOG_FROM = 12.0  # tokens per word: above this the bars of other scripts could not be compared


def row_names(rows: Sequence[ComparedTokenizer]) -> list[str]:
    """A name for each row: the tokenizer, the corpus if that is what differs, or both."""
    tokenizers = {row.tokenizer for row in rows}
    corpora = {row.corpus for row in rows}
    if len(corpora) == 1:
        return [row.tokenizer for row in rows]
    if len(tokenizers) == 1:
        return [row.corpus for row in rows]
    return [f"{row.tokenizer}, {row.corpus}" for row in rows]


def comparison_figure(rows: Sequence[ComparedTokenizer]) -> Figure:
    """Bytes per token against the size of the vocabulary, and three more numbers as bars.

    The second scale above the points gives the parameters of the embedding, if all rows are for a
    model of the same width.

    Raises:
        UsageError: no rows.
        MissingExtraError: matplotlib is not installed.
    """
    if not rows:
        raise UsageError("There are no tokenizers to compare.")
    names = row_names(rows)
    with paper_style():
        bar_height = 0.17 * len(rows) + 0.45
        figure = new_figure(2.7 + bar_height)
        parts: Any = figure.subfigures(2, 1, height_ratios=[2.7, bar_height])
        points, bars = parts
        axes: Any = points.subplots()
        sizes = [row.stats.vocab_size for row in rows]
        gains = [row.stats.bytes_per_token for row in rows]
        for number, (x, y) in enumerate(zip(sizes, gains, strict=True)):
            look = series_style(number)
            axes.plot(x, y, look.marker, color=look.color, markersize=5.5, label=names[number])
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlim(min(sizes) / 4, max(sizes) * 4)
        axes.set_ylim(0, max(gains) * 1.18)
        axes.set(xlabel="vocabulary size", ylabel="bytes per token")
        plain_numbers(axes.yaxis, most=6)
        _embedding_scale(axes, rows)
        _draw_bars(bars, rows, names)
        labels = list(zip(sizes, gains, names, strict=True))
        label_points(axes, labels)
    return figure


def _embedding_scale(axes: Any, rows: Sequence[ComparedTokenizer]) -> None:
    widths = {row.embedding_params / row.stats.vocab_size for row in rows}
    if len(widths) != 1:
        return
    (width,) = widths
    above = axes.secondary_xaxis("top", functions=(lambda v: v * width, lambda p: p / width))
    above.xaxis.set_minor_formatter("")
    above.set_xlabel(f"embedding parameters (width {number_label(width)})")
    above.spines["top"].set_visible(True)


def _draw_bars(figure: Any, rows: Sequence[ComparedTokenizer], names: Sequence[str]) -> None:
    columns = [column for column in COLUMNS if column.key in _BARS]
    panels = figure.subplots(1, len(columns), sharey=True)
    places = list(range(len(rows)))
    for axes, column in zip(panels, columns, strict=True):
        title, pattern = _BARS[column.key]
        values = [column.value(row) or 0.0 for row in rows]
        for number, value in enumerate(values):
            look = series_style(number)
            axes.barh(number, value, color=look.color, hatch=look.hatch, edgecolor="white")
            axes.annotate(
                pattern.format(value),
                (value, number),
                (2, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
            )
        axes.set_title(title, fontsize=7)
        axes.set_xlim(0, max(values) * 1.75 or 1)
        axes.set_xticks([])
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(left=False)
    panels[0].set_yticks(places, [plain(name, most=_MOST_LETTERS) for name in names])
    panels[0].invert_yaxis()


def scripts_figure(rows: Sequence[ComparedTokenizer]) -> Figure:
    """Tokens per word for each script: a group of bars, one for each row.

    The scripts with the most words are drawn, as many as there is room for. Where words take very
    many tokens (a script without spaces), the scale is logarithmic and begins a little below 1, the
    least that a word can take.

    Raises:
        UsageError: no row counted its words by script.
        MissingExtraError: matplotlib is not installed.
    """
    words: dict[str, int] = {}
    for row in rows:
        for script in row.stats.scripts:
            words[script.script] = max(words.get(script.script, 0), script.num_words)
    if not words:
        raise UsageError("The words are not counted by script: ask for --split-by script.")
    scripts = sorted(words, key=lambda script: (-words[script], script))
    scripts = scripts[: max(3, min(_MOST_SCRIPTS, _MOST_BARS // len(rows)))]
    names = row_names(rows)
    with paper_style():
        from matplotlib.patches import Patch

        thickness = 0.16 if len(rows) == 1 else max(0.3 / len(rows), 0.07)  # inches
        group = thickness * len(rows) + 0.1
        legend = legend_height(map(plain, names)) if len(rows) > 1 else 0.0
        figure = new_figure(0.6 + group * len(scripts) + legend)
        axes: Any = figure.subplots()
        highest = 1.0
        handles = []
        for number, (row, name) in enumerate(zip(rows, names, strict=True)):
            look = series_style(number)
            values = {script.script: script.tokens_per_word for script in row.stats.scripts}
            drawn = [(i, values[script]) for i, script in enumerate(scripts) if script in values]
            shift = (number - (len(rows) - 1) / 2) * thickness / group
            axes.barh(
                [place + shift for place, _ in drawn],
                [value for _, value in drawn],
                height=thickness / group * 0.92,
                color=look.color,
                hatch=look.hatch,
                edgecolor="white",
                linewidth=0.3,
                label=name,
            )
            highest = max([highest, *(value for _, value in drawn)])
            handles.append(
                Patch(facecolor=look.color, hatch=look.hatch, edgecolor="white", label=plain(name))
            )
        axes.set_yticks(range(len(scripts)), scripts)
        axes.set_ylim(len(scripts) - 0.5, -0.5)
        axes.tick_params(left=False)
        axes.grid(visible=False, axis="y")
        if highest > _LOG_FROM:
            axes.set_xscale("log")
            axes.set_xlim(0.8, highest * 1.15)
            axes.set_xticks([n for n in _round_numbers(highest) if n <= highest * 1.15])
        else:
            axes.set_xlim(0, highest * 1.08)
        plain_numbers(axes.xaxis, most=None if highest > _LOG_FROM else 6)
        axes.set_xlabel("tokens per word")
        if len(scripts) < len(words):
            axes.set_title(f"{len(scripts)} of {len(words)} scripts: those with the most words")
        if len(rows) > 1:
            legend_below(figure, handles)
    return figure


def _round_numbers(highest: float) -> list[int]:
    """1, 2, 5, 10, … up to `highest`."""
    powers = range(math.ceil(math.log10(highest)) + 1)
    return [step * 10**power for power in powers for step in (1, 2, 5)]
