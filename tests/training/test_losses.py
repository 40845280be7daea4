"""Label smoothing against torch and NumPy; accumulated batches against the one large batch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_training import T, V, bigram, config, dataset, gpt, train
from torch import Tensor

from toolkit.data import BatchLoader
from toolkit.errors import UsageError
from toolkit.training import Evaluated, StepDone, Trainer, validation_loss
from toolkit.training.losses import smoothed_losses


def logits_and_targets() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(3, 5, V, generator=generator)
    targets = torch.randint(V, (3, 5), generator=generator)
    targets[0, 2] = targets[2] = -100
    return logits.requires_grad_(), targets


@pytest.mark.parametrize("smoothing", [0.1, 0.9])
def test_smoothed_losses_equal_torchs_and_their_gradients_too(smoothing: float) -> None:
    logits, targets = logits_and_targets()
    smoothed, plain = smoothed_losses(logits, targets, smoothing)
    flat, goal = logits.flatten(0, 1), targets.flatten()
    expected = F.cross_entropy(flat, goal, label_smoothing=smoothing)
    torch.testing.assert_close(smoothed, expected)
    torch.testing.assert_close(plain, F.cross_entropy(flat, goal))
    (ours,) = torch.autograd.grad(smoothed, logits)
    (theirs,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(ours, theirs)


def test_smoothing_is_the_formula() -> None:
    logits, targets = logits_and_targets()
    x, y = logits.detach().double().numpy().reshape(-1, V), targets.numpy().reshape(-1)
    logprobs = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    counted = y >= 0
    goal = np.full((counted.sum(), V), 0.2 / V)
    goal[np.arange(counted.sum()), y[counted]] += 0.8
    expected = -(goal * logprobs[counted]).sum(axis=1).mean()
    smoothed, _ = smoothed_losses(logits, targets, 0.2)
    assert smoothed.item() == pytest.approx(expected, rel=1e-6)  # float32


def test_training_smooths_and_reports_the_plain_loss() -> None:
    x, y = BatchLoader(dataset(), batch_size=4, block_size=T, seed=0).next_batch()
    logits = gpt()(x).logits.flatten(0, 1)
    model = gpt()
    events = train(model, config(max_steps=1, label_smoothing=0.3))
    step = next(event for event in events if isinstance(event, StepDone))
    assert step.loss == pytest.approx(F.cross_entropy(logits, y.flatten()).item(), rel=1e-6)
    evaluated = next(event for event in events if isinstance(event, Evaluated))
    assert evaluated.train_loss == step.loss
    assert evaluated.val_loss == validation_loss(model, dataset())  # the model's own, plain

    untrained = gpt()
    loss = F.cross_entropy(untrained(x).logits.flatten(0, 1), y.flatten(), label_smoothing=0.3)
    gradients = torch.autograd.grad(loss, list(untrained.parameters()))
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm().item()
    assert step.grad_norm == pytest.approx(norm, rel=1e-5)  # of the smoothed loss; float32 sums


def test_a_smoothed_model_is_less_sure() -> None:
    """With ε = 0.5 the best probability of a certain token is 0.5 + 0.5 / V."""
    sure = dataset()
    ids = np.arange(600) % V
    sure = type(sure).from_ids(ids, ids[:50], V)
    model = bigram()
    train(model, config(batch_size=32, max_steps=200, learning_rate=0.3, label_smoothing=0.5), sure)
    table = model(torch.arange(V)[:T, None]).logits.softmax(dim=-1)[:, 0]
    top = table[torch.arange(T), torch.arange(1, T + 1)]
    assert top.mean().item() == pytest.approx(0.5 + 0.5 / V, abs=0.02)  # how far 200 steps come


# -- accumulation -----------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "parts"), [(4, 3), (5, 3), (1, 7)])
def test_small_batches_hold_the_windows_of_the_large_one(size: int, parts: int) -> None:
    small = BatchLoader(dataset(), batch_size=size, block_size=T, seed=3)
    large = BatchLoader(dataset(), batch_size=size * parts, block_size=T, seed=3)
    for _ in range(4):
        pieces = [small.next_batch() for _ in range(parts)]
        x, y = large.next_batch()
        assert torch.equal(torch.cat([piece[0] for piece in pieces]), x)
        assert torch.equal(torch.cat([piece[1] for piece in pieces]), y)


class GivenBatches(BatchLoader):
    """A loader of batches that were made before."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.batches = batches

    def next_batch(self) -> tuple[Tensor, Tensor]:
        return self.batches.pop(0)

    def num_tokens(self, batches: int) -> int:
        return batches * T


def gradients_of_step(
    batches: list[tuple[Tensor, Tensor]], smoothing: float
) -> tuple[float, list[Tensor]]:
    """The loss and the gradients of one step over `batches`."""
    options = config(
        max_steps=1,
        batch_size=len(batches[0][0]),
        grad_accumulation=len(batches),
        label_smoothing=smoothing,
        grad_clip=0.0,
    )
    model = gpt()
    trainer = Trainer(model, dataset(), options)
    trainer.loader = GivenBatches(batches)
    seen: list[Tensor] = []
    optimizer = trainer.optimizer
    assert isinstance(optimizer, torch.optim.Optimizer)
    optimizer.register_step_pre_hook(
        lambda *_: seen.extend(p.grad.clone() for p in model.parameters() if p.grad is not None)
    )
    step = next(event for event in trainer.run() if isinstance(event, StepDone))
    return step.loss, seen


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_targets_that_do_not_count_are_weighted_as_in_the_large_batch(smoothing: float) -> None:
    loader = BatchLoader(dataset(), batch_size=12, block_size=T, seed=1)
    x, y = loader.next_batch()
    y[0:4, 1:] = -100  # of 32 targets 4 are left, of the next 32 all, of the last 32 none
    y[8:12] = -100
    pieces = list(zip(x.split(4), y.split(4), strict=True))
    loss, gradients = gradients_of_step([(x, y)], smoothing)
    parts_loss, parts_gradients = gradients_of_step(pieces, smoothing)
    counted = y.flatten() >= 0
    expected = F.cross_entropy(gpt()(x).logits.flatten(0, 1)[counted], y.flatten()[counted])
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    assert parts_loss == pytest.approx(loss, rel=1e-6)
    assert len(gradients) == len(parts_gradients) > 0
    for whole, part in zip(gradients, parts_gradients, strict=True):
        # Sums of 36 float32 numbers in another order: some of the last of 24 bits.
        torch.testing.assert_close(part, whole, rtol=1e-5, atol=1e-7)


def test_a_share_outside_zero_to_one_is_refused() -> None:
    for value in (-0.1, 1.0):
        with pytest.raises(
            UsageError, match=r"--label-smoothing .* must be at least 0 and below 1"
        ):
            config(label_smoothing=value)
