"""Activations computed twice: the same numbers to the bit, and much less kept in between."""

import pytest
import torch
from tiny_training import assert_same, bigram, config, dataset, gpt, train, weights
from torch import Tensor

from toolkit.data import BatchLoader
from toolkit.errors import UsageError
from toolkit.models import GPTModel
from toolkit.models.layers import CausalSelfAttention


def batch() -> tuple[Tensor, Tensor]:
    return BatchLoader(dataset(), batch_size=4, block_size=8, seed=0).next_batch()


def gradients(model: GPTModel, dtype: torch.dtype) -> tuple[Tensor, list[Tensor], Tensor]:
    """Loss, gradients, and the random state afterwards."""
    x, y = batch()
    with torch.random.fork_rng():
        torch.manual_seed(7)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            loss = model(x, y).loss
        assert loss is not None
        found = torch.autograd.grad(loss, list(model.parameters()))
        return loss.detach(), list(found), torch.get_rng_state()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_loss_gradients_and_random_numbers_are_the_same_to_the_bit(
    dropout: float, dtype: torch.dtype
) -> None:
    model = gpt(dropout)
    expected = gradients(model, dtype)
    model.gradient_checkpointing = True
    found = gradients(model, dtype)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[2], expected[2])
    for ours, plain in zip(found[1], expected[1], strict=True):
        assert torch.equal(ours, plain)


def kept_by_blocks(model: GPTModel) -> int:
    """How many numbers a forward pass keeps for the backward pass beyond a model of no layers."""
    x, y = batch()
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(x, y).loss
    assert loss is not None
    own = {parameter.data_ptr() for parameter in model.parameters()}
    return sum(tensor.numel() for pointer, tensor in kept.items() if pointer not in own)


def test_of_each_block_only_its_input_is_kept() -> None:
    def per_block(on: bool) -> float:
        few, many = gpt(n_layer=2), gpt(n_layer=10)
        few.gradient_checkpointing = many.gradient_checkpointing = on
        return (kept_by_blocks(many) - kept_by_blocks(few)) / 8

    stream = 4 * 8 * 16  # B · T · C
    # checkpoint() holds a block's input itself, where the hook cannot see it: 0 is seen.
    assert per_block(True) <= stream
    assert per_block(False) > 10 * stream


def test_training_uses_it_and_gives_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    forward = CausalSelfAttention.forward

    def counted(self: CausalSelfAttention, *inputs: Tensor, **named: Tensor) -> Tensor:
        calls.append(torch.is_grad_enabled())
        return forward(self, *inputs, **named)

    monkeypatch.setattr(CausalSelfAttention, "forward", counted)
    plain, checkpointed = gpt(0.3), gpt(0.3)
    train(plain, config(max_steps=3, eval_every=3))
    once, calls[:] = len(calls), []
    train(checkpointed, config(max_steps=3, eval_every=3, gradient_checkpointing=True))
    assert len(calls) - once == 3 * 2  # 3 steps, 2 blocks; nothing is recomputed in evaluations
    assert_same(weights(plain), weights(checkpointed))


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--gradient-checkpointing is for .* bigram has none"):
        train(bigram(), config(gradient_checkpointing=True))
