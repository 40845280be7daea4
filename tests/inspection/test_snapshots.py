"""Snapshots of a training: what they hold, which are kept, and that training does not notice."""

import math
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from test_tracer import gpt

import toolkit
from toolkit.errors import RunError, UsageError
from toolkit.inspection import Snapshot, Tracer, snapshots, take_snapshot
from toolkit.inspection.snapshots import SnapshotFolder
from toolkit.models import available_models, create_model
from toolkit.training import StepDone

IDS = [1, 2, 3, 4, 5, 1, 2]
TEXT = "the sun is red, the moon is pale.\n" * 40
SHAPE: dict[str, Any] = {
    "n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 24, "batch_size": 4, "dropout": 0.2,
    "ema": 0.9, "eval_every": 5, "sample_every": 5, "checkpoint_every": 5, "log_every": 1,
    "max_steps": 16, "device": "cpu",
}  # fmt: skip
TRACKED: dict[str, Any] = {"track_internals": 3, "track_text": "the moon is"}


def test_a_snapshot_is_what_the_model_computes() -> None:
    model = gpt(preset="gpt2")
    found = take_snapshot(model, IDS, step=7, learning_rate=0.5)
    with Tracer(model) as trace:
        logits = model(torch.tensor([IDS])).logits[0]
    loss = F.cross_entropy(logits[:-1], torch.tensor(IDS[1:]))
    assert (found.step, found.ids) == (7, tuple(IDS))
    assert found.loss == pytest.approx(loss.item(), abs=1e-6)
    for layer in range(2):
        weights = trace[f"blocks.{layer}.attn.weights"][0]
        for head in range(2):
            # A byte is 1/255, so that rounding is at most half of that.
            assert (found.weights(layer, head) - weights[head]).abs().max() <= 0.5 / 255 + 1e-6
            rows = torch.special.entr(weights[head].double()).sum(-1)
            assert found.entropy[layer][head] == pytest.approx(rows.mean().item(), abs=1e-5)
    # Even attention over 1 … 7 tokens.
    even = sum(math.log(n) for n in range(1, 8)) / 7
    assert found.even_entropy == pytest.approx(even)
    loss.backward()
    for gradient, (name, parameter) in zip(found.gradients, model.named_parameters(), strict=True):
        assert gradient.name == name
        assert parameter.grad is not None
        assert gradient.grad_norm == pytest.approx(parameter.grad.double().norm().item(), rel=1e-4)
    lengths = {(s.layer, s.head, s.which): s.norm for s in found.qkv}
    key = trace["blocks.1.attn.k"][0, 1].double()
    assert lengths[1, 1, "k"] == pytest.approx(key.norm(dim=-1).mean().item())


@pytest.mark.parametrize("name", available_models())
def test_a_snapshot_of_every_model_comes_back_from_disk(name: str, tmp_path: Path) -> None:
    taken = take_snapshot(create_model(name, 11, size="nano"), IDS, step=0, learning_rate=0.1)
    SnapshotFolder(tmp_path).record(0, lambda: taken)
    (read,) = SnapshotFolder(tmp_path).load()
    for field, value in vars(taken).items():
        again = getattr(read, field)
        assert torch.equal(again, value) if field == "attention" else again == value, field


def small(step: int) -> Snapshot:
    attention = torch.full((1, 1, 2, 2), step % 256, dtype=torch.uint8)
    return Snapshot(step, (1, 2), 0.5, ((0.1,),), 0.3, (), (), (), attention)


