"""The page: well-formed, self-contained, and showing texts as texts."""

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from toolkit.reporting import VocabReport, write_page
from toolkit.reporting.comparison_columns import COLUMNS, best_rows
from toolkit.reporting.page import page, table, text
from toolkit.reporting.vocab_page import vocab_page
from toolkit.tokenizers.comparison import ComparedTokenizer
from toolkit.tokenizers.growth import VocabGrowth, VocabSuggestion
from toolkit.tokenizers.stats import TokenCount

_VOID = {"meta", "br", "hr", "img", "link", "input"}


class Checker(HTMLParser):
    """Balanced tags, their attributes, and the text of each kind of element."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids.update(value or "" for name, value in attrs if name == "id")
        if tag not in _VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.texts[tag][-1] += data


def whole_page(
    rows: list[ComparedTokenizer], growth: VocabGrowth, suggestion: VocabSuggestion
) -> str:
    # The growth is that of the first row.
    rows = [replace(rows[0], tokenizer="bpe:260"), *rows[1:]]
    return vocab_page("A tale", {"tale": "two lines"}, rows, growth, suggestion)


@pytest.fixture(scope="module")
def document(
    rows: list[ComparedTokenizer], growth: VocabGrowth, suggestion: VocabSuggestion
) -> str:
    """The whole page."""
    return whole_page(rows, growth, suggestion)


def test_the_page_is_well_formed_and_has_all_parts(document: str) -> None:
    assert document.startswith('<!DOCTYPE html>\n<html lang="en">')
    checked = Checker(document)
    assert checked.texts["title"] == checked.texts["h1"] == ["A tale"]
    assert checked.texts["h2"] == [
        "Numbers",
        "Growth with each merge (bpe:260)",
        "Compression and size",
        "Distinct tokens: Heaps’ law",
        "Rank and frequency: Zipf’s law",
        "Tokens per word by script",
        "Tokens",
    ]
    assert checked.tags["svg"] == checked.tags["figure"] == checked.tags["figcaption"] == 5
    assert checked.tags["caption"] == checked.tags["table"]
    scopes = Counter(value for tag, name, value in checked.attributes if name == "scope")
    assert scopes["row"] + scopes["col"] == checked.tags["th"]
    assert max(checked.ids.values()) == 1
    assert checked.tags["script"] == 0


def test_the_page_needs_nothing_from_outside(document: str) -> None:
    assert "http" not in document
    assert "@import" not in document
    for _, name, value in Checker(document).attributes:
        assert name not in ("src", "srcset", "data")
        if name == "href":
            assert value.startswith("#")
    for url in re.findall(r"url\(([^)]*)\)", document):
        assert url.startswith("#")


def test_the_page_is_the_same_every_time(
    document: str, rows: list[ComparedTokenizer], growth: VocabGrowth, suggestion: VocabSuggestion
) -> None:
    assert whole_page(rows, growth, suggestion) == document


@pytest.mark.filterwarnings("error")
def test_nothing_from_a_text_becomes_markup(
    rows: list[ComparedTokenizer], growth: VocabGrowth
) -> None:
    evil = "</td><script>alert('x')</script>--><b a=\"&amp;"
    token = TokenCount(1, evil.encode(), 9, 1, 0.5)
    stats = replace(rows[0].stats, most_frequent=[token], longest=[token])
    other = replace(rows[1], tokenizer=f"{evil}2", corpus=evil)
    pair = (evil.encode(), b"\xff<i>")
    bad_growth = replace(growth, rows=[replace(growth.rows[0], next_pair=pair), *growth.rows[1:]])
    document = vocab_page(
        evil,
        {evil: evil},
        [replace(rows[0], tokenizer=evil, corpus=evil, stats=stats), other],
        bad_growth,
    )
    checked = Checker(document)
    assert checked.tags["script"] == checked.tags["b"] == checked.tags["i"] == 0
    assert checked.texts["title"] == checked.texts["h1"] == [evil]
    assert evil.replace(" ", "·") in checked.texts["code"]
    assert evil in checked.texts["th"]


def test_tokens_are_shown_so_that_they_can_be_seen(rows: list[ComparedTokenizer]) -> None:
    tokens = [
        TokenCount(i, token, 1, 1, 0.1) for i, token in enumerate((b" a\n", b"\xff", b"\x1b"))
    ]
    stats = replace(rows[0].stats, most_frequent=tokens, longest=[])
    checked = Checker(vocab_page("Tokens", {}, [replace(rows[0], stats=stats)]))
    assert checked.texts["code"] == ["·a⏎", "\\xff", "\\u{1b}"]


def test_the_numbers_of_the_table(rows: list[ComparedTokenizer]) -> None:
    document = vocab_page("A tale", {}, rows)
    for row in rows:
        for column in COLUMNS:
            assert f">{column.text(row)}</td>" in document
    assert "The best value of a column is marked." in document
    marked = sum(len(best_rows(column, rows)) for column in COLUMNS)
    assert document.count('class="best"') == marked > 0
    alone = vocab_page("A tale", {}, rows[:1])
    assert 'class="best"' not in alone


def test_best_rows(rows: list[ComparedTokenizer]) -> None:
    columns = {column.key: column for column in COLUMNS}
    assert best_rows(columns["bytes_per_token"], rows) == {1}
    assert best_rows(columns["num_tokens"], rows) == {1}
    assert best_rows(columns["vocab_size"], rows) == set()
    silent = [
        replace(row, encode_speed=speed) for row, speed in zip(rows, (2, None, 2), strict=True)
    ]
    assert best_rows(columns["encode_speed"], silent) == set()
    silent[1] = replace(silent[1], encode_speed=1.0)
    assert best_rows(columns["encode_speed"], silent) == {0, 2}
    assert columns["encode_speed"].text(replace(rows[0], encode_speed=None)) == "–"


def test_the_best_is_looked_for_in_each_text(rows: list[ComparedTokenizer]) -> None:
    others = [replace(row, corpus="other") for row in rows]
    document = vocab_page("Two", {}, [*rows, *others])
    once = vocab_page("One", {}, rows)
    assert document.count('class="best"') == 2 * once.count('class="best"')
    assert max(Checker(document).ids.values()) == 1
    assert "On tale." in document
    assert "On other." in document


def test_write_page(rows: list[ComparedTokenizer], tmp_path: Path) -> None:
    write_page(VocabReport("A tale", {"tale": "x"}, rows), tmp_path / "new" / "report.html")
    written = (tmp_path / "new" / "report.html").read_text("utf-8")
    assert written == vocab_page("A tale", {"tale": "x"}, rows)


def test_page_skeleton() -> None:
    cells = [[text("a<"), text("1")], [text("b"), text("2")]]
    made = table("Of & on", ["name", "n"], cells, best=[(1, 1)])
    checked = Checker(page("T & U", [made]))
    assert checked.texts["title"] == ["T & U"]
    assert checked.texts["caption"] == ["Of & on"]
    assert checked.texts["th"] == ["name", "n", "a<", "b"]
    assert ("td", "class", "best") in checked.attributes
