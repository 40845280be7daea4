"""The tasks: right answers, nothing held out that is trained on, and files of pairs."""

import json
import re
from collections import Counter
from datetime import date, datetime
from pathlib import Path

import pytest

from toolkit.errors import UnknownNameError, UsageError
from toolkit.tasks import FileTask, Pair, available_tasks, is_held_out, load_task
from toolkit.tasks.dates import FORMS
from toolkit.tasks.files import read_pairs


@pytest.mark.parametrize("name", available_tasks())
def test_no_held_out_pair_is_trained_on(name: str) -> None:
    task = load_task(name)
    trained = [pair for number in range(4) for pair in task.pool(number, 2000, seed=5)]
    about = (lambda pair: pair.target) if name == "date" else (lambda pair: pair.source)
    assert not {about(pair) for pair in trained} & {about(pair) for pair in task.held_out}
    assert len(task.held_out) == len(set(task.held_out)) == 1000


@pytest.mark.parametrize("name", available_tasks())
def test_the_same_arguments_give_the_same_pairs(name: str) -> None:
    task, again = load_task(name), load_task(name)
    assert task.pool(3, 50, seed=7) == again.pool(3, 50, seed=7)
    assert task.pool(3, 50, seed=7) != task.pool(4, 50, seed=7)
    assert task.pool(3, 50, seed=7) != task.pool(3, 50, seed=8)
    assert list(task.held_out) == list(again.held_out)
    assert task.sha256 == again.sha256
    assert task.alphabet is not None
    shown = {character for pair in task.examples() for character in pair.source + pair.target}
    assert shown <= set(task.alphabet)


def test_the_rules() -> None:
    answers = {
        "copy": lambda source: source,
        "reverse": lambda source: "".join(reversed(source)),
        "sort": lambda source: "".join(sorted(source)),
        "add": lambda source: str(sum(int(number) for number in source.split("+"))),
    }
    for name, answer in answers.items():
        task = load_task(name)
        for pair in [*task.pool(0, 300, seed=0), *task.held_out]:
            assert pair.target == answer(pair.source)


@pytest.mark.parametrize("name", available_tasks())
def test_a_task_knows_the_target_of_a_source(name: str) -> None:
    task = load_task(name)
    for pair in [*task.pool(0, 15, seed=3), *task.held_out[:15]]:
        assert task.target_of(pair.source) == pair.target
    for source in ("", "A", "12/3/24", "1+", "+2", "1234+1", "1 January 1969", "ß"):
        assert task.target_of(source) is None


def test_every_form_of_a_date_is_read_back() -> None:
    task, day = load_task("date"), date(2005, 2, 3)
    assert {task.target_of(form(day)) for form in FORMS} == {"2005-02-03"}


def test_the_longest_task_there_is() -> None:
    """Its sums have 4,097 digits, and Python writes no number of more than 4,300."""
    (pair,) = load_task("add:4096").pool(0, 1, seed=0)
    assert load_task("add:4096").target_of(pair.source) == pair.target


def test_lengths_are_all_there_and_alike() -> None:
    lengths = Counter(len(pair.source) for pair in load_task("reverse").pool(0, 20_000, seed=1))
    assert set(lengths) == set(range(1, 21))
    # 1000 each, a deviation of 31: below 800 or above 1200 comes once in 10⁹ (and the few letters
    # and pairs of letters that are held out are a tenth of theirs).
    assert all(750 < count < 1250 for count in lengths.values())
    assert {len(pair.source) for pair in load_task("sort:3").pool(0, 200, seed=1)} == {1, 2, 3}
    numbers = [pair.source.split("+") for pair in load_task("add:2").pool(0, 500, seed=1)]
    assert {len(number) for pair in numbers for number in pair} == {1, 2}


