"""What models refuse, what a loss is made of, and the counts that a formula gives."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from toolkit.errors import UsageError
from toolkit.models import BigramConfig, GPTConfig, LanguageModel, build_model, create_model
from toolkit.models.base import next_token_loss
from toolkit.models.layers import CausalSelfAttention
from toolkit.models.positions import Rotary


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return create_model("gpt", 11, size="nano", block_size=8, seed=1).eval()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[1, 2]], "ids must be a tensor of shape (B, T), not list"),
        (torch.zeros(4, dtype=torch.int64), "(B, T), both at least 1; got (4,)"),
        (torch.zeros(1, 0, dtype=torch.int64), "(B, T), both at least 1; got (1, 0)"),
        (torch.zeros(1, 4), "ids must be int64 or int32, not float32"),
        (torch.zeros(1, 4, dtype=torch.uint8), "ids must be int64 or int32, not uint8"),
        (torch.tensor([[1, 11]]), "ids hold 11, which is no token: this model's are 0 … 10"),
        (torch.tensor([[-1, 3]]), "ids hold -1, which is no token"),
        (torch.tensor([[-100, 3]]), "ids hold -100, which is no token"),
    ],
)
@pytest.mark.parametrize("name", ["gpt", "bigram"])
def test_wrong_ids_are_one_clear_line(name: str, ids: Any, message: str) -> None:
    model = create_model(name, 11, size="nano", block_size=8)
    with pytest.raises(UsageError) as caught:
        model(ids)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.zeros(1, 3, dtype=torch.int64), "targets have shape (1, 3), ids (1, 4)"),
        (torch.tensor([[1, 2, 3, 11]]), "targets hold 11, which is no token"),
        (torch.tensor([[1, 2, -100, -1]]), "targets hold -1, which is no token"),
    ],
)
def test_wrong_targets_are_one_clear_line(
    model: LanguageModel, targets: Tensor, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        model(torch.tensor([[1, 2, 3, 4]]), targets)
    assert message in str(caught.value)


def test_ids_of_either_width_give_the_same(model: LanguageModel) -> None:
    wide = torch.tensor([[1, 2, 3, 10]])
    out, same = model(wide, wide), model(wide.int(), wide.int())
    assert torch.equal(out.logits, same.logits)
    assert out.loss is not None
    assert same.loss is not None
    assert out.loss.item() == same.loss.item()


def test_targets_may_be_a_view_of_a_longer_row(model: LanguageModel) -> None:
    rows = torch.arange(10).view(2, 5) % 11
    strided = model(rows[:, :-1], rows[:, 1:]).loss
    copied = model(rows[:, :-1].contiguous(), rows[:, 1:].contiguous()).loss
    assert strided is not None
    assert copied is not None
    assert strided.item() == copied.item()


def test_the_loss_equals_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 7, generator=generator) * 4
    targets = torch.tensor([[0, 6, -100, 2, 3], [-100, 1, 1, 5, 0]])
    z = logits.double().numpy()
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    counted = [log_p[b, t, y] for (b, t), y in np.ndenumerate(targets.numpy()) if y != -100]
    # One float32 sum of eight terms near 5: a few units of 5 · 2⁻²⁴ each.
    assert next_token_loss(logits, targets).item() == pytest.approx(-np.mean(counted), abs=5e-6)


def test_the_loss_is_float32_when_the_model_is_not() -> None:
    model = create_model("gpt", 11, size="nano", block_size=8, n_kv_head=1, seed=1).eval()
    ids = torch.tensor([[1, 2, 3, 4]])
    exact = model(ids, ids).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(ids, ids)
    half = model.bfloat16()(ids, ids)
    assert exact is not None
    for output in (mixed, half):
        assert output.logits.dtype == torch.bfloat16
        assert output.loss is not None
        assert output.loss.dtype == torch.float32
        # bfloat16 has 8 bits: logits near 0.2 are off by 0.001 or so.
        assert output.loss.item() == pytest.approx(exact.item(), abs=0.01)


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
def test_gradients_reach_every_parameter(preset: str) -> None:
    model = create_model("gpt", 11, preset=preset, size="nano", block_size=4, n_kv_head=1)
    # Every token occurs and every position: no row of an embedding is left without a gradient.
    ids = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 0]])
    loss = model(ids, ids.roll(1, 0)).loss
    assert loss is not None
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_grouped_heads_equal_heads_with_repeated_keys_and_values() -> None:
    grouped = CausalSelfAttention(GPTConfig(5, n_embd=32, n_head=4, n_kv_head=2))
    full = CausalSelfAttention(GPTConfig(5, n_embd=32, n_head=4, n_kv_head=4))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in grouped.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
        q, k, v = grouped.qkv.weight.split((32, 16, 16))
        k, v = (w.view(2, 8, 32).repeat_interleave(2, dim=0).view(32, 32) for w in (k, v))
        full.load_state_dict({**grouped.state_dict(), "qkv.weight": torch.cat((q, k, v))})
    x, rotary = torch.randn(2, 6, 32, generator=generator), Rotary(8, 6, 100.0)
    # The same products in another order: units of values near 1.
    torch.testing.assert_close(grouped(x, rotary), full(x, rotary), atol=1e-6, rtol=0)


def test_a_dropped_residual_part_is_really_dropped() -> None:
    # With nearly everything dropped, attention and MLP add nothing and attention sees nothing:
    # what remains of the embedding is 0 or 1/(1 − p) of it.
    model = create_model("gpt", 11, preset="gpt2", size="nano", dropout=0.999).train()
    torch.manual_seed(0)
    kept = (model.dropout(torch.ones(200, 200)) != 0).float().mean().item()
    assert kept == pytest.approx(0.001, abs=0.0008)  # five deviations of 40,000 draws
    block = model.blocks[0]
    x = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(0))
    changed = (block(x, None) != x).float().mean().item()
    assert changed < 0.1


def test_flops_by_hand() -> None:
    # C 8, two layers; heads 2 × 4 with one key/value head; MLP 8 → 16; V 10; T 6.
    config = GPTConfig(10, 6, n_layer=2, n_embd=8, n_head=2, n_kv_head=1, n_inner=16)
    attention = 8 * 8 + 2 * 8 * 4 + 8 * 8
    mlp = 3 * 8 * 16
    expected = 6 * (2 * (attention + mlp) + 8 * 10) + 2 * 12 * 8 * 6
    assert build_model(config).flops_per_token() == expected


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "gpt2"},
        {"preset": "modern", "n_kv_head": 1, "head_dim": 8},
        {"preset": "modern", "tie_embeddings": False},
    ],
)
def test_flops_equal_those_that_torch_counts(options: dict[str, Any]) -> None:
    model = create_model("gpt", 50, size="nano", block_size=16, **options)
    ids = torch.arange(32).view(2, 16)
    # Plain attention: the fused kernel computes its scores again in the backward pass.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss = model(ids, ids).loss
        assert loss is not None
        loss.backward()
    assert counter.get_total_flops() == model.flops_per_token() * ids.numel()


def test_parameters_are_counted_once() -> None:
    tied = create_model("gpt", 100, size="nano", seed=1, tie_embeddings=True)
    untied = create_model("gpt", 100, size="nano", seed=1)
    assert untied.num_params() - tied.num_params() == 100 * 64
    assert not any(name.startswith("head") for name in tied.state_dict())
    assert create_model("bigram", 7).num_params() == 49


def test_making_a_model_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    create_model("gpt", 11, size="nano")
    create_model("bigram", 11)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("config", [BigramConfig(9), GPTConfig(9, n_embd=32)])
def test_without_a_generator_equal_configs_give_equal_models(config: Any) -> None:
    one, other = build_model(config), build_model(config)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.isfinite(a).all()


def test_initial_spread_of_every_part() -> None:
    model = create_model("gpt", 2000, preset="gpt2", n_layer=8, n_embd=256, seed=2)
    for name, parameter in model.named_parameters():
        spread = parameter.std().item()
        if name.endswith(".bias"):
            assert not parameter.any(), name
        elif parameter.dim() == 1:
            assert (parameter == 1).all(), name
        else:
            expected = 0.02
            if name.endswith((".attn.proj.weight", ".mlp.down.weight")):
                expected = 0.02 / 4  # sqrt(2 · 8 layers)
            elif name == "pos_emb.weight":
                expected = 0.01
            # At least 32,768 draws: their deviation is known to 1 / sqrt(2n) = 0.4%; five of it.
            assert spread == pytest.approx(expected, rel=0.02), name
