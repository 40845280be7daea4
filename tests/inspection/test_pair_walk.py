"""A forward pass of an encoder–decoder, told step by step: its order, and its numbers."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import toolkit
from toolkit.cli import main
from toolkit.errors import UsageError
from toolkit.inspection import Tracer, walk_pair
from toolkit.inspection.walkthrough import Walk
from toolkit.models import EncoderDecoderConfig, EncoderDecoderModel, create_model
from toolkit.models.taps import tap_names
from toolkit.pipeline import TrainingSession

SOURCE, TARGET = [1, 2, 3, 4, 8], [3, 1, 2]
BEGIN = 9


def make(order: Any = "post", mlp: Any = "relu") -> EncoderDecoderModel:
    config = EncoderDecoderConfig(
        11, n_layer=2, n_head=2, n_embd=16, norm_order=order, mlp=mlp, dropout=0.2
    )
    return EncoderDecoderModel(config, torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("order", "mlp"), [("post", "relu"), ("pre", "swiglu")])
def test_the_numbers_are_the_tracers(order: str, mlp: str) -> None:
    model = make(order, mlp)
    found = walk_pair(model, SOURCE, TARGET)
    assert model.training
    model.eval()
    with torch.no_grad(), Tracer(model) as trace:
        logits = model(torch.tensor([[BEGIN, *TARGET]]), None, torch.tensor([SOURCE])).logits
    told = set()
    for step in found.steps:
        for numbers in (*step.inputs, *step.outputs):
            if numbers.name not in trace:
                continue
            told.add(numbers.name)
            tensor = trace[numbers.name]
            finite = tensor.double()[tensor.isfinite()]
            assert numbers.shape == tuple(tensor.shape)
            assert (numbers.mean, numbers.min, numbers.max) == (
                float(finite.mean()), float(finite.min()), float(finite.max())
            )  # fmt: skip
            corner = tensor[(0,) * (tensor.dim() - 2)][:4, :6]
            assert numbers.excerpt == tuple(tuple(row) for row in corner.double().tolist())
    # Everything that the model has is told, but what a sum or a norm gives under a second name.
    rest = {re.sub(r"\d", "*", name) for name in set(tap_names(model)) - told}
    assert all(re.search(r"(norm\d?|norm\*)\.in$|resid_(mid|post)$", name) for name in rest)
    assert found.ids == (BEGIN, *TARGET)
    assert found.source_ids == tuple(SOURCE)
    likeliest = logits[0, -1].softmax(-1).topk(5)
    assert [token for token, _ in found.next_tokens] == likeliest.indices.tolist()


@pytest.mark.parametrize("order", ["post", "pre"])
def test_what_goes_in_has_come_out_before(order: str) -> None:
    """In the order of the steps; a point that has two names counts as one by its numbers."""
    found = walk_pair(make(order), SOURCE, TARGET)
    known: set[Any] = set()
    for step in found.steps:
        for numbers in step.inputs:
            if numbers.name not in ("source", "ids"):
                assert (numbers.shape, numbers.excerpt) in known, (step.title, numbers.name)
        known |= {(numbers.shape, numbers.excerpt) for numbers in step.outputs}


def titles(found: Walk, stack: str, layer: int) -> list[str]:
    return [step.title for step in found.steps if (step.stack, step.layer) == (stack, layer)]


def test_the_order_of_the_parts() -> None:
    attention = ["Scores", "Scaling", "Mask", "Attention weights", "Head outputs", "Projection"]
    own = ["Queries, keys, values", *attention, "Added to the stream"]
    cross = ["Queries of the target, keys and values of the source", *attention]
    cross.append("Added to the stream")
    mlp = ["MLP, up", "MLP, activation", "MLP, down", "Added to the stream"]
    norm = ["LayerNorm"]
    post, pre = walk_pair(make("post"), SOURCE, TARGET), walk_pair(make("pre"), SOURCE, TARGET)
    assert titles(post, "encoder", 1) == [*own, *norm, *mlp, *norm]
    assert titles(post, "decoder", 1) == [*own, *norm, *cross, *norm, *mlp, *norm]
    assert titles(pre, "encoder", 1) == [*norm, *own, *norm, *mlp]
    assert titles(pre, "decoder", 1) == [*norm, *own, *norm, *cross, *norm, *mlp]
    stacks = [step.stack for step in pre.steps]
    assert stacks.index("decoder") == len(stacks) - stacks[::-1].index("encoder")
    assert "Last LayerNorm" in [step.title for step in pre.steps]
    # The keys of cross-attention are made of what the encoder gave, its queries are not.
    step = next(s for s in pre.steps if s.title.startswith("Queries of the target"))
    assert [numbers.name for numbers in step.inputs] == [
        "decoder.blocks.0.cross_norm.out", "encoder.norm.out"
    ]  # fmt: skip
    assert [numbers.shape for numbers in step.outputs] == [(1, 2, 4, 8), (1, 2, 5, 8), (1, 2, 5, 8)]
    # Only what is written is hidden from what comes before it.
    hidden = {
        (s.stack, s.outputs[0].name.split(".")[3]): any(
            math.isinf(value) for row in s.outputs[0].excerpt for value in row
        )
        for s in post.steps
        if s.title == "Mask"
    }
    assert hidden == {
        ("encoder", "attn"): False, ("decoder", "attn"): True, ("decoder", "cross"): False
    }  # fmt: skip


def test_another_model() -> None:
    with pytest.raises(UsageError, match="Pairs are for an encoder-decoder"):
        walk_pair(create_model("bigram", 9), [1], [2])


# -- the commands -----------------------------------------------------------------------------


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


SHAPE: dict[str, Any] = {
    "max_steps": 2, "n_layer": 2, "n_encoder_layer": 1, "n_head": 2, "n_embd": 16, "device": "cpu",
}  # fmt: skip


@pytest.fixture
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))


@pytest.mark.usefixtures("_folder")
def test_trace_tells_the_steps_of_a_pair(capsys: pytest.CaptureFixture[str]) -> None:
    run = toolkit.train(
        task="copy:5", src_tokenizer="byte", tgt_tokenizer="char", out="r", **SHAPE
    )  # fmt: skip
    assert call("trace", "abc", "--run", "r", "--target", "ab", "--layer", "1") == 0
    page = capsys.readouterr().out
    assert re.search(r"^3 +256 +end *$", page, re.MULTILINE)
    assert re.search(r"^0 +27 +begin *$", page, re.MULTILINE)
    assert "decoder · layer 1 · Queries of the target, keys and values of the source" in page
    assert "layer 0" not in page
    assert "(B, H, T, S) = 1 × 2 × 3 × 4" in page
    assert call("trace", "abc", "--run", "r", "--target", "ab", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [token["token"] for token in document["source"]] == ["a", "b", "c", "end"]
    assert [token["token"] for token in document["tokens"]] == ["begin", "a", "b"]
    cross = next(s for s in document["steps"] if s["title"] == "Attention weights" and
                 s["outputs"][0]["name"] == "decoder.blocks.1.cross.weights")  # fmt: skip
    inspector = toolkit.PairInspector(run.model, [97, 98, 99, 256], [0, 1])
    expected = inspector.attention("cross", 1)[0, :, :6].double().tolist()
    assert cross["outputs"][0]["excerpt"] == expected
    # Without a target it is what the model writes by itself.
    assert call("trace", "abc", "--run", "r", "--json") == 0
    greedy = toolkit.Translator(run.model, run.tokenizer, run.source_tokenizer)
    written = json.loads(capsys.readouterr().out)["tokens"]
    ids = greedy.generate("abc", strategy="greedy").ids[: run.model.block_size - 1]
    assert [token["id"] for token in written] == [27, *ids]
    for arguments, message in (
        (["--layer", "2"], "--layer 2: this model has 2 in all, from 0."),
        (["--target", "é"], "'é'"),
    ):
        assert call("trace", "abc", "--run", "r", *arguments) == 2
        printed = capsys.readouterr().err
        assert message in printed
        assert printed.count("\n") == 1


@pytest.mark.usefixtures("_folder")
def test_debug_walks_through_the_next_pair(capsys: pytest.CaptureFixture[str]) -> None:
    shape = "--max-steps 2 --n-layer 1 --n-head 1 --n-embd 8 --batch-size 4 --device cpu"
    command = ["train", "--task", "copy:5", *shape.split()]
    assert call(*command, "--debug", "--out", "first") == 0
    page = capsys.readouterr().out
    assert "The next step begins with this pair." in page
    assert "decoder · layer 0 · Attention weights   w = softmax(s)" in page
    assert page.index("What could come next") < page.index("Done after 2 steps")
    assert call(*command, "--debug", "--json", "--out", "second") == 0
    lines = capsys.readouterr().out.splitlines()
    told = next(event for event in map(json.loads, lines) if event["event"] == "Walk")
    # Each file is what a training that nobody looked at writes.
    assert call(*command, "--out", "third", "--quiet") == 0
    weights = {Path(name, "model.safetensors").read_bytes() for name in ("first", "third")}
    assert len(weights) == 1
    options: dict[str, Any] = {"max_steps": 2, "n_layer": 1, "n_head": 1, "n_embd": 8}
    session = TrainingSession.start(
        task="copy:5", batch_size=4, device="cpu", out="fourth", **options
    )
    ids, targets, sources = session.trainer.loader.next_batch()
    source = [token for token in sources[0].tolist() if token != 28]
    target = [token for token in targets[0].tolist() if token >= 0]
    assert [token["id"] for token in told["source"]] == source
    assert [token["id"] for token in told["tokens"]] == [27, *target[:-1]]
    assert target[-1] == 26
    assert ids[0, : len(target)].tolist() == [27, *target[:-1]]
