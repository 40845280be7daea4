"""float16 with loss scaling on a CPU, TF32's switch, and devices that nobody asked for."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import assert_same, bigram, config, dataset, gpt, weights

from toolkit.errors import TrainingError
from toolkit.training import Evaluated, Finished, StepDone, Trainer
from toolkit.training.devices import tf32
from toolkit.training.randomness import OwnRandom


def rows(folder: Path) -> list[dict[str, Any]]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_float16_learns_what_float32_does(optimizer: str) -> None:
    losses = []
    for dtype in ("float32", "float16"):
        options = config(max_steps=40, eval_every=40, learning_rate=1e-2, optimizer=optimizer)
        trainer = Trainer(gpt(), dataset(), config(**{**vars(options), "dtype": dtype}))
        losses += [event.val_loss for event in trainer.run() if isinstance(event, Evaluated)]
    # 11 bits of each product: a step differs by a few per mil, and 40 of them add up.
    assert losses[1] == pytest.approx(losses[0], abs=0.03)
    assert losses[0] < 2.0  # of 2.4 for guessing


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_that_overflows_is_left_out_and_the_scale_halves(
    tmp_path: Path, optimizer: str
) -> None:
    """A scale of 2^30: the gradients do not fit into float16 until it has been halved often."""
    model = gpt()
    options = config(dtype="float16", max_steps=30, optimizer=optimizer, ema=0.9)
    trainer = Trainer(model, dataset(), options, folder=tmp_path)
    scaler = trainer._scaler
    scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**30})
    before = weights(model)
    skipped = 0
    for event in trainer.run():
        if not isinstance(event, StepDone):
            continue
        if event.grad_norm == float("inf") or event.grad_norm != event.grad_norm:
            skipped += 1
            assert scaler.get_scale() == 2.0 ** (30 - skipped)
            assert_same(weights(model), before)
        else:
            assert scaler.get_scale() == 2.0 ** (30 - skipped)
            break
    assert 3 <= skipped <= 20
    assert any(not before[name].equal(tensor) for name, tensor in weights(model).items())
    assert rows(tmp_path)[0]["grad_norm"] is None


def test_the_scale_resumes(tmp_path: Path) -> None:
    options = config(dtype="float16")
    trainer = Trainer(gpt(), dataset(), options, folder=tmp_path)
    scaler = trainer._scaler
    scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**26})
    list(trainer.run())
    resumed = Trainer(gpt(), dataset(), options, folder=tmp_path)
    resumed.load_checkpoint()
    assert resumed._scaler.get_scale() == scaler.get_scale() < 2.0**26


def test_gradients_that_never_fit_are_a_divergence() -> None:
    """Not even a scale of 1 helps: it is not the scale that is wrong."""
    trainer = Trainer(bigram(), dataset(), config(dtype="float16", max_steps=100))
    model = trainer.model
    next(model.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match=r"gradient norm is .* at step 17: .*diverged"):
        list(trainer.run())


# -- TF32 -------------------------------------------------------------------------------------


def setting() -> Any:
    return torch.backends.cuda.matmul.fp32_precision


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="older torch: allow_tf32"
)
def test_tf32_is_on_inside_and_as_it_was_outside() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    before = setting()
    with tf32(cuda, torch.float32, on=True):
        assert setting() == "tf32"
    assert setting() == before
    with pytest.raises(KeyError), tf32(cuda, torch.float32, on=True):
        raise KeyError
    assert setting() == before
    for device, dtype, on in (
        (cuda, torch.float32, False),
        (cuda, torch.bfloat16, True),
        (cpu, torch.float32, True),
    ):
        with tf32(device, dtype, on):
            assert setting() == before
    assert torch.backends.cuda.matmul.allow_tf32 in (True, False)  # asking the old way works


def test_training_on_a_cpu_leaves_torchs_settings_alone() -> None:
    def settings() -> tuple[Any, ...]:
        return (
            torch.get_float32_matmul_precision(),
            torch.get_num_threads(),
            torch.is_autocast_enabled("cpu"),
            torch.backends.cuda.matmul.allow_tf32,
            torch.get_default_dtype(),
        )

    before = settings()
    for _ in Trainer(gpt(), dataset(), config(dtype="bfloat16")).run():
        assert settings() == before


# -- nothing probes what is not there ---------------------------------------------------------


def test_training_on_a_cpu_starts_no_other_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a device was started")

    monkeypatch.setattr(torch.cuda, "_lazy_init", refuse)
    for name in ("get_rng_state", "get_rng_state_all", "set_rng_state", "current_device"):
        monkeypatch.setattr(torch.cuda, name, refuse)
    for name in ("get_rng_state", "set_rng_state", "synchronize"):
        monkeypatch.setattr(torch.mps, name, refuse)
    options = config(ema=0.9, label_smoothing=0.1, gradient_checkpointing=True)
    trainer = Trainer(gpt(0.1), dataset(), options, folder=tmp_path, sample=lambda model: "")
    assert isinstance(list(trainer.run())[-1], Finished)
    Trainer(gpt(0.1), dataset(), options, folder=tmp_path).load_checkpoint()
    auto = Trainer(gpt(), dataset(), config(device="cpu", dtype="auto"))
    assert (auto.device.type, auto.dtype) == ("cpu", torch.float32)


def test_own_random_numbers_are_those_of_a_seeded_generator() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    own = OwnRandom(9, torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)
    with own.lent():
        first = torch.rand(3)
    with own.lent(keep=False):
        seen = torch.rand(3)
    with own.lent():
        assert torch.equal(torch.rand(3), seen)
    torch.manual_seed(9)
    assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.rand(3), seen)
