"""The curves of a vocabulary: its growth with each merge, and the laws of Heaps and Zipf.

Each function takes the numbers as they were measured and gives a figure; `comparison_figures` draws
tokenizers side by side. Left out: measuring anything, and files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.reporting.figures import (
    GREY,
    PALETTE,
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
from toolkit.tokenizers.frequencies import PowerLaw
from toolkit.tokenizers.growth import GrowthRow, VocabGrowth, VocabSuggestion
from toolkit.tokenizers.stats import VocabStats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_POINTS = 400  # of a line: more cannot be told apart in a column, and make an SVG large
_NEAR_ENOUGH = 2.0  # times the peak: above this the line of distinct words would flatten the curve


# -- growth -----------------------------------------------------------------------------------


def growth_figure(growth: VocabGrowth, suggestion: VocabSuggestion | None = None) -> Figure:
    """Symbols in use, length of the text and bytes per token, each against the merges made.

    Marked are the peak, the end if nothing is left to merge, and the knee if a suggestion is given
    whose knee lies within the curve.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    # A curve that bends the other way is farthest above the straight line at one of its ends.
    if suggestion is not None and suggestion.knee.merges in (0, suggestion.last.merges):
        suggestion = None
    rows = rows_to_draw(growth, suggestion)
    merges = [row.merges for row in rows]
    with paper_style():
        figure = new_figure(4.6)
        in_use, length, compression = figure.subplots(3, 1, sharex=True)
        curves: tuple[tuple[Axes, list[float], str], ...] = (
            (in_use, [row.symbols_in_use for row in rows], "symbols in use"),
            (length, [row.num_tokens for row in rows], "tokens in the text"),
            (compression, [row.bytes_per_token for row in rows], "bytes per token"),
        )
        for axes, values, name in curves:
            axes.plot(merges, values, color=PALETTE[0], label=name, zorder=3)
            axes.set_ylabel(name)
            plain_numbers(axes.yaxis, most=5, whole=axes is not compression)
            # Not from 0: the bytes with which everything begins would be a line of their own.
            axes.margins(x=0.03, y=0.12)
        length.set_ylim(bottom=0)
        compression.set_xlabel("merges")
        figure.align_ylabels()
        plain_numbers(compression.xaxis, most=5, whole=True)

        peak, last = growth.peak, growth.rows[-1]
        words_near = growth.distinct_words <= _NEAR_ENOUGH * peak.symbols_in_use
        if words_near:
            in_use.axhline(
                growth.distinct_words,
                color=PALETTE[1],
                linestyle="--",
                linewidth=1.0,
                label=f"distinct words: {growth.distinct_words:,}",
            )
            top = max(growth.distinct_words, peak.symbols_in_use)
            in_use.set_ylim(top=top * 1.3)
            in_use.legend(
                handles=in_use.lines[1:],
                loc="upper left",
                borderaxespad=0.1,
                frameon=True,  # the line at the knee may pass behind it
                facecolor="white",
                edgecolor="none",
                framealpha=1,
            )
        if suggestion is not None:
            for axes, _, _ in curves:
                axes.axvline(suggestion.knee.merges, color=GREY, linestyle=":", linewidth=1.0)
        path = _along(list(zip(merges, curves[0][1], strict=True)))
        if words_near:
            left, right = in_use.get_xlim()
            path += _along([(left, growth.distinct_words), (right, growth.distinct_words)])
        notes = [(peak.merges, peak.symbols_in_use, f"peak: {peak.symbols_in_use:,}")]
        in_use.plot(*notes[0][:2], "o", color=PALETTE[1], zorder=4, label="peak")
        if growth.complete:
            notes.append((last.merges, last.symbols_in_use, "nothing left to merge"))
            in_use.plot(*notes[1][:2], "s", color=PALETTE[2], zorder=4, label="complete")
        label_points(in_use, notes, avoid=path)
        if suggestion is not None:
            knee = suggestion.knee
            compression.plot(
                knee.merges, knee.bytes_per_token, "D", color=PALETTE[1], zorder=4, label="knee"
            )
            text = f"knee: vocabulary {number_label(knee.vocab_size)}"
            path = list(zip(merges, curves[2][1], strict=True))
            bottom, top = compression.get_ylim()
            line = [(knee.merges, y) for y in np.linspace(bottom, top, 30).tolist()]
            label_points(
                compression,
                [(knee.merges, knee.bytes_per_token, text)],
                avoid=[*_along(path), *line],
            )
    return figure


