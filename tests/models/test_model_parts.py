"""The parts of a transformer against NumPy in float64, and properties that define them."""

import math

import numpy as np
import pytest
import torch

from toolkit.models.config import GPTConfig
from toolkit.models.layers import (
    MLP,
    Block,
    CausalSelfAttention,
    LayerNorm,
    RMSNorm,
    SwiGLUMLP,
    attention_mask,
)
from toolkit.models.positions import Rotary, alibi_slopes, sinusoids

# float32 has 24 bits; sums of a few hundred products of order one lose some of them.
TOLERANCE = 2e-5


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def randomise(module: torch.nn.Module) -> torch.nn.Module:
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source))
    return module


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_rms_norm_equals_its_formula() -> None:
    norm, x = randomise(RMSNorm(16, 1e-3)), random(2, 5, 16)
    expected = array(x) / np.sqrt((array(x) ** 2).mean(-1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(array(norm(x)), expected * array(norm.weight), atol=TOLERANCE)


def test_layer_norm_equals_its_formula() -> None:
    norm, x = randomise(LayerNorm(16, 1e-3, bias=True)), random(2, 5, 16) * 3 + 1
    a = array(x)
    expected = (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-3)
    expected = expected * array(norm.weight) + array(norm.bias)
    np.testing.assert_allclose(array(norm(x)), expected, atol=TOLERANCE)


def test_gelu_mlp_equals_its_formula() -> None:
    config = GPTConfig(vocab_size=5, n_embd=8, n_head=2, n_inner=12, mlp="gelu", bias=True)
    mlp, x = randomise(MLP(config)), random(2, 3, 8)
    h = array(x) @ array(mlp.up.weight).T + array(mlp.up.bias)
    h = 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
    expected = h @ array(mlp.down.weight).T + array(mlp.down.bias)
    np.testing.assert_allclose(array(mlp(x)), expected, atol=1e-4)  # values reach 100


def test_relu2_mlp_equals_its_formula() -> None:
    config = GPTConfig(vocab_size=5, n_embd=8, n_head=2, n_inner=12, mlp="relu2", bias=True)
    mlp, x = randomise(MLP(config)), random(2, 3, 8)
    h = np.maximum(array(x) @ array(mlp.up.weight).T + array(mlp.up.bias), 0) ** 2
    expected = h @ array(mlp.down.weight).T + array(mlp.down.bias)
    np.testing.assert_allclose(array(mlp(x)), expected, atol=1e-4)  # values reach 100


def test_swiglu_mlp_equals_its_formula() -> None:
    config = GPTConfig(vocab_size=5, n_embd=8, n_head=2, n_inner=12, mlp="swiglu")
    mlp, x = randomise(SwiGLUMLP(config)), random(2, 3, 8)
    gate, up = np.split(array(x) @ array(mlp.gate_up.weight).T, 2, axis=-1)
    expected = (gate / (1 + np.exp(-gate)) * up) @ array(mlp.down.weight).T
    np.testing.assert_allclose(array(mlp(x)), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("n_kv_head", "qk_norm", "window", "alibi"),
    [
        (4, False, 0, False),
        (2, False, 0, False),
        (1, True, 0, False),
        (4, False, 3, False),
        (1, True, 1, False),
        (2, False, 6, False),
        (4, False, 0, True),
        (2, True, 2, True),
    ],
)
def test_attention_equals_its_formula(
    n_kv_head: int, qk_norm: bool, window: int, alibi: bool
) -> None:
    config = GPTConfig(
        vocab_size=5, n_embd=32, n_head=4, n_kv_head=n_kv_head, qk_norm=qk_norm, block_size=8
    )
    attention, x = randomise(CausalSelfAttention(config)), random(2, 6, 32) / 4
    weight, a = array(attention.qkv.weight), array(x)
    q, k, v = np.split(a @ weight.T, [32, 32 + 8 * n_kv_head], axis=-1)

    def heads(part: np.ndarray) -> np.ndarray:
        return part.reshape(2, 6, -1, 8).transpose(0, 2, 1, 3)

    q, k, v = heads(q), heads(k), heads(v)
    if qk_norm:
        q = q / np.sqrt((q**2).mean(-1, keepdims=True) + 1e-6) * array(attention.q_norm.weight)
        k = k / np.sqrt((k**2).mean(-1, keepdims=True) + 1e-6) * array(attention.k_norm.weight)
    # Each key/value head serves a group of neighbouring query heads.
    k, v = (np.repeat(part, 4 // n_kv_head, axis=1) for part in (k, v))
    scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(8)
    for t in range(6):
        for s in range(6):
            if s > t or (window and s <= t - window):
                scores[:, :, t, s] = -np.inf
            elif alibi:  # the slopes of four heads are 2^-2, 2^-4, 2^-6 and 2^-8
                scores[:, :, t, s] -= np.array([1 / 4, 1 / 16, 1 / 64, 1 / 256]) * (t - s)
    y = (softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(2, 6, 32)
    expected = y @ array(attention.proj.weight).T
    mask = None
    if window or alibi:
        slopes = alibi_slopes(4) if alibi else None
        mask = attention_mask(torch.arange(6), torch.arange(6), window=window, slopes=slopes)
    np.testing.assert_allclose(array(attention(x, None, mask)), expected, atol=1e-4)


def test_a_mask_of_later_queries_is_the_end_of_the_whole_one() -> None:
    everything, last = torch.arange(7), torch.arange(4, 7)
    for window in (0, 1, 3, 9):
        whole = attention_mask(everything, everything, window=window)
        assert torch.equal(attention_mask(last, everything, window=window), whole[4:])
        assert whole.sum(dim=1).tolist() == [min(t + 1, window or 7) for t in range(7)]
        slopes = alibi_slopes(3)
        biases = attention_mask(everything, everything, window=window, slopes=slopes)
        assert biases.shape == (1, 3, 7, 7)
        assert torch.equal(biases > float("-inf"), whole.expand(1, 3, 7, 7))
        part = attention_mask(last, everything, window=window, slopes=slopes)
        assert torch.equal(part, biases[:, :, 4:])


@pytest.mark.parametrize("norm_order", ["pre", "post"])
def test_a_block_normalises_before_or_after(norm_order: str) -> None:
    config = GPTConfig(vocab_size=5, n_embd=16, n_head=2, norm_order=norm_order)
    block, x = randomise(Block(config)), random(2, 6, 16) / 4

    def norm(a: np.ndarray, weight: torch.Tensor) -> np.ndarray:
        return a / np.sqrt((a**2).mean(-1, keepdims=True) + 1e-6) * array(weight)

    def part(module: torch.nn.Module, a: np.ndarray, *more: None) -> np.ndarray:
        return array(module(torch.from_numpy(a).float(), *more))

    a, first, second = array(x), block.norm1.weight, block.norm2.weight
    if norm_order == "pre":
        a = a + part(block.attn, norm(a, first), None)
        expected = a + part(block.mlp, norm(a, second))
    else:
        a = norm(a + part(block.attn, a, None), first)
        expected = norm(a + part(block.mlp, a), second)
    # Weights of deviation one: values reach some hundred.
    np.testing.assert_allclose(array(block(x, None)), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("length", "width"), [(1, 2), (7, 6), (1024, 768)])
def test_sinusoids_equal_their_formula(length: int, width: int) -> None:
    t, i = np.arange(length, dtype=np.float64)[:, None], np.arange(width // 2, dtype=np.float64)
    expected = np.empty((length, width))
    expected[:, 0::2] = np.sin(t / 10000.0 ** (2 * i / width))
    expected[:, 1::2] = np.cos(t / 10000.0 ** (2 * i / width))
    waves = sinusoids(length, width)
    assert waves.dtype == torch.float32
    # Rounded once, to 24 bits of a number below 1.
    np.testing.assert_allclose(array(waves), expected, atol=6e-8, rtol=0)


def test_sinusoids_of_a_distance_are_one_rotation_wherever_they_are() -> None:
    waves = sinusoids(64, 16).double()
    for k in (1, 5):
        products = (waves[:-k] * waves[k:]).sum(dim=1)  # Σ cos(k · frequency)
        torch.testing.assert_close(products, products[:1].expand_as(products), atol=1e-5, rtol=0)


def test_alibi_slopes_are_those_of_the_paper() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-h for h in range(1, 9)]
    # Sixteen: the geometric means of those of eight come between, starting below 1.
    assert alibi_slopes(16).tolist() == pytest.approx([2 ** (-h / 2) for h in range(1, 17)])
    # Twelve: those of eight, then every second one of sixteen.
    between = [2 ** (-h / 2) for h in (1, 3, 5, 7)]
    assert alibi_slopes(12).tolist() == pytest.approx([2.0**-h for h in range(1, 9)] + between)
    assert alibi_slopes(1).tolist() == [2.0**-8]


def test_rotary_scores_depend_on_distance_alone() -> None:
    rotary = Rotary(16, 32, 10000.0)
    q, k = random(1, 1, 1, 16, seed=1), random(1, 1, 1, 16, seed=2)
    turned_q, turned_k = rotary(q.expand(1, 1, 32, 16)), rotary(k.expand(1, 1, 32, 16))
    scores = (turned_q @ turned_k.transpose(-1, -2))[0, 0]  # (T, T)
    for distance in range(-8, 9):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=0)
    assert (scores[0] - scores[0, 0]).abs().max() > 0.1, "positions must matter"


def test_rotary_turns_each_pair_by_its_angle() -> None:
    turned = Rotary(4, 3, 100.0)(torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(1, 1, 3, 4))[0, 0]
    for t in range(3):
        # Pairs are channels (0, 2) at frequency 1 and (1, 3) at 100^(-1/2) = 0.1.
        expected = [math.cos(t), math.cos(0.1 * t), math.sin(t), math.sin(0.1 * t)]
        np.testing.assert_allclose(turned[t].numpy(), expected, atol=1e-6)
