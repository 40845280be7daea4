"""The training loop: what it computes, that it resumes to the bit, and how it ends."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_training import T, V, assert_same, bigram, config, dataset, gpt, weights
from torch import Tensor

from toolkit.data import BatchLoader, TokenDataset, bits_per_byte
from toolkit.errors import RunError, TrainingError, UsageError
from toolkit.models import LanguageModel, LMOutput
from toolkit.models.bigram import BigramModel
from toolkit.models.config import BigramConfig, ModelConfig
from toolkit.training import (
    CheckpointSaved,
    EarlyStopped,
    Evaluated,
    Finished,
    Interrupted,
    Sampled,
    StepDone,
    Trainer,
    TrainResult,
    clock,
    validation_loss,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def result_of(trainer: Trainer) -> TrainResult:
    last = list(trainer.run())[-1]
    assert isinstance(last, Finished)
    return last.result


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:  # the clock differs from run to run
        row.pop("elapsed")
        row.pop("tokens_per_second", None)
    return rows


# -- what it computes -------------------------------------------------------------------------


def test_one_step_is_adamw_written_out() -> None:
    model, options = bigram(), config(max_steps=1, warmup_steps=0, grad_clip=0.0)
    before = {name: p.detach().double() for name, p in model.named_parameters()}
    x, y = BatchLoader(dataset(), batch_size=4, block_size=T, seed=0).next_batch()
    loss = model(x, y).loss
    assert loss is not None
    gradients = dict(zip(before, torch.autograd.grad(loss, list(model.parameters())), strict=True))
    result_of(Trainer(model, dataset(), options))
    for name, parameter in model.named_parameters():
        g = gradients[name].double()
        # Kingma and Ba 2015 at t = 1: both corrected moments are g and g². No decay: embeddings.
        expected = before[name] - options.learning_rate * g / (g.abs() + 1e-8)
        # float32 arithmetic on numbers near 1, and ε beside gradients that are near 0.
        torch.testing.assert_close(parameter.detach().double(), expected, rtol=1e-4, atol=1e-6)


def test_accumulated_gradients_equal_one_large_batch() -> None:
    small, large = gpt(), gpt()
    result_of(Trainer(small, dataset(), config(batch_size=3, grad_accumulation=4, max_steps=3)))
    result_of(Trainer(large, dataset(), config(batch_size=12, max_steps=3)))
    for a, b in zip(small.parameters(), large.parameters(), strict=True):
        # The order of float32 sums differs; AdamW's first steps can amplify that to a few per mil
        # of lr = 1e-3 where a gradient is close to zero.
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


def test_the_gradient_norm_is_reported_and_clipped_as_torch_does() -> None:
    model = gpt()
    x, y = BatchLoader(dataset(), batch_size=4, block_size=T, seed=0).next_batch()
    loss = model(x, y).loss
    assert loss is not None
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    expected = math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients))
    events = Trainer(gpt(), dataset(), config(max_steps=1)).run()
    step = next(event for event in events if isinstance(event, StepDone))
    assert step.grad_norm == pytest.approx(expected, rel=1e-5)  # float32 sums
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)

    clipped, seen = gpt(), []
    trainer = Trainer(clipped, dataset(), config(max_steps=1, grad_clip=expected / 4))
    trainer.optimizer.register_step_pre_hook(
        lambda *_: seen.extend(p.grad.double() for p in clipped.parameters() if p.grad is not None)
    )
    result_of(trainer)
    norm = math.sqrt(sum(float((g**2).sum()) for g in seen))
    assert norm == pytest.approx(expected / 4, rel=1e-4)


def test_the_validation_loss_is_that_of_every_token_once() -> None:
    model, data = bigram(), dataset(val=77)
    trainer = Trainer(model, data, config())
    ids = torch.from_numpy(data.tokens("val").astype(np.int64))
    with torch.no_grad():
        logits = model(ids[:-1][None, :T]).logits  # a bigram's logits depend on one id alone
        table = torch.stack([model(torch.tensor([[i]])).logits[0, 0] for i in range(V)])
        assert torch.equal(logits[0, 0], table[ids[0]])
        expected = F.cross_entropy(table[ids[:-1]].double(), ids[1:]).item()
    assert validation_loss(trainer.model, trainer.dataset) == pytest.approx(
        expected, rel=1e-6
    )  # float32 model
    events = list(trainer.run())
    last = [event for event in events if isinstance(event, Evaluated)][-1]
    assert last.bits_per_byte == pytest.approx(bits_per_byte(last.val_loss, 77, 77), rel=1e-12)


def test_the_learning_rate_warms_up_and_falls_without_a_jump() -> None:
    options = config(max_steps=40, warmup_steps=20, learning_rate=1e-2)
    rates = [e.lr for e in Trainer(bigram(), dataset(), options).run() if isinstance(e, StepDone)]
    assert rates[0] == pytest.approx(1e-2 / 20)
    assert rates[19] == rates[20] == pytest.approx(1e-2)
    assert rates[30] == pytest.approx(1e-2 * 0.55)  # half of the cosine, down to a tenth
    assert max(abs(b - a) for a, b in itertools.pairwise(rates)) < 1e-2 / 10
    assert rates[-1] < 1e-2 * 0.11


def test_training_learns_the_text() -> None:
    result = result_of(Trainer(gpt(), dataset(), config(max_steps=150, learning_rate=1e-2)))
    # The walk moves by 0, 1 or 2: ln 3 = 1.0986 is the best there is, ln 11 = 2.3979 a guess.
    assert result.best_val_loss is not None
    assert 1.0 < result.best_val_loss < 1.3


# -- resuming and reproducing -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("stop_after", "chosen"),
    [
        (3, {}),
        (4, {}),
        (6, {}),
        (5, {"optimizer": "muon", "learning_rate": 0.02, "schedule": "linear"}),
    ],
)
def test_a_resumed_run_equals_an_unbroken_one_to_the_bit(
    tmp_path: Path, stop_after: int, chosen: dict[str, Any]
) -> None:
    options = config(grad_accumulation=2, **chosen)
    whole = Trainer(gpt(0.3), dataset(), options, folder=tmp_path / "whole")
    expected = result_of(whole)

    first = Trainer(gpt(0.3), dataset(), options, folder=tmp_path / "parts")
    for event in first.run():
        if isinstance(event, StepDone) and event.step == stop_after:
            os.kill(os.getpid(), signal.SIGINT)
    assert first.step == stop_after
    second = Trainer(gpt(0.3), dataset(), options, folder=tmp_path / "parts")
    second.load_checkpoint()
    assert second.step == stop_after
    result = result_of(second)

    assert_same(weights(second.model), weights(whole.model))
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    assert result.best_val_loss == expected.best_val_loss
    for name in ("model", "optimizer", "random"):
        file = f"checkpoint/{name}.safetensors"
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_lines_after_the_last_checkpoint_are_not_doubled(tmp_path: Path) -> None:
    result_of(Trainer(gpt(0.3), dataset(), config(), folder=tmp_path / "whole"))
    for event in Trainer(gpt(0.3), dataset(), config(), folder=tmp_path / "parts").run():
        if isinstance(event, StepDone) and event.step == 7:
            break  # as if killed: the checkpoint is of step 4, the metrics go on to 7
    resumed = Trainer(gpt(0.3), dataset(), config(), folder=tmp_path / "parts")
    resumed.load_checkpoint()
    assert resumed.step == 4
    result_of(resumed)
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


def test_a_new_run_does_not_append_to_old_metrics(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"kind": "step", "step": 999}\n')
    result_of(Trainer(bigram(), dataset(), config(), folder=tmp_path))
    assert [row["step"] for row in metrics(tmp_path) if row["kind"] == "step"] == list(range(1, 13))


def test_looking_does_not_change_the_weights() -> None:
    def noisy(model: LanguageModel) -> str:
        torch.rand(7)
        return str(model.training)

    quiet, watched = gpt(0.3), gpt(0.3)
    result_of(Trainer(quiet, dataset(), config(eval_every=12, log_every=12)))
    options = config(eval_every=1, sample_every=1)
    trainer = Trainer(watched, dataset(), options, sample=noisy)
    events = list(trainer.run())
    assert_same(weights(quiet), weights(watched))
    assert sum(isinstance(event, Sampled) for event in events) == 12


def test_the_callers_random_numbers_are_neither_used_nor_touched() -> None:
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    one, two = gpt(0.3), gpt(0.3)
    result_of(Trainer(one, dataset(), config()))
    assert torch.equal(torch.rand(3), expected)
    for _ in Trainer(two, dataset(), config()).run():
        torch.rand(5)  # a listener that draws from the global state
    assert_same(weights(one), weights(two))


class DrawingModel(BigramModel):
    """A bigram that notes a random number at each training step, as dropout would draw it."""

    def __init__(self, options: BigramConfig) -> None:
        super().__init__(options)
        self.drawn: list[float] = []

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> LMOutput:
        if self.training:
            self.drawn.append(torch.rand(()).item())
        return super().forward(ids, targets)


def test_dropout_draws_one_stream_from_the_seed() -> None:
    model = DrawingModel(BigramConfig(V, block_size=T))
    result_of(Trainer(model, dataset(), config(seed=5)))
    generator = torch.Generator().manual_seed(5)
    assert model.drawn == [torch.rand((), generator=generator).item() for _ in range(12)]


# -- checkpoints ------------------------------------------------------------------------------


def trained(folder: Path) -> Trainer:
    trainer = Trainer(gpt(), dataset(), config(), folder=folder)
    result_of(trainer)
    return trainer


def damage_cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def damage_missing(folder: Path) -> None:
    (folder / "optimizer.safetensors").unlink()


def damage_json(folder: Path) -> None:
    (folder / "state.json").write_text('{"format": 1')


def damage_newer(folder: Path) -> None:
    (folder / "state.json").write_text('{"format": 99}')


def damage_empty(folder: Path) -> None:
    (folder / "state.json").write_text('{"format": 1}')


@pytest.mark.parametrize(
    "damage", [damage_cut, damage_missing, damage_json, damage_newer, damage_empty]
)
def test_a_broken_checkpoint_is_one_line(tmp_path: Path, damage: Any) -> None:
    trained(tmp_path)
    damage(tmp_path / "checkpoint")
    with pytest.raises(RunError) as caught:
        Trainer(gpt(), dataset(), config(), folder=tmp_path).load_checkpoint()
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    with pytest.raises(RunError) as caught:
        Trainer(bigram(), dataset(), config(), folder=tmp_path).load_checkpoint()
    assert "\n" not in str(caught.value)


def test_there_is_nothing_to_unpickle_in_a_checkpoint(tmp_path: Path) -> None:
    trained(tmp_path)
    names = {path.name for path in (tmp_path / "checkpoint").iterdir()}
    assert names == {
        "model.safetensors",
        "optimizer.safetensors",
        "random.safetensors",
        "state.json",
    }


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    trained(tmp_path)
    before = {p.name: p.read_bytes() for p in (tmp_path / "checkpoint").iterdir()}
    # A limit on the size of files is what a full disk looks like to write(); it is real, and it
    # cannot be taken back, hence the process of its own.
    program = f"""
        import resource, signal
        from pathlib import Path
        import torch
        from toolkit.errors import ToolkitError
        from toolkit.training.checkpoint import Checkpoint, save_checkpoint
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            save_checkpoint(
                Path({str(tmp_path / "checkpoint")!r}),
                Checkpoint({{"w": torch.zeros(9999)}}, {{}}, {{}}, {{}}),
            )
        except ToolkitError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=120,
    )
    assert "Could not write" in done.stdout
    assert "unchanged" in done.stdout
    assert {p.name: p.read_bytes() for p in (tmp_path / "checkpoint").iterdir()} == before
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint", "metrics.jsonl"}
    Trainer(gpt(), dataset(), config(), folder=tmp_path).load_checkpoint()


