"""The page of `toolkit vocab-stats`: tables and figures of one tokenizer or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from toolkit.jsonable import bytes_to_json
from toolkit.reporting.comparison_columns import COLUMNS, best_rows, by_corpus
from toolkit.reporting.figures import svg_for_page
from toolkit.reporting.page import (
    Markup,
    details,
    figure,
    join,
    page,
    paragraph,
    section,
    table,
    text,
)
from toolkit.reporting.vocab_figures import rows_to_draw
from toolkit.reporting.vocab_pictures import vocab_pictures
from toolkit.tokenizers.comparison import ComparedTokenizer
from toolkit.tokenizers.growth import VocabGrowth, VocabSuggestion
from toolkit.tokenizers.stats import TokenCount

_GROWTH_ROWS = 16
_TOP = 10
_SHOWN = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"}


def vocab_page(
    title: str,
    corpora: Mapping[str, str],
    rows: Sequence[ComparedTokenizer],
    growth: VocabGrowth | None = None,
    suggestion: VocabSuggestion | None = None,
) -> str:
    """The report as an HTML document that needs nothing else; see `VocabReport` for the arguments.

    Raises:
        UsageError: no rows, or more than 12 for a figure.
        MissingExtraError: matplotlib is not installed.
    """
    pictures = vocab_pictures(rows, growth, suggestion)
    parts = [_summary(rows)]
    parts += [
        paragraph(Markup(f"<strong>{text(name)}</strong>: {text(about)}"))
        for name, about in corpora.items()
        if about
    ]
    parts += [_comparison_table(corpus, part) for corpus, part in by_corpus(rows).items()]
    sections = [section("Numbers", parts)]
    for picture in pictures:
        svg = svg_for_page(picture.figure, picture.name, picture.title)
        content = [figure(svg, picture.caption)]
        if picture.name == "growth" and growth is not None:
            content += _growth_parts(growth, suggestion)
        if picture.name.startswith("scripts"):
            content.append(_scripts_table(picture.rows))
        sections.append(section(picture.title, content))
    lists = [_token_lists(row) for row in rows if row.stats.most_frequent or row.stats.longest]
    if lists:
        sections.append(section("Tokens", lists))
    return page(title, sections)


def _summary(rows: Sequence[ComparedTokenizer]) -> Markup:
    texts = by_corpus(rows)
    sizes = ", ".join(
        f"{corpus} ({part[0].stats.num_bytes:,} bytes, {part[0].stats.num_words:,} words)"
        for corpus, part in texts.items()
    )
    number = len({row.tokenizer for row in rows})
    what = rows[0].tokenizer if number == 1 else f"{number} tokenizers"
    return paragraph(text(f"{what} on {sizes}."), "soft")


def _comparison_table(corpus: str, rows: Sequence[ComparedTokenizer]) -> Markup:
    best = {
        (number, place)
        for place, column in enumerate(COLUMNS, start=1)
        for number in best_rows(column, rows)
    }
    cells = [[text(row.tokenizer), *(text(column.text(row)) for column in COLUMNS)] for row in rows]
    note = " The best value of a column is marked." if best else ""
    header = ["tokenizer", *(column.title for column in COLUMNS)]
    return table(f"On {corpus}.{note}", header, cells, best=best)


def _growth_parts(growth: VocabGrowth, suggestion: VocabSuggestion | None) -> list[Markup]:
    peak, last = growth.peak, growth.rows[-1]
    said = (
        f"The {growth.num_words:,} words of the text ({growth.distinct_words:,} of them different) "
        f"hold the most symbols, {peak.symbols_in_use:,}, after {peak.merges:,} merges; "
        f"{last.symbols_in_use:,} are in use at the end."
    )
    if growth.complete:
        said += " Then every word is a single token, and nothing is left to merge."
    parts = [paragraph(text(said))]
    if suggestion is not None:
        knee = suggestion.knee
        told = (
            f"The knee is at a vocabulary of {knee.vocab_size:,}: there "
            f"{suggestion.gain_share:.0%} of all gain in bytes per token is reached. The last "
            f"doubling before it made the text {suggestion.saved_before:.1%} shorter, going on to "
            f"{suggestion.after_vocab_size:,} makes it {suggestion.saved_after:.1%} shorter."
        )
        parts.append(paragraph(text(told)))
    header = ("merges", "vocabulary", "in use", "tokens", "bytes/token", "next pair", "count")
    cells = []
    for row in rows_to_draw(growth, suggestion, most=_GROWTH_ROWS):
        pair = " + ".join(map(_token, row.next_pair)) if row.next_pair else "–"
        cells.append(
            [
                text(f"{row.merges:,}"),
                text(f"{row.vocab_size:,}"),
                text(f"{row.symbols_in_use:,}"),
                text(f"{row.num_tokens:,}"),
                text(f"{row.bytes_per_token:.3f}"),
                Markup(pair),
                text(f"{row.next_count:,}" if row.next_pair else "–"),
            ]
        )
    caption = "After so many merges: the text, and the pair that is merged next."
    parts.append(details("Table", [table(caption, header, cells, left=[5])]))
    return parts


def _scripts_table(rows: Sequence[ComparedTokenizer]) -> Markup:
    header = ["tokenizer", "text", "script", "words", "tokens/word", "tokens/character"]
    header.append("one-token words")
    cells = [
        [
            text(row.tokenizer),
            text(row.corpus),
            text(script.script),
            text(f"{script.num_words:,}"),
            text(f"{script.tokens_per_word:.3f}"),
            text(f"{script.tokens_per_char:.3f}"),
            text(f"{script.one_token_words:.1%}"),
        ]
        for row in rows
        for script in row.stats.scripts
    ]
    caption = "Where a script has no spaces between words, compare tokens per character."
    return details("Table", [table(caption, header, cells, left=[1, 2])])


def _token_lists(row: ComparedTokenizer) -> Markup:
    stats = row.stats
    header = ("id", "token", "bytes", "count", "share")

    def cells(tokens: Sequence[TokenCount]) -> list[list[Markup]]:
        return [
            [
                text(str(token.id)),
                _token(token.token),
                text(str(token.length)),
                text(f"{token.count:,}"),
                text(f"{token.share:.2%}"),
            ]
            for token in tokens[:_TOP]
        ]

    both = [
        table("The most frequent tokens.", header, cells(stats.most_frequent), left=[1]),
        table("The longest tokens that occur.", header, cells(stats.longest), left=[1]),
    ]
    return details(f"{row.tokenizer} on {row.corpus}", [join(both)])


def _token(token: bytes) -> Markup:
    """A token so that its spaces and newlines can be seen."""
    shown = "".join(
        _SHOWN.get(c, c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in bytes_to_json(token)
    )
    return Markup(f"<code>{text(shown)}</code>")
