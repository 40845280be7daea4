"""Every position with every MLP, norm order and window: what has to hold whatever is combined.

The other parts take turns, so that each of their values meets each of these.
"""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from toolkit.models import GPTConfig, GPTModel, build_model, load_pretrained, save_pretrained

POSITIONS = ("learned", "rotary", "sinusoidal", "alibi", "none")
GRID = list(itertools.product(POSITIONS, ("gelu", "relu2", "swiglu"), ("pre", "post"), (0, 4)))
T, V = 12, 61


def config_number(number: int) -> GPTConfig:
    position, mlp, norm_order, window = GRID[number]
    # Numbers without a common factor with the lengths of the grid: no part goes with another.
    turns = number * 7 + number // 12
    options: dict[str, Any] = {
        "n_kv_head": (4, 2, 1)[turns % 3],
        "norm": ("rmsnorm", "layernorm")[turns % 2],
        "qk_norm": turns // 2 % 2 == 0,
        "bias": turns // 3 % 2 == 0,
        "tie_embeddings": turns // 5 % 2 == 0,
        "weight_init": ("gpt2", "gpt2", "zeros")[turns // 7 % 3],
    }
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": T}
    return GPTConfig(
        V, **shape, position=position, mlp=mlp, norm_order=norm_order, window=window, **options
    )


def ids(rows: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, V, (rows, T), generator=torch.Generator().manual_seed(seed))


def make(config: GPTConfig, noise: float = 0.0) -> GPTModel:
    model = build_model(config, torch.Generator().manual_seed(1))
    assert isinstance(model, GPTModel)
    source = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=source))
    return model


def test_every_value_of_every_part_occurs_with_every_position() -> None:
    parts = ("n_kv_head", "norm", "qk_norm", "bias", "tie_embeddings", "weight_init")
    met = {
        (config.position, part, getattr(config, part))
        for config in map(config_number, range(len(GRID)))
        for part in parts
    }
    assert len(met) == len(POSITIONS) * (3 + 2 + 2 + 2 + 2 + 2)


@pytest.mark.parametrize("number", range(len(GRID)))
def test_what_holds_for_every_combination(number: int, tmp_path: Path) -> None:
    config = config_number(number)
    fresh = make(config)
    x, y = ids(), ids(seed=1)

    # It starts with a uniform guess: logits have a spread of 0.02 · √32 or so, less than 0.2.
    output = fresh(x, y)
    assert output.loss is not None
    assert abs(output.loss.item() - math.log(V)) < 0.2, config

    # A later token changes no earlier logit, and within all layers' windows every later one.
    model = make(config, noise=0.2).eval()
    changed = x.clone()
    changed[:, 3] = (changed[:, 3] + 1) % V
    with torch.no_grad():
        before, after = model(x).logits, model(changed).logits
    reach = 2 * (config.window - 1) if config.window else T
    last = min(T - 1, 3 + reach)
    assert torch.equal(before[:, :3], after[:, :3]), config
    assert torch.equal(before[:, last + 1 :], after[:, last + 1 :]), config
    assert ((before - after)[:, 3 : last + 1].abs().amax(dim=-1) > 0).all(), config

    # The order of the tokens before matters; without positions the causal mask alone tells it.
    swapped = x[:, [1, 0, *range(2, T)]]
    with torch.no_grad():
        assert (before - model(swapped).logits)[:, 2].abs().max() > 0, config

    # It is saved without a number twice, and opens with the same logits bit for bit.
    save_pretrained(model, tmp_path)
    stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert sum(tensor.numel() for tensor in stored.values()) == model.num_params()
    state = model.state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == model.num_params()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    opened = load_pretrained(tmp_path)
    assert opened.config == config
    with torch.no_grad():
        assert torch.equal(opened(x).logits, before), config

    # As many operations as torch counts, with plain attention.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss = fresh(x, y).loss
        assert loss is not None
        loss.backward()
    assert counter.get_total_flops() == fresh.flops_per_token() * x.numel(), config

    # It learns.
    optimizer = torch.optim.AdamW(fresh.parameters(), lr=1e-2)
    for _ in range(8):
        loss = fresh(x, y).loss
        assert loss is not None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < output.loss.item() - 0.3, config


def test_multi_query_attention_has_one_head_of_keys_and_values() -> None:
    many, one = (GPTConfig(V, n_embd=64, n_head=4, n_kv_head=count) for count in (4, 1))
    # C · D numbers each for the keys and the values of three heads less, in four layers.
    assert make(many).num_params() - make(one).num_params() == 4 * 3 * 2 * 64 * 16
    attention = make(one).blocks[0].attn
    assert attention.qkv.weight.shape == (4 * 16 + 16 + 16, 64)


@pytest.mark.parametrize("position", POSITIONS)
def test_half_precision_is_near_the_exact_one(position: Any) -> None:
    """Whole models in bfloat16 and autocast: masks and tables have to follow."""
    model = make(GPTConfig(V, block_size=T, n_embd=32, position=position, window=5)).eval()
    with torch.inference_mode():
        exact = model(ids()).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(ids()).logits
        half = model.bfloat16()(ids()).logits
    for logits in (mixed, half):
        assert logits.dtype == torch.bfloat16
        # 8 bits of logits near 0.5, after four layers.
        torch.testing.assert_close(logits.float(), exact, atol=0.02, rtol=0)


def test_full_attention_asks_for_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels' own causal mask is the fast one; a window as wide as the text needs no other."""
    asked = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def listen(*args: Any, **options: Any) -> torch.Tensor:
        asked.append((options["is_causal"], options["attn_mask"]))
        return attend(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", listen)
    for window in (0, T):
        make(GPTConfig(V, block_size=T, n_layer=1, n_embd=32, window=window))(ids())
    make(GPTConfig(V, block_size=T, n_layer=2, n_embd=32, window=T - 1))(ids())
    assert asked[:2] == [(True, None)] * 2
    assert [causal for causal, _ in asked[2:]] == [False, False]
    assert asked[2][1] is asked[3][1], "one mask for all layers"
