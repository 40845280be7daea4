"""The training loop: exact, resumable to the bit, and safe when things go wrong."""

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from toolkit.data import TokenDataset
from toolkit.errors import RunError, TrainingError, UsageError
from toolkit.models import LanguageModel, create_model
from toolkit.training import (
    CheckpointSaved,
    EarlyStopped,
    Evaluated,
    Event,
    Finished,
    Interrupted,
    Sampled,
    StepDone,
    TrainConfig,
    Trainer,
)


def dataset() -> TokenDataset:
    """Text with something to learn: each token is followed by one of two."""
    source = np.random.default_rng(0)
    ids = np.zeros(3000, np.int64)
    for i in range(1, len(ids)):
        ids[i] = (ids[i - 1] * 3 + source.integers(2)) % 11
    return TokenDataset.from_ids(ids[:2700], ids[2700:], vocab_size=11)


def model(**options: Any) -> LanguageModel:
    options = {"block_size": 16, "n_layer": 1, "n_embd": 16, "n_head": 2, **options}
    return create_model("gpt", 11, size="nano", seed=3, **options)


def config(**options: Any) -> TrainConfig:
    fixed: dict[str, Any] = {
        "batch_size": 4,
        "max_steps": 12,
        "warmup_steps": 3,
        "eval_every": 5,
        "log_every": 2,
        "learning_rate": 1e-2,
        "device": "cpu",
    }
    return TrainConfig(**{**fixed, **options})


def trainer(folder: Path | None = None, net: LanguageModel | None = None, **options: Any) -> Trainer:
    return Trainer(net or model(), dataset(), config(**options), folder=folder)


