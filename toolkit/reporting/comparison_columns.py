"""The columns in which tokenizers are compared, and which value of each is the best.

One list for every table, so that the page and the terminal show the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from toolkit.terminal_plot import format_number
from toolkit.tokenizers.comparison import ComparedTokenizer


@dataclass(frozen=True)
class Column:
    """One number of a compared tokenizer.

    Attributes:
        key: its name in files.
        title: its name for people.
        value: where it is; None where it was not measured.
        show: how it is written.
        better: whether the highest or the lowest is best; None where neither is.
    """

    key: str
    title: str
    value: Callable[[ComparedTokenizer], float | None]
    show: Callable[[float], str]
    better: Literal["high", "low"] | None = None

    def text(self, row: ComparedTokenizer) -> str:
        """The value as it is shown, "–" where there is none."""
        value = self.value(row)
        return "–" if value is None else self.show(value)


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _share(value: float) -> str:
    return f"{value:.1%}"


def _decimals(value: float) -> str:
    return f"{value:.3f}"


COLUMNS = (
    Column("vocab_size", "vocabulary", lambda row: row.stats.vocab_size, _whole),
    Column("num_tokens", "tokens", lambda row: row.stats.num_tokens, _whole, "low"),
    Column(
        "bytes_per_token",
        "bytes per token",
        lambda row: row.stats.bytes_per_token,
        _decimals,
        "high",
    ),
    Column(
        "tokens_per_word",
        "tokens per word",
        lambda row: row.stats.tokens_per_word,
        _decimals,
        "low",
    ),
    Column(
        "one_token_words", "one-token words", lambda row: row.stats.one_token_words, _share, "high"
    ),
    Column("unknown_rate", "unknown", lambda row: row.stats.unknown_rate, "{:.3%}".format, "low"),
    Column("unused_tokens", "never used", lambda row: row.stats.unused_tokens, _whole, "low"),
    Column("entropy", "entropy, bits", lambda row: row.stats.entropy, _decimals),
    Column(
        "renyi_efficiency",
        "Rényi efficiency",
        lambda row: row.stats.renyi_efficiency,
        _decimals,
        "high",
    ),
    Column(
        "embedding_params",
        "embedding parameters",
        lambda row: row.embedding_params,
        format_number,
        "low",
    ),
    Column(
        "encode_speed",
        "encode MB/s",
        lambda row: row.encode_speed,
        "{:,.1f}".format,
        "high",
    ),
)


def best_rows(column: Column, rows: Sequence[ComparedTokenizer]) -> set[int]:
    """The indices of the rows with the best value, several if they are equal.

    None where there is nothing to choose: one value alone, or all of them equal.
    """
    values = {i: value for i, row in enumerate(rows) if (value := column.value(row)) is not None}
    if column.better is None or len(set(values.values())) < 2:
        return set()
    best = (max if column.better == "high" else min)(values.values())
    return {i for i, value in values.items() if value == best}


def by_corpus(rows: Sequence[ComparedTokenizer]) -> dict[str, list[ComparedTokenizer]]:
    """The rows of each text: only these can be compared with each other."""
    found: dict[str, list[ComparedTokenizer]] = {}
    for row in rows:
        found.setdefault(row.corpus, []).append(row)
    return found
