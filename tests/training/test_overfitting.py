"""Overfitting: noticed on a text that is learned by heart, said once, and what it ends."""

import dataclasses
import json
import math
import random
from pathlib import Path

import pytest
from tiny_training import assert_same, bigram, config, dataset, gpt, train, weights

from toolkit import display
from toolkit.corpora import Corpus
from toolkit.data import TokenDataset
from toolkit.pipeline import TrainingSession
from toolkit.training import (
    EarlyStopped,
    Evaluated,
    Finished,
    Overfitting,
    TrainConfig,
    Trainer,
    TrainResult,
)
from toolkit.training.progress import Progress


def small_text() -> TokenDataset:
    """40 tokens to learn by heart, of a walk that 200 others go on with."""
    ids = dataset().tokens("train")
    return TokenDataset.from_ids(ids[:40], ids[40:240], 11)


OPTIONS = {"max_steps": 300, "eval_every": 10, "learning_rate": 2e-2}


def test_a_text_learned_by_heart_is_noticed_once_and_then_ends_the_training() -> None:
    model, saved = gpt(), []
    trainer = Trainer(
        model, small_text(), config(**OPTIONS), save_best=lambda m: saved.append(weights(m))
    )
    events = list(trainer.run())
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    losses = [event.val_loss for event in evaluations]
    best = min(range(len(losses)), key=losses.__getitem__)
    (noticed,) = [event for event in events if isinstance(event, Overfitting)]
    # From the third evaluation after the best on, as soon as it is more than 1% above.
    expected = next(
        i
        for i in range(best + 3, len(losses))
        if losses[i] > 1.01 * losses[best]
        and (evaluations[i].train_loss or math.inf) < (evaluations[best].train_loss or 0.0)
    )
    assert noticed == Overfitting(
        step=evaluations[expected].step,
        val_loss=losses[expected],
        train_loss=evaluations[expected].train_loss or math.nan,
        best_val_loss=losses[best],
        best_step=evaluations[best].step,
        stops_after=10,
    )
    assert events.index(noticed) == events.index(evaluations[expected]) + 1
    stopped = next(event for event in events if isinstance(event, EarlyStopped))
    assert stopped == EarlyStopped(evaluations[best + 10].step, 10)
    assert len(saved) == sum(event.best for event in evaluations)
    last = events[-1]
    assert isinstance(last, Finished)
    assert (last.result.overfitting, last.result.early_stopped) == (True, True)
    assert last.result.best_step == noticed.best_step


def test_it_can_be_told_to_go_on_or_to_stop_sooner() -> None:
    on = train(gpt(), config(**{**OPTIONS, "max_steps": 200, "early_stop": 0}), small_text())
    assert isinstance(on[-1], Finished)
    assert on[-1].result.steps == 200
    assert [event.stops_after for event in on if isinstance(event, Overfitting)] == [0]
    soon = train(gpt(), config(**OPTIONS, early_stop=2), small_text())
    assert isinstance(soon[-1], Finished)
    assert soon[-1].result.steps == (soon[-1].result.best_step or 0) + 20


def test_a_model_that_learns_what_holds_is_left_alone() -> None:
    events = train(bigram(), config(max_steps=200, eval_every=5, learning_rate=3e-2))
    assert not [event for event in events if isinstance(event, Overfitting | EarlyStopped)]


@pytest.mark.parametrize(
    ("evaluations", "expected"),
    [
        # (training loss, validation loss) of each evaluation
        ([(2.0, 2.0), (1.9, 2.1), (1.8, 2.2)], None),  # two are chance
        ([(2.0, 2.0), (1.9, 2.1), (1.8, 2.2), (1.7, 2.3)], 4),
        ([(2.0, 2.0), (2.1, 2.1), (2.2, 2.2), (2.3, 2.3)], None),  # both rise: diverging
        ([(2.0, 2.0), (1.9, 2.01), (1.8, 2.01), (1.7, 2.01)], None),  # less than 1%
        ([(2.0, 2.0), (1.9, 2.01), (1.8, 2.01), (1.7, 2.01), (1.6, 2.03)], 5),
        ([(2.0, 2.0), (1.9, 2.1), (1.8, 2.2), (1.7, 1.9), (1.6, 2.2)], None),  # a better one
    ],
)
def test_the_rule_by_hand(evaluations: list[tuple[float, float]], expected: int | None) -> None:
    progress = Progress()
    found = []
    for train_loss, val_loss in evaluations:
        progress.note_step(train_loss)
        progress.note_evaluation(val_loss)
        if progress.notice_overfitting(val_loss, None) is not None:
            found.append(progress.step)
    assert found == ([] if expected is None else [expected])
    assert (progress.overfitting_from is not None) == (expected is not None)
    if expected is not None:
        progress.note_step(1.0)
        progress.note_evaluation(9.0)
        assert progress.notice_overfitting(9.0, None) is None  # said already
        progress.note_evaluation(0.5)
        assert progress.overfitting_from is None  # and taken back by a better loss


