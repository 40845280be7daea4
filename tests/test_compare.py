"""`toolkit compare`: its numbers against numbers that are come by in another way."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import toolkit
from toolkit.cli import main
from toolkit.comparing.differences import (
    forward_differences,
    gradient_differences,
    weight_difference,
)
from toolkit.comparing.measurements import Step, generation_speeds, step_memory, timed_step
from toolkit.comparing.report import comparison_figure, comparison_to_json
from toolkit.comparing.result import Comparison, Difference, Memory, Side
from toolkit.comparing_view import print_comparison
from toolkit.errors import UsageError
from toolkit.models import create_model
from toolkit.models.hf_twin import HuggingFaceTwin
from toolkit.models.interop import to_hf_state_dict
from toolkit.training import Trainer
from toolkit.training.distributed import SET_BY_TORCHRUN

pytest.importorskip("transformers", reason="of the extra 'hf'")
pytest.importorskip("accelerate", reason="of the extra 'hf'")

SHAPE: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 16}
V = 11


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    path = tmp_path / "words.txt"
    path.write_text("to be or not to be, that is the question: whether 'tis nobler " * 60)
    return str(path)


def twin(preset: str) -> HuggingFaceTwin:
    """Of a model whose weights all matter."""
    model = create_model("gpt", V, preset=preset, **SHAPE)
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=source))
    return HuggingFaceTwin(model)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, V, (2, 17), generator=torch.Generator().manual_seed(2))
    return ids[:, :-1], ids[:, 1:]


@pytest.mark.parametrize("preset", ["modern", "gpt2"])
def test_equal_weights_give_equal_numbers_everywhere(preset: str) -> None:
    pair, (ids, targets) = twin(preset), batch()
    hidden, logits = forward_differences(pair, (ids, targets), torch.float32)
    assert [point.name for point in hidden] == [
        "embed.sum",
        *(
            f"blocks.{layer}.{point}"
            for layer in range(2)
            for point in ("attn.out", "resid_mid", "mlp.out", "resid_post")
        ),
        "norm.out",
    ]
    for point in (*hidden, logits, *gradient_differences(pair, (ids, targets), torch.float32)):
        assert point.scale > 1e-3
        assert point.relative < 1e-5  # some units in float32's last place
    assert logits.scale == pytest.approx(float(pair.model(ids).logits.detach().abs().max()))
    assert all(p.grad is None for p in [*pair.model.parameters(), *pair.hf.parameters()])


def test_a_changed_layer_is_the_first_that_differs() -> None:
    pair, (ids, targets) = twin("modern"), batch()
    with torch.no_grad():
        pair.hf.model.layers[1].mlp.down_proj.weight.mul_(1.01)
    hidden, logits = forward_differences(pair, (ids, targets), torch.float32)
    found = dataclasses.replace(comparison([0.0], [0.0]), hidden=hidden, logits=logits)
    assert found.first_layer == "blocks.1.mlp.out"
    # The MLP's output is 1% larger, and so is the difference: a hundredth of the scale.
    changed = next(point for point in hidden if point.name == "blocks.1.mlp.out")
    assert changed.relative == pytest.approx(0.01, rel=1e-3)
    with torch.no_grad():
        apart = (pair.model(ids).logits - pair.hf(input_ids=ids).logits).abs().max()
    assert logits.largest == pytest.approx(float(apart), rel=1e-3)


@pytest.mark.parametrize("preset", ["modern", "gpt2"])
def test_gradients_are_compared_tensor_by_tensor(preset: str) -> None:
    """Doubling the twin's last matrix changes gradients; their differences are computed again
    from gradients that were put into Hugging Face's names by the table for weights."""
    pair, (ids, targets) = twin(preset), batch()
    with torch.no_grad():
        next(p for n, p in pair.hf.named_parameters() if "layers.1" in n or ".h.1." in n).mul_(2)
    found = {d.name: d for d in gradient_differences(pair, (ids, targets), torch.float32)}
    loss = pair.model(ids, targets).loss
    assert loss is not None
    loss.backward()
    carrier = create_model("gpt", V, preset=preset, **SHAPE)
    with torch.no_grad():
        for place, parameter in zip(carrier.parameters(), pair.model.parameters(), strict=True):
            assert parameter.grad is not None
            place.copy_(parameter.grad)
    ours = to_hf_state_dict(carrier)
    flat = pair.hf(input_ids=ids).logits.flatten(0, 1)  # (B·T, V)
    torch.nn.functional.cross_entropy(flat, targets.reshape(-1)).backward()
    theirs = {name: p.grad for name, p in pair.hf.named_parameters()}
    assert found.keys() == ours.keys() == theirs.keys()
    for name, each in found.items():
        expected = float((ours[name] - theirs[name]).abs().max())
        assert each.largest == pytest.approx(expected, rel=1e-4, abs=1e-9), name
    assert max(each.relative for each in found.values()) > 1e-3


