"""Backward passes of our own, against torch's."""

import pytest
import torch
import torch.nn.functional as F

from toolkit.models.fused import RMSNormFunction, rms_norm_in_training


def test_the_derivative_of_the_rms_norm_is_right() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, generator=generator, dtype=torch.float64, requires_grad=True)
    # Against differences of the function itself, with gradcheck's own tolerances for float64.
    assert torch.autograd.gradcheck(lambda a, b: RMSNormFunction.apply(a, b, 1e-3), (x, weight))


@pytest.mark.parametrize("shape", [(4, 7, 96), (2, 3, 5, 32), (1, 1, 8)])
def test_the_rms_norm_equals_torchs(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(shape, generator=generator) * 3
    weight = torch.randn(shape[-1], generator=generator)
    upstream = torch.randn(shape, generator=generator)
    results = []
    for function in (rms_norm_in_training, lambda a, b, eps: F.rms_norm(a, b.shape, b, eps)):
        a, b = x.clone().requires_grad_(), weight.clone().requires_grad_()
        y = function(a, b, 1e-6)
        assert y is not None
        y.backward(upstream)
        results.append((y, a.grad, b.grad))
    for mine, theirs in zip(*results, strict=True):
        # Both round in float32, each at most a few times a number.
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_an_input_that_others_need_too_stays_as_it_is() -> None:
    """The backward pass works in place: only in memory of its own."""
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(3), requires_grad=True)
    weight = torch.ones(4, requires_grad=True)
    upstream = torch.ones(3, 4)
    y = rms_norm_in_training(x, weight, 1e-6)
    assert y is not None
    y.backward(upstream)
    assert torch.equal(upstream, torch.ones(3, 4))
    assert torch.equal(weight, torch.ones(4))


def test_elsewhere_torchs_own_is_used() -> None:
    x, weight = torch.ones(2, 4), torch.ones(4)
    assert rms_norm_in_training(x.bfloat16(), weight, 1e-6) is None
    with torch.no_grad():
        assert rms_norm_in_training(x, weight, 1e-6) is None
