"""What lies under examples/ works as its README says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*command: str, path: Path, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path), "TOOLKIT_HOME": str(cwd / "home")}
    result = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plug-in as pip installs it, in a folder of its own."""
    folder = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source") / "plugin"
    source.mkdir()
    for file in (EXAMPLES / "tokenizer_plugin").iterdir():
        if file.is_file():  # a build writes beside its source
            (source / file.name).write_bytes(file.read_bytes())
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder)]
    run(*pip, str(source), path=folder, cwd=folder)
    return folder


def test_the_plug_in_is_about_twenty_lines() -> None:
    source = (EXAMPLES / "tokenizer_plugin" / "letters_and_bytes.py").read_text("utf-8")
    body = source[source.index("class ") :]
    assert len([line for line in body.splitlines() if line.strip()]) <= 24


def test_the_plug_in_keeps_the_contract(installed: Path, tmp_path: Path) -> None:
    test = installed / "test_letters_and_bytes.py"
    output = run(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)),
        path=installed,
        cwd=tmp_path,
    )
    assert "1 passed" in output


def test_the_plug_in_trains_and_generates(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question: naïve 😀\n" * 40)
    toolkit = (sys.executable, "-m", "toolkit")
    model = ("--size", "nano", "--max-steps", "4", "--eval-every", "2", "--block-size", "16")
    spec = ("--tokenizer", "letters", "--corpus", "text.txt")
    run(*toolkit, "train", *spec, *model, "--out", "run", path=installed, cwd=tmp_path)
    made = run(
        *(*toolkit, "generate", "to be", "--run", "run", "--seed", "1", "--json"),
        path=installed,
        cwd=tmp_path,
    )
    assert len(json.loads(made)["samples"][0]["ids"]) == 200
    shown = json.loads(
        run(*toolkit, "tokenize", "né 😀", "--run", "run", "--json", path=installed, cwd=tmp_path)
    )
    assert shown["tokenizer"] == "letters"
    # A letter of the text is one token, all else its bytes.
    assert [token["bytes"] for token in shown["tokens"]][:2] == ["6e", "c3"]
    stats = json.loads(run(*toolkit, "vocab-stats", *spec, "--json", path=installed, cwd=tmp_path))
    assert stats["stats"]["vocab_size"] < 300
