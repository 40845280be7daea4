"""`--backend huggingface`: the same training by transformers, step for step."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import toolkit
from toolkit.cli import main
from toolkit.errors import MissingExtraError, UsageError
from toolkit.models import create_model
from toolkit.models.hf_twin import HuggingFaceTwin, require_twin
from toolkit.pipeline import TrainingSession
from toolkit.training import StepDone, TrainConfig
from toolkit.training.backends import trainer_class
from toolkit.training.huggingface import HuggingFaceTrainer
from toolkit.training.losses import smoothed_losses
from toolkit.training.optimizers import make_optimizer
from toolkit.training.transformers_loss import StepLoss

transformers = pytest.importorskip("transformers", reason="of the extra 'hf'")
pytest.importorskip("accelerate", reason="of the extra 'hf'")

BACKENDS = ("toolkit", "huggingface")
# Both sum in float32 in another order. Measured over 50 steps: 5e-7 nats.
LOSS_TOLERANCE = 1e-5
SHAPE: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 16}
SMALL: dict[str, Any] = {
    **SHAPE, "batch_size": 4, "device": "cpu", "dtype": "float32", "eval_every": 5,
}  # fmt: skip


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A corpus file; the working folder and toolkit's home are temporary."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    source = random.Random(0)
    words = ["to", "be", "or", "not", "that", "is", "the", "question", "whether", "nobler"]
    path = tmp_path / "words.txt"
    path.write_text(" ".join(source.choice(words) for _ in range(1500)))
    return str(path)


def train(text: str, backend: str, **options: Any) -> toolkit.Run:
    given = {"out": backend, **SMALL, "log_every": 1, **options}
    return toolkit.train(text, "char", backend=backend, **given)


def steps(run: toolkit.Run) -> list[dict[str, Any]]:
    return [row for row in run.metrics() if row["kind"] == "step"]


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("modern", {}),
        ("gpt2", {}),
        # Everything that changes what a step is, with the same dropout, and Muon on matrices that
        # are kept transposed.
        (
            "gpt2",
            {
                "optimizer": "muon", "learning_rate": 0.02, "weight_decay": 0.1, "ema": 0.9,
                "layer_decay": 0.8, "grad_accumulation": 2, "gradient_checkpointing": True,
                "tie_embeddings": False, "label_smoothing": 0.1, "dropout": 0.1,
            },
        ),
        # Llama's layout, grouped heads, no clipping.
        ("modern", {"qk_norm": False, "n_kv_head": 1, "grad_clip": 0.0, "optimizer": "adamw"}),
        ("modern", {"label_smoothing": 0.3}),
    ],
)  # fmt: skip
def test_both_backends_have_the_same_losses(
    text: str, preset: str, options: dict[str, Any]
) -> None:
    ours, theirs = (
        train(text, backend, preset=preset, size="nano", max_steps=50, eval_every=25, **options)
        for backend in BACKENDS
    )
    assert theirs.info.training["backend"] == "huggingface"
    assert len(steps(ours)) == len(steps(theirs)) == 50
    losses = np.array([[row["loss"] for row in steps(run)] for run in (ours, theirs)])
    np.testing.assert_allclose(losses[0], losses[1], atol=LOSS_TOLERANCE, rtol=0)
    assert losses[0, 0] - losses[0, -1] > 0.3  # there was something to agree on
    for a, b in zip(steps(ours), steps(theirs), strict=True):
        assert a["lr"] == b["lr"]
        assert a["tokens"] == b["tokens"]
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
    validation = [
        [row["val_loss"] for row in run.metrics() if row["kind"] == "evaluation"]
        for run in (ours, theirs)
    ]
    np.testing.assert_allclose(*validation, atol=LOSS_TOLERANCE, rtol=0)


@pytest.fixture
def pairs(text: str) -> str:
    """A file of pairs whose lengths differ."""
    source = random.Random(1)
    words = [
        "".join(source.choice("abcdefg") for _ in range(source.randint(2, 20))) for _ in range(300)
    ]
    path = Path(text).with_name("words.tsv")
    path.write_text("".join(f"{word}\t{word[::-1]}\n" for word in words))
    return str(path)


@pytest.mark.parametrize(
    ("file", "accumulation", "norm_order"),
    [(False, 1, "post"), (False, 2, "pre"), (True, 1, "pre"), (True, 2, "post")],
)
def test_encoder_decoders_have_the_same_losses(
    pairs: str, file: bool, accumulation: int, norm_order: str
) -> None:
    """Beside Marian's and Pegasus' classes, on pairs of different lengths: batches with padding.
    A file's targets are smoothed."""
    options = {**SMALL, "n_encoder_layer": 1, "block_size": 32, "dropout": 0.0}
    found = []
    for backend in BACKENDS:
        session = TrainingSession.start(
            task=pairs if file else "reverse", tokenizer="char", backend=backend, out=backend,
            max_steps=50, grad_accumulation=accumulation, norm_order=norm_order,
            learning_rate=0.01, **options,
        )  # fmt: skip
        assert session.trainer.config.label_smoothing == (0.1 if file else 0.0)
        found.append([session.trainer.train_step() for _ in range(50)])
        session.trainer.close()
    losses, norms, _ = np.array(found).transpose(2, 0, 1)
    np.testing.assert_allclose(*losses, atol=LOSS_TOLERANCE, rtol=0)
    np.testing.assert_allclose(*norms, rtol=1e-3)
    assert losses[0, 0] - losses[0, -1] > 0.3


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_parts_of_a_step_are_our_loss_of_all_of_it(smoothing: float) -> None:
    """transformers' smoothing over batches of which some targets do not count, and gradients."""
    source = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=source, requires_grad=True)
    targets = torch.randint(0, 7, (3, 5), generator=source)
    targets[0, 2:] = targets[2, 4] = -100
    loss, plain = smoothed_losses(logits, targets, smoothing)
    (expected,) = torch.autograd.grad(loss, logits)
    step = StepLoss(smoothing)
    parts, plains = [], []
    for rows in (slice(0, 1), slice(1, 3)):
        outputs = {"logits": logits[rows]}
        output = transformers.modeling_outputs.CausalLMOutput(**outputs)
        parts.append(step(output, targets[rows], (targets != -100).sum()))
        plains.append(step.plain)
    (gradient,) = torch.autograd.grad(sum(parts), logits)
    # float32 sums in another order.
    torch.testing.assert_close(sum(parts), loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(sum(plains), plain, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_bfloat16_is_near(text: str) -> None:
    ours, theirs = (
        train(text, backend, preset="gpt2", max_steps=5, dtype="bfloat16") for backend in BACKENDS
    )
    for a, b in zip(steps(ours), steps(theirs), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=0.02)  # 8 bits of a loss near 3
    exact = train(text, "toolkit", preset="gpt2", max_steps=5, out="exact")
    differences = [a["loss"] - b["loss"] for a, b in zip(steps(exact), steps(theirs), strict=True)]
    assert max(map(abs, differences)) > LOSS_TOLERANCE  # it was not float32


def test_variables_of_launchers_change_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate's would win over what our options leave out: it would compute in bfloat16. And it
    would look for other processes where not all of torchrun's are set."""
    exact = train(text, "huggingface", preset="gpt2", max_steps=2)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    run = train(text, "huggingface", preset="gpt2", max_steps=2, out="run")
    assert [row["loss"] for row in steps(run)] == [row["loss"] for row in steps(exact)]
    assert os.environ["ACCELERATE_MIXED_PRECISION"] == "bf16"


@pytest.mark.slow
def test_transformers_does_not_print_when_it_is_imported(text: str) -> None:
    """In a process of its own, for it is imported once."""
    code = (
        "import toolkit\n"
        f"toolkit.train({text!r}, 'char', backend='huggingface', max_steps=1, **{SMALL!r})"
    )
    environment = {**os.environ, "WANDB_MODE": "offline"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == ""


def test_an_interrupted_run_goes_on_to_the_bit(text: str) -> None:
    options = {"preset": "gpt2", "dropout": 0.2, "grad_accumulation": 2, "max_steps": 12}
    whole = train(text, "huggingface", **options)
    session = TrainingSession.start(
        text, "char", backend="huggingface", out="cut", **{**SMALL, "log_every": 1, **options}
    )
    for event in session.events():
        if isinstance(event, StepDone) and event.step == 7:
            signal.raise_signal(signal.SIGINT)
    assert session.run.info.status == "interrupted"
    resumed = toolkit.resume("cut")
    assert resumed.info.status == "finished"
    assert [row["loss"] for row in steps(whole)] == [row["loss"] for row in steps(resumed)]
    for name in ("checkpoint/model", "checkpoint/optimizer", "model"):
        a, b = (
            safetensors.torch.load_file(run.folder / f"{name}.safetensors")
            for run in (whole, resumed)
        )
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), name


def test_a_run_of_pairs_goes_on_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its optimizer's moments are in the order of the twin's channels, at both times."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    options: dict[str, Any] = {
        **SMALL, "task": "sort:4", "backend": "huggingface", "schedule": "inverse-sqrt",
        "optimizer": "adamw", "n_layer": 1,
    }  # fmt: skip
    whole = toolkit.train(max_steps=6, out="whole", **options)
    toolkit.train(max_steps=3, out="cut", **options)
    resumed = toolkit.resume("cut", max_steps=6)
    for name in ("checkpoint/model", "checkpoint/optimizer"):
        a, b = (
            safetensors.torch.load_file(run.folder / f"{name}.safetensors")
            for run in (whole, resumed)
        )
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), name


