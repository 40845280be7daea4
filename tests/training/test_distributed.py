"""Two processes on one CPU: the same curve as one alone, and checkpoints that all can read."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from two_processes import dataset, gpt, train

from toolkit.errors import RunError, UsageError
from toolkit.models import load_pretrained
from toolkit.training import TrainConfig, Trainer
from toolkit.training.distributed import (
    ShardedWorld,
    World,
    first_to_fail,
    is_main,
    join_world,
)

WORKER = Path(__file__).with_name("two_processes.py")
# Two processes add up the same float32 numbers in another order: a relative 2^-24 a sum. AdamW
# divides by roots of squares near zero at first; over 12 steps that made a few 1e-7 of the loss.
CLOSE = 1e-5
# A step of AdamW moves a weight by at most about lr = 1e-3; where a gradient is all rounding,
# its sign may differ. Weights are within a few per cent of one such step.
WEIGHTS_CLOSE = 5e-5
SMOOTH = {"label_smoothing": 0.1}
OF_TRANSFORMERS = ("transformers", "accelerate")


def torchrun(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.Popen(
        [*command, "--nproc-per-node=2", *arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def rows(folder: Path, kind: str = "step") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def require_what_it_needs(name: str) -> None:
    """Skip a training by transformers where it is not installed, and no other."""
    if "hf" in name.split("-"):
        for package in OF_TRANSFORMERS:
            pytest.importorskip(package, reason="of the extra 'hf'")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of trainings: by one process, by two, and begun by some and ended by others."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder / "one")
    train(folder / "one-muon", optimizer="muon", learning_rate=0.02)
    train(folder / "one-ema", ema=0.9)
    train(folder / "one-smooth", **SMOOTH)
    train(folder / "pairs", of_pairs=True)
    train(folder / "pairs-smooth", of_pairs=True, **SMOOTH)
    for name in ("one-ddp", "one-fsdp"):
        train(folder / name, killed_at=4)
    jobs: list[dict[str, Any]] = [
        {"folder": "ddp", "parallel": "ddp", "sample_every": 5},
        {"folder": "fsdp", "parallel": "fsdp", "sample_every": 5},
        {"folder": "ddp-muon", "parallel": "ddp", "optimizer": "muon", "learning_rate": 0.02},
        {"folder": "fsdp-muon", "parallel": "fsdp", "optimizer": "muon", "learning_rate": 0.02},
        {"folder": "fsdp-ema", "parallel": "fsdp", "ema": 0.9, "killed_at": 4},
        {"folder": "fsdp-ema", "parallel": "fsdp", "ema": 0.9, "resume": True},
        {"folder": "ddp-one", "parallel": "ddp", "killed_at": 4},
        {"folder": "fsdp-one", "parallel": "fsdp", "killed_at": 4},
        {"folder": "ddp-fsdp", "parallel": "ddp", "killed_at": 4},
        {"folder": "ddp-fsdp", "parallel": "fsdp", "resume": True},
        {"folder": "one-ddp", "parallel": "ddp", "resume": True},
        {"folder": "one-fsdp", "parallel": "fsdp", "resume": True},
        {"folder": "whole", "dropout": 0.3},
        {"folder": "parts", "dropout": 0.3, "killed_at": 8},
        {"folder": "parts", "dropout": 0.3, "resume": True},
        {"folder": "clock", "max_steps": None, "max_time": 0.2},
        {"folder": "pairs-ddp", "of_pairs": True, "parallel": "ddp", "sample_every": 5},
        {"folder": "pairs-fsdp", "of_pairs": True, "parallel": "fsdp", **SMOOTH},
        {"folder": "pairs-one", "of_pairs": True, "parallel": "fsdp", "killed_at": 4},
        {"folder": "pairs-compiled", "of_pairs": True, "parallel": "ddp", "compile": True},
        {"folder": "pairs-parts", "of_pairs": True, "dropout": 0.3, "killed_at": 8},
        {"folder": "pairs-parts", "of_pairs": True, "dropout": 0.3, "resume": True},
        {"folder": "pairs-whole", "of_pairs": True, "dropout": 0.3},
    ]
    if all(map(importlib.util.find_spec, OF_TRANSFORMERS)):
        jobs.append({"folder": "hf", "backend": "huggingface"})
        jobs.append({"folder": "hf-smooth", "backend": "huggingface", **SMOOTH})
        jobs.append({"folder": "pairs-hf", "of_pairs": True, "backend": "huggingface"})
    for job in jobs:
        (folder / job["folder"]).mkdir(exist_ok=True)
        job["folder"] = str(folder / job["folder"])
    (folder / "jobs.json").write_text(json.dumps(jobs))
    process = torchrun(str(WORKER), str(folder / "jobs.json"))
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert out == ""
    for name in ("ddp-one", "fsdp-one"):
        train(folder / name, resume=True)
    train(folder / "pairs-one", of_pairs=True, resume=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["ddp", "fsdp", "ddp-one", "fsdp-one", "one-ddp", "one-fsdp", "ddp-fsdp", "hf", "hf-smooth"],
)
def test_the_curve_is_that_of_one_process(runs: Path, name: str) -> None:
    alone = "one-smooth" if name == "hf-smooth" else "one"
    require_what_it_needs(name)
    for kind, fields in (("step", ("loss", "grad_norm")), ("evaluation", ("val_loss",))):
        expected, found = rows(runs / alone, kind), rows(runs / name, kind)
        assert [row["step"] for row in found] == [row["step"] for row in expected]
        for field in fields:
            for a, b in zip(found, expected, strict=True):
                assert a[field] == pytest.approx(b[field], rel=CLOSE), (name, a["step"])
    losses = [row["loss"] for row in rows(runs / name)]
    assert losses[0] - losses[-1] > 1000 * CLOSE  # it is a curve that says something
    assert {row["tokens"] for row in rows(runs / name)} == {96 * n for n in range(1, 13)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "alone"),
    [
        ("pairs-ddp", "pairs"),
        ("pairs-one", "pairs"),
        ("pairs-fsdp", "pairs-smooth"),
        ("pairs-compiled", "pairs"),
        ("pairs-hf", "pairs"),
    ],
)
def test_the_curve_of_pairs_is_that_of_one_process(runs: Path, name: str, alone: str) -> None:
    """Each process has other numbers of targets, which the mean over all of them counts."""
    require_what_it_needs(name)
    fields = {"step": ("loss", "grad_norm"), "evaluation": ("val_loss", "looked")}
    for kind, names in fields.items():
        expected, found = rows(runs / alone, kind), rows(runs / name, kind)
        assert [row["step"] for row in found] == [row["step"] for row in expected]
        for field in names:
            for a, b in zip(found, expected, strict=True):
                assert a[field] == pytest.approx(b[field], rel=CLOSE), (name, field, a["step"])
    losses = [row["loss"] for row in rows(runs / name)]
    assert losses[0] - losses[-1] > 1000 * CLOSE
    # The targets of all rows, wherever they are read.
    assert [r["tokens"] for r in rows(runs / name)] == [r["tokens"] for r in rows(runs / alone)]


@pytest.mark.slow
def test_the_processes_read_other_pairs_and_resume_to_the_bit(runs: Path) -> None:
    parts = [json.loads((runs / "pairs-ddp" / f"batch-{r}.json").read_text()) for r in (0, 1)]
    whole = json.loads((runs / "pairs" / "batch-0.json").read_text())
    together = [row + [28] * (len(whole[0]) - len(row)) for part in parts for row in part]
    assert together == whole  # each is padded to its own longest row
    assert len(parts[0]) == len(parts[1]) == 3
    for name in ("model", "optimizer", "random"):
        file = f"checkpoint/{name}.safetensors"
        found, expected = runs / "pairs-parts" / file, runs / "pairs-whole" / file
        assert found.read_bytes() == expected.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp-muon", "fsdp-muon"])
def test_muon_of_two_is_muon_alone(runs: Path, name: str) -> None:
    for a, b in zip(rows(runs / name), rows(runs / "one-muon"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)  # its products may be in bfloat16


@pytest.mark.slow
def test_the_averaged_weights_of_shares_are_those_of_one_process(runs: Path) -> None:
    found, expected = (rows(runs / name, "evaluation") for name in ("fsdp-ema", "one-ema"))
    assert len(found) == len(expected) > 1
    for a, b in zip(found, expected, strict=True):
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "fsdp", "ddp-fsdp"])
def test_what_is_saved_has_the_models_own_names_and_opens_anywhere(runs: Path, name: str) -> None:
    expected = gpt().state_dict()
    for file in ("model", "optimizer"):
        path = f"checkpoint/{file}.safetensors"
        alone = safetensors.torch.load_file(runs / "one" / path)
        found = safetensors.torch.load_file(runs / name / path)
        assert found.keys() == alone.keys()
        for key, tensor in found.items():
            torch.testing.assert_close(tensor, alone[key], rtol=1e-4, atol=WEIGHTS_CLOSE)
    weights = safetensors.torch.load_file(runs / name / "checkpoint" / "model.safetensors")
    assert weights.keys() == expected.keys()
    opened = load_pretrained(runs / name).state_dict()
    assert opened.keys() == expected.keys()
    assert all(torch.equal(opened[key], weights[key]) for key in opened)  # the best is the last

    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(runs / name)
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    with torch.no_grad():
        ours = load_pretrained(runs / name)(ids).logits
        # Two implementations of the same float32 model: sums of 16 and 64 terms, logits near 1.
        torch.testing.assert_close(theirs(ids).logits, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_processes_read_other_windows_and_together_those_of_one(runs: Path) -> None:
    whole = json.loads((runs / "one" / "batch-0.json").read_text())
    for name in ("ddp", "fsdp"):
        parts = [json.loads((runs / name / f"batch-{rank}.json").read_text()) for rank in (0, 1)]
        assert parts[0] + parts[1] == whole
        assert parts[0] != parts[1]
        assert len(parts[0]) == len(parts[1]) == 3


@pytest.mark.slow
def test_as_many_processes_resume_to_the_bit_with_dropout_too(runs: Path) -> None:
    for name in ("model", "optimizer", "random"):
        file = f"checkpoint/{name}.safetensors"
        assert (runs / "parts" / file).read_bytes() == (runs / "whole" / file).read_bytes()
    states = safetensors.torch.load_file(runs / "whole" / "checkpoint" / "random.safetensors")
    assert not torch.equal(states["cpu"], states["rank1/cpu"])  # each drops out its own


@pytest.mark.slow
def test_a_time_limit_ends_all_at_the_same_step(runs: Path) -> None:
    # They would wait for each other for ever otherwise: it is enough that this run ended.
    steps = rows(runs / "clock")
    assert steps[-1]["step"] == len(steps) == rows(runs / "clock", "evaluation")[-1]["step"]


TEXT = "\n\n".join(f"ROMEO:\nthe {n}th night is as long as the {n * 7}th day." for n in range(300))
SMALL = ("--size=nano", "--n-embd=16", "--block-size=16", "--batch-size=4", "--device=cpu")


@pytest.mark.slow
def test_the_command_line_stops_at_ctrl_c_and_resumes_alone(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    options: dict[str, Any] = {
        "cwd": tmp_path,
        "env": {**os.environ, "TOOLKIT_HOME": str(tmp_path / "home"), "TOOLKIT_CORPORA": ""},
    }
    command = ["-m", "toolkit", "train", "-c", "text.txt", "-t", "char", *SMALL]
    process = torchrun(
        "--redirects=3", f"--log-dir={tmp_path / 'logs'}", *command, "--parallel=fsdp",
        "--max-steps=100000", "--eval-every=100000", "--out=run", **options,
    )  # fmt: skip
    metrics, patience = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 100
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < patience:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=100)
    said = {
        (path.parent.name, path.name): path.read_text()
        for path in (tmp_path / "logs").rglob("*.log")
    }
    assert "interrupted; saved" in said["0", "stdout.log"]
    assert "toolkit train --resume --out run" in said["0", "stdout.log"]
    assert said["0", "stderr.log"] == said["1", "stdout.log"] == said["1", "stderr.log"] == ""

    state = json.loads((tmp_path / "run" / "checkpoint" / "state.json").read_text())
    step = state["progress"]["step"]
    assert 1 <= step < 100000
    resumed = subprocess.run(
        [sys.executable, "-m", "toolkit", "train", "--resume", "--out=run", "--quiet",
         f"--max-steps={step + 3}"],
        capture_output=True, text=True, timeout=100, **options,
    )  # fmt: skip
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["result"]["steps"] == step + 3


@pytest.mark.slow
def test_a_mistake_that_all_make_is_said_once(tmp_path: Path) -> None:
    process = torchrun(
        "-m", "toolkit", "train", *SMALL, "--batch-size=5", cwd=tmp_path,
        env={**os.environ, "TOOLKIT_HOME": str(tmp_path)},
    )  # fmt: skip
    _, err = process.communicate(timeout=100)
    assert process.returncode != 0
    errors = [line for line in err.splitlines() if line.startswith("Error")]
    assert len(errors) == 1
    assert "--batch-size 5 cannot be divided between 2 processes" in errors[0]


def test_a_process_alone_is_a_world_of_one() -> None:
    world = join_world("auto", "cpu")
    assert type(world) is World
    assert (world.rank, world.size, world.is_main, is_main()) == (0, 1, True, True)
    assert world.rows(7) == slice(0, 7)
    assert (world.any(True), world.any(False), world.same(2.5), world.tell("a")) == (
        True, False, 2.5, "a",
    )  # fmt: skip
    assert first_to_fail()


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_parallel_without_torchrun_says_how_to_start_it(parallel: str) -> None:
    with pytest.raises(UsageError, match="torchrun --nproc-per-node 2 -m toolkit train") as caught:
        join_world(parallel)
    assert "\n" not in str(caught.value)


def test_shares_are_not_compiled() -> None:
    world = World()
    world.takes_compiled = ShardedWorld.takes_compiled
    with pytest.raises(UsageError, match="--compile is not for --parallel fsdp"):
        Trainer(gpt(), dataset(), TrainConfig(compile=True, device="cpu"), world=world)


def test_processes_that_do_not_meet_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "nonsense",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match="did not meet") as caught:
        join_world("ddp", "cpu")
    assert "\n" not in str(caught.value)


def test_random_states_find_their_process_again() -> None:
    saved = {"cpu": torch.tensor([1]), "rank1/cpu": torch.tensor([2])}
    first, second, third = (World() for _ in range(3))
    second.rank, third.rank = 1, 2
    assert first.own_random(saved) == {"cpu": saved["cpu"]}
    assert second.own_random(saved) == {"cpu": saved["rank1/cpu"]}
    assert third.own_random(saved) == {}


def test_training_alone_loads_nothing_of_the_others(tmp_path: Path) -> None:
    # With muon: torch's own optimizers load its compiler, which loads everything.
    code = (
        "import sys, pathlib, two_processes\n"
        "two_processes.train(pathlib.Path(sys.argv[1]), optimizer='muon', max_steps=1)\n"
        "names = 'fsdp', 'tensor', 'elastic', 'checkpoint'\n"
        "print([name for name in names if 'torch.distributed.' + name in sys.modules])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(WORKER.parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=100,
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
