"""`--init` for pairs: the weights and tokenizers of a run of pairs, on another task or file."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import toolkit
from toolkit.cli import main
from toolkit.corpora import Corpus
from toolkit.fine_tuning import fine_tuning_pair_config
from toolkit.models import load_pretrained
from toolkit.pair_recipes import pair_train_config
from toolkit.pipeline import TrainingSession

SHAPE: dict[str, Any] = {"n_layer": 1, "n_head": 2, "n_embd": 16, "device": "cpu"}
STEPS: dict[str, Any] = {"max_steps": 4, "eval_every": 2, "log_every": 1, "sample_every": 0}


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))


@pytest.fixture
def base() -> toolkit.Run:
    return toolkit.train(task="copy:4", block_size=8, out="runs/base", **SHAPE, **STEPS)


def test_it_goes_on_from_the_weights_and_the_tokenizer(base: toolkit.Run) -> None:
    session = TrainingSession.start(
        task="sort:12", init="base", block_size=16, dropout=0.2, out="next", device="cpu", **STEPS
    )
    expected = load_pretrained("runs/base").state_dict()
    found = session.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (session.model.block_size, session.model.config.dropout) == (16, 0.2)
    assert session.tokenizer.fingerprint() == base.tokenizer.fingerprint()
    list(session.events())
    info = session.run.info
    assert info.model["init"]["name"] == "base"
    assert len(info.model["init"]["sha256"]) == 64
    assert info.corpus["spec"] == "sort:12"
    trained = load_pretrained("next").state_dict()["tok_emb.weight"]
    assert not torch.equal(trained, expected["tok_emb.weight"])


def test_it_resumes_to_the_bit(base: toolkit.Run) -> None:
    # A schedule that does not ask when the end is.
    options = {**STEPS, "schedule": "inverse-sqrt", "dropout": 0.2, "device": "cpu"}
    whole = toolkit.train(task="sort:4", init="base", out="whole", **options)
    toolkit.train(task="sort:4", init="base", out="parts", **{**options, "max_steps": 2})
    parts = toolkit.resume("parts", max_steps=4)
    for name in ("model", "optimizer", "random"):
        file = f"checkpoint/{name}.safetensors"
        assert (parts.folder / file).read_bytes() == (whole.folder / file).read_bytes()


def test_each_side_keeps_its_own_tokenizer() -> None:
    Path("a.tsv").write_text("".join(f"{n:03}\t{'abcdefghij'[n % 10]}x\n" for n in range(100)))
    Path("b.tsv").write_text("".join(f"{n:04}\t{'jihgfedcba'[n % 10]}\n" for n in range(100)))
    first = toolkit.train(
        task="a.tsv", src_tokenizer="char", tgt_tokenizer="char", out="first", **SHAPE, **STEPS
    )
    second = toolkit.train(task="b.tsv", init="first", out="second", device="cpu", **STEPS)
    assert second.info.source_tokenizer["fingerprint"] == first.source_tokenizer.fingerprint()
    assert second.info.tokenizer["fingerprint"] == first.tokenizer.fingerprint()
    assert first.tokenizer.fingerprint() != first.source_tokenizer.fingerprint()


def test_its_rates_are_a_tenth_of_those_from_scratch(base: toolkit.Run) -> None:
    for options in ({}, {"optimizer": "muon"}):
        found = fine_tuning_pair_config("reverse", base.model, options)
        scratch = pair_train_config("reverse", 16, {"optimizer": "adamw", **options})
        assert found.learning_rate == pytest.approx(0.1 * scratch.learning_rate)
    assert found.adam_learning_rate == pytest.approx(0.1 * (scratch.adam_learning_rate or 0))
    assert found.schedule == "linear"
    prose = fine_tuning_pair_config("messages", base.model, {"max_time": 9.0, "warmup_steps": 7})
    assert (prose.schedule, prose.warmup_steps, prose.max_steps) == ("cosine", 7, None)
    assert prose.label_smoothing == 0.1


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["train", "--device", "cpu", *arguments])
    assert caught.value.code == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    return error


@pytest.mark.usefixtures("base")
def test_what_contradicts_it_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in [
        (["--tokenizer", "char"], "--tokenizer contradicts --init base"),
        (["--src-tokenizer", "char"], "--src-tokenizer contradicts --init base"),
        (["--unknown", "unk"], "The tokenizer option unknown is for a tokenizer that is made now"),
        (["--n-embd", "32"], "--n-embd 32 contradicts --init base, which holds a model encoder-de"),
        (["--size", "mini"], "--size mini contradicts --init base"),
        (["--preset", "gpt2"], "--preset and --task exclude each other"),
        (["--model", "gpt"], "The model gpt continues a text"),
    ]:
        assert message in refused(capsys, "--task", "sort:4", "--init", "base", *arguments)
    assert "longer than --block-size 8" in refused(capsys, "--task", "sort:9", "--init", "base")
    assert "'7'" in refused(capsys, "--task", "date", "--init", "base", "--block-size", "64")
    assert "pairs of texts, not one text: give --task" in refused(capsys, "--init", "base")
    toolkit.train(
        Corpus.from_text("to be or not to be. " * 20, name="text"), "char", model="bigram",
        block_size=4, max_steps=1, device="cpu", out="runs/text",
    )  # fmt: skip
    error = refused(capsys, "--task", "copy", "--init", "text")
    assert "--init text holds a model bigram, which continues a text, and --task is pairs" in error
    assert json.loads(Path("runs/base/run.json").read_text())["status"] == "finished"
