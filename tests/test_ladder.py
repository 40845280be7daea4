"""Climbing the ladder of models: one text, one budget, a run of each, and what is made of them."""

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from toolkit.corpora import Corpus, load_corpus
from toolkit.errors import UnknownNameError, UsageError, VocabularyError
from toolkit.ladder import LadderEvent, RungFinished, RungStarted, climb, models_to_climb
from toolkit.models import available_models
from toolkit.reporting import Ladder, write_ladder
from toolkit.run import Run
from toolkit.training import Evaluated, StepDone, TrainResult
from toolkit.training import events as training_events

LINES = [f"{a} {b} {c}.\n" for a in ("she", "he") for b in ("sees", "is") for c in ("me", "it")]
SMALL = {"max_steps": 12, "n_embd": 16, "block_size": 8, "batch_size": 4, "device": "cpu"}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    (tmp_path / "text.txt").write_text("".join(LINES * 20), encoding="utf-8")
    return load_corpus("text.txt")


def test_every_model_is_trained_alike(corpus: Corpus) -> None:
    told: list[tuple[str, LadderEvent]] = []
    ladder = climb(corpus, prompt="she", on_event=lambda name, e: told.append((name, e)), **SMALL)
    assert [rung.name for rung in ladder.rungs] == available_models()
    assert ladder.left_out == ()
    assert ladder.budget == "12 steps of 4 × 8 tokens"
    assert ladder.folder == Path("runs/ladder-1")
    for rung in ladder.rungs:
        mine = [event for name, event in told if name == rung.name]
        assert mine[0] == RungStarted(rung.num_params, rung.folder)
        assert mine[-1] == RungFinished(rung)
        assert any(isinstance(event, StepDone) for event in mine)
        evaluated = [(e.step, e.val_loss) for e in mine if isinstance(e, Evaluated)]
        assert rung.curve == tuple(evaluated)
        assert [step for step, _ in rung.curve] == list(range(1, 13))
        assert rung.val_loss == min(loss for _, loss in rung.curve)
        # One byte a character here: bits per byte are nats a token by another name, but for the
        # first token, which nothing predicts.
        assert rung.bits_per_byte == pytest.approx(rung.val_loss / math.log(2), rel=0.01)
        run = Run.open(rung.folder)
        assert run.model.name == rung.name
        assert run.model.num_params() == rung.num_params
        assert run.info.training["seed"] == 0
        assert len(rung.sample) == 200
    folders = {Run.open(rung.folder).info.corpus["tokens"] for rung in ladder.rungs}
    assert len(folders) == 1
    loop, matmul, softmax = ladder.rungs[1:4]
    for (_, a), (_, b), (_, c) in zip(loop.curve, matmul.curve, softmax.curve, strict=True):
        # The same steps from the same start; roundings grow a little with each.
        assert b == pytest.approx(a, abs=1e-4)
        assert c == pytest.approx(a, abs=1e-4)


def test_the_same_seed_climbs_to_the_same_losses(corpus: Corpus) -> None:
    first, same, other = (
        climb(corpus, models=["single-head"], seed=seed, **SMALL).rungs[0] for seed in (1, 1, 2)
    )
    assert (first.curve, first.sample) == (same.curve, same.sample)
    assert first.curve != other.curve
    assert first.folder != same.folder


def test_some_models_in_the_order_of_the_ladder(corpus: Corpus, tmp_path: Path) -> None:
    options = {**SMALL, "max_steps": None, "max_time": 0.2}
    ladder = climb(corpus, models=["gpt", "bigram"], out=tmp_path / "here", **options)
    assert [rung.name for rung in ladder.rungs] == ["bigram", "gpt"]
    assert ladder.left_out == tuple(available_models()[1:5])
    assert ladder.budget == "0.2 seconds of 4 × 8 tokens"
    assert ladder.rungs[1].folder == tmp_path / "here" / "gpt"
    assert all(rung.steps >= 1 for rung in ladder.rungs)


def test_ctrl_c_ends_the_climb_and_keeps_what_is_done(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.training import Trainer

    train = Trainer.run

    def stopped(trainer: Trainer) -> Iterator[training_events.Event]:
        if trainer.model.name == "bigram":
            yield from train(trainer)
        else:
            result = TrainResult(1, None, None, None, None, 32, 0.1, interrupted=True)
            yield training_events.Finished(result)

    monkeypatch.setattr(Trainer, "run", stopped)
    ladder = climb(corpus, **SMALL)
    assert ladder.interrupted
    assert [rung.name for rung in ladder.rungs] == ["bigram"]
    assert ladder.left_out == tuple(available_models()[1:])


def test_what_is_wrong_is_refused_before_a_folder_is_made(corpus: Corpus) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'gpt'"):
        climb(corpus, models=["gtp"])
    with pytest.raises(UsageError, match="No models to climb"):
        models_to_climb([])
    with pytest.raises(UsageError, match="--n-embd 0 must be"):
        climb(corpus, n_embd=0)
    with pytest.raises(UsageError, match="--max-steps 0 must be at least 1"):
        climb(corpus, max_steps=0)
    with pytest.raises(VocabularyError, match="'ß'"):
        climb(corpus, prompt="ß")
    assert not Path("runs").exists()


def test_the_files_of_a_climb(corpus: Corpus, tmp_path: Path) -> None:
    ladder = climb(corpus, models=["bigram", "average-matmul"], **SMALL)
    files = write_ladder(ladder, tmp_path / "files")
    assert [path.name for path in files] == [
        "ladder.png",
        "ladder.svg",
        "ladder.html",
        "ladder.json",
    ]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    page = files[2].read_text("utf-8")
    assert "<script" not in page
    assert "http" not in page
    for rung in ladder.rungs:
        assert f"<h3>{rung.name}</h3>" in page
        assert f"<td>{rung.num_params:,}</td>" in page
        assert f"{rung.val_loss:.4f}" in page
    assert "logits_t = W[i_t]" in page
    assert "Left out: average-loop, average-softmax, single-head, gpt." in page
    assert page.count("<pre>") == 2
    numbers = json.loads(files[3].read_text("utf-8"))
    assert [rung["val_loss"] for rung in numbers["rungs"]] == [r.val_loss for r in ladder.rungs]
    nothing = Ladder("x", "char", 3, "none", 0, "", (), (), tmp_path, interrupted=True)
    with pytest.raises(UsageError, match="no model of the ladder was trained"):
        write_ladder(nothing, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_each_model_has_its_lesson_and_each_curve_its_look(corpus: Corpus) -> None:
    from toolkit.reporting.ladder_page import LESSONS, ladder_figure

    assert list(LESSONS) == available_models()
    ladder = climb(corpus, **SMALL)
    axes = ladder_figure(ladder).axes[0]
    assert axes.get_xlabel() == "step"
    assert axes.get_ylabel() == "validation loss, nats a token"
    looks = {(line.get_color(), line.get_marker()) for line in axes.lines}
    assert len(looks) == len(axes.lines) == 6
    for line, rung in zip(axes.lines, ladder.rungs, strict=True):
        assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == list(rung.curve)
    # Neighbours in the ladder, which may coincide, have their markers at different steps.
    for one, other in pairwise(axes.lines):
        assert one.get_markevery() != other.get_markevery()