# How Python itself reads each form, in the order of FORMS.
PATTERNS = [
    "%d %B %Y", "%d %b %Y", "%d %B %Y", "%d %B %Y", "%d of %B %Y", "the %d of %B, %Y", "%B %d, %Y",
    "%b %d, %Y", "%B %d %Y", "%b %d '%y", "%A %d %B %Y", "%A, %B %d, %Y", "%a, %d %b %Y",
    "%d-%b-%Y", "%d/%m/%y (d/m/y)", "%m/%d/%y (m/d/y)", "%d/%m/%Y (d/m/y)", "%m/%d/%Y (m/d/y)",
    "%Y/%m/%d (y/m/d)", "%Y %B %d", "%Y%m%d",
]  # fmt: skip


def test_dates_are_what_python_reads() -> None:
    assert len(PATTERNS) == len(FORMS)
    days = [date(2024, 3, 12), date(1970, 1, 1), date(2069, 12, 31), date(1999, 11, 2)]
    days += [date(2000, 2, 29), date(2023, 5, 3), date(2011, 8, 21), date(1985, 9, 30)]
    for day in days:
        for form, pattern in zip(FORMS, PATTERNS, strict=True):
            text = form(day)
            plain = re.sub(r"(?<=\d)(st|nd|rd|th)\b", "", text)
            read = datetime.strptime(plain, pattern).date()
            # C's two-digit years turn at 69, ours at 70.
            expected = day.replace(year=1969) if day.year == 2069 and "%y" in pattern else day
            assert read == expected, text


def test_every_form_is_drawn_and_none_has_two_meanings() -> None:
    pairs = load_task("date").pool(0, 20_000, seed=2)
    targets: dict[str, set[str]] = {}
    for pair in pairs:
        targets.setdefault(pair.source, set()).add(pair.target)
    assert all(len(found) == 1 for found in targets.values())
    drawn = {
        number
        for pair in pairs[:1000]
        for number, form in enumerate(FORMS)
        if form(date.fromisoformat(pair.target)) == pair.source
    }
    assert drawn == set(range(len(FORMS)))


def test_a_share_that_leaves_nothing_is_refused() -> None:
    # A word of one letter: there are 26, and all of them are on one side.
    with pytest.raises(UsageError, match=r"--held-out 0\.999 leaves nothing to train on"):
        load_task("copy:1", held_out=0.999).pool(0, 1, seed=0)
    with pytest.raises(UsageError, match=r"nothing is held out by --held-out 0\.0001"):
        _ = load_task("copy:1", held_out=0.0001).held_out


def test_what_is_held_out_is_a_share() -> None:
    for share in (0.1, 0.5):
        found = sum(is_held_out(str(number), share) for number in range(10_000))
        assert found == pytest.approx(share * 10_000, rel=0.1)
    assert not is_held_out("a", 0.0)


