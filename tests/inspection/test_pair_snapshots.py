"""An encoder–decoder that is followed while it trains: what is kept and drawn, and that training
does not notice."""

import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy_encoder_decoder import NumpyEncoderDecoder
from test_snapshots import learned, snapshot_files

import toolkit
from toolkit.cli import main
from toolkit.errors import RunError, UsageError
from toolkit.inspection import PairInspector, PairSnapshot, take_pair_snapshot
from toolkit.inspection.pairs import ATTENTIONS
from toolkit.inspection.snapshots import SnapshotFolder
from toolkit.models import EncoderDecoderConfig, EncoderDecoderModel
from toolkit.training import StepDone

SOURCE, TARGET = [1, 2, 3, 4, 8], [3, 1, 2, 5]
BEGIN, END = 9, 8
SHAPE: dict[str, Any] = {
    "n_layer": 2, "n_encoder_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 24,
    "batch_size": 4, "dropout": 0.2, "ema": 0.9, "eval_every": 5, "sample_every": 5,
    "checkpoint_every": 5, "log_every": 1, "max_steps": 10, "device": "cpu",
}  # fmt: skip
TRACKED: dict[str, Any] = {"track_internals": 3, "track_text": "bead"}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.pipeline.draw_if_tracked", lambda run: [])  # another test draws


def make() -> EncoderDecoderModel:
    config = EncoderDecoderConfig(11, n_layer=2, n_encoder_layer=1, n_head=2, n_embd=16)
    return EncoderDecoderModel(config, torch.Generator().manual_seed(1)).eval()


def same(a: PairSnapshot, b: PairSnapshot) -> None:
    for kind in ATTENTIONS:
        first, second = vars(a.attentions[kind]), vars(b.attentions[kind])
        assert torch.equal(first.pop("attention"), second.pop("attention"))
        assert first == second
    for field in ("step", "source_ids", "target_ids", "loss", "contributions", "gradients"):
        assert getattr(a, field) == getattr(b, field), field


def test_a_snapshot_is_what_the_model_computes(tmp_path: Path) -> None:
    model = make()
    taken = take_pair_snapshot(model, SOURCE, TARGET, step=7, learning_rate=0.5)
    oracle = NumpyEncoderDecoder(model, n_head=2)
    said = oracle([BEGIN, *TARGET], SOURCE)
    assert taken.loss == pytest.approx(-said[range(5), [*TARGET, END]].mean(), abs=1e-5)
    for kind, pattern in ATTENTIONS.items():
        found = taken.attentions[kind]
        assert found.step == 7
        assert found.attention.shape == (1 if kind == "encoder" else 2, 2, 5, 5)
        for layer in range(len(found.attention)):
            weights = oracle.weights[pattern.replace("*", str(layer))]
            for head in range(2):
                # A byte is 1/255, so that rounding is at most half of that.
                error = np.abs(found.weights(layer, head).numpy() - weights[head]).max()
                assert error <= 0.5 / 255 + 1e-6
                positive = weights[head][weights[head] > 0]
                entropy = -(positive * np.log(positive)).sum() / 5
                assert found.entropy[layer][head] == pytest.approx(entropy, abs=1e-5)
    assert taken.attentions["cross"].even_entropy == pytest.approx(math.log(5))
    inspector = PairInspector(model, SOURCE, TARGET)
    assert taken.gradients == tuple(inspector.gradient_flow(0.5))
    assert taken.contributions["decoder"] == tuple(inspector.layer_contributions("decoder"))
    assert taken.attentions["cross"].qkv == tuple(inspector.qkv_statistics("cross"))

    folder = SnapshotFolder(tmp_path / "kept")
    folder.record(7, lambda: taken)
    (read,) = folder.load()
    assert isinstance(read, PairSnapshot)
    same(read, taken)
    (path,) = (tmp_path / "kept").iterdir()
    path.write_bytes(path.read_bytes().replace(b'\\"source_ids\\"', b'\\"source_idx\\"'))
    with pytest.raises(RunError, match="is damaged"):
        folder.load()


# -- training ---------------------------------------------------------------------------------


def train(name: str, **options: Any) -> toolkit.Run:
    return toolkit.train(task="reverse:5", out=name, **{**SHAPE, **options})


