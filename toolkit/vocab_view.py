"""What `toolkit vocab-stats` prints: tables, curves, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from toolkit.console import out
from toolkit.reporting.comparison_columns import COLUMNS, best_rows, by_corpus
from toolkit.reporting.vocab_report import VocabReport
from toolkit.shown import show_token
from toolkit.terminal_plot import line_chart
from toolkit.tokenizers.comparison import ComparedTokenizer
from toolkit.tokenizers.frequencies import PowerLaw
from toolkit.tokenizers.growth import GrowthRow, VocabGrowth, VocabSuggestion
from toolkit.tokenizers.stats import TokenCount, VocabStats

_MAX_ROWS = 24
_BEST = "bold green"
_MARK = "*"


def print_report(report: VocabReport, *, every: int | None = None) -> None:
    """One tokenizer in full, or several side by side.

    Args:
        report: what to print.
        every: merges between two rows of the growth; None chooses about twenty rows.
    """
    if len(report.rows) > 1:
        _print_comparison(report.rows)
    else:
        row = report.rows[0]
        out().print(f"[bold]{escape(row.tokenizer)} on {escape(row.corpus)}[/bold]")
        _print_facts(row)
        _print_tokens("most frequent tokens", row.stats.most_frequent)
        _print_tokens("longest tokens in use", row.stats.longest)
    if any(row.stats.scripts for row in report.rows):
        _print_scripts(report.rows)
    if len(report.rows) == 1:
        _print_laws(report.rows[0].stats)
    if report.growth is not None:
        _print_growth(report.growth, thinned(report.growth, every))
    if report.suggestion is not None:
        _print_suggestion(report.suggestion)


def report_to_json(report: VocabReport, *, every: int | None = None) -> dict[str, Any]:
    """What `toolkit vocab-stats --json` prints; one tokenizer alone has no list around it."""
    growth = None
    if report.growth is not None:
        growth = {
            "num_bytes": report.growth.num_bytes,
            "num_words": report.growth.num_words,
            "distinct_words": report.growth.distinct_words,
            "complete": report.growth.complete,
            "peak": report.growth.peak,
            "rows": thinned(report.growth, every),
        }
    if len(report.rows) > 1:
        return {"rows": report.rows}
    row = report.rows[0]
    return {
        "tokenizer": row.tokenizer,
        "corpus": row.corpus,
        "stats": row.stats,
        "embedding_params": row.embedding_params,
        "encode_speed": row.encode_speed,
        "growth": growth,
        "suggestion": report.suggestion,
    }


def thinned(growth: VocabGrowth, every: int | None) -> list[GrowthRow]:
    """Rows at multiples of `every` merges, the one with the most symbols in use, and the last."""
    last = growth.rows[-1].merges
    if every is None:
        every = _round_step(last / _MAX_ROWS)
        wanted = {growth.peak.merges, last}
    else:
        wanted = {last}
    return [row for row in growth.rows if row.merges % every == 0 or row.merges in wanted]


def _round_step(least: float) -> int:
    """The smallest power of two that is no less."""
    step = 1
    while step < least:
        step *= 2
    return step


def _print_facts(row: ComparedTokenizer) -> None:
    stats = row.stats
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    used = f"{stats.distinct_tokens:,} ({stats.unused_tokens:,} unused)"
    table.add_row("distinct tokens in use", used)
    for column in COLUMNS:
        if column.key != "unused_tokens":
            table.add_row(_TITLES.get(column.key, column.title), column.text(row))
    out().print(table)


_TITLES = {
    "vocab_size": "vocabulary size",
    "bytes_per_token": "bytes per token",
    "tokens_per_word": "tokens per word",
    "one_token_words": "words that are one token",
    "unknown_rate": "unknown rate, held out",
    "entropy": "entropy, bits per token",
    "renyi_efficiency": "Rényi efficiency (α = 2.5)",
    "encode_speed": "encoding speed here, MB/s",
}


def _print_tokens(title: str, tokens: Sequence[TokenCount]) -> None:
    if not tokens:
        return
    out().print(f"\n[bold]{title}[/bold]")
    table = Table("id", "token", box=None, pad_edge=False)
    for name in ("bytes", "count", "share"):
        table.add_column(name, justify="right")
    for token in tokens:
        shown = Text(show_token(token.token)[0])
        count, share = f"{token.count:,}", f"{token.share:.2%}"
        table.add_row(str(token.id), shown, str(token.length), count, share)
    out().print(table)


def _print_comparison(rows: Sequence[ComparedTokenizer]) -> None:
    console = out()
    texts = by_corpus(rows)
    marked = False
    for number, (corpus, of_corpus) in enumerate(texts.items()):
        if number:
            console.print()
        console.print(f"[bold]on {escape(corpus)}[/bold]")
        # A terminal of ordinary width has no room for a dozen columns beside each other.
        for columns in _columns_that_fit(console):
            table = Table("tokenizer", box=None, pad_edge=False)
            for column in columns:
                table.add_column(column.title, justify="right")
            best = [best_rows(column, of_corpus) for column in columns]
            marked = marked or any(best)
            for index, row in enumerate(of_corpus):
                cells = [
                    Text(column.text(row) + _MARK, style=_BEST)
                    if index in winners
                    else Text(column.text(row) + " ")
                    for column, winners in zip(columns, best, strict=True)
                ]
                table.add_row(Text(row.tokenizer), *cells)
            console.print(table)
    if marked:
        console.print(f"[dim]{_MARK} the best of its column[/dim]")


def _columns_that_fit(console: Console) -> list[tuple[Any, ...]]:
    half = len(COLUMNS) // 2
    return [COLUMNS] if console.width >= 180 else [COLUMNS[:half], COLUMNS[half:]]


def _print_scripts(rows: Sequence[ComparedTokenizer]) -> None:
    console = out()
    for corpus, of_corpus in by_corpus(rows).items():
        console.print(f"\n[bold]words of {escape(corpus)} by script[/bold]")
        table = Table("script", "tokenizer", box=None, pad_edge=False)
        for name in ("words", "characters", "tokens/word", "tokens/character", "one-token words"):
            table.add_column(name, justify="right")
        for place, first in enumerate(of_corpus[0].stats.scripts):
            for number, row in enumerate(of_corpus):
                script = row.stats.scripts[place]
                table.add_row(
                    first.script if not number else "",
                    Text(row.tokenizer),
                    f"{script.num_words:,}" if not number else "",
                    f"{script.num_chars:,}" if not number else "",
                    f"{script.tokens_per_word:.3f}",
                    f"{script.tokens_per_char:.3f}",
                    f"{script.one_token_words:.1%}",
                )
        console.print(table)


def _print_laws(stats: VocabStats) -> None:
    heaps = [(p.tokens_read, p.distinct) for p in stats.heaps]
    zipf = [(p.rank, p.count) for p in stats.zipf]
    _print_law("distinct tokens against tokens read (Heaps)", heaps, stats.heaps_law, "β")
    _print_law("frequency against rank (Zipf)", zipf, stats.zipf_law, "exponent")


def _print_law(
    title: str, points: Sequence[tuple[int, int]], law: PowerLaw | None, symbol: str
) -> None:
    if law is None:
        return
    console = out()
    console.print(
        f"\n[bold]{title}[/bold], both axes logarithmic: "
        f"{law.coefficient:,.4g} · x^{law.exponent:.3f}, {symbol} = {law.exponent:.3f}"
    )
    x, y = zip(*points, strict=True)
    console.print("\n".join(line_chart(x, y, log_x=True, log_y=True)), markup=False)


def _print_growth(growth: VocabGrowth, rows: Sequence[GrowthRow]) -> None:
    console = out()
    console.print("\n[bold]growth: what each merge does to the corpus[/bold]")
    table = Table(box=None, pad_edge=False)
    for name in ("merges", "vocabulary", "in use", "tokens", "bytes/token"):
        table.add_column(name, justify="right")
    table.add_column("next pair")
    table.add_column("count", justify="right")
    for row in rows:
        pair = " + ".join(show_token(part)[0] for part in row.next_pair) if row.next_pair else "–"
        table.add_row(
            f"{row.merges:,}",
            f"{row.vocab_size:,}",
            f"{row.symbols_in_use:,}",
            f"{row.num_tokens:,}",
            f"{row.bytes_per_token:.3f}",
            Text(pair),
            f"{row.next_count:,}" if row.next_pair else "–",
        )
    console.print(table)
    peak = growth.peak
    first, last = growth.rows[0], growth.rows[-1]
    lines = [
        f"In use: {first.symbols_in_use:,} symbols at first, at most {peak.symbols_in_use:,} after "
        f"{peak.merges:,} merges, {last.symbols_in_use:,} at the end."
    ]
    if growth.complete:
        lines.append(
            f"Nothing is left to merge: each of the {growth.distinct_words:,} distinct words is a "
            "single symbol, and no pair is left in any of them."
        )
    console.print("\n".join(lines))
    merges = [row.merges for row in growth.rows]
    curves = (
        ("symbols in use against merges", [row.symbols_in_use for row in growth.rows]),
        ("tokens in the corpus against merges", [row.num_tokens for row in growth.rows]),
    )
    for title, values in curves:
        chart = line_chart(merges, values)
        if chart:
            console.print(f"\n[bold]{title}[/bold]")
            console.print("\n".join(chart), markup=False)


def _print_suggestion(suggestion: VocabSuggestion) -> None:
    knee, last = suggestion.knee, suggestion.last
    out().print(
        f"\n[bold]suggested vocabulary size: {knee.vocab_size:,}[/bold]\n"
        f"It is the knee of the curve of bytes per token up to {last.vocab_size:,} tokens: the "
        "point farthest above the straight line between its ends.\n"
        f"There a token stands for {knee.bytes_per_token:.3f} bytes, "
        f"{suggestion.gain_share:.0%} of what all {last.merges:,} merges gain "
        f"({last.bytes_per_token:.3f}).\n"
        f"The last doubling of the vocabulary before it made the text "
        f"{suggestion.saved_before:.1%} shorter; going on to "
        f"{suggestion.after_vocab_size:,} saves {suggestion.saved_after:.1%}."
    )