def test_few_pairs_are_soon_found() -> None:
    assert 0 < len(load_task("add:1").held_out) < 30


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("reverse:0", "needs a length from 1 to 4,096"),
        ("reverse:x", "expected a whole number after the colon"),
        ("reverse:", "expected a whole number after the colon"),
        ("reverse:" + "9" * 5000, "expected a whole number after the colon"),
        ("reverse:1000000000", "needs a length from 1 to 4,096"),
        ("date:3", "The task date has no length"),
        ("missing.tsv", "missing.tsv cannot be read: No such file"),
        ("missing.JSONL", "missing.JSONL cannot be read: No such file"),
    ],
)
def test_a_wrong_spec_is_refused(spec: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_task(spec)
    assert message in str(caught.value)


def test_an_unknown_task_is_answered_with_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'reverse'"):
        load_task("revers")
    with pytest.raises(UnknownNameError, match="No task 'xxx"):
        load_task("x" * 5000)  # too long a name for a file
    for share in (0.0, 1.0):
        with pytest.raises(UsageError, match="must be above 0 and below 1"):
            load_task("copy", held_out=share)


# -- files ------------------------------------------------------------------------------------


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_both_kinds_of_files(tmp_path: Path) -> None:
    expected = [Pair("good morning", "guten Morgen"), Pair("a b", "ä ß\u2028c")]
    lines = ["good morning\tguten Morgen", "", "a b\tä ß\u2028c"]
    for name, end, mark in (("a.tsv", "\n", ""), ("A.TSV", "\r\n", "\ufeff")):
        (tmp_path / name).write_bytes((mark + end.join(lines)).encode())
        assert read_pairs(tmp_path / name) == expected
    rows = [json.dumps({"source": s, "target": t, "id": 1}) for s, t in expected]
    assert read_pairs(write_lines(tmp_path / "a.jsonl", rows)) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "a\tb\nalone\n", "line 2: expected a source, a tab and a target, not 1 column."),
        ("a.tsv", "a\tb\tc\n", "not 3 columns"),
        ("a.tsv", "a\t\n", "the target is empty"),
        ("a.jsonl", '{"source": "a"}\n', "expected an object such as"),
        ("a.jsonl", '["a", "b"]\n', "expected an object such as"),
        ("a.jsonl", "a\tb\n", "line 1 is not JSON"),
        ("a.jsonl", f'{{"id": {"1" * 6000}}}\n', "line 1 has a number of too many digits"),
        ("a.jsonl", "[" * 100_000 + "\n", "too many lists in each other"),
        ("a.jsonl", '{"source": "a", "target": "\\ud800"}\n', "half of a surrogate pair"),
        ("a.csv", "a,b\n", "pairs come from a .tsv or a .jsonl file"),
    ],
)
def test_a_line_that_is_no_pair_is_named(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_task(str(path))
    assert message in str(caught.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"a\t\xff\n")
    with pytest.raises(UsageError, match=r"not UTF-8 \(at offset 2\)"):
        load_task(str(tmp_path / "a.tsv"))


def test_a_source_is_on_one_side_and_a_pair_counts_once(tmp_path: Path) -> None:
    lines = [f"s{n}\tt{n}.{k}" for n in range(300) for k in (1, 2)]
    task = FileTask(write_lines(tmp_path / "a.tsv", lines + lines[:100]), held_out=0.2)
    assert len(task.training) + len(task.held_out) == 600
    assert not {pair.source for pair in task.training} & {pair.source for pair in task.held_out}
    assert len(task.held_out) == pytest.approx(120, rel=0.4)


def test_an_epoch_has_every_pair_once(tmp_path: Path) -> None:
    task = FileTask(write_lines(tmp_path / "a.tsv", [f"s{n}\tt{n}" for n in range(50)]))
    n = len(task.training)
    row = [pair for number in range(2 * n) for pair in task.pool(number, 3, seed=1)]
    epochs = [row[start : start + n] for start in range(0, len(row), n)]
    assert len(epochs) == 6
    assert all(sorted(epoch) == sorted(task.training) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert task.pool(0, 3, seed=1) == row[:3]  # also after later ones were read
    assert task.pool(0, n, seed=2) != epochs[0]


def test_the_hash_of_a_file_is_of_both_sides_in_order(tmp_path: Path) -> None:
    lines = [f"s{n}\tt{n}" for n in range(50)]
    files = [lines, [*lines[:-1], "s49\tt50"], [*lines[:-1], "s50\tt49"], lines[::-1]]
    found = {FileTask(write_lines(tmp_path / "a.tsv", each)).sha256 for each in files}
    assert len(found) == 4


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes at least one of each"):
        FileTask(write_lines(tmp_path / "a.tsv", ["a\tb"]))
    task = FileTask(write_lines(tmp_path / "b.tsv", [f"s{n}\tt{n}" for n in range(50)]))
    n = len(task.training)
    first, *_ = task.pool(0, n, seed=1)
    assert task.keep(lambda pairs: [pair != first for pair in pairs]) == 1
    assert len(task.training) == n - 1
    assert sorted(task.pool(0, n - 1, seed=1)) == sorted(task.training)
    with pytest.raises(UsageError, match="leaves 0 pairs to train on"):
        task.keep(lambda pairs: [False] * len(pairs))