@pytest.mark.usefixtures("_undrawn")
def test_training_does_not_notice_and_a_resumed_run_goes_on() -> None:
    """Weights, averages, moments, random states and losses, bit for bit, with dropout."""
    plain, tracked = train("plain"), train("tracked", **TRACKED)
    assert learned(plain) == learned(tracked)
    assert (tracked.folder / "samples.txt").read_text() == (
        plain.folder / "samples.txt"
    ).read_text()
    found = toolkit.load_snapshots(tracked)
    assert [snapshot.step for snapshot in found] == [0, 3, 6, 9]
    last = found[-1]
    assert isinstance(last, PairSnapshot)
    assert last.source_ids == (1, 4, 0, 3, 26)
    assert last.target_ids == (3, 0, 4, 1)
    assert last.loss < found[0].loss

    def stop(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    parts = train("parts", on_event=stop, **TRACKED)
    assert parts.info.status == "interrupted"
    assert [s.step for s in toolkit.load_snapshots(parts)] == [0, 3, 6]
    # As if it had gone further than its checkpoint.
    (parts.folder / "internals" / "step_00000009.safetensors").write_bytes(b"later")
    resumed = toolkit.resume(parts.folder)
    assert learned(resumed) == learned(tracked)
    assert snapshot_files(resumed) == snapshot_files(tracked)


def followed(run: toolkit.Run) -> tuple[str, str]:
    """The pair of a run's snapshots, as text."""
    snapshot = toolkit.load_snapshots(run)[0]
    assert isinstance(snapshot, PairSnapshot)
    source = run.source_tokenizer.decode(snapshot.source_ids[:-1])
    return source, run.tokenizer.decode(snapshot.target_ids)


@pytest.mark.usefixtures("_undrawn")
def test_which_pair_is_followed() -> None:
    shape: dict[str, Any] = {"n_layer": 1, "n_head": 1, "n_embd": 8}
    tiny: dict[str, Any] = {**shape, "max_steps": 1, "device": "cpu", "track_internals": 1}
    first = toolkit.tasks.load_task("copy:3").held_out[0]
    assert followed(toolkit.train(task="copy:3", out="a", **tiny)) == first
    given = toolkit.train(task="copy:3", track_text="abc => ab", out="b", **tiny)
    assert followed(given) == ("abc", "ab")
    # A file knows the target of its own sources; longer pairs than are followed are passed over.
    words = [f"w{number} => x" for number in range(30)]
    long = "a" * 70
    Path("pairs.tsv").write_text(
        "".join(f"{word}\t{word[::-1]}\n{long}{word}\t{long}\n" for word in words)
    )
    of_file = {"src_tokenizer": "char", "tgt_tokenizer": "char", "task": "pairs.tsv"}
    default = toolkit.train(out="c", **of_file, **tiny)
    source, target = followed(default)
    assert source in words
    assert target == source[::-1]
    known = toolkit.train(out="d", track_text="w3 => x", **of_file, **tiny)
    assert followed(known) == ("w3 => x", "x >= 3w")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("today", "'today': the task date knows no target of it. Give both, as in"),
        ("today => ", "the target has 1 tokens with its end; expected 2 to 40 to follow"),
        (" => 2024", "the source has 1 tokens with its end; expected 2 to 40"),
        ("1 => " + "2" * 40, "the target has 41 tokens with its end; expected 2 to 40"),
    ],
)
def test_misuse_is_refused_before_there_is_a_folder(text: str, message: str) -> None:
    options = {**SHAPE, "block_size": 40, "track_internals": 5, "track_text": text}
    with pytest.raises(UsageError, match=message):
        toolkit.train(task="date", out="run", **options)
    assert not Path("run").exists()


def test_a_file_of_long_pairs_has_none_to_follow() -> None:
    long = "a" * 70
    Path("pairs.tsv").write_text("".join(f"{long}{n}\t{long}\n" for n in range(30)))
    with pytest.raises(UsageError, match="No held-out pair has at most 64 tokens on either side"):
        toolkit.train(task="pairs.tsv", tokenizer="char", track_internals=1, max_steps=1, out="run")


def test_an_empty_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for task in (["--task", "date"], []):
        with pytest.raises(SystemExit) as caught:
            main(["train", *task, "--track-internals", "2", "--track-text", ""])
        assert caught.value.code == 2
        assert capsys.readouterr().err.startswith("Error: --track-text is empty: give a text")


# -- the other backend ------------------------------------------------------------------------


@pytest.mark.usefixtures("_undrawn")
def test_both_backends_see_the_same() -> None:
    pytest.importorskip("transformers", reason="of the extra 'hf'")
    pytest.importorskip("accelerate", reason="of the extra 'hf'")
    # AdamW: Muon makes all directions of a gradient alike, those that are rounding alone, too.
    options = {**TRACKED, "dropout": 0.0, "max_steps": 6, "n_encoder_layer": 2}
    options |= {"optimizer": "adamw", "learning_rate": 1e-3}
    ours, theirs = (
        toolkit.load_snapshots(train(backend, backend=backend, **options))
        for backend in ("toolkit", "huggingface")
    )
    assert [snapshot.step for snapshot in ours] == [snapshot.step for snapshot in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert isinstance(a, PairSnapshot)
        assert isinstance(b, PairSnapshot)
        assert (a.source_ids, a.target_ids) == (b.source_ids, b.target_ids)
        # Both sum in float32 in another order. Measured of all: 2e-6 of a value.
        assert a.loss == pytest.approx(b.loss, abs=1e-5)
        for kind in ATTENTIONS:
            first, second = a.attentions[kind], b.attentions[kind]
            # What lies between two bytes may fall to either.
            assert (first.attention.int() - second.attention.int()).abs().max() <= 1
            assert np.abs(np.subtract(first.entropy, second.entropy)).max() < 1e-5
            for one, other in zip(first.qkv, second.qkv, strict=True):
                assert (one.layer, one.head, one.which) == (other.layer, other.head, other.which)
                assert one.norm == pytest.approx(other.norm, rel=2e-5)
        for stack in ("encoder", "decoder"):
            for left, right in zip(a.contributions[stack], b.contributions[stack], strict=True):
                assert (left.layer, left.part) == (right.layer, right.part)
                assert left.ratio == pytest.approx(right.ratio, rel=2e-5)
        for mine, its in zip(a.gradients, b.gradients, strict=True):
            assert (mine.name, mine.shape) == (its.name, its.shape)
            assert mine.grad_norm == pytest.approx(its.grad_norm, rel=2e-5, abs=1e-7)
            assert mine.weight_norm == pytest.approx(its.weight_norm, rel=2e-5, abs=1e-6)
