"""The learning rate range test: its rates, its rule, and that it leaves nothing behind."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import toolkit
from toolkit.cli import main
from toolkit.data import TokenDataset
from toolkit.errors import TrainingError, UsageError
from toolkit.models import create_model
from toolkit.training import TrainConfig, Trainer, validation_loss
from toolkit.training.range_test import LearningRateRange, range_test

V = 11


def dataset() -> TokenDataset:
    walk = np.cumsum(np.random.default_rng(0).integers(0, 3, size=2200)) % V
    return TokenDataset.from_ids(walk[:2000], walk[2000:], V)


def config(**options: Any) -> TrainConfig:
    base: dict[str, Any] = {"batch_size": 8, "max_steps": 60, "warmup_steps": 0, "device": "cpu"}
    return TrainConfig(**{**base, **options})


def bigram() -> Any:
    return create_model("bigram", V, block_size=8)


def gpt() -> Any:
    return create_model("gpt", V, size="nano", n_layer=1, n_embd=16, block_size=8)


def test_the_rates_are_a_geometric_sequence_and_are_those_of_the_steps() -> None:
    rates: list[float] = []
    found = range_test(
        bigram(), dataset(), config(), low=1e-5, high=1e-1, steps=41,
        on_step=lambda step, rate, loss: rates.append(rate),
    )  # fmt: skip
    # Worked out by hand: four decades in forty steps are ten steps a decade.
    expected = [1e-5 * 10 ** (step / 10) for step in range(41)]
    np.testing.assert_allclose(found.learning_rates, expected, rtol=1e-12)
    assert rates == found.learning_rates.tolist()
    assert not found.diverged


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_each_step_is_the_optimizers_at_that_rate(optimizer: str) -> None:
    """The losses are those of a plain loop that sets the rates by hand."""
    options = config(optimizer=optimizer, learning_rate=0.02, adam_learning_rate=0.005)
    found = range_test(gpt(), dataset(), options, low=1e-4, high=1e-1, steps=12)
    model = gpt()
    trainer = Trainer(model, dataset(), options)
    losses = []
    for rate in np.geomspace(1e-4, 1e-1, 12):
        for number, group in enumerate(trainer.optimizer.param_groups):
            # With Muon the matrices come first; the rest keeps its ratio of 0.005 / 0.02.
            group["lr"] = rate / 4 if optimizer == "muon" and number == 1 else rate
        loss = model(*trainer.loader.next_batch()).loss
        assert loss is not None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        losses.append(loss.item())
    np.testing.assert_allclose(found.losses, losses, rtol=1e-6)


def test_the_model_is_as_it_was() -> None:
    model = gpt().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    range_test(model, dataset(), config(), steps=20)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not model.training
    assert torch.equal(torch.get_rng_state(), random)


def test_the_same_twice() -> None:
    first, second = (range_test(bigram(), dataset(), config(), steps=30) for _ in range(2))
    assert first.losses.tolist() == second.losses.tolist()
    assert first.suggestion == second.suggestion


def test_the_suggestion_trains_and_a_hundred_times_it_does_not() -> None:
    found = range_test(gpt(), dataset(), config(grad_clip=0.0))
    assert found.diverged
    assert found.suggestion < found.lowest_loss_rate < found.learning_rates[-1]

    def loss_after(rate: float) -> float:
        model = gpt()
        options = config(learning_rate=rate, grad_clip=0.0, schedule="wsd")
        try:
            list(Trainer(model, dataset(), options).run())
        except TrainingError:
            return math.inf
        loss = validation_loss(model, dataset())
        assert loss is not None
        return loss

    # The walk takes one of three steps, each as likely: log 3 is the best there is.
    good, wild = loss_after(found.suggestion), loss_after(100 * found.suggestion)
    assert good < math.log(3) + 0.15
    assert wild > good + 0.8  # knowing nothing is log 11, 1.3 above the best


def test_the_rule_on_a_curve_worked_out_by_hand() -> None:
    rates = np.array([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    smoothed = np.array([4.0, 3.9, 3.0, 2.8, 9.0])
    found = LearningRateRange(rates, smoothed, smoothed, diverged=True)
    # Central differences a decade: -0.1, -0.5, -0.55, -0.2; the rise after the lowest is not asked.
    assert found.suggestion == 1e-2
    assert found.lowest_loss_rate == 1e-1
    rising = LearningRateRange(rates, smoothed[::-1] * 0 + np.arange(5), np.arange(5.0), False)
    assert rising.suggestion == 1e-4


def test_it_stops_where_the_loss_is_four_times_the_lowest() -> None:
    found = range_test(gpt(), dataset(), config(), low=1e-3, high=1e3, steps=60)
    assert found.diverged
    assert len(found.losses) < 60
    assert found.smoothed[-1] > 4 * found.smoothed.min()
    assert (found.smoothed[:-1] <= 4 * np.minimum.accumulate(found.smoothed[:-1])).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 0.0}, "from 0 to 10 cannot be tested"),
        ({"low": 1.0, "high": 0.1}, "from 1 to 0.1 cannot be tested"),
        ({"high": math.inf}, "cannot be tested"),
        ({"steps": 9}, "at least 10 steps, not 9"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        range_test(bigram(), dataset(), config(), **options)


# -- with corpora and tokenizers, and the command --------------------------------------------------

SMALL = ["-c", "text.txt", "-t", "char", "--model", "bigram", "--block-size", "8", "--device=cpu"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    (tmp_path / "text.txt").write_text("she sells sea shells.\n" * 30, encoding="utf-8")
    return tmp_path


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exited:
        main(["train", *SMALL, *arguments])
    return int(exited.value.code or 0)


def test_no_run_is_left(folder: Path) -> None:
    assert command("--max-steps", "2", "--out", "runs/first", "-q") == 0
    found = toolkit.find_learning_rate(
        "text.txt", "char", model="bigram", block_size=8, device="cpu", max_steps=20
    )
    assert len(found.losses) == 20
    assert sorted(path.name for path in Path("runs").iterdir()) == ["first", "latest"]
    assert toolkit.Run.open().name == "first"
    with pytest.raises(UsageError, match="takes no speedrun"):
        toolkit.find_learning_rate("text.txt", "char", speedrun=5.0)


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--find-lr", "--max-steps", "30", "--lr-range", "1e-4,10"]
    assert command(*arguments) == 0
    out = capsys.readouterr().out
    written = json.loads(Path("runs/find-lr-1/learning_rate.json").read_text())
    assert Path("runs/find-lr-1/learning_rate.png").read_bytes().startswith(b"\x89PNG")
    np.testing.assert_allclose(written["learning_rates"], np.geomspace(1e-4, 10, 30), rtol=1e-12)
    assert f"Suggestion   {written['suggestion']:.2e}, where the loss falls fastest" in out
    assert command(*arguments, "--json", "--out", "here") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown.pop("files") == ["here/learning_rate.json", "here/learning_rate.png"]
    assert shown == written
    assert command(*arguments, "-q") == 0
    assert capsys.readouterr().out == f"{written['suggestion']:.2e}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--find-lr --resume", "--resume cannot be given with --find-lr"),
        ("--find-lr --max-time 3", "--max-time cannot be given with --find-lr"),
        ("--find-lr --lr-range 3", "--lr-range '3' is not two numbers"),
        ("--find-lr --lr-range 1,0.1", "from 1 to 0.1 cannot be tested"),
        ("--find-lr --max-steps 3", "at least 10 steps, not 3"),
        ("--lr-range 1e-5,1", "--lr-range belongs to --find-lr"),
        ("--find-lr --n-embd 7", "n-embd"),
    ],
)
def test_misuse_is_one_line(
    arguments: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*arguments.split()) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not Path("runs").exists()