def rows_to_draw(
    growth: VocabGrowth, suggestion: VocabSuggestion | None = None, *, most: int = _MOST_POINTS
) -> list[GrowthRow]:
    """At most about `most` rows in order, the first, the last, the peak and the knee among them.

    Half of them are spread evenly, half densely at the beginning, where the curves bend.
    """
    rows = growth.rows
    chosen = list(range(len(rows)))
    if len(rows) > most:
        evenly = np.linspace(0, len(rows) - 1, most // 2)
        bent = np.geomspace(1, len(rows) - 1, most // 2)
        chosen = sorted({0, *map(round, evenly.tolist()), *map(round, bent.tolist())})
    kept = {rows[i].merges: rows[i] for i in chosen}
    kept[growth.peak.merges] = growth.peak
    if suggestion is not None and suggestion.knee.merges <= rows[-1].merges:
        kept[suggestion.knee.merges] = suggestion.knee
    return [kept[merges] for merges in sorted(kept)]


def _along(path: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points close to each other along a line, for texts to keep off it."""
    if len(path) < 2:
        return list(path)
    at = np.linspace(0, len(path) - 1, 600)
    x, y = (np.interp(at, range(len(path)), values) for values in zip(*path, strict=True))
    return list(zip(x.tolist(), y.tolist(), strict=True))


# -- laws -------------------------------------------------------------------------------------


def heaps_figure(curves: Mapping[str, VocabStats]) -> Figure:
    """Distinct tokens against tokens read, with Heaps' law fitted; one curve for each name.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return _law_figure(
        {
            name: (
                [point.tokens_read for point in stats.heaps],
                [point.distinct for point in stats.heaps],
                stats.heaps_law,
            )
            for name, stats in curves.items()
        },
        exponent="β",
        sign=1,
        x_label="tokens read",
        y_label="distinct tokens",
    )


def zipf_figure(curves: Mapping[str, VocabStats]) -> Figure:
    """Frequency against rank, with Zipf's law fitted; one curve for each name.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return _law_figure(
        {
            name: (
                [point.rank for point in stats.zipf],
                [point.count for point in stats.zipf],
                stats.zipf_law,
            )
            for name, stats in curves.items()
        },
        exponent="s",
        sign=-1,  # the law is written r^-s
        x_label="rank of the token",
        y_label="times it occurs",
    )


def _law_figure(
    curves: Mapping[str, tuple[list[int], list[int], PowerLaw | None]],
    *,
    exponent: str,
    sign: int,
    x_label: str,
    y_label: str,
) -> Figure:
    labels = {
        name: plain(name)
        + (f", {exponent} = {sign * law.exponent:.2f}" if law else ", too short for a law")
        for name, (_, _, law) in curves.items()
    }
    with paper_style():
        from matplotlib.lines import Line2D

        figure = new_figure(2.6 + legend_height(labels.values()))
        axes: Any = figure.subplots()
        axes.set(xscale="log", yscale="log", xlabel=x_label, ylabel=y_label)
        handles = []
        marker_size = 3.5 if len(curves) <= 6 else 3.0
        for number, (name, (x, y, law)) in enumerate(curves.items()):
            look = series_style(number)
            points: dict[str, Any] = {
                "color": look.color,
                "marker": look.marker,
                "markersize": marker_size,
            }
            # All points are in the line; a marker at each would hide the others.
            shown = _spread_in_logs(x, 12, shift=number / max(len(curves), 1))
            axes.plot(x, y, linestyle="none", markevery=shown, label=name, zorder=3, **points)
            if law is not None:
                ends = [x[0], x[-1]]
                fitted = [law.at(end) for end in ends]
                axes.plot(ends, fitted, color=look.color, linestyle=look.line, linewidth=0.9)
                axes.lines[-1].set_label(f"{name}, fitted")
            label = labels[name]
            handles.append(
                Line2D([], [], linestyle=look.line, linewidth=0.9, label=label, **points)
            )
        # A law that does not fit (of characters, say) would stretch the axis.
        highest = max((max(y) for _, y, _ in curves.values() if y), default=1)
        lowest = min((min(y) for _, y, _ in curves.values() if y), default=1)
        axes.set_ylim(lowest / 1.7, highest * 1.7)
        legend_below(figure, handles)
    return figure


def _spread_in_logs(x: Sequence[int], number: int, *, shift: float) -> list[int]:
    """Indices of about `number` of the ascending x, evenly spread on a logarithmic scale.

    `shift` (0 to 1) moves them, so that the markers of curves which coincide take turns.
    """
    if len(x) <= number:
        return list(range(len(x)))
    logs = np.log(np.array(x, np.float64))
    places = (np.arange(number) + shift) / number * (logs[-1] - logs[0]) + logs[0]
    nearest = np.abs(logs[:, None] - places[None, :]).argmin(axis=0)
    # The last one shows whether a vocabulary is used up.
    return sorted({*nearest.tolist(), len(x) - 1})
