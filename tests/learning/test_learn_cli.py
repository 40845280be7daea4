"""`toolkit learn`, as a learner meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.cli import main
from toolkit.learning import PAGES, check, exercises_of, load_answers, stubs


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def learn(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_info:
        main(["learn", *arguments])
    code = exit_info.value.code
    return code if isinstance(code, int) else 0


ENTRY = Path(__file__).parents[2] / "docs" / "tutorial" / "README.md"
ANSWERS = """
import torch

def average_loop(x):
    print("looking at", len(x))
    return torch.stack([x[: t + 1].mean(dim=0) for t in range(len(x))])

def average_matrix(x):
    return torch.ones(len(x), len(x)).tril() @ x

def causal_softmax(scores):
    n = scores.shape[5]
"""


def test_the_pages_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert learn() == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[:2] for row in rows] == [[str(p.number), p.name] for p in PAGES]
    assert learn("--json") == 0
    assert [page["number"] for page in json.loads(capsys.readouterr().out)] == [*range(1, 8)]


def test_the_list_needs_no_torch() -> None:
    code = (
        "import sys, toolkit.learning_view; from toolkit.learning import PAGES; "
        "toolkit.learning_view.print_pages(PAGES); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_exercises_of_a_page_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert learn("show", "averaging") == 0
    shown = capsys.readouterr().out
    for exercise in exercises_of(4):
        assert f"{exercise.name}{exercise.signature}" in shown
        assert exercise.task.splitlines()[0] in shown
    assert learn("show", "4", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "average_loop"


@pytest.mark.parametrize("page", range(1, 8))
def test_stubs_can_be_run_and_are_not_written_yet(
    page: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert learn("start", str(page)) == 0
    assert Path(f"page_{page}.py").read_text("utf-8") == stubs(page)
    results = check(page, load_answers(Path(f"page_{page}.py")))
    assert [result.problem for result in results] == ["not written yet"] * 3
    assert learn("check", str(page)) == 1
    assert capsys.readouterr().out.count("not written yet") == 3


def test_a_file_that_is_there_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("page_1.py").write_text("mine")
    assert learn("start", "1") == 2
    assert "page_1.py exists" in capsys.readouterr().err
    assert Path("page_1.py").read_text() == "mine"
    assert learn("start", "1", "--out", "other/file.py") == 0
    assert Path("other/file.py").read_text("utf-8") == stubs(1)


def test_results_name_the_input_the_mistake_and_the_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("page_4.py").write_text(ANSWERS)
    assert learn("check", "4") == 1
    captured = capsys.readouterr()
    lines = [line.strip() for line in captured.out.splitlines()]
    assert lines == [
        "passed  average_loop",
        "failed  average_matrix",
        "average_matrix([[1.0, 2.0], [3.0, -4.0], [8.0, 5.0]])",
        "at [1][0]: 4.0, expected 2.0",
        "hint: Your average_loop is right here, so the loops and the matrix are not equal. "
        "The sum instead of the mean: divide row t by t + 1.",
        "failed  causal_softmax",
        "causal_softmax([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])",
        "IndexError: tuple index out of range",
        "line 12: n = scores.shape[5]",
    ]
    assert "looking at 3" in captured.err  # what a learner prints is no result
    assert f"$ toolkit learn check 4\n{captured.out}```" in ENTRY.read_text("utf-8")
    assert learn("check", "4", "page_4.py", "--json") == 1
    first, second, third = json.loads(capsys.readouterr().out)
    assert (first["passed"], second["passed"], third["passed"]) == (True, False, False)
    assert third["line"] == "line 12: n = scores.shape[5]"


def test_all_right_is_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    Path("page_2.py").write_text(
        "import torch\n"
        "def window(ids, start, length):\n"
        "    return ids[start:start + length], ids[start + 1:start + length + 1]\n"
        "def make_batch(ids, starts, length):\n"
        "    pairs = [window(ids, start, length) for start in starts]\n"
        "    return [torch.stack(side) for side in zip(*pairs)]\n"
        "def last_start(n_tokens, length):\n"
        "    return n_tokens - length - 1\n"
    )
    assert learn("check", "2") == 0
    assert capsys.readouterr().out.split() == [
        *("passed", "window", "passed", "make_batch", "passed", "last_start")
    ]
    assert learn("check", "2", "--quiet") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "There is no file mine.py. Write one with: toolkit learn start N"),
        ("x = 1\ndef f(:\n", "mine.py, line 2: invalid syntax: def f(:"),
        ("x = 1\ny = 1 / 0\n", "mine.py, line 2: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(0)\n", "mine.py, line 2: SystemExit: 0"),
        ("x = '\0'\n", "mine.py"),
    ],
)
def test_a_file_that_cannot_be_run_is_one_line(
    text: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        Path("mine.py").write_text(text)
    assert learn("check", "1", "mine.py") == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["show", "start", "check"])
def test_no_such_page(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert learn(command, "8") == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: No page '8'.")
    assert "7 encoder_decoder" in error


def test_a_folder_instead_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder").mkdir()
    assert learn("check", "1", "folder") == 2
    assert "folder cannot be read" in capsys.readouterr().err


def test_a_file_is_run_as_by_import(capsys: pytest.CaptureFixture[str]) -> None:
    Path("page_2.py").write_text(
        "def last_start(n_tokens, length):\n    return n_tokens - length - 1\n"
    )
    Path("mine.py").write_text(
        "\ufefffrom __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from page_2 import last_start\n"
        "@dataclass\n"
        "class Window:\n"
        "    start: int\n",
        "utf-8",
    )
    before = sys.path.copy()
    assert learn("check", "2", "mine.py") == 1
    assert "passed  last_start" in capsys.readouterr().out
    assert sys.path == before
    del sys.modules["page_2"]


def test_the_command_that_is_shown_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert learn("start", "1", "--out", "my file.py") == 0
    assert capsys.readouterr().err.strip().endswith("toolkit learn check 1 'my file.py'")