# -- how it ends ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_first_and_then_says_so(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    events = []
    for event in Trainer(bigram(), dataset(), config(), folder=tmp_path).run():
        events.append(event)
        if isinstance(event, StepDone) and event.step == 5:
            os.kill(os.getpid(), number)
        if isinstance(event, Interrupted):
            assert json.loads((tmp_path / "checkpoint/state.json").read_text())
    kinds = [type(event) for event in events[-3:]]
    assert kinds == [CheckpointSaved, Interrupted, Finished]
    assert isinstance(events[-1], Finished)
    assert events[-1].result.interrupted
    assert events[-1].result.steps == 5
    assert signal.getsignal(number) is before


class BreaksModel(BigramModel):
    """A bigram whose loss becomes NaN at the call with number `at`."""

    at = 7

    def __init__(self, options: BigramConfig) -> None:
        super().__init__(options)
        self.calls = 0

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> LMOutput:
        out = super().forward(ids, targets)
        self.calls += self.training
        if out.loss is not None and self.calls == self.at:
            return LMOutput(out.logits, out.loss * math.nan)
        return out


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    trainer = Trainer(
        BreaksModel(BigramConfig(V, block_size=T)), dataset(), config(), folder=tmp_path
    )
    with pytest.raises(TrainingError, match=r"nan at step 7.*--learning-rate") as caught:
        list(trainer.run())
    assert "\n" not in str(caught.value)
    resumed = Trainer(bigram(), dataset(), config(), folder=tmp_path)
    resumed.load_checkpoint()
    assert resumed.step == 4
    assert all(torch.isfinite(p).all() for p in resumed.model.parameters())