def test_it_is_said_once_across_a_resume(tmp_path: Path) -> None:
    whole = Trainer(gpt(), small_text(), config(**OPTIONS), folder=tmp_path / "whole")
    expected = [event for event in whole.run() if isinstance(event, Overfitting)]
    noticed = expected[0].step
    short = config(**{**OPTIONS, "max_steps": noticed + 10, "schedule": "wsd"})
    first = train_in(tmp_path / "parts", short)
    resumed = Trainer(gpt(), small_text(), short, folder=tmp_path / "parts")
    resumed.load_checkpoint()
    resumed.config = dataclasses.replace(short, max_steps=noticed + 20)
    again = [event for event in resumed.run() if isinstance(event, Overfitting)]
    assert len(first) == 1
    assert again == []
    state = json.loads((tmp_path / "parts/checkpoint/state.json").read_text())
    assert state["progress"]["overfitting_from"] == first[0].best_step


def train_in(folder: Path, options: TrainConfig) -> list[Overfitting]:
    trainer = Trainer(gpt(), small_text(), options, folder=folder)
    return [event for event in trainer.run() if isinstance(event, Overfitting)]


def test_checkpoints_from_before_these_fields_still_open(tmp_path: Path) -> None:
    first = Trainer(gpt(), dataset(), config(), folder=tmp_path)
    list(first.run())
    path = tmp_path / "checkpoint/state.json"
    state = json.loads(path.read_text())
    for name in ("best_train_loss", "overfitting_from"):
        del state["progress"][name]
    path.write_text(json.dumps(state))
    resumed = Trainer(gpt(), dataset(), config(max_steps=20), folder=tmp_path)
    resumed.load_checkpoint()
    assert_same(weights(first.model), weights(resumed.model))
    result = list(resumed.run())[-1]
    assert isinstance(result, Finished)
    assert result.result.steps == 20


# -- what a user sees -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> TrainingSession:
    folder = tmp_path_factory.mktemp("overfitting")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOOLKIT_HOME", str(folder / "home"))
        patch.chdir(folder)
        letters = random.Random(0)
        text = "".join(letters.choice("abcdef") for _ in range(300))
        return TrainingSession.start(
            Corpus.from_text(text, name="small"),
            "char",
            size="nano",
            n_embd=16,
            block_size=8,
            max_steps=400,
            eval_every=10,
            warmup_steps=2,
            learning_rate=1e-2,
            sample_every=0,
            held_out=0.3,
            device="cpu",
            out=folder / "run",
        )


EVENT = Overfitting(1200, 2.5, 1.25, 2.0, 600, 10)


@pytest.mark.parametrize("kind", ["plain", "live", "json"])
def test_every_display_says_it(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = {
        "plain": display.PlainDisplay(),
        "live": display.LiveDisplay(),
        "json": display.JsonDisplay(),
    }[kind]
    shown.show(EVENT)
    out = capsys.readouterr().out
    if isinstance(shown, display.LiveDisplay):
        out = "\n".join(shown._notes)
    if kind == "json":
        assert json.loads(out) == {"event": "Overfitting", **dataclasses.asdict(EVENT)}
        return
    assert out.strip() == (
        "step  1,200  overfitting: since step 600 the validation loss rose from 2.0000 to 2.5000 "
        "while the training loss fell to 1.2500: the model learns its text by heart. The weights "
        "of step 600 are kept. More text, a smaller model or --dropout helps; it stops after 10 "
        "evaluations without a better loss"
    )


def test_a_run_says_it_at_the_end_and_in_its_folder(
    session: TrainingSession, capsys: pytest.CaptureFixture[str]
) -> None:
    display.PlainDisplay().run(session)
    out = capsys.readouterr().out
    assert out.count("overfitting:") == 1
    assert "evaluations: stopping; the best weights are kept" in out
    result = TrainResult(**session.run.info.result)
    assert result.overfitting
    assert f"at step {result.best_step:,}" in out
    assert "Overfitting          " in out
