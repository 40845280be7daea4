"""Options of training from the command line: what is recorded, kept by a resume, and refused."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

import toolkit
from toolkit.cli import main

TEXT = "to be or not to be, that is the question.\n" * 40
BASE = (
    "train -c text.txt -t char --size nano --n-embd 16 --block-size 8 --batch-size 4 --device cpu"
)
NEW = {
    "layer_decay": 0.8,
    "label_smoothing": 0.1,
    "ema": 0.9,
    "gradient_checkpointing": True,
    "early_stop": 7,
    "tf32": False,
    "compile": False,
}
FLAGS = (
    "--layer-decay 0.8 --label-smoothing 0.1 --ema 0.9 --gradient-checkpointing --early-stop 7 "
    "--no-tf32 --no-compile"
)
DEFAULTS = {
    "layer_decay": 1.0,
    "label_smoothing": 0.0,
    "ema": 0.0,
    "gradient_checkpointing": False,
    "early_stop": None,
    "tf32": True,
    "compile": None,
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)


def command(line: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(line))
    return int(caught.value.code or 0)


def recorded(folder: str = "run") -> dict[str, Any]:
    training: dict[str, Any] = json.loads(Path(folder, "run.json").read_text())["training"]
    return {name: training.get(name) for name in NEW}


def test_what_is_given_is_recorded_and_kept_by_a_resume() -> None:
    assert command(f"{BASE} --max-steps 4 {FLAGS} --out run") == 0
    assert recorded() == NEW
    assert command("train --resume --out run --max-steps 6") == 0
    assert recorded() == NEW
    run = toolkit.Run.open("run")
    assert run.info.result["steps"] == 6
    assert run.model.num_params() > 0


def test_what_is_not_given_has_its_default_in_runs_from_before_too() -> None:
    assert command(f"{BASE} --max-steps 4 --out run") == 0
    assert recorded() == DEFAULTS
    path = Path("run/run.json")
    info = json.loads(path.read_text())
    for name in NEW.keys() - {"early_stop"}:
        del info["training"][name]
    info["training"]["early_stop"] = 0  # what the default was
    path.write_text(json.dumps(info))
    assert command("train --resume --out run --max-steps 6") == 0
    assert recorded() == {**DEFAULTS, "early_stop": 0}


def test_what_a_resume_cannot_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(f"{BASE} --max-steps 4 --out run") == 0
    capsys.readouterr()
    assert command("train --resume --out run --ema 0.9") == 2
    assert "--ema cannot change when a run is resumed" in capsys.readouterr().err
    assert command("train --resume --out run --max-steps 6 --early-stop 3") == 0
    assert recorded()["early_stop"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--label-smoothing 1", "--label-smoothing 1.0 must be at least 0 and below 1"),
        ("--ema 1", "--ema 1.0 must be at least 0 and below 1"),
        ("--layer-decay 0", "--layer-decay 0.0 must be above 0 and at most 1"),
        ("--early-stop -1", "--early-stop -1 must not be negative"),
        (
            "--model bigram --layer-decay 0.9",
            "--layer-decay is for a model with several layers; bigram has none.",
        ),
        (
            "--model bigram --gradient-checkpointing",
            "--gradient-checkpointing is for a model with several layers; bigram has none.",
        ),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_no_run(
    options: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = BASE.replace(" --n-embd 16", "") if "bigram" in options else BASE
    assert command(f"{base} --max-steps 4 {options} --out run") == 2
    assert capsys.readouterr().err.strip() == f"Error: {message}"
    assert not Path("run").exists()