def of_kind(events: list[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def rows(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what the clock wrote."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [{k: v for k, v in row.items() if "elapsed" not in k and "second" not in k} for row in found]


def test_training_lowers_the_loss_towards_what_can_be_known() -> None:
    events = list(trainer(max_steps=300, eval_every=100).run())
    result = events[-1].result
    # One of two tokens follows each token: no model can be below ln 2 on average.
    assert math.log(2) - 0.05 < result.best_val_loss < 0.75
    losses = [event.val_loss for event in of_kind(events, Evaluated)]
    assert losses[-1] < 1.0 < math.log(11)


def test_the_validation_loss_is_the_mean_over_every_token() -> None:
    run = trainer()
    ids = torch.from_numpy(run.dataset.tokens("val").astype(np.int64))
    total = 0.0
    for begin in range(0, len(ids) - 1, 16):
        x, y = ids[begin : begin + 16], ids[begin + 1 : begin + 17]
        logits = run.model(x[: len(y)][None]).logits[0].double()
        total -= float(logits.log_softmax(-1)[torch.arange(len(y)), y].sum().detach())
    # float32 against float64, three hundred terms.
    assert run.validation_loss() == pytest.approx(total / (len(ids) - 1), abs=1e-5)


def stop_after(run: Trainer, steps: int) -> list[Event]:
    """Train, and press Ctrl-C when `steps` steps are done."""
    events = []
    for event in run.run():
        events.append(event)
        if isinstance(event, StepDone) and event.step == steps:
            os.kill(os.getpid(), signal.SIGINT)
    return events


@pytest.mark.parametrize("options", [{}, {"grad_accumulation": 2, "early_stop": 5}])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    whole = trainer(tmp_path / "whole", model(dropout=0.2), log_every=1, **options)
    events = list(whole.run())

    first = trainer(tmp_path / "parts", model(dropout=0.2), log_every=1, **options)
    stopped = stop_after(first, 7)
    assert isinstance(stopped[-2], CheckpointSaved)
    assert of_kind(stopped, Interrupted) == [Interrupted(7)]
    assert stopped[-1].result.interrupted

    second = trainer(tmp_path / "parts", model(dropout=0.2), log_every=1, **options)
    torch.manual_seed(12345)  # whatever the caller's random state is
    second.load_checkpoint()
    assert second.step == 7
    resumed = list(second.run())
    for (name, a), b in zip(
        whole.model.state_dict().items(), second.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    assert events[-1].result.best_val_loss == resumed[-1].result.best_val_loss


def test_lines_written_after_the_checkpoint_are_not_doubled(tmp_path: Path) -> None:
    run = trainer(tmp_path, log_every=1, checkpoint_every=4, max_steps=6)
    list(run.run())
    expected = rows(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 7}\n{"kind": "st')
    again = trainer(tmp_path, log_every=1, max_steps=6)
    again.load_checkpoint()
    assert rows(tmp_path) == expected


def test_looking_changes_nothing() -> None:
    """Evaluating, logging and sampling more often leaves the weights as they are."""
    runs = []
    for often in (False, True):
        sampled = []

        def sample(net: LanguageModel, sampled: list[float] = sampled) -> str:
            sampled.append(float(torch.rand(())))  # spends the global random state
            net.eval()
            return "text"

        run = Trainer(
            model(dropout=0.3),
            dataset(),
            config(eval_every=1 if often else 100, log_every=1, sample_every=2 if often else 0),
            sample=sample,
        )
        events = list(run.run())
        assert len(of_kind(events, Sampled)) == (6 if often else 0)
        runs.append(run.model.state_dict())
    for name, a in runs[0].items():
        assert torch.equal(a, runs[1][name]), name


def test_the_callers_random_state_is_not_touched() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    list(trainer(net=model(dropout=0.5), max_steps=3).run())
    assert torch.equal(torch.rand(3), expected)


def test_accumulated_batches_equal_one_large_batch() -> None:
    ids = np.arange(11 * 40) % 11
    # Every window is the same up to rotation, and the loader draws the same windows in both.
    data = TokenDataset.from_ids(ids, ids[:20], vocab_size=11)
    states = []
    for rows_, parts in ((8, 1), (4, 2)):
        run = Trainer(
            model(),
            data,
            config(batch_size=rows_, grad_accumulation=parts, max_steps=5, eval_every=100),
        )
        list(run.run())
        states.append(run.model.state_dict())
    for name, a in states[0].items():
        # Sums in another order: float32 rounding, magnified a little by AdamW's division.
        torch.testing.assert_close(a, states[1][name], atol=1e-4, rtol=0, msg=name)


def test_gradients_are_clipped_to_the_norm_and_reported() -> None:
    events = list(trainer(grad_clip=1e-3, max_steps=2, log_every=1).run())
    assert of_kind(events, StepDone)[0].grad_norm > 0.01  # what it was before
    run = trainer(grad_clip=1e-3)
    run._train_step()
    free = trainer(grad_clip=0.0)
    free._train_step()
    # AdamW's first step hardly depends on the gradient's size, so look at its second moment.
    clipped = sum(float(s["exp_avg_sq"].sum()) for s in run.optimizer.state.values())
    unclipped = sum(float(s["exp_avg_sq"].sum()) for s in free.optimizer.state.values())
    assert math.sqrt(clipped / (1 - 0.99)) == pytest.approx(1e-3, rel=1e-3)
    assert unclipped > 100 * clipped


def test_early_stopping_keeps_the_best(tmp_path: Path) -> None:
    best: list[dict[str, torch.Tensor]] = []
    run = Trainer(
        model(),
        TokenDataset.from_ids(np.arange(200) % 11, np.arange(200) * 7 % 11, vocab_size=11),
        config(max_steps=400, eval_every=5, early_stop=3),
        folder=tmp_path,
        save_best=lambda net: best.append({k: v.clone() for k, v in net.state_dict().items()}),
    )
    events = list(run.run())
    result = events[-1].result
    assert result.early_stopped
    assert result.steps < 400
    assert of_kind(events, EarlyStopped) == [EarlyStopped(result.steps, 3)]
    losses = [event.val_loss for event in of_kind(events, Evaluated)]
    assert result.best_val_loss == min(losses)
    assert losses.index(min(losses)) == len(losses) - 4
    run.model.load_state_dict(best[-1])
    assert run.validation_loss() == pytest.approx(result.best_val_loss, abs=1e-6)


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    run = trainer(tmp_path, checkpoint_every=3, max_steps=20, log_every=1)
    saved = None
    with pytest.raises(TrainingError, match=r"The loss is nan at step 6.*--learning-rate.*kept in"):
        for event in run.run():
            if isinstance(event, CheckpointSaved):
                saved = {k: v.clone() for k, v in run.model.state_dict().items()}
            if isinstance(event, StepDone) and event.step == 5:
                with torch.no_grad():
                    run.model.tok_emb.weight[0, 0] = float("nan")
                    run.model.tok_emb.weight[:, 0] = float("nan")
    again = trainer(tmp_path, max_steps=20)
    again.load_checkpoint()
    assert again.step == 3
    assert saved is not None
    for name, tensor in again.model.state_dict().items():
        assert torch.equal(tensor, saved[name])


def test_a_time_limit_ends_training_and_the_schedule() -> None:
    events = list(trainer(max_steps=None, max_time=0.5, log_every=1, eval_every=10**6).run())
    result = events[-1].result
    assert 0.4 < result.elapsed < 5
    rates = [event.lr for event in of_kind(events, StepDone)]
    assert max(rates) == pytest.approx(1e-2, rel=0.1)
    assert rates[-1] < 0.3 * max(rates)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, r"--learning-rate 0.0 must be above 0"),
        ({"learning_rate": float("nan")}, "--learning-rate nan must be a finite number"),
        ({"batch_size": 0}, "--batch-size 0 must be at least 1"),
        ({"max_steps": 0}, "--max-steps 0 must be at least 1"),
        ({"max_steps": None}, "give --max-steps or --max-time"),
        ({"dtype": "int8"}, "No dtype 'int8'"),
        ({"device": "gpu"}, "No device 'gpu'. Did you mean 'cpu'"),
        ({"seed": -1}, "--seed -1 must be at least 0"),
    ],
)
def test_options_that_cannot_be_name_the_flag(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config(**options)


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has cuda")
    with pytest.raises(UsageError, match="--device cuda: this machine has none"):
        trainer(device="cuda")


def test_broken_checkpoints_are_one_clear_line(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_steps=2)
    with pytest.raises(RunError, match="No whole checkpoint"):
        run.load_checkpoint()
    list(run.run())
    state = tmp_path / "checkpoint" / "state.json"
    content = json.loads(state.read_text())
    state.write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(RunError, match="format 99, written by a newer toolkit"):
        trainer(tmp_path).load_checkpoint()
    state.write_text("{")
    with pytest.raises(RunError, match="damaged"):
        trainer(tmp_path).load_checkpoint()
    state.write_text(json.dumps(content))
    with pytest.raises(RunError, match="does not fit this model"):
        trainer(tmp_path, model(n_embd=32)).load_checkpoint()
    weights = tmp_path / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(RunError, match="damaged"):
        trainer(tmp_path).load_checkpoint()