def kept(folder: Path, every: int, steps: range) -> list[int]:
    where = SnapshotFolder(folder, every)
    for step in steps:
        if step % every == 0:
            where.record(step, partial(small, step))
    return where.steps()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for ten and the first one, instead of a hundred."""
    assert snapshots.MOST_SNAPSHOTS == 100
    monkeypatch.setattr(snapshots, "MOST_SNAPSHOTS", 10)


@pytest.mark.usefixtures("few")
def test_the_folder_is_bounded(tmp_path: Path) -> None:
    """All of them while there is room, then every second one, every fourth one …"""
    assert kept(tmp_path, 3, range(31)) == list(range(0, 31, 3))
    assert kept(tmp_path, 3, range(31, 46)) == list(range(0, 46, 6))
    assert kept(tmp_path, 3, range(46, 150)) == list(range(0, 150, 24))
    assert SnapshotFolder(tmp_path).load()[2].attention.tolist() == [[[[48] * 2] * 2]]


@pytest.mark.usefixtures("few")
def test_after_a_resume_the_same_ones_are_kept(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert kept(whole, 1, range(33)) == list(range(0, 33, 4))
    assert kept(parts, 1, range(23)) == list(range(0, 23, 2))[:-1]  # 22 is no multiple of 4
    SnapshotFolder(parts).drop_later(9)
    assert SnapshotFolder(parts).steps() == [0, 2, 4, 6, 8]
    assert kept(parts, 1, range(9, 33)) == SnapshotFolder(whole).steps()


def test_damaged_and_newer_files_are_named(tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path)
    folder.record(0, lambda: small(0))
    path = next(tmp_path.iterdir())
    data = path.read_bytes()
    path.write_bytes(data[:-3])
    with pytest.raises(RunError, match=r"step_00000000.safetensors is damaged"):
        folder.load()
    path.write_bytes(data.replace(b'format\\": 1', b'format\\": 2'))
    with pytest.raises(RunError, match="is of a newer toolkit"):
        folder.load()
    (tmp_path / "step_x.safetensors").write_text("what somebody put there")
    path.write_bytes(data)
    assert len(folder.load()) == 1


# -- training ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "text.txt").write_text(TEXT)
    return folder / "text.txt"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("toolkit.pipeline.draw_if_tracked", lambda run: [])  # another test draws


def train(corpus: Path, name: str, **options: Any) -> toolkit.Run:
    text = toolkit.load_corpus(str(corpus))
    return toolkit.train(text, "char", out=name, **{**SHAPE, **options})


def learned(run: toolkit.Run) -> list[Any]:
    """Weights, optimizer, random states and every loss of a run."""
    files = [run.folder / "model.safetensors", *sorted(run.folder.glob("checkpoint/*.safetensors"))]
    losses = [(row["step"], row.get("loss"), row.get("val_loss")) for row in run.metrics()]
    return [{k: v.tolist() for k, v in load_file(path).items()} for path in files] + [losses]


def snapshot_files(run: toolkit.Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run.folder / "internals").iterdir()}


def test_training_does_not_notice(corpus: Path) -> None:
    """Weights, averages, moments, random states and losses, bit for bit, with dropout."""
    plain, tracked = train(corpus, "plain"), train(corpus, "tracked", **TRACKED)
    assert learned(plain) == learned(tracked)
    assert (tracked.folder / "samples.txt").read_text() == (
        plain.folder / "samples.txt"
    ).read_text()
    assert not (plain.folder / "internals").exists()
    found = toolkit.load_snapshots(tracked)
    assert [snapshot.step for snapshot in found] == [0, 3, 6, 9, 12, 15]
    assert found[0].ids == tuple(tracked.tokenizer.encode("the moon is"))
    assert found[-1].loss < found[0].loss


def test_a_resumed_run_goes_on_with_what_was_stored(corpus: Path) -> None:
    whole = train(corpus, "whole", **TRACKED)

    def stop(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    parts = train(corpus, "parts", on_event=stop, **TRACKED)
    assert parts.info.status == "interrupted"
    assert [s.step for s in toolkit.load_snapshots(parts)] == [0, 3, 6]
    # As if it had gone further than its checkpoint.
    internals = parts.folder / "internals"
    (internals / "step_00000009.safetensors").write_bytes(b"later")
    resumed = toolkit.resume(parts.folder)
    assert learned(resumed) == learned(whole)
    assert snapshot_files(resumed) == snapshot_files(whole)


def test_without_a_text_it_is_the_first_held_out_one(corpus: Path) -> None:
    run = train(corpus, "run", max_steps=2, track_internals=2)
    text = TEXT[int(0.9 * len(TEXT)) :][:24]  # as long as the context
    assert run.tokenizer.decode(toolkit.load_snapshots(run)[0].ids) == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"track_internals": 5, "track_text": "t"}, "--track-text has 1 tokens; expected 2 to 24"),
        ({"track_internals": 5, "track_text": "the " * 7}, "has 28 tokens; expected 2 to 24"),
        ({"track_text": "the sun"}, "--track-text needs --track-internals N"),
        ({"track_internals": -1}, "--track-internals -1 must not be negative"),
    ],
)
def test_misuse_is_refused_before_there_is_a_folder(
    options: dict[str, Any], message: str, corpus: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        train(corpus, "run", **options)
    assert not Path("run").exists()
