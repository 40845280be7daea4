"""`toolkit compare` of encoder-decoders: its numbers against numbers come by in another way."""

import dataclasses
import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import toolkit
from toolkit.cli import main
from toolkit.comparing.differences import forward_differences, gradient_differences
from toolkit.comparing.report import comparison_figure
from toolkit.comparing.result import Comparison, Difference, Memory, Side
from toolkit.errors import UsageError
from toolkit.inspection import Tracer
from toolkit.models import EncoderDecoderConfig, EncoderDecoderModel
from toolkit.models.hf_twin import HuggingFaceTwin

pytest.importorskip("transformers", reason="of the extra 'hf'")
pytest.importorskip("accelerate", reason="of the extra 'hf'")

SHAPE: dict[str, Any] = {"n_layer": 2, "n_encoder_layer": 1, "n_head": 2, "n_embd": 16}
V = 11
ORDERS = ("post", "pre")
CLASSES = {"post": "MarianMTModel", "pre": "PegasusForConditionalGeneration"}
# Of differing lengths on both sides: ids, targets and sources.
BATCH = (
    torch.tensor([[9, 1, 2, 3], [9, 5, 10, 10]]),
    torch.tensor([[1, 2, 3, 8], [5, 8, -100, -100]]),
    torch.tensor([[1, 2, 3, 4, 8], [5, 8, 10, 10, 10]]),
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    source = random.Random(0)
    words = ["".join(source.choices("abcde", k=source.randint(1, 8))) for _ in range(200)]
    Path("words.tsv").write_text("".join(f"{word}\t{word[::-1]}\n" for word in words))


def twin(order: Any) -> HuggingFaceTwin:
    """Of a model whose weights all matter."""
    config = EncoderDecoderConfig(V, **SHAPE, norm_order=order, dropout=0.0)
    model = EncoderDecoderModel(config)
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=source))
    return HuggingFaceTwin(model)


