"""The averaged weights: the recurrence, what they are used for, and that they resume to the bit."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import assert_same, bigram, config, dataset, gpt, train, weights
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from toolkit.errors import RunError
from toolkit.models import LanguageModel
from toolkit.training import Evaluated, StepDone, Trainer, validation_loss
from toolkit.training.ema import AveragedWeights


def test_the_recurrence_in_numpy() -> None:
    """Its decay is min(0.5, 1/10, 2/11, 3/12, …): 0.5 from the ninth step on."""
    path: list[np.ndarray[Any, Any]] = []
    model = gpt()
    trainer = Trainer(model, dataset(), config(ema=0.5, max_steps=15))
    expected = model.norm.weight.detach().double().numpy().copy()
    for event in trainer.run():
        if isinstance(event, StepDone):
            path.append(model.norm.weight.detach().double().numpy().copy())
    for n, values in enumerate(path):
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * values
    assert trainer.average is not None
    found = trainer.average.state_dict()["norm.weight"]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)  # float32
    assert np.abs(path[-1] - expected).max() > 1e-4


def test_with_a_constant_decay_it_is_torchs() -> None:
    """From step 100 on the decay is the one given, 0.9."""
    model = bigram()
    oracle = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    oracle.update_parameters(model)  # the first time it copies
    average = AveragedWeights(model, 0.9)
    generator = torch.Generator().manual_seed(0)
    for step in range(100, 120):
        with torch.no_grad():
            model.table.weight.normal_(generator=generator)
        average.update(step)
        oracle.update_parameters(model)
    torch.testing.assert_close(
        average.state_dict()["table.weight"], oracle.module.table.weight, rtol=1e-6, atol=1e-6
    )


def test_the_average_is_evaluated_saved_and_sampled_and_training_does_not_notice() -> None:
    saved, sampled = [], []

    def sample(model: LanguageModel) -> str:
        sampled.append(weights(model))
        return ""

    def save(model: LanguageModel) -> None:
        saved.append(weights(model))

    options = config(ema=0.9, max_steps=40, eval_every=20, sample_every=20, learning_rate=1e-2)
    model, plain = gpt(0.2), gpt(0.2)
    trainer = Trainer(model, dataset(), options, sample=sample, save_best=save)
    evaluated = [event for event in trainer.run() if isinstance(event, Evaluated)]
    train(plain, config(max_steps=40, eval_every=20, learning_rate=1e-2))
    assert_same(weights(model), weights(plain))

    assert trainer.average is not None
    average = trainer.average.state_dict()
    assert_same(saved[-1], average)
    assert_same(sampled[-1], average)
    assert not torch.equal(average["tok_emb.weight"], model.tok_emb.weight)
    copy = gpt()
    copy.load_state_dict(saved[-1])
    assert evaluated[-1].val_loss == validation_loss(copy, dataset())


def test_the_average_of_noisy_weights_is_better_than_they_are() -> None:
    """A constant, far too high learning rate: what EMA is for."""
    options = {"learning_rate": 0.3, "schedule": "wsd", "max_steps": 300, "min_lr_ratio": 1.0}
    losses = []
    for ema in (0.0, 0.95):
        events = train(bigram(), config(ema=ema, eval_every=300, **options))
        losses.append(next(event.val_loss for event in events if isinstance(event, Evaluated)))
    assert losses[1] < losses[0] - 0.01


def test_the_average_resumes_to_the_bit(tmp_path: Path) -> None:
    options = config(ema=0.9)
    whole = Trainer(gpt(0.3), dataset(), options, folder=tmp_path / "whole")
    list(whole.run())
    first = Trainer(gpt(0.3), dataset(), options, folder=tmp_path / "parts")
    for event in first.run():
        if isinstance(event, StepDone) and event.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
    second = Trainer(gpt(0.3), dataset(), options, folder=tmp_path / "parts")
    second.load_checkpoint()
    list(second.run())
    for name in ("model", "optimizer", "random", "average"):
        file = f"checkpoint/{name}.safetensors"
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert second.progress.best_val_loss == whole.progress.best_val_loss


def test_a_checkpoint_without_an_average_is_one_line(tmp_path: Path) -> None:
    list(Trainer(gpt(), dataset(), config(), folder=tmp_path).run())
    with pytest.raises(RunError, match="no averaged weights of this model") as caught:
        Trainer(gpt(), dataset(), config(ema=0.9), folder=tmp_path).load_checkpoint()
    assert "\n" not in str(caught.value)