def test_the_first_weights_are_saved_before_they_are_measured() -> None:
    """Measuring may take long, or be stopped; the first weights cannot be worse than none."""
    seen: list[tuple[int, float | None]] = []

    def save(model: LanguageModel) -> None:
        seen.append((trainer.step, trainer.progress.best_val_loss))

    options = config(max_steps=4, eval_every=2, learning_rate=0.1, warmup_steps=0)
    trainer = Trainer(bigram(), dataset(), options, save_best=save)
    losses = [event.val_loss for event in trainer.run() if isinstance(event, Evaluated)]
    assert losses[1] < losses[0]
    assert seen == [(2, None), (4, losses[1])]


def test_early_stopping_counts_evaluations_without_a_better_loss() -> None:
    saved = []
    options = config(max_steps=1000, eval_every=1, early_stop=3, learning_rate=0.5, warmup_steps=0)
    trainer = Trainer(bigram(), dataset(), options, save_best=lambda m: saved.append(weights(m)))
    events = list(trainer.run())
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    losses = [event.val_loss for event in evaluations]
    assert any(isinstance(event, EarlyStopped) for event in events)
    best = min(range(len(losses)), key=losses.__getitem__)
    assert len(losses) == best + 1 + 3
    assert [e.best for e in evaluations] == [
        loss < min(losses[:i], default=math.inf) for i, loss in enumerate(losses)
    ]
    assert len(saved) == sum(event.best for event in evaluations)
    last = events[-1]
    assert isinstance(last, Finished)
    assert (last.result.best_step, last.result.best_val_loss) == (best + 1, losses[best])
    assert last.result.early_stopped
    model = bigram()
    model.load_state_dict(saved[-1])
    assert validation_loss(model, dataset()) == losses[best]


