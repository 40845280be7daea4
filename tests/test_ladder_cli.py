"""`toolkit ladder` as a user meets it."""

import json
from pathlib import Path

import pytest

from toolkit.cli import main

SMALL = [
    "-c", "text.txt", "--max-steps", "3", "--n-embd", "8", "--block-size", "8", "--batch-size", "2",
    "--device", "cpu",
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    (tmp_path / "text.txt").write_text("to be, or not to be\n" * 30, encoding="utf-8")
    return tmp_path


def ladder(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exited:
        main(["ladder", *arguments])
    return int(exited.value.code or 0)


def test_a_line_for_each_model_then_the_samples(capsys: pytest.CaptureFixture[str]) -> None:
    assert ladder(*SMALL, "--models", "average-loop,bigram", "--prompt", "to") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["model", "parameters"]
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["bigram", "81", "3"],
        ["average-loop", "208", "3"],
    ]
    assert lines[lines.index("bigram") + 1].startswith("    | to")
    assert "Left out: average-matmul, average-softmax, single-head, gpt." in lines
    assert "Each model: 3 steps of 2 × 8 tokens, on text.txt, seed 0." in lines
    assert "Page    runs/ladder-1/ladder.html" in lines
    assert lines[-1].startswith('Inside  toolkit inspect "some text" --run runs/ladder-1/')
    assert Path("runs/ladder-1/ladder.png").exists()


def test_json_and_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert ladder(*SMALL, "--models", "bigram", "--out", "here", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["folder"] == "here"
    assert [(rung["name"], rung["steps"]) for rung in result["rungs"]] == [("bigram", 3)]
    assert ladder(*SMALL, "--models", "bigram", "-q") == 0
    assert capsys.readouterr().out == "runs/ladder-1\n"


def test_verbose_shows_each_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    assert ladder(*SMALL, "--models", "bigram", "-v") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:5]]
    assert [row[2] for row in rows] == ["1", "2", "3", "3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--models bigram,gtp", "No model 'gtp'. Did you mean 'gpt'"),
        ("--models bigram,,gpt", "--models 'bigram,,gpt': expected different models"),
        ("--max-steps 0", "--max-steps 0 must be at least 1"),
        ("--n-embd 7", "--n-embd 7 must be divisible by --n-head 2"),
        ("--prompt ß", "The character 'ß'"),
        ("-t chra", "No tokenizer 'chra'. Did you mean 'char'"),
    ],
)
def test_misuse_is_one_clear_line(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ladder(*SMALL, *arguments.split()) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not Path("runs").exists()


def test_a_folder_that_is_in_use_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("full").mkdir()
    Path("full/note.txt").write_text("mine")
    assert ladder(*SMALL, "--out", "full") == 1
    assert "full is not empty" in capsys.readouterr().err
