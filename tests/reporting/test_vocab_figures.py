"""What is drawn equals what was measured."""

import re
from dataclasses import replace
from typing import Any

import pytest

from toolkit.errors import UsageError
from toolkit.reporting.comparison_figures import comparison_figure, row_names, scripts_figure
from toolkit.reporting.figures import render
from toolkit.reporting.vocab_figures import (
    growth_figure,
    heaps_figure,
    rows_to_draw,
    zipf_figure,
)
from toolkit.reporting.vocab_pictures import vocab_pictures
from toolkit.tokenizers.comparison import ComparedTokenizer
from toolkit.tokenizers.growth import GrowthRow, VocabGrowth, VocabSuggestion


def lines(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    """The data of each line by its label."""
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines
    }


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def legend_texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


# -- growth -----------------------------------------------------------------------------------


def test_growth_figure_draws_the_rows(growth: VocabGrowth, suggestion: VocabSuggestion) -> None:
    in_use, length, compression = growth_figure(growth, suggestion).axes
    assert lines(in_use)["symbols in use"] == ([0, 1, 2, 3], [4, 5, 5, 4])
    assert lines(length)["tokens in the text"] == ([0, 1, 2, 3], [17, 12, 9, 7])
    expected = [17 / 17, 17 / 12, 17 / 9, 17 / 7]
    assert lines(compression)["bytes per token"] == ([0, 1, 2, 3], expected)
    labels = [axes.get_ylabel() for axes in (in_use, length, compression)]
    assert labels == ["symbols in use", "tokens in the text", "bytes per token"]
    assert compression.get_xlabel() == "merges"


def test_growth_figure_marks_peak_knee_end_and_words(
    growth: VocabGrowth, suggestion: VocabSuggestion
) -> None:
    in_use, length, compression = growth_figure(growth, suggestion).axes
    assert lines(in_use)["peak"] == ([1], [5])
    assert lines(in_use)["complete"] == ([3], [4])
    assert lines(in_use)["distinct words: 4"][1] == [4, 4]
    assert texts(in_use) == ["peak: 5", "nothing left to merge"]
    assert lines(compression)["knee"] == ([2], [17 / 9])
    assert texts(compression) == ["knee: vocabulary 258"]
    for axes in (in_use, length, compression):
        assert ([2, 2], [0, 1]) in lines(axes).values()


def test_growth_figure_without_what_does_not_apply(growth: VocabGrowth) -> None:
    unfinished = replace(growth, num_words=5, distinct_words=900)
    in_use, _, compression = growth_figure(unfinished).axes
    assert texts(in_use) == ["peak: 5"]
    assert in_use.get_legend() is None
    assert texts(compression) == []


def test_a_knee_at_an_end_is_none(growth: VocabGrowth, suggestion: VocabSuggestion) -> None:
    for row in (growth.rows[0], growth.rows[-1]):
        axes = growth_figure(growth, replace(suggestion, knee=row)).axes[2]
        assert texts(axes) == []


def test_a_long_growth_is_thinned_out_but_keeps_what_is_marked() -> None:
    def row(merges: int) -> GrowthRow:
        in_use = 256 + min(merges, 40_000 - merges)
        return GrowthRow(merges, 256 + merges, in_use, 10**6 - merges, 1.5, None, 0)

    rows = [row(merges) for merges in range(32_001)]
    peak = replace(rows[20_000], symbols_in_use=30_000)
    knee = rows[1_234]
    growth = VocabGrowth(10**6, 10**5, 10**4, peak, rows)
    suggestion = VocabSuggestion(knee, rows[-1], 0.5, 0.1, 0.1, 2_468)
    drawn = rows_to_draw(growth, suggestion)
    assert len(drawn) < 420
    assert drawn[0] == rows[0]
    assert drawn[-1] == rows[-1]
    assert peak in drawn
    assert knee in drawn
    assert [r.merges for r in drawn] == sorted({r.merges for r in drawn})
    figure: Any = growth_figure(growth, suggestion)
    assert max(lines(figure.axes[0])["symbols in use"][1]) == 30_000
    assert len(render(figure, "svg")) < 80_000


def test_a_peak_between_the_rows_is_drawn(growth: VocabGrowth) -> None:
    thin = replace(growth, rows=[growth.rows[0], growth.rows[-1]])
    assert lines(growth_figure(thin).axes[0])["symbols in use"] == ([0, 1, 3], [4, 5, 4])


# -- laws -------------------------------------------------------------------------------------


def test_heaps_figure(rows: list[ComparedTokenizer]) -> None:
    figure = heaps_figure({row.tokenizer: row.stats for row in rows})
    (axes,) = figure.axes
    drawn = lines(axes)
    for row in rows:
        x, y = drawn[row.tokenizer]
        assert [*zip(x, y, strict=True)] == [(p.tokens_read, p.distinct) for p in row.stats.heaps]
        law = row.stats.heaps_law
        assert law is not None
        assert drawn[f"{row.tokenizer}, fitted"] == ([x[0], x[-1]], [law.at(x[0]), law.at(x[-1])])
        assert f"{row.tokenizer}, β = {law.exponent:.2f}" in legend_texts(figure)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tokens read", "distinct tokens")


def test_zipf_figure(rows: list[ComparedTokenizer]) -> None:
    figure = zipf_figure({row.tokenizer: row.stats for row in rows})
    (axes,) = figure.axes
    for row in rows:
        x, y = lines(axes)[row.tokenizer]
        assert [*zip(x, y, strict=True)] == [(p.rank, p.count) for p in row.stats.zipf]
        law = row.stats.zipf_law
        assert law is not None
        assert f"{row.tokenizer}, s = {-law.exponent:.2f}" in legend_texts(figure)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("rank of the token", "times it occurs")


