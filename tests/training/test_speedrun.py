"""The speedrun: options by budget, what is left to train, and a run that keeps to its time."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import toolkit
from toolkit.corpora import Corpus
from toolkit.errors import UsageError
from toolkit.models import GPTConfig
from toolkit.pipeline import TrainingSession
from toolkit.speedrun import process_age, seconds_to_train, speedrun_options
from toolkit.training.muon import Muon

TEXT = Corpus.from_text("to be or not to be, that is the question.\n" * 200, name="text")


def test_options_by_budget() -> None:
    for budget, width in ((5, 96), (15, 96), (29.9, 96), (30, 128), (90, 128)):
        model, training = speedrun_options(budget)
        assert model["n_embd"] == width
        assert training["batch_size"] == 12
    with pytest.raises(UsageError, match="--max-time 0 must be above 0"):
        speedrun_options(0)


def test_what_is_left_to_train() -> None:
    assert seconds_to_train(15, spent=3.0) == pytest.approx(11.7)
    with pytest.raises(UsageError, match=r"--max-time 3 is too short .* 3.0 s were spent"):
        seconds_to_train(3, spent=3.0)


def test_the_age_of_this_process_grows() -> None:
    before = process_age()
    time.sleep(0.05)
    assert 0.03 < process_age() - before < 1.0
    assert before > 0.1


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)  # where runs/latest is written


def test_a_speedrun_trains_saves_and_opens_in_transformers(tmp_path: Path) -> None:
    session = TrainingSession.start(TEXT, "char", speedrun=8.0, out=tmp_path / "run", device="cpu")
    assert isinstance(session.trainer.optimizer, Muon)
    left = session.trainer.config.max_time
    assert left is not None
    assert 0.0 < left < 7.7  # of 8 seconds, less 0.3 for saving and what has passed
    for _ in session.events():
        pass
    info = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert info["status"] == "finished"
    assert info["training"]["max_time"] == left  # what a resumed run goes by
    assert info["result"]["steps"] > 5
    assert info["result"]["best_val_loss"] < 2.0  # of 3.0 for 20 characters at random
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    run = toolkit.Run.open(tmp_path / "run")
    ids = torch.tensor([run.tokenizer.encode("to be or not")])
    with torch.no_grad():
        assert torch.allclose(run.model(ids).logits, theirs(ids).logits, atol=1e-4)


def test_what_is_given_wins(tmp_path: Path) -> None:
    session = TrainingSession.start(
        TEXT, "char", speedrun=29.0, out=tmp_path / "run", device="cpu", n_layer=1, batch_size=3
    )
    config = session.trainer.model.config
    assert isinstance(config, GPTConfig)
    assert config.n_layer == 1
    assert session.trainer.config.batch_size == 3
    assert session.trainer.config.schedule == "linear"


def test_time_that_is_gone_already_counts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--max-time 4 is too short for a speedrun: 9"):
        TrainingSession.start(
            TEXT, "char", speedrun=4.0, spent=9.0, out=tmp_path / "run", device="cpu"
        )
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="A speedrun is of the model gpt, not of bigram"):
        TrainingSession.start(TEXT, "char", speedrun=4.0, model="bigram", out=tmp_path / "b")


def test_a_speedrun_loads_neither_the_compiler_nor_what_looks_inside(tmp_path: Path) -> None:
    """torch's compiler and what it needs take over a second to load, and are not needed."""
    code = f"""
import sys
from toolkit.corpora import Corpus
from toolkit.pipeline import TrainingSession
text = Corpus.from_text("to be or not to be " * 200, name="text")
out = {str(tmp_path / "run")!r}
session = TrainingSession.start(text, "char", speedrun=60.0, out=out, device="cpu", max_steps=2)
assert len(list(session.events())) > 1
heavy = "torch._dynamo", "torch._inductor", "sympy", "matplotlib", "toolkit.inspection"
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
