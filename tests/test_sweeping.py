"""Sweeps: every trial is a run, the same call goes on, and one that fails does not end it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import toolkit
from toolkit.cli import main
from toolkit.errors import RunError, UsageError
from toolkit.reporting.sweep_figure import sweep_figure
from toolkit.sweeping import Sweep, SweepEvent, TrialEnded, TrialStarted
from toolkit.training import StepDone

PLAN = """
corpus = "text.txt"
tokenizer = "char"
model = "bigram"
block_size = 8
batch_size = 4
max_steps = {steps}
eval_every = 4
log_every = 1
checkpoint_every = 3
sample_every = 0
device = "cpu"

[grid]
learning_rate = [0.01, 0.3, 0.1]
"""
RATES = [0.01, 0.3, 0.1]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    (tmp_path / "text.txt").write_text("she sells sea shells.\n" * 30, encoding="utf-8")
    (tmp_path / "lr.toml").write_text(PLAN.format(steps=12))
    return tmp_path


def metrics(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:  # the clock differs from run to run
        row.pop("elapsed")
        row.pop("tokens_per_second", None)
    return rows


def assert_same_runs(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.glob("trial-*"))
    assert names == sorted(path.name for path in other.glob("trial-*"))
    for name in names:
        assert metrics(one / name / "metrics.jsonl") == metrics(other / name / "metrics.jsonl")
        for file in ("model.safetensors", "checkpoint/model.safetensors"):
            a, b = load_file(one / name / file), load_file(other / name / file)
            assert all(torch.equal(a[key], b[key]) for key in a), (name, file)


def test_trials_learn_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {
        "task": "copy:3", "n_layer": 1, "n_head": 1, "n_embd": 8, "max_steps": 4, "eval_every": 2,
        "device": "cpu",
    }  # fmt: skip
    result = toolkit.sweep({**options, "grid": {"src_tokenizer": ["char", "byte"]}}, out="pairs")
    assert [trial.status for trial in result.trials] == ["finished", "finished"]
    for trial in result.trials:
        alone = toolkit.train(**options, **trial.options, out=f"alone-{trial.name}")
        assert trial.best_val_loss == alone.info.result["best_val_loss"]
    for line, message in [
        ('task = "revers"', "Did you mean 'reverse'?"),
        ('task = "copy"\ncorpus = "text.txt"', "--corpus and --task exclude each other"),
        ('task = "copy"\nencoding = "utf-8"', "encoding is for a text"),
        ('task = "copy"\nwindow = 3', "No option of encoder-decoder 'window'"),
        ('task = "copy"\nsrc_tokenizer = "bite"', "Did you mean 'byte'?"),
        ('model = "encoder-decoder"', "give --task"),
        ('task = "missing.tsv"', "missing.tsv cannot be read"),
    ]:
        Path("wrong.toml").write_text(f"{line}\n[grid]\nlearning_rate = [0.1, 0.2]\n")
        with pytest.raises(SystemExit) as caught:
            main(["sweep", "wrong.toml"])
        assert caught.value.code == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert "\n" not in error


def test_each_trial_is_the_training_of_its_options() -> None:
    result = toolkit.sweep("lr.toml")
    assert result.folder == Path("runs/sweep-lr")
    assert result.complete
    assert [trial.options for trial in result.trials] == [{"learning_rate": r} for r in RATES]
    for trial in result.trials:
        alone = toolkit.train(
            "text.txt", "char", model="bigram", block_size=8, batch_size=4, max_steps=12,
            eval_every=4, log_every=1, checkpoint_every=3, sample_every=0, device="cpu",
            out=f"alone/{trial.name}", **trial.options,
        )  # fmt: skip
        assert trial.best_val_loss == alone.info.result["best_val_loss"]
        assert trial.bits_per_byte == alone.info.result["best_bits_per_byte"]
        run = toolkit.Run.open(result.folder / trial.name)
        assert {**run.info.training} == {**alone.info.training}
        assert run.info.tokenizer == alone.info.tokenizer
    assert_same_runs(result.folder, Path("alone"))
    losses = {trial.name: trial.best_val_loss for trial in result.trials}
    assert result.best is not None
    assert losses[result.best.name] == min(loss or 9 for loss in losses.values())
    assert [t.best_val_loss for t in result.ranked] == sorted(loss or 9 for loss in losses.values())
    # The newest run is the one that was trained by itself.
    assert toolkit.Run.open().folder.parent.name == "alone"
    assert (result.folder / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_the_corpus_is_read_and_the_tokenizer_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit import sweeping
    from toolkit.materials import texts

    made: list[str] = []
    read, make = sweeping.load_corpus, texts.make_tokenizer

    def counted_read(*args: Any, **options: Any) -> Any:
        made.append("corpus")
        return read(*args, **options)

    def counted_make(*args: Any, **options: Any) -> Any:
        made.append("tokenizer")
        return make(*args, **options)

    monkeypatch.setattr(sweeping, "load_corpus", counted_read)
    monkeypatch.setattr(texts, "make_tokenizer", counted_make)
    toolkit.sweep("lr.toml")
    assert made == ["corpus", "tokenizer"]


def test_the_same_call_again_trains_nothing() -> None:
    first = toolkit.sweep("lr.toml")
    told: list[SweepEvent] = []
    again = toolkit.sweep("lr.toml", on_event=lambda name, event: told.append(event))
    assert again == first
    assert told == []


class StoppedError(Exception):
    pass


def test_a_sweep_that_was_killed_goes_on_to_the_bit() -> None:
    whole = toolkit.sweep("lr.toml", out="whole")

    def kill(name: str, event: SweepEvent) -> None:
        if name == "trial-002" and isinstance(event, StepDone) and event.step == 8:
            raise StoppedError  # after the checkpoint of step 6, as a kill would

    with pytest.raises(StoppedError):
        toolkit.sweep("lr.toml", out="parts", on_event=kill)
    state = json.loads(Path("parts/sweep.json").read_text())
    assert [t["status"] for t in state["trials"]] == ["finished", "running", "waiting"]
    steps: dict[str, list[int]] = {}

    def count(name: str, event: SweepEvent) -> None:
        if isinstance(event, StepDone):
            steps.setdefault(name, []).append(event.step)

    resumed = toolkit.sweep("lr.toml", out="parts", on_event=count)
    assert steps == {"trial-002": list(range(7, 13)), "trial-003": list(range(1, 13))}
    assert_same_runs(Path("whole"), Path("parts"))
    for a, b in zip(whole.trials, resumed.trials, strict=True):
        assert (a.options, a.best_val_loss, a.steps) == (b.options, b.best_val_loss, b.steps)


def test_a_trial_killed_before_its_first_checkpoint_begins_again() -> None:
    def kill(name: str, event: SweepEvent) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        toolkit.sweep("lr.toml", on_event=kill)
    assert not Path("runs/sweep-lr/trial-001/checkpoint").exists()
    toolkit.sweep("lr.toml")
    toolkit.sweep("lr.toml", out="whole")
    assert_same_runs(Path("whole"), Path("runs/sweep-lr"))


def test_a_trial_that_fails_is_recorded_and_the_others_run() -> None:
    plan = toolkit_plan({"learning_rate": [0.1, 1e39, 0.01], "weight_decay": [0.0]})
    result = toolkit.sweep(plan, out="some")
    assert [trial.status for trial in result.trials] == ["finished", "failed", "finished"]
    assert "training has diverged" in (result.trials[1].error or "")
    assert result.ranked[-1] == result.trials[1]
    assert result.complete
    told: list[SweepEvent] = []
    assert toolkit.sweep(plan, out="some", on_event=lambda n, e: told.append(e)) == result
    assert told == []
    # What cannot start fails alike: a window that is longer than the text.
    plan = {**toolkit_plan({}), "grid": {"block_size": [10_000, 8]}}
    del plan["block_size"]
    result = toolkit.sweep(plan, out="others")
    assert [trial.status for trial in result.trials] == ["failed", "finished"]
    assert "--block-size" in (result.trials[0].error or "")


def toolkit_plan(grid: dict[str, Any], **base: Any) -> dict[str, Any]:
    return {
        "corpus": "text.txt", "tokenizer": "char", "model": "bigram", "block_size": 8,
        "batch_size": 4, "max_steps": 6, "eval_every": 3, "sample_every": 0, "device": "cpu",
        **base, "grid": grid,
    }  # fmt: skip


def test_without_validation_the_training_loss_decides() -> None:
    result = toolkit.sweep(toolkit_plan({"learning_rate": RATES}, held_out=0.0), out="some")
    losses = [trial.train_loss or 9.0 for trial in result.trials]
    assert [trial.best_val_loss for trial in result.trials] == [None] * 3
    assert result.best == result.trials[losses.index(min(losses))]


def test_tokenizers_are_compared_by_bits_per_byte() -> None:
    plan = toolkit_plan({"tokenizer": ["char", "bpe:300"]})
    del plan["tokenizer"]
    result = toolkit.sweep(plan, out="some")
    specs = [toolkit.Run.open(f"some/{t.name}").info.tokenizer["spec"] for t in result.trials]
    assert specs == ["char", "bpe:300"]
    assert result.best == min(result.trials, key=lambda trial: trial.bits_per_byte or 9)


def test_no_trial_begins_after_the_time() -> None:
    result = toolkit.sweep("lr.toml", max_time=1e-9)
    assert [trial.status for trial in result.trials] == ["waiting"] * 3
    assert result.best is None
    assert toolkit.sweep("lr.toml").complete
    with pytest.raises(UsageError, match="--max-time 0 must be above 0"):
        toolkit.sweep("lr.toml", max_time=0)


def test_folders_that_do_not_fit() -> None:
    toolkit.sweep("lr.toml", max_time=1e-9)
    Path("lr.toml").write_text(PLAN.format(steps=13))
    with pytest.raises(UsageError, match="holds a sweep of other options"):
        toolkit.sweep("lr.toml")
    Path("full").mkdir()
    Path("full/note.txt").write_text("mine")
    with pytest.raises(UsageError, match="full is not empty and not a sweep"):
        toolkit.sweep("lr.toml", out="full")
    state = Path("runs/sweep-lr/sweep.json")
    state.write_text(state.read_text()[:40])
    with pytest.raises(RunError, match="is damaged"):
        toolkit.sweep("lr.toml")


def test_a_corpus_that_is_not_there_stops_it_before_it_begins() -> None:
    plan = toolkit_plan({"corpus": ["text.txt", "nothing.txt"]})
    del plan["corpus"]
    with pytest.raises(UsageError, match=r"nothing\.txt"):
        toolkit.sweep(plan, out="some")
    assert not Path("some").exists()


def test_the_figure_has_a_panel_for_each_option() -> None:
    options = [{"n_layer": n, "optimizer": o} for n in (1, 2) for o in ("adamw", "muon")]
    figure = sweep_figure(options, [3.0, 2.0, 2.5, 4.0], "bits per byte")
    layers, optimizers = figure.axes[:2]
    dots, star = layers.lines
    assert dots.get_xydata().tolist() == [[0, 3.0], [0, 2.0], [1, 2.5], [1, 4.0]]
    assert star.get_xydata().tolist() == [[0, 2.0]]
    assert [label.get_text() for label in layers.get_xticklabels()] == ["1", "2"]
    assert optimizers.lines[0].get_xdata().tolist() == [0, 1, 0, 1]
    rates = [{"learning_rate": 10.0**-power} for power in range(6)]
    (axes,) = sweep_figure(rates, [float(n) for n in range(6)], "x").axes
    assert axes.get_xscale() == "log"
    assert axes.lines[0].get_xdata().tolist() == [10.0**-power for power in range(6)]


# -- the command ------------------------------------------------------------------------------


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exited:
        main(["sweep", *arguments])
    return int(exited.value.code or 0)


def test_the_table_is_sorted_and_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("lr.toml") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [
        [f"trial-{n:03d}", f"learning_rate={rate}"] for n, rate in enumerate(RATES, start=1)
    ]
    assert lines[4].split()[:2] == ["trial", "learning_rate"]
    shown = [float(line.split()[4]) for line in lines[5:8]]
    assert shown == sorted(shown)
    assert "Done: 3 of 3 trials." in lines
    assert command("lr.toml", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["trials"] == json.loads(Path("runs/sweep-lr/sweep.json").read_text())["trials"]
    assert content["files"] == ["runs/sweep-lr/sweep.json", "runs/sweep-lr/sweep.png"]
    assert command("lr.toml", "-q") == 0
    assert capsys.readouterr().out == "runs/sweep-lr\n"
    Path("lr.toml").write_text("[grid]\nseed = []\n")
    assert command("lr.toml") == 2
    printed = capsys.readouterr()
    assert "must be a list of one or more values" in printed.err
    assert printed.err.count("\n") == 1


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    yield from process.stdout


@pytest.mark.slow
def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(folder: Path) -> None:
    Path("lr.toml").write_text(PLAN.format(steps=90).replace("[0.01, 0.3, 0.1]", "[0.01, 0.1]"))
    process = subprocess.Popen(
        [sys.executable, "-m", "toolkit", "sweep", "lr.toml"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    checkpoint = Path("runs/sweep-lr/trial-001/checkpoint/state.json")
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "The same command goes on." in out
    trials = json.loads(Path("runs/sweep-lr/sweep.json").read_text())["trials"]
    assert [trial["status"] for trial in trials] == ["interrupted", "waiting"]
    result = toolkit.sweep("lr.toml")
    assert isinstance(result, Sweep)
    assert [trial.steps for trial in result.trials] == [90, 90]
    toolkit.sweep("lr.toml", out="whole")
    assert_same_runs(Path("whole"), Path("runs/sweep-lr"))


def test_listeners_hear_when_trials_begin_and_end() -> None:
    told: list[tuple[str, SweepEvent]] = []
    result = toolkit.sweep("lr.toml", on_event=lambda name, event: told.append((name, event)))
    for trial in result.trials:
        mine = [event for name, event in told if name == trial.name]
        assert isinstance(mine[0], TrialStarted)
        assert mine[-1] == TrialEnded(trial)
