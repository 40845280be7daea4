"""Trackers: what they write is what metrics.jsonl says, also after a resume."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toolkit
from toolkit.cli import main
from toolkit.errors import MissingExtraError, UnknownNameError
from toolkit.pipeline import TrainingSession
from toolkit.tracking import options_of, tracker_names
from toolkit.training import StepDone

SMALL: dict[str, Any] = {
    "model": "bigram", "block_size": 8, "batch_size": 4, "max_steps": 12, "eval_every": 4,
    "log_every": 1, "checkpoint_every": 5, "sample_every": 6, "device": "cpu",
}  # fmt: skip
NAMES = {
    "train/loss": ("step", "loss"),
    "train/lr": ("step", "lr"),
    "train/grad_norm": ("step", "grad_norm"),
    "train/tokens_per_second": ("step", "tokens_per_second"),
    "val/loss": ("evaluation", "val_loss"),
    "val/bits_per_byte": ("evaluation", "bits_per_byte"),
}
# Events have the speed whole, metrics.jsonl has it to 0.1; TensorBoard keeps float32.
TOLERANCE = {"train/tokens_per_second": {"abs": 0.06, "rel": 1e-6}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    (tmp_path / "text.txt").write_text("she sells sea shells.\n" * 30, encoding="utf-8")
    return tmp_path


def measured(folder: Path) -> dict[str, list[tuple[int, float]]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        name: [(row["step"], row[column]) for row in rows if row["kind"] == kind]
        for name, (kind, column) in NAMES.items()
    }


def tensorboard(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    return found.Reload()


def assert_tensorboard_has_the_metrics(folder: Path) -> None:
    found = tensorboard(folder)
    assert sorted(found.Tags()["scalars"]) == sorted(NAMES)
    for name, expected in measured(folder).items():
        got = [(event.step, event.value) for event in found.Scalars(name)]
        assert [step for step, _ in got] == [step for step, _ in expected]
        tolerance = TOLERANCE.get(name, {"rel": 1e-6})
        assert [v for _, v in got] == pytest.approx([v for _, v in expected], **tolerance)


def test_tensorboard_has_the_numbers_of_metrics_jsonl() -> None:
    run = toolkit.train("text.txt", "char", track="tensorboard", out="run", **SMALL)
    assert_tensorboard_has_the_metrics(run.folder)
    found = tensorboard(run.folder)
    texts = [event.tensor_proto.string_val[0].decode() for event in found.Tensors("sample")]
    samples = Path("run/samples.txt").read_text().split("--- step ")[1:]
    for text, sample in zip(texts, samples, strict=True):
        expected = sample.partition("\n")[2].removesuffix("\n\n")
        assert text.splitlines() == [f"    {line}" for line in expected.splitlines()]
    assert [event.step for event in found.Tensors("sample")] == [6, 12]


def test_tensorboard_has_the_options() -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    run = toolkit.train("text.txt", "char", track="tensorboard", out="run", **SMALL)
    metadata = tensorboard(run.folder).SummaryMetadata("_hparams_/session_start_info")
    content = HParamsPluginData.FromString(metadata.plugin_data.content)
    options = content.session_start_info.hparams
    assert options["training/learning_rate"].number_value == run.info.training["learning_rate"]
    assert options["training/optimizer"].string_value == "adamw"
    assert options["model/block_size"].number_value == 8
    assert set(options) == set(options_of(run))


def killed_at(session: TrainingSession, step: int) -> None:
    """A training that ends as by a kill: no checkpoint is written at its end."""
    for event in session.events():
        if isinstance(event, StepDone) and event.step == step:
            break


def test_a_resumed_run_goes_on_in_tensorboard_without_doubles() -> None:
    session = TrainingSession.start(
        "text.txt", "char", track="tensorboard", out="run", **{**SMALL, "eval_every": 3}
    )
    killed_at(session, 8)  # three steps after the checkpoint
    run = toolkit.resume("run")  # it remembers what tracks it
    assert run.info.tracking == {"tensorboard": {}}
    assert len(list(Path("run/tensorboard").iterdir())) == 2
    assert_tensorboard_has_the_metrics(run.folder)
    steps = [event.step for event in tensorboard(run.folder).Scalars("train/loss")]
    assert steps == list(range(1, 13))


def test_names_are_checked_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracker_names("wandb,tensorboard") == ("wandb", "tensorboard")
    assert tracker_names(["tensorboard", "tensorboard"]) == ("tensorboard",)
    with pytest.raises(UnknownNameError, match="No tracker 'tensorbord'"):
        toolkit.train("text.txt", "char", track="tensorbord", **SMALL)
    for name in ("tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError, match=r"^tracking with \w+ .*'toolkit\[track\]'$"):
            toolkit.train("text.txt", "char", track=name, **SMALL)
    assert not Path("runs").exists()
    assert not Path("home").exists()


def test_training_without_a_tracker_imports_none() -> None:
    script = """