def test_time_that_runs_out_while_sampling_still_ends_with_an_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])

    def slow(model: LanguageModel) -> str:
        now[0] += 11.0
        return ""

    options = config(max_steps=None, max_time=10.0, eval_every=1000, sample_every=3)
    events = list(Trainer(bigram(), dataset(), options, sample=slow).run())
    assert sum(isinstance(event, Evaluated) for event in events) == 1
    assert isinstance(events[-1], Finished)
    assert events[-1].result.best_val_loss is not None


def test_without_a_validation_part_the_last_weights_are_saved() -> None:
    saved = []
    data = TokenDataset.from_ids(dataset().tokens("train"), [], V)
    trainer = Trainer(bigram(), data, config(), save_best=lambda m: saved.append(weights(m)))
    result = result_of(trainer)
    assert result.best_val_loss is None
    assert len(saved) == 1
    assert_same(saved[0], weights(trainer.model))


def test_a_vocabulary_larger_than_the_models_is_refused() -> None:
    data = TokenDataset.from_ids([0] * 50, [0] * 50, V + 1)
    with pytest.raises(UsageError, match="do not belong together"):
        Trainer(bigram(), data, config())
    assert issubclass(BigramConfig, ModelConfig)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_cuda_the_loss_falls_in_bfloat16() -> None:
    options = config(device="cuda", max_steps=150, learning_rate=1e-2)
    result = result_of(Trainer(gpt(), dataset(), options))
    assert result.best_val_loss is not None
    assert result.best_val_loss < 1.3