def logits_of(pair: HuggingFaceTwin, ids: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Of the model of a twin."""
    assert isinstance(pair.model, EncoderDecoderModel)
    return pair.model(ids, None, source).logits


@pytest.mark.parametrize("smoothing", [0.0, 0.4])
@pytest.mark.parametrize("order", ORDERS)
def test_equal_weights_give_equal_numbers_everywhere(order: str, smoothing: float) -> None:
    pair = twin(order)
    hidden, logits = forward_differences(pair, BATCH, torch.float32)
    norm = ["norm.out"] if order == "pre" else []
    inside = ["attn.out", "cross.out", "resid_mid", "mlp.out", "resid_post"]
    names = ["encoder.blocks.0.resid_pre"]
    names += [f"encoder.blocks.0.{point}" for point in inside if point != "cross.out"]
    names += [f"encoder.{name}" for name in norm] + ["decoder.blocks.0.resid_pre"]
    names += [f"decoder.blocks.{layer}.{point}" for layer in range(2) for point in inside]
    names += [f"decoder.{name}" for name in norm]
    assert [point.name for point in hidden] == names
    gradients = gradient_differences(pair, BATCH, torch.float32, smoothing)
    for point in (*hidden, logits, *gradients):
        # Some units in float32's last place. Softmax does not see the bias of keys: its gradient
        # is the rounding of numbers up to 1.
        assert point.relative < 1e-5 or (".k_proj.bias" in point.name and point.scale < 1e-6)
    assert all(p.grad is None for p in [*pair.model.parameters(), *pair.hf.parameters()])
    # The gradients are those of torch's own smoothed loss, without what is filled up.
    ids, targets, source = BATCH
    flat = pair.hf(**pair.read_inputs(ids, source)).logits.flatten(0, 1)
    F.cross_entropy(flat, targets.flatten(), label_smoothing=smoothing).backward()
    for gradient in gradients:
        expected = pair.hf.get_parameter(gradient.name).grad.abs().max()
        assert gradient.scale == pytest.approx(float(expected), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "post", "pre"),
    [
        ("encoder.embed_positions", "encoder.blocks.0.resid_pre", "encoder.blocks.0.resid_pre"),
        ("encoder.layers.0.self_attn.v_proj", "encoder.blocks.0.attn.out", None),
        ("encoder.layers.0.fc2", "encoder.blocks.0.mlp.out", None),
        ("decoder.layers.1.self_attn.out_proj", "decoder.blocks.1.attn.out", None),
        ("decoder.layers.0.encoder_attn.k_proj", "decoder.blocks.0.cross.out", None),
        (
            "decoder.layers.1.encoder_attn_layer_norm",
            "decoder.blocks.1.resid_mid",
            "decoder.blocks.1.cross.out",
        ),
        ("decoder.layers.1.fc1", "decoder.blocks.1.mlp.out", None),
    ],
)
def test_a_changed_weight_is_found_where_it_is(changed: str, post: str, pre: str | None) -> None:
    """`pre`: where it shows with the norms first, if that is elsewhere."""
    for order, expected in (("post", post), ("pre", pre or post)):
        pair = twin(order)
        with torch.no_grad():
            pair.hf.model.get_submodule(changed).weight.mul_(1.05)
        hidden, logits = forward_differences(pair, BATCH, torch.float32)
        found = dataclasses.replace(comparison(), hidden=hidden, logits=logits)
        assert found.first_layer == expected
        ids, targets, source = BATCH
        with torch.no_grad():
            ours = logits_of(pair, ids, source)
            theirs = pair.hf(**pair.read_inputs(ids, source)).logits
        apart = (ours - theirs)[targets != -100].abs().max()
        assert logits.largest == pytest.approx(float(apart), rel=1e-6)


def test_what_fills_a_batch_up_is_not_compared() -> None:
    pair = twin("pre")
    ids, targets, source = BATCH
    seen = (source == 10, targets == -100)
    stacks = (pair.hf.model.encoder, pair.hf.model.decoder)

    def disturb(filled: torch.Tensor) -> Any:
        return lambda module, inputs, output: output + filled[..., None] * 1.0

    # Nobody reads what comes out of the last MLPs there.
    for stack, filled in zip(stacks, seen, strict=True):
        stack.layers[-1].fc2.register_forward_hook(disturb(filled))
    hidden, logits = forward_differences(pair, BATCH, torch.float32)
    assert max(point.relative for point in (*hidden, logits)) < 1e-5
    with Tracer(pair.model, "*.mlp.out") as ours, torch.no_grad():
        logits_of(pair, ids, source)
    with Tracer(pair.hf, "*.mlp.out") as theirs, torch.no_grad():
        pair.hf(**pair.read_inputs(ids, source))
    for name in ("encoder.blocks.0.mlp.out", "decoder.blocks.1.mlp.out"):
        apart = (ours[name] - pair.in_our_order(name, theirs[name])).abs()
        assert apart.max() == pytest.approx(1.0, abs=1e-4)  # it was disturbed


@pytest.mark.parametrize("order", ORDERS)
def test_a_comparison_is_of_the_two_trainings(order: str) -> None:
    options: dict[str, Any] = {
        **SHAPE, "norm_order": order, "block_size": 24, "batch_size": 8, "device": "cpu",
        "task": "words.tsv", "tokenizer": "char", "label_smoothing": 0.2, "seed": 3,
    }  # fmt: skip
    found = toolkit.compare_backends(steps=6, **options)
    run = toolkit.train(
        out="run", max_steps=6, dtype="float32", log_every=1, dropout=0.0, **options
    )
    losses = [row["loss"] for row in run.metrics() if row["kind"] == "step"]
    assert list(found.toolkit.losses) == losses
    # float32 sums in another order; measured 5e-7.
    np.testing.assert_allclose(found.huggingface.losses, losses, atol=1e-5, rtol=0)
    np.testing.assert_allclose(found.huggingface.grad_norms, found.toolkit.grad_norms, rtol=1e-3)
    assert (found.corpus, found.tokenizer, found.model) == ("words", "char", "encoder-decoder")
    assert (found.config["norm_order"], found.label_smoothing) == (order, 0.2)
    assert found.huggingface.model_class == CLASSES[order]
    assert found.first_step is None
    assert found.first_layer is None
    assert found.same_tokens == found.generated == 24  # as many as there are positions
    for side in (found.toolkit, found.huggingface):
        assert side.num_params == run.info.model["num_params"]
        assert side.memory.weights == side.memory.gradients == 4 * side.num_params
        assert side.tokens_per_second > 0
    # The paper's AdamW: two moments, and a step count for each tensor of each side.
    model = run.model
    tensors = [len(list(model.parameters())), len(HuggingFaceTwin(model).tensors())]
    for side, count in zip((found.toolkit, found.huggingface), tensors, strict=True):
        assert side.memory.optimizer == 8 * side.num_params + 4 * count


def test_what_is_usual_for_a_file_but_for_dropout() -> None:
    options: dict[str, Any] = {
        "task": "words.tsv", "tokenizer": "char", "steps": 1, "device": "cpu", "n_layer": 1,
        "n_embd": 16, "block_size": 12,
    }  # fmt: skip
    found = toolkit.compare_backends(**options)
    assert (found.label_smoothing, found.config["dropout"]) == (0.1, 0.0)
    assert (found.config["norm_order"], found.batch_size) == ("post", 64)
    given = toolkit.compare_backends(**options, dropout=0.3)
    assert given.config["dropout"] == 0.3


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", "--task", "reverse:5", "--n-embd", "16", "--steps", "2"]
    arguments += ["--device", "cpu", "--batch-size", "4", "--block-size", "8"]
    with pytest.raises(SystemExit) as exit_info:
        main([*arguments, "--out", "out", "--json", "--n-encoder-layer", "1"])
    assert not exit_info.value.code
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(Path("out/compare.json").read_text())
    assert printed["config"]["n_encoder_layer"] == 1
    assert printed["config"]["n_layer"] == 2  # the task's own
    assert Path("out/compare.png").exists()
    with pytest.raises(SystemExit):
        main(arguments)
    shown = capsys.readouterr().out
    for part in (
        "encoder-decoder, norms pre, on reverse (char), batches of 4 pairs, no dropout",
        "PegasusForConditional",
        "hidden, decoder.blocks.1.cross.out",
        "hidden, encoder.norm.out",
        "do not differ",
    ):
        assert part in shown
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model encoder-decoder", "learns pairs of texts, not one text: give --task copy|"),
        ("--task copy --model gpt", "The model gpt continues a text"),
        ("--task copy --src-tokenizer char", "have one vocabulary for both sides. Use --tokenizer"),
        ("--src-tokenizer char", "are for a --task"),
        ("--task copy -c words.txt", "--corpus and --task exclude each other"),
        ("--task copi", "No task 'copi'. Did you mean 'copy'?"),
        ("--task copy --mlp swiglu", "transformers has no model with these parts"),
        ("--task copy --preset gpt2", "--preset and --task exclude each other"),
    ],
)
def test_misuse_is_refused(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["compare", *arguments.split()])
    assert exit_info.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_tokenizers_of_two_sides_have_no_twin() -> None:
    with pytest.raises(UsageError, match="one vocabulary for both sides"):
        toolkit.compare_backends(task="words.tsv", tgt_tokenizer="char")


def comparison() -> Comparison:
    same = Difference("logits", 0.0, 1.0)
    losses = (3.0, 2.0)
    sides = [
        Side(name, "A", 1, losses, losses, (9.0, 1.0), Memory(4, 4, 8, 16), 5.0)
        for name in ("toolkit", "huggingface")
    ]
    return Comparison(
        corpus="c", tokenizer="t", model="encoder-decoder", preset=None, device="cpu",
        dtype="float32", seed=0, batch_size=1, label_smoothing=0.0, config={}, toolkit=sides[0],
        huggingface=sides[1], weights=same, logits=same, hidden=(), gradients=(same,),
        same_tokens=1, generated=1, own_losses=losses,
    )  # fmt: skip


def test_the_names_in_the_figure_are_beside_each_other() -> None:
    """With three layers, as for a file of pairs: nothing overlaps or leaves the page."""
    pytest.importorskip("matplotlib")
    inside = ("attn.out", "cross.out", "resid_mid", "mlp.out", "resid_post")
    names = [
        f"{stack}.blocks.{layer}.{point}"
        for stack in ("encoder", "decoder")
        for layer in range(3)
        for point in inside
    ]
    hidden = tuple(Difference(name, 1e-6, 1.0) for name in names)
    figure: Any = comparison_figure(dataclasses.replace(comparison(), hidden=hidden))
    figure.canvas.draw()
    axes = figure.axes[-1]
    labels = axes.get_xticklabels()
    shown = [label.get_text() for label in labels]
    assert shown == [*(name.replace("blocks.", "") for name in names), "logits"]
    boxes = [label.get_window_extent() for label in labels]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
    page = figure.bbox
    for each in (
        *labels,
        *(axis.label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)),
    ):
        box = each.get_window_extent()
        assert page.x0 <= box.x0
        assert box.x1 <= page.x1
        assert page.y0 <= box.y0
        assert box.y1 <= page.y1