def test_a_run_is_like_any_other(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    run = train(text, "huggingface", max_steps=6, sample_every=3)
    assert capfd.readouterr() == ("", "")  # neither transformers nor accelerate says anything
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    assert (run.folder / "samples.txt").read_text().count("--- step") == 2
    assert toolkit.Run.open("huggingface").model.name == "gpt"
    ids = torch.tensor([[1, 2, 3]])
    hf = transformers.AutoModelForCausalLM.from_pretrained(run.folder)
    with torch.no_grad():
        torch.testing.assert_close(run.model(ids).logits, hf(ids).logits, atol=1e-5, rtol=0)
    with pytest.raises(SystemExit) as exit_info:
        main(["generate", "--run", "huggingface", "to be", "--max-new-tokens", "5", "--seed", "1"])
    assert not exit_info.value.code
    assert capfd.readouterr().out.startswith("to be")


def test_internals_are_the_same_under_the_same_names(text: str) -> None:
    found = []
    for backend in BACKENDS:
        session = TrainingSession.start(
            text, "char", backend=backend, out=backend, max_steps=4, track_internals=2, **SMALL
        )
        list(session.events())  # which draws no figures
        found.append(toolkit.load_snapshots(session.run))
    ours, theirs = found
    assert [snapshot.step for snapshot in ours] == [snapshot.step for snapshot in theirs]
    for a, b in zip(ours[-1].gradients, theirs[-1].gradients, strict=True):
        assert a.name == b.name
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-3, abs=1e-7)


