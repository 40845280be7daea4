"""Training on pairs: the paper's schedule, smoothed losses, and that a run resumes to the bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_training import assert_same, dataset, gpt, weights

from toolkit.data import PairDataset
from toolkit.errors import UsageError
from toolkit.learning_rate import find_learning_rate
from toolkit.models import EncoderDecoderConfig, EncoderDecoderModel
from toolkit.pair_recipes import PAIR_RECIPES, pair_model_options, pair_train_config
from toolkit.tasks import load_task
from toolkit.tokenizers import CharTokenizer
from toolkit.training import Evaluated, Finished, StepDone, TrainConfig, Trainer, validation_loss
from toolkit.training.losses import training_losses
from toolkit.training.schedules import learning_rate

SHAPE: dict[str, Any] = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 8}


def pairs() -> PairDataset:
    letters = CharTokenizer("abcdefghijklmnopqrstuvwxyz")
    return PairDataset(load_task("reverse:4"), letters, block_size=8)


def model(dropout: float = 0.1, **options: Any) -> EncoderDecoderModel:
    return EncoderDecoderModel(EncoderDecoderConfig(29, dropout=dropout, **{**SHAPE, **options}))


def config(**options: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "batch_size": 4, "max_steps": 20, "eval_every": 8, "checkpoint_every": 6, "log_every": 1,
        "warmup_steps": 3, "device": "cpu",
    }  # fmt: skip
    return TrainConfig(**{**base, **options})


@pytest.mark.parametrize("warmup", [1, 4, 4000])
def test_the_schedule_is_the_papers(warmup: int) -> None:
    """Section 5.3, equation 3, whose steps count from 1."""
    for n_embd in (64, 512):
        for step in (1, 2, 3, 4, 5, 100, 3999, 4000, 4001, 100_000):
            expected = n_embd**-0.5 * min(step**-0.5, step * warmup**-1.5)
            found = learning_rate(
                step - 1, 0.5, peak=(n_embd * warmup) ** -0.5, warmup_steps=warmup,
                min_ratio=0.1, schedule="inverse-sqrt",
            )  # fmt: skip
            assert found == pytest.approx(expected, rel=1e-12)


def test_a_file_of_pairs_has_that_schedule() -> None:
    found = pair_train_config("messages", 512, {"warmup_steps": 4000})
    assert (found.schedule, found.label_smoothing, found.beta2) == ("inverse-sqrt", 0.1, 0.98)
    assert found.learning_rate == pytest.approx((512 * 4000) ** -0.5)
    usual = pair_train_config("messages", 64, {})
    assert (usual.warmup_steps, usual.learning_rate) == (400, pytest.approx((64 * 400) ** -0.5))
    assert EncoderDecoderConfig(9).dropout == 0.1
    assert pair_train_config("reverse", 64, {}).optimizer == "muon"
    assert pair_train_config("date", 64, {"max_time": 5.0}).max_steps is None
    for task in PAIR_RECIPES:
        options = pair_model_options(task, None, {"n_layer": 1})
        assert options["n_layer"] == 1
        assert (options["dropout"], options["norm_order"]) == (0.0, "pre")
    assert "n_embd" not in pair_model_options("date", "nano", {})


def test_a_smoothed_loss_is_torchs() -> None:
    net, data = model(0.0), pairs()
    ids, targets, source = data.batch(data.held_out[:9])
    assert (targets < 0).any()
    smoothed, plain = training_losses(net, ids, targets, 0.1, source)
    logits = net(ids, None, source).logits.flatten(0, 1).double()
    for found, smoothing in ((smoothed, 0.1), (plain, 0.0)):
        expected = F.cross_entropy(
            logits, targets.flatten(), ignore_index=-100, label_smoothing=smoothing
        )
        assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_validation_counts_every_target_once() -> None:
    net, data = model(0.0), pairs()
    total = 0.0
    with torch.no_grad():
        for pair in data.held_out:  # each alone, without padding
            ids, targets, source = data.batch([pair])
            loss = net(ids, targets, source).loss
            assert loss is not None
            total += float(loss) * targets.numel()
    found = validation_loss(net, data)
    assert found == pytest.approx(total / data.num_tokens("val"), rel=1e-5)


def rows(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in found:  # the clock differs from run to run
        row.pop("elapsed")
        row.pop("tokens_per_second", None)
    return found


@pytest.mark.parametrize("smoothing", [pytest.param(0.0, marks=pytest.mark.slow), 0.1])
def test_a_resumed_run_is_an_uninterrupted_one(smoothing: float, tmp_path: Path) -> None:
    # A schedule that does not ask when the end is: the first part stops like the whole at step 11.
    options = {"label_smoothing": smoothing, "grad_accumulation": 2, "schedule": "inverse-sqrt"}

    def score(_: Any) -> dict[str, float]:
        return {"exact_match": 0.25}

    whole = Trainer(model(), pairs(), config(**options), folder=tmp_path / "a", score=score)
    events = list(whole.run())
    torch.manual_seed(5)  # what the caller draws has no part in it
    first = Trainer(
        model(), pairs(), config(max_steps=11, **options), folder=tmp_path / "b", score=score
    )
    list(first.run())
    second = Trainer(model(), pairs(), config(**options), folder=tmp_path / "b", score=score)
    second.load_checkpoint()
    lines = [event for event in second.run() if isinstance(event, StepDone)]
    assert lines[0].tokens_per_second > 0  # those of the first part are known
    assert_same(weights(whole.model), weights(second.model))
    expected = [row for row in rows(tmp_path / "a") if row["kind"] == "step"]
    assert [row for row in rows(tmp_path / "b") if row["kind"] == "step"] == expected
    assert expected[-1]["tokens"] > 20 * 2 * 4  # every target, and no padding
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    assert all(event.scores == {"exact_match": 0.25} for event in evaluated)
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.result.scores == {"exact_match": 0.25}


def test_it_learns() -> None:
    net = model(0.0, norm_order="pre")
    before = validation_loss(net, pairs())
    options = config(
        max_steps=80, batch_size=32, optimizer="muon", learning_rate=0.03,
        adam_learning_rate=0.006, warmup_steps=0, checkpoint_every=0,
    )  # fmt: skip
    list(Trainer(net, pairs(), options).run())
    after = validation_loss(net, pairs())
    assert before is not None
    assert after is not None
    assert after < 0.7 * before


def test_what_pairs_do_not_have_is_refused() -> None:
    assert Trainer(model(), pairs(), config(gradient_checkpointing=True)).step == 0
    with pytest.raises(UsageError, match="do not belong together"):
        Trainer(gpt(), pairs(), config())
    assert Trainer(gpt(), dataset(), config()).loader.num_tokens(3) == 3 * 4 * 8


def test_a_learning_rate_is_found_for_a_task() -> None:
    shape = {"n_layer": 1, "n_head": 1, "n_embd": 8, "device": "cpu"}
    found = find_learning_rate(task="copy:3", max_steps=10, **shape)
    assert len(found.losses) == 10