def test_nothing_is_dropped_out_while_numbers_are_compared() -> None:
    model = create_model("gpt", V, preset="gpt2", dropout=0.5, **SHAPE)
    pair = HuggingFaceTwin(model)
    pair.model.train()
    pair.hf.eval()
    hidden, logits = forward_differences(pair, batch(), torch.float32)
    gradients = gradient_differences(pair, batch(), torch.float32)
    for point in (*hidden, logits, *gradients):
        assert point.largest < 1e-5  # float32 sums in another order; half the numbers would be 0
    assert (pair.model.training, pair.hf.training) == (True, False)


def test_the_weight_that_differs_most_is_named() -> None:
    one, other = twin("gpt2"), twin("gpt2")
    assert weight_difference(one, other).largest == 0.0
    with torch.no_grad():
        other.hf.transformer.h[1].mlp.c_fc.weight[3, 2] += 0.25
        other.hf.transformer.ln_f.bias[1] -= 0.125
    found = weight_difference(one, other)
    assert found.name == "transformer.h.1.mlp.c_fc.weight"
    assert found.largest == pytest.approx(0.25, rel=1e-6)


def test_activations_are_what_is_kept_beside_the_weights() -> None:
    layer = torch.nn.Linear(3, 5)
    x = torch.ones(2, 3, requires_grad=True)
    trainer: Any = SimpleNamespace(
        trained=layer, optimizer=torch.optim.AdamW(layer.parameters()), dtype=torch.float32,
        device=torch.device("cpu"),
    )  # fmt: skip
    found = step_memory(trainer, lambda: layer(x).relu().sum(), None)
    # Of the input 2 · 3 numbers, of ReLU's result 2 · 5; the matrix, kept as well, is a weight.
    assert found == Memory(4 * 20, 4 * 20, 0, 4 * (6 + 10))