import sys, toolkit
toolkit.train("text.txt", "char", model="bigram", block_size=8, max_steps=2, out="run")
assert not {"tensorboard", "wandb", "google.protobuf"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_option_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    def train(*arguments: str) -> int:
        with pytest.raises(SystemExit) as exited:
            main(["train", *arguments])
        return int(exited.value.code or 0)

    small = ["-c", "text.txt", "-t", "char", "--model=bigram", "--block-size=8", "--device=cpu"]
    assert train(*small, "--max-steps=4", "--track", "tensorboard", "--out=run") == 0
    assert "tracking  tensorboard, tensorboard --logdir run/tensorboard" in capsys.readouterr().out
    assert train("--resume", "--out=run", "--max-steps=6") == 0
    assert "tracking  tensorboard" in capsys.readouterr().out
    assert_tensorboard_has_the_metrics(Path("run"))
    assert train(*small, "--track", "wanbd") == 2
    err = capsys.readouterr().err
    assert "No tracker 'wanbd'. Did you mean 'wandb'" in err
    assert err.count("\n") == 1


# -- Weights & Biases -------------------------------------------------------------------------


def records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: 7 bytes of header, then LevelDB's log format with protobufs.

    Blocks of 32 KiB; in them pieces with crc (4 bytes), length (2) and type (1): whole, first,
    middle, last.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, record = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield Record.FromString(record)
            record = b""


def history(folder: Path) -> dict[int, dict[str, Any]]:
    """What the offline runs in a folder say of each step; nothing is said twice."""
    rows: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for record in records(path):
            if record.HasField("history"):
                row = {
                    "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                    for item in record.history.item
                }
                step = row.get("_step", record.history.step.num)
                told = {name: value for name, value in row.items() if not name.startswith("_")}
                assert not told.keys() & rows.get(step, {}).keys()
                rows[step] = {**rows.get(step, {}), **told}
    return rows


TRAIN = f"""
import sys, toolkit
from toolkit.pipeline import TrainingSession
from toolkit.training import StepDone
options = {SMALL!r}
kill = int(sys.argv[1])
session = (
    TrainingSession.start("text.txt", "char", track="wandb", out="run", **options)
    if kill else TrainingSession.resume("run")
)
print(session.trackers[0].note)
for event in session.events():
    if isinstance(event, StepDone) and event.step == kill:
        sys.exit(3)
"""


@pytest.mark.slow
def test_wandb_without_an_account_or_a_network_is_an_offline_run(folder: Path) -> None:
    """In processes of their own: wandb keeps a service alive. The second one resumes the first."""
    environment = {name: v for name, v in os.environ.items() if not name.startswith("WANDB_")}
    # Nobody is logged in there, and whatever would use the network finds a closed port.
    environment |= {"HOME": str(folder), "NETRC": str(folder / "none")}
    environment |= {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    for kill, code in ((8, 3), (0, 0)):
        process = subprocess.run(
            [sys.executable, "-c", TRAIN, str(kill)], env=environment, capture_output=True,
            text=True, timeout=120, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert process.returncode == code, process.stderr
        (line,) = process.stdout.splitlines()
        assert line.startswith("wandb, offline (not logged in), upload with: wandb sync run/wandb/")
    rows = history(Path("run"))
    # The first process wrote up to step 8, its checkpoint was of step 5; the second began there.
    assert sorted(rows) == list(range(1, 13))
    for name, expected in measured(Path("run")).items():
        got = [(step, row[name]) for step, row in sorted(rows.items()) if name in row]
        assert [step for step, _ in got] == [step for step, _ in expected]
        if name != "train/tokens_per_second":  # of steps 6 to 8 the clock of the first process
            np.testing.assert_array_equal([v for _, v in got], [v for _, v in expected])
    samples = [row["sample"] for row in rows.values() if "sample" in row]
    assert len(samples) == 2
    run = toolkit.Run.open("run")
    files = list(Path("run/wandb").glob("offline-run-*/*.wandb"))
    assert {path.stem for path in files} == {f"run-{run.info.tracking['wandb']['id']}"}
    configs = [record.run for record in records(files[0]) if record.HasField("run")]
    options = {item.key: json.loads(item.value_json) for item in configs[0].config.update}
    assert options["training/learning_rate"] == run.info.training["learning_rate"]


def test_other_events_are_not_tracked() -> None:
    from toolkit.tracking import Tracker
    from toolkit.training import CheckpointSaved, EarlyStopped, Evaluated, Interrupted, Sampled

    class Listing(Tracker):
        def __init__(self) -> None:
            self.seen: list[tuple[Any, ...]] = []

        def scalars(self, step: int, values: dict[str, float]) -> None:
            self.seen.append((step, *values.values()))

        def sample(self, step: int, text: str) -> None:
            self.seen.append((step, text))

        def close(self, *, failed: bool) -> None:
            self.seen.append(())

    listing = Listing()
    for event in (
        CheckpointSaved(1, Path()),
        Sampled(2, "to be"),
        EarlyStopped(3, 2),
        Evaluated(4, 1.0, 2.0, 3.0, True, 5.0),
        Interrupted(5),
    ):
        listing.tell(event)
    assert listing.seen == [(2, "to be"), (4, 2.0, 3.0)]
