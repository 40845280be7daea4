"""Files of a report, read back: all numbers as they were."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.errors import MissingExtraError, ToolkitError
from toolkit.jsonable import to_jsonable
from toolkit.reporting import VocabReport, write_page, write_report
from toolkit.reporting.vocab_files import (
    write_comparison_csv,
    write_curves_csv,
    write_growth_csv,
    write_scripts_csv,
)
from toolkit.tokenizers.comparison import ComparedTokenizer
from toolkit.tokenizers.growth import VocabGrowth, VocabSuggestion


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_growth_csv(growth: VocabGrowth, tmp_path: Path) -> None:
    write_growth_csv(growth, tmp_path / "growth.csv")
    lines = read(tmp_path / "growth.csv")
    assert len(lines) == len(growth.rows)
    for line, row in zip(lines, growth.rows, strict=True):
        assert int(line["merges"]) == row.merges
        assert int(line["vocab_size"]) == row.vocab_size
        assert int(line["symbols_in_use"]) == row.symbols_in_use
        assert int(line["num_tokens"]) == row.num_tokens
        assert float(line["bytes_per_token"]) == row.bytes_per_token
        assert int(line["next_count"]) == row.next_count
    pairs = [(line["next_left"], line["next_right"]) for line in lines]
    assert pairs == [("a", "b"), ("ab", "c"), ("ab", "d"), ("", "")]


def test_growth_csv_keeps_any_token(growth: VocabGrowth, tmp_path: Path) -> None:
    tokens = [(b"\xf0\x9f", b"\r\n"), (b'",', b" \x00"), ("é".encode(), b"\n"), (b"=1", b"\r")]
    rows = [replace(growth.rows[0], next_pair=pair) for pair in tokens]
    write_growth_csv(replace(growth, rows=rows), tmp_path / "growth.csv")
    read_back = [(line["next_left"], line["next_right"]) for line in read(tmp_path / "growth.csv")]
    assert read_back == [("\\xf0\\x9f", "\r\n"), ('",', " \x00"), ("é", "\n"), ("=1", "\r")]


def test_curves_csv(rows: list[ComparedTokenizer], tmp_path: Path) -> None:
    write_curves_csv(rows, tmp_path / "heaps.csv", "heaps")
    write_curves_csv(rows, tmp_path / "zipf.csv", "zipf")
    heaps, zipf = read(tmp_path / "heaps.csv"), read(tmp_path / "zipf.csv")
    for row in rows:
        stats = row.stats
        assert stats.heaps_law is not None
        assert stats.zipf_law is not None
        own = [line for line in heaps if line["tokenizer"] == row.tokenizer]
        points = [(int(line["tokens_read"]), int(line["distinct"])) for line in own]
        assert points == [(point.tokens_read, point.distinct) for point in stats.heaps]
        assert [float(line["fitted"]) for line in own] == [
            stats.heaps_law.at(point.tokens_read) for point in stats.heaps
        ]
        own = [line for line in zipf if line["tokenizer"] == row.tokenizer]
        points = [(int(line["rank"]), int(line["count"])) for line in own]
        assert points == [(point.rank, point.count) for point in stats.zipf]
    assert {line["corpus"] for line in heaps} == {"tale"}


def test_comparison_csv(rows: list[ComparedTokenizer], tmp_path: Path) -> None:
    silent = replace(rows[0], encode_speed=None, stats=replace(rows[0].stats, heaps_law=None))
    write_comparison_csv([*rows[1:], silent], tmp_path / "comparison.csv")
    *lines, last = read(tmp_path / "comparison.csv")
    for line, row in zip(lines, rows[1:], strict=True):
        assert (line["tokenizer"], line["corpus"]) == (row.tokenizer, "tale")
        for name in ("vocab_size", "num_tokens", "num_bytes", "num_chars", "num_words"):
            assert int(line[name]) == getattr(row.stats, name)
        for name in ("bytes_per_token", "tokens_per_word", "one_token_words", "unknown_rate"):
            assert float(line[name]) == getattr(row.stats, name)
        for name in ("entropy", "renyi_efficiency", "unused_tokens", "distinct_tokens"):
            assert float(line[name]) == getattr(row.stats, name)
        assert int(line["embedding_params"]) == row.embedding_params
        assert row.encode_speed is not None
        assert float(line["encode_speed"]) == row.encode_speed
        assert row.stats.heaps_law is not None
        assert float(line["heaps_exponent"]) == row.stats.heaps_law.exponent
    assert (last["encode_speed"], last["heaps_exponent"]) == ("", "")


def test_scripts_csv(rows: list[ComparedTokenizer], tmp_path: Path) -> None:
    write_scripts_csv(rows, tmp_path / "scripts.csv")
    lines = read(tmp_path / "scripts.csv")
    expected = [(row, script) for row in rows for script in row.stats.scripts]
    assert len(expected) > len(rows)
    for line, (row, script) in zip(lines, expected, strict=True):
        assert (line["tokenizer"], line["script"]) == (row.tokenizer, script.script)
        assert float(line["tokens_per_word"]) == script.tokens_per_word
        assert int(line["num_words"]) == script.num_words


def test_write_report(
    rows: list[ComparedTokenizer],
    growth: VocabGrowth,
    suggestion: VocabSuggestion,
    tmp_path: Path,
) -> None:
    report = VocabReport("A tale", {"tale": "two lines"}, rows, growth, suggestion)
    paths = write_report(report, tmp_path / "out")
    assert all(path.parent == tmp_path / "out" for path in paths)
    kinds = ("growth", "heaps", "zipf", "comparison", "scripts")
    expected = {f"{kind}.{ending}" for kind in kinds for ending in ("png", "svg", "csv")}
    names = {path.name for path in paths}
    assert names == expected | {"vocab_stats.json"} == {p.name for p in paths[0].parent.iterdir()}
    value = json.loads((tmp_path / "out" / "vocab_stats.json").read_text("utf-8"))
    assert value == to_jsonable(report)
    assert value["growth"]["rows"][0]["next_pair"] == ["a", "b"]
    before = {path.name: path.read_bytes() for path in paths}
    write_report(report, tmp_path / "again")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}


def test_write_report_of_one_tokenizer(rows: list[ComparedTokenizer], tmp_path: Path) -> None:
    alone = replace(rows[0], stats=replace(rows[0].stats, scripts=[]))
    paths = write_report(VocabReport("Alone", rows=[alone]), tmp_path)
    assert {path.stem for path in paths} == {"heaps", "zipf", "comparison", "vocab_stats"}
    assert not (tmp_path / "comparison.png").exists()


def test_without_matplotlib_nothing_is_written(
    rows: list[ComparedTokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError):
        write_report(VocabReport("Alone", rows=rows), tmp_path / "out")
    with pytest.raises(MissingExtraError):
        write_page(VocabReport("Alone", rows=rows), tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be(rows: list[ComparedTokenizer], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(ToolkitError, match="Could not write"):
        write_report(VocabReport("Alone", rows=rows[:1]), tmp_path / "file")