def test_a_text_too_short_for_a_law_is_drawn(rows: list[ComparedTokenizer]) -> None:
    stats = rows[0].stats
    short = replace(stats, heaps=stats.heaps[:1], heaps_law=None, zipf=[], zipf_law=None)
    assert legend_texts(heaps_figure({"short": short})) == ["short, too short for a law"]
    render(zipf_figure({"short": short}), "svg")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pattern", ["$\\x{}$", "_{}"])
def test_signs_in_names_mean_nothing(rows: list[ComparedTokenizer], pattern: str) -> None:
    named = [replace(row, tokenizer=pattern.format(row.tokenizer)) for row in rows]
    for figure in (
        heaps_figure({row.tokenizer: row.stats for row in named}),
        comparison_figure(named),
        scripts_figure(named),
    ):
        render(figure, "svg")
    assert len(legend_texts(scripts_figure(named))) == 3


# -- comparison -------------------------------------------------------------------------------


def test_comparison_figure(rows: list[ComparedTokenizer]) -> None:
    figure = comparison_figure(rows)
    points, *bars = figure.axes
    for row in rows:
        place = ([row.stats.vocab_size], [row.stats.bytes_per_token])
        assert lines(points)[row.tokenizer] == place
    assert texts(points) == ["char", "word", "byte"]
    assert points.get_xscale() == "log"
    assert (points.get_xlabel(), points.get_ylabel()) == ("vocabulary size", "bytes per token")
    (above,) = points.child_axes
    assert above.get_xlabel() == "embedding parameters (width 64)"
    figure.draw_without_rendering()
    assert above.get_xlim() == pytest.approx([64 * end for end in points.get_xlim()])

    expected = {
        "tokens\nper word": [row.stats.tokens_per_word for row in rows],
        "one-token\nwords": [row.stats.one_token_words for row in rows],
        "Rényi\nefficiency": [row.stats.renyi_efficiency for row in rows],
    }
    drawn = {axes.get_title(): [patch.get_width() for patch in axes.patches] for axes in bars}
    assert drawn == expected
    assert [label.get_text() for label in bars[0].get_yticklabels()] == ["char", "word", "byte"]


def test_embeddings_of_different_widths_have_no_common_scale(
    rows: list[ComparedTokenizer],
) -> None:
    mixed = [rows[0], replace(rows[1], embedding_params=1)]
    assert comparison_figure(mixed).axes[0].child_axes == []


@pytest.mark.parametrize("number", [1, 2, 12])
def test_as_many_tokenizers_as_may_be(rows: list[ComparedTokenizer], number: int) -> None:
    many = [replace(rows[i % 3], tokenizer=f"tokenizer {i}") for i in range(number)]
    for picture in vocab_pictures(many):
        assert render(picture.figure, "png")
        assert picture.caption.count(". ") == 1, "two sentences"


@pytest.mark.filterwarnings("error")
def test_long_names_leave_room(rows: list[ComparedTokenizer]) -> None:
    long = [replace(row, tokenizer=f"hf:/{i}{'/folder' * 20}.json") for i, row in enumerate(rows)]
    for picture in vocab_pictures(long):
        render(picture.figure, "svg")
    shown = legend_texts(scripts_figure(long))[0]
    assert len(shown) == 34
    assert re.fullmatch(r"hf:/0/folder.*….*/folder\.json", shown)


def test_scripts_figure(rows: list[ComparedTokenizer]) -> None:
    figure = scripts_figure(rows)
    (axes,) = figure.axes
    scripts = [label.get_text() for label in axes.get_yticklabels()]
    assert scripts[:2] == ["Latin", "Cyrillic"]  # 14 words and 3
    assert axes.get_xlabel() == "tokens per word"
    assert legend_texts(figure) == ["char", "word", "byte"]
    for row, container in zip(rows, axes.containers, strict=True):
        measured = {script.script: script.tokens_per_word for script in row.stats.scripts}
        assert container.get_label() == row.tokenizer
        assert [patch.get_width() for patch in container] == [measured[s] for s in scripts]


def test_scripts_must_have_been_counted(rows: list[ComparedTokenizer]) -> None:
    bare = [replace(row, stats=replace(row.stats, scripts=[])) for row in rows]
    with pytest.raises(UsageError, match="--split-by script"):
        scripts_figure(bare)


def test_row_names(rows: list[ComparedTokenizer]) -> None:
    a, b, _ = rows
    other = replace(a, corpus="other")
    assert row_names([a, b]) == ["char", "word"]
    assert row_names([a, other]) == ["tale", "other"]
    assert row_names([b, other]) == ["word, tale", "char, other"]


def test_which_pictures(rows: list[ComparedTokenizer], growth: VocabGrowth) -> None:
    def names(*arguments: Any) -> list[str]:
        return [picture.name for picture in vocab_pictures(*arguments)]

    assert names(rows) == ["comparison", "heaps", "zipf", "scripts"]
    bare = [replace(row, stats=replace(row.stats, scripts=[])) for row in rows]
    assert names(bare[:1], growth) == ["growth", "heaps", "zipf"]
    # One tokenizer on several texts is compared in one figure, several text by text.
    others = [replace(row, corpus="a_b.txt") for row in bare]
    assert names([bare[0], others[0]]) == ["comparison", "heaps", "zipf"]
    kinds = ["comparison", "heaps", "zipf"]
    expected = [f"{kind}-{text}" for text in ("tale", "a-b-txt") for kind in kinds]
    assert names([*bare, *others]) == expected
    with pytest.raises(UsageError, match="13 tokenizers"):
        names([replace(bare[0], tokenizer=str(i)) for i in range(13)])
    with pytest.raises(UsageError, match="no tokenizers"):
        names([])