def test_generation_is_timed_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only the writers move."""
    now, turns = [0.0], []
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    rounds = {"fast": [90.0, 2.0, 4.0, 1.0, 2.0, 7.0], "slow": [90.0, 8.0, 8.0, 9.0, 8.0, 80.0]}

    def writer(name: str) -> Any:
        seconds = iter(rounds[name])

        def write(count: int) -> list[int]:
            now[0] += next(seconds)
            turns.append(name)
            return list(range(count))

        return write

    writers = {name: writer(name) for name in rounds}
    speeds, texts = generation_speeds(writers, 16, torch.device("cpu"))
    # The medians are 2 s and 8 s: the first round does not count.
    assert speeds == {"fast": 8.0, "slow": 2.0}
    assert texts["slow"] == list(range(16))
    assert turns == ["fast", "slow"] * 6


def test_the_first_to_step_changes(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def noting(trainer: Trainer) -> Step:
        order.append(trainer.config.backend)
        return timed_step(trainer)

    monkeypatch.setattr("toolkit.comparing.training.timed_step", noting)
    small: dict[str, Any] = {**SHAPE, "n_layer": 1, "batch_size": 2, "device": "cpu"}
    toolkit.compare_backends(text, "char", steps=3, **small)
    ours, theirs = "toolkit", "huggingface"
    assert order == [ours, theirs, theirs, ours, ours, theirs]


def test_several_processes_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SET_BY_TORCHRUN:
        monkeypatch.setenv(name, "1")
    with pytest.raises(UsageError, match="in one process: leave torchrun out"):
        toolkit.compare_backends(text, "char")


def side(name: str, losses: list[float], seconds: tuple[float, ...] = (9.0, 1.0, 3.0)) -> Side:
    memory = Memory(4, 4, 8, 16)
    return Side(name, "A", 1, tuple(losses), tuple(losses), seconds, memory, 5.0)


def comparison(ours: list[float], theirs: list[float]) -> Comparison:
    same = Difference("logits", 0.0, 1.0)
    return Comparison(
        corpus="c", tokenizer="t", model="gpt", preset=None, device="cpu", dtype="float32", seed=0,
        batch_size=1, label_smoothing=0.0, config={"block_size": 2, "dropout": 0.0},
        toolkit=side("toolkit", ours), huggingface=side("huggingface", theirs), weights=same,
        logits=same, hidden=(), gradients=(same,), same_tokens=1, generated=1,
    )  # fmt: skip


def test_where_losses_first_differ() -> None:
    found = comparison([3.0, 2.0, 1.0], [3.0, 2.00009, 1.2])
    assert found.first_step == 3
    assert found.largest_loss_difference == pytest.approx(0.2)
    assert comparison([3.0, 2.0], [3.0, 2.0]).first_step is None
    assert comparison([3.0, float("nan")], [3.0, 2.0]).first_step == 2
    assert found.first_layer is None
    apart = Difference("logits", 0.5, 1.0)
    assert dataclasses.replace(found, logits=apart).first_layer == "logits"
    assert found.toolkit.median_seconds == 2.0  # of all steps but the first
    assert found.toolkit.memory.total == 32


@pytest.mark.parametrize("preset", ["modern", "gpt2"])
def test_a_comparison_is_of_the_two_trainings(text: str, preset: str) -> None:
    options: dict[str, Any] = {
        **SHAPE, "preset": preset, "size": "nano", "batch_size": 4, "device": "cpu",
    }  # fmt: skip
    seen = []
    found = toolkit.compare_backends(
        text, "char", steps=6, on_step=lambda *row: seen.append(row), **options
    )
    run = toolkit.train(
        text, "char", out="run", max_steps=6, dtype="float32", log_every=1, **options
    )
    losses = [row["loss"] for row in run.metrics() if row["kind"] == "step"]
    assert list(found.toolkit.losses) == losses
    assert seen == [
        (step, ours, theirs)
        for step, (ours, theirs) in enumerate(
            zip(found.toolkit.losses, found.huggingface.losses, strict=True), start=1
        )
    ]
    np.testing.assert_allclose(found.huggingface.losses, losses, atol=1e-5, rtol=0)
    assert found.first_step is None
    assert found.first_layer is None
    assert found.weights.largest < 1e-4  # six steps of about 0.01 each, in float32
    assert found.same_tokens == found.generated == 16 - 8
    classes = {"gpt2": "GPT2LMHeadModel", "modern": "Qwen3ForCausalLM"}
    assert found.huggingface.model_class == classes[preset]
    for each in (found.toolkit, found.huggingface):
        assert each.num_params == run.info.model["num_params"]
        assert each.memory.weights == each.memory.gradients == 4 * each.num_params
        assert each.memory.activations > each.memory.weights / 4
        assert len(each.seconds) == 6
        assert min(each.seconds) > 0
        assert each.tokens_per_second > 0
    if preset == "gpt2":  # AdamW: two moments, and a step count for each tensor
        tensors = len(list(create_model("gpt", V, preset="gpt2", **SHAPE).parameters()))
        assert found.toolkit.memory.optimizer == 8 * found.toolkit.num_params + 4 * tensors


def test_the_command(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--n-layer", "1", "--n-head", "1", "--n-embd", "16", "--block-size", "16"]
    arguments = ["compare", "-c", text, "-t", "char", "--steps", "3", "--batch-size", "2", *small]
    with pytest.raises(SystemExit) as exit_info:
        main([*arguments, "--device", "cpu", "--out", "out", "--json"])
    assert not exit_info.value.code
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(Path("out/compare.json").read_text())
    assert printed["steps"] == len(printed["toolkit"]["losses"]) == 3
    assert printed["dtype"] == "float32"
    assert {path.name for path in Path("out").iterdir()} == {
        "compare.json", "compare.png", "compare.svg",
    }  # fmt: skip
    assert not Path("runs").exists()
    with pytest.raises(SystemExit) as exit_info:
        main([*arguments, "--device", "cpu", "--preset", "gpt2"])
    shown = capsys.readouterr().out
    for part in ("GPT2LMHeadModel", "time a step", "activations", "tokens/s", "do not differ"):
        assert part in shown


def test_what_cannot_be_compared_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for options, message in (
        ({"steps": 0}, "--steps 0 must be at least 1"),
        ({"backend": "toolkit"}, "takes no backend"),
        ({"eval_every": 1}, "takes no eval_every"),
        ({"block_size": 1}, "--block-size 1 leaves no place to generate into"),
        ({"model": "bigram"}, "transformers has no model with these parts"),
    ):
        with pytest.raises(UsageError, match=message):
            toolkit.compare_backends(text, "char", **options)
    for arguments, message in (
        (["--model", "single-head"], "transformers has no model"),
        (["--out", text], "is a file; expected a folder"),
    ):
        with pytest.raises(SystemExit) as exit_info:
            main(["compare", "-c", text, "-t", "char", *arguments])
        assert exit_info.value.code == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_what_rounding_does_alone(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {
        **SHAPE, "batch_size": 4, "device": "cpu", "preset": "gpt2", "steps": 12,
        "warmup_steps": 0,
    }  # fmt: skip
    calm = toolkit.compare_backends(text, "char", **options)
    assert calm.first_step is None
    assert calm.own_losses == ()
    # With so high a rate whatever is in the last bit grows tenfold at every other step.
    wild = toolkit.compare_backends(text, "char", learning_rate=0.2, **options)
    assert wild.first_step is not None
    assert len(wild.own_losses) == 12
    assert wild.first_own_step is not None
    assert wild.first_own_step > 1
    assert abs(wild.own_differences[0]) < 1e-5
    for own, said in (
        ((3.0, 2.5), "changed toolkit differs from itself at step 2, by 5.0e-01 at most"),
        (
            (3.0, 2.0),
            "is not why: with the last bits of its weights changed toolkit stays within 0.0",
        ),
    ):
        apart = dataclasses.replace(comparison([3.0, 2.0], [3.0, 2.5]), own_losses=own)
        print_comparison(apart, quiet=True)
        assert said in " ".join(capsys.readouterr().out.split())


def test_json_holds_what_follows_from_the_numbers() -> None:
    value = comparison_to_json(comparison([3.0, 2.0], [3.0, 2.5]))
    assert value["first_step"] == 2
    assert value["largest_loss_difference"] == 0.5
    assert value["toolkit"]["memory"]["total"] == 32


def test_the_figure_says_what_is_drawn() -> None:
    pytest.importorskip("matplotlib", reason="of the extra 'plots'")
    found = comparison([3.0, 2.0, 1.0], [3.0, 2.0, 1.5])
    figure = comparison_figure(found)
    losses, differences, seconds, hidden = figure.axes
    for axes in (losses, differences, seconds):
        assert all(float(tick).is_integer() for tick in axes.get_xticks())
    assert list(losses.lines[1].get_ydata()) == [3.0, 2.0, 1.5]
    assert list(differences.lines[0].get_ydata()) == [1e-10, 1e-10, 0.5]
    for axes in (differences, hidden):
        assert "0 is drawn at the bottom" in axes.get_xlabel()
    # Seconds are 9, 1, 3; the first step does not count.
    assert {line.get_ydata()[0] for line in seconds.lines[1::2]} == {2000.0}
    assert [tick.get_text() for tick in hidden.get_xticklabels()] == ["logits"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "toolkit", "huggingface", "between the two", "tolerance, 0.0001",
    ]  # fmt: skip