def test_the_twin_of_a_model_has_its_weights() -> None:
    model = create_model("gpt", 11, preset="modern", **SHAPE)
    twin = HuggingFaceTwin(model)
    assert type(twin.hf).__name__ == "Qwen3ForCausalLM"
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for parameter in twin.hf.parameters():
            parameter.mul_(2)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    twin.read()
    assert all(torch.equal(p, 2 * before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("norm_order", ["post", "pre"])
def test_an_encoder_decoder_and_its_twin_have_the_same_gradients(norm_order: str) -> None:
    """Whose channels are in another order."""
    model: Any = create_model("encoder-decoder", 11, norm_order=norm_order, dropout=0.0, **SHAPE)
    twin = HuggingFaceTwin(model)
    source = torch.tensor([[1, 2, 3, 8], [4, 8, 10, 10]])
    ids, targets = torch.tensor([[9, 3, 2], [9, 4, 10]]), torch.tensor([[3, 2, 8], [4, 8, -100]])
    losses = [model(ids, targets, source).loss, twin.loss(ids, targets, source)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
    for loss in losses:
        loss.backward()
    found = twin.gradients()
    assert found.keys() == twin.tensors().keys()
    for name, (ours, theirs) in found.items():
        # float32, summed in another order.
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)


def test_an_optimizer_has_each_parameter_of_the_twin_once() -> None:
    for preset in ("modern", "gpt2"):
        twin = HuggingFaceTwin(create_model("gpt", 11, preset=preset, **SHAPE))
        for name in ("adamw", "muon"):
            config = TrainConfig(optimizer=name, layer_decay=0.5)
            optimizer = make_optimizer(twin.model, config, twin.pieces())
            found = [p for group in optimizer.param_groups for p in group["params"]]
            assert sorted(map(id, found)) == sorted(map(id, twin.hf.parameters()))


@pytest.mark.parametrize(("checkpointing", "times"), [(False, 1), (True, 2)])
def test_gradient_checkpointing_computes_a_block_twice(
    text: str, checkpointing: bool, times: int
) -> None:
    """Which the losses do not show."""
    session = TrainingSession.start(
        text, "char", backend="huggingface", out="run", gradient_checkpointing=checkpointing,
        **SMALL,
    )  # fmt: skip
    assert isinstance(session.trainer, HuggingFaceTrainer)
    calls = []
    mlp: torch.nn.Module = session.trainer.twin.hf.model.layers[0].mlp
    # Before it: the second time torch stops where it has all that the backward pass wants.
    mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    session.trainer.train_step()
    session.trainer.close()
    assert len(calls) == times


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "bigram"}, "no model with these parts. It has gpt's presets"),
        ({"position": "alibi"}, "no model with these parts. With --position rotary it has one"),
        ({"preset": "gpt2", "window": 4, "bias": False}, "With --bias --window 0 it has one"),
        # Heads of an odd width, which rotary positions would refuse.
        ({"preset": "gpt2", "head_dim": 9}, "With --head-dim 16 it has one"),
        ({"preset": "gpt2", "head_dim": 8}, "With --head-dim 16 it has one"),
        ({"norm_order": "post", "bias": True}, "With --no-bias --norm-order pre it has one"),
        ({"task": "copy", "mlp": "swiglu"}, "With --mlp relu it has one"),
        ({"dropout": 0.1}, "drops out attention weights alone"),
        ({"compile": True}, "--compile is not for --backend huggingface"),
        ({"dtype": "float16"}, "--dtype float16 on a CPU is not for --backend huggingface"),
        ({"task": "copy", "src_tokenizer": "char"}, "with one vocabulary for both sides"),
    ],
)
def test_what_the_backend_does_not_have_is_refused_before_there_is_a_run(
    text: str, options: dict[str, Any], message: str
) -> None:
    shape = {"block_size": 16} if "model" in options else SHAPE
    materials = [] if "task" in options else [text, "char"]
    with pytest.raises(UsageError, match=message):
        toolkit.train(
            *materials, backend="huggingface", out="refused", device="cpu", **shape, **options
        )
    assert not Path("refused").exists()


