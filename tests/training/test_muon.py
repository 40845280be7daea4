"""Muon against NumPy's decomposition and torch's own Muon and AdamW; the schedules by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models import create_model
from toolkit.training.config import TrainConfig
from toolkit.training.muon import Matrix, Muon, orthogonalize
from toolkit.training.optimizers import hidden_matrices, make_optimizer
from toolkit.training.schedules import learning_rate

JORDAN = ((3.4445, -4.7750, 2.0315),) * 5


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24), (3, 16, 8), (128, 352)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, ...]) -> None:
    matrices = random(*shape) if len(shape) == 3 else random(1, *shape)
    found = orthogonalize(matrices)
    for matrix, result in zip(matrices.double().numpy(), found.double().numpy(), strict=True):
        u, values, vt = np.linalg.svd(matrix, full_matrices=False)
        _, reached, _ = np.linalg.svd(result, full_matrices=False)
        # The polynomials aim at values from about a hundredth of the norm on.
        large = values > 0.02 * np.linalg.norm(matrix)
        assert np.all(np.abs(reached[: large.sum()] - 1) < 0.35)
        inside = u.T @ result @ vt.T  # diagonal: the directions are the matrix's own
        off_diagonal = inside - np.diag(np.diag(inside))
        assert np.abs(off_diagonal).max() < 1e-4


def test_batches_are_the_same_as_one_by_one() -> None:
    matrices = random(5, 12, 20)
    together = orthogonalize(matrices)
    for matrix, result in zip(matrices, together, strict=True):
        assert torch.allclose(orthogonalize(matrix[None])[0], result, atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16), (48, 16), (16, 48)])
def test_steps_equal_torchs_muon(shape: tuple[int, int]) -> None:
    ours, theirs = nn.Parameter(random(*shape)), nn.Parameter(random(*shape))
    muon = Muon(
        [Matrix(ours, (shape[0],))],
        [],
        lr=0.02,
        lr_of_others=0.01,
        momentum=0.9,
        weight_decay=0.1,
        coefficients=JORDAN,
        dtype=torch.bfloat16,  # what torch's computes in
    )
    oracle = torch.optim.Muon([theirs], lr=0.02, momentum=0.9, weight_decay=0.1)
    for step in range(5):
        ours.grad = random(*shape, seed=10 + step)
        theirs.grad = ours.grad.clone()
        muon.step()
        oracle.step()
        # One bfloat16 rounding more or less in an update of 0.02.
        assert torch.allclose(ours, theirs, atol=3e-4)
    assert not torch.allclose(ours, random(*shape), atol=1e-2)


def test_other_parameters_get_adamw() -> None:
    ours, theirs = nn.Parameter(random(7, 5)), nn.Parameter(random(7, 5))
    muon = Muon([], [ours], lr=0.02, lr_of_others=0.01, betas=(0.9, 0.95))
    oracle = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(5):
        ours.grad = random(7, 5, seed=step)
        theirs.grad = ours.grad.clone()
        muon.step()
        oracle.step()
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert not torch.allclose(ours, random(7, 5), atol=1e-2)


def test_matrices_that_are_one_parameter_are_taken_apart() -> None:
    """Queries, keys and values each get their own orthogonal update."""
    fused = nn.Parameter(torch.zeros(24, 8))
    gradient = random(24, 8)
    muon = Muon([Matrix(fused, (8, 8, 8))], [], lr=1.0, lr_of_others=1.0, momentum=0.0)
    fused.grad = gradient.clone()
    muon.step()
    for piece, part in zip(fused.detach().split(8), gradient.split(8), strict=True):
        alone = nn.Parameter(torch.zeros(8, 8))
        single = Muon([Matrix(alone, (8,))], [], lr=1.0, lr_of_others=1.0, momentum=0.0)
        alone.grad = part.clone()
        single.step()
        assert torch.allclose(piece, alone, atol=2e-2)  # bfloat16, where the processor has it


def test_which_parameters_are_matrices() -> None:
    model = create_model("gpt", 50, size="nano", n_kv_head=1, tie_embeddings=False)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(m.parameter)]: m.rows for m in hidden_matrices(model)}
    blocks = [f"blocks.{number}." for number in range(2)]
    parts = ("attn.qkv.weight", "attn.proj.weight", "mlp.gate_up.weight", "mlp.down.weight")
    assert set(found) == {block + part for block in blocks for part in parts}
    assert found["blocks.0.attn.qkv.weight"] == (64, 32, 32)
    assert found["blocks.1.mlp.gate_up.weight"] == (192, 192)
    assert found["blocks.1.mlp.down.weight"] == (64,)


def test_learning_rates_of_the_two_groups() -> None:
    model = create_model("gpt", 50, size="nano")
    options = TrainConfig(optimizer="muon", learning_rate=0.03, adam_learning_rate=0.006)
    matrices, others = make_optimizer(model, options).param_groups
    assert (matrices["lr"], others["lr"]) == (0.03, 0.006)
    assert others["lr_scale"] == pytest.approx(0.2)
    usual = make_optimizer(model, TrainConfig(optimizer="muon", learning_rate=0.05))
    assert usual.param_groups[1]["lr"] == pytest.approx(0.01)
    all_of_them = {id(p) for group in usual.param_groups for p in group["params"]}
    assert all_of_them == {id(p) for p in model.parameters()}


# -- schedules --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", [1.0, 0.8682, 0.55, 0.2318, 0.1]),
        ("linear", [1.0, 0.775, 0.55, 0.325, 0.1]),
        ("wsd", [1.0, 1.0, 1.0, 1.0, 0.1]),
    ],
)
def test_schedules_by_hand(schedule: str, expected: list[float]) -> None:
    found = [
        learning_rate(9, share, peak=1.0, warmup_steps=0, min_ratio=0.1, schedule=schedule)
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_stable_rate_falls_in_the_last_fifth() -> None:
    def at(share: float) -> float:
        return learning_rate(9, share, peak=2.0, warmup_steps=0, min_ratio=0.0, schedule="wsd")

    assert at(0.8) == pytest.approx(2.0)
    assert at(0.9) == pytest.approx(1.0)
    assert at(1.0) == 0.0


def test_names_and_numbers_that_cannot_be() -> None:
    with pytest.raises(UnknownNameError, match=r"No optimizer 'moun'\. Did you mean 'muon'"):
        TrainConfig(optimizer="moun")
    with pytest.raises(UnknownNameError, match="No schedule 'cosin'"):
        TrainConfig(schedule="cosin")
    with pytest.raises(UsageError, match=r"--momentum 1\.0 must be at least 0 and below 1"):
        TrainConfig(momentum=1.0)
    with pytest.raises(UsageError, match="--adam-learning-rate -1"):
        TrainConfig(adam_learning_rate=-1.0)