def test_wrong_names_and_uses_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["train", "-c", text, "--backend", "hugingface"], "Did you mean 'huggingface'?"),
        (["train", "-c", text, "--find-lr", "--backend", "huggingface"], "with --find-lr"),
    ):
        with pytest.raises(SystemExit) as exit_info:
            main(arguments)
        assert exit_info.value.code == 2
        assert message in " ".join(capsys.readouterr().err.split())
    train(text, "huggingface", max_steps=1)
    with pytest.raises(UsageError, match="--backend cannot change"):
        toolkit.resume("huggingface", backend="toolkit")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "accelerate" else real(name)
    )
    with pytest.raises(MissingExtraError, match=r"pip install 'toolkit\[hf\]'"):
        require_twin(create_model("gpt", 11, **SHAPE).config)


def test_an_error_in_the_loop_comes_out_of_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = TrainingSession.start(text, "char", backend="huggingface", out="run", **SMALL)
    trainer = session.trainer
    unknown = torch.full((4, 16), 999), torch.zeros(4, 16).long()
    monkeypatch.setattr(trainer.loader, "next_batch", lambda: unknown)
    with pytest.raises(IndexError):
        trainer.train_step()
    trainer.close()


def test_our_own_training_does_without_transformers() -> None:
    code = (
        "import sys, toolkit.pipeline, toolkit.commands.train, toolkit.commands.compare\n"
        "from toolkit.training.backends import trainer_class\n"
        "assert trainer_class('toolkit').__name__ == 'Trainer'\n"
        "print([name for name in ('transformers', 'accelerate') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert trainer_class("huggingface").__name__ == "HuggingFaceTrainer"
