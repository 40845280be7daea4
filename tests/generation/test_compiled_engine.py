"""Compiled passes against `GPTModel.extend`, for every part that a config can choose.

Tolerances: both compute in float32 and sum in different orders; the compiled exponential is within
2e-7 of the exact one. Logits are of size 1.
"""

import gc
import itertools
import math
import threading
from typing import Any

import numpy as np
import pytest
import torch

from toolkit.errors import UsageError
from toolkit.generation import Generator
from toolkit.generation.decoding import CachedDecoder, make_decoder
from toolkit.jit import COMPILED
from toolkit.models import GPTConfig, GPTModel, create_model, store_weights

pytestmark = pytest.mark.skipif(not COMPILED, reason="NUMBA_DISABLE_JIT is set")
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
POSITIONS = ("learned", "rotary", "sinusoidal", "alibi", "none")
GRID = list(itertools.product(POSITIONS, ("gelu", "relu2", "swiglu"), ("pre", "post"), (0, 4)))
V, T = 61, 12


def config_number(number: int) -> GPTConfig:
    position, mlp, norm_order, window = GRID[number]
    turns = number * 7 + number // 12
    return GPTConfig(
        V,
        n_layer=2,
        n_head=4,
        n_embd=32,
        block_size=T,
        position=position,
        mlp=mlp,
        norm_order=norm_order,
        window=window,
        n_kv_head=(4, 2, 1)[turns % 3],
        head_dim=(0, 6)[turns // 4 % 2],
        norm=("rmsnorm", "layernorm")[turns % 2],
        qk_norm=turns // 2 % 2 == 0,
        bias=turns // 3 % 2 == 0,
        tie_embeddings=turns // 5 % 2 == 0,
    )


def make(config: GPTConfig) -> GPTModel:
    model = GPTModel(config, torch.Generator().manual_seed(1)).eval()
    source = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=source))
    return model


def some_tokens(rows: int, count: int) -> torch.Tensor:
    return torch.randint(0, V, (rows, count), generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def check(model: GPTModel, threads: int, steps: int, capacity: int | None) -> None:
    """A prompt in one pass and then token by token."""
    from toolkit.generation.engine import CompiledModel

    tokens = some_tokens(1, 5 + steps)
    reference, cache = model.new_cache(), model.new_cache(1, capacity)
    compiled = CompiledModel(model, threads=threads)
    logits = compiled.extend(tokens[0, :5].tolist(), cache)
    torch.testing.assert_close(logits, model.extend(tokens[:, :5], reference)[:, -1], **CLOSE)
    for token in tokens[0, 5:].tolist():
        expected = model.extend(torch.tensor([[token]]), reference)[:, -1]
        torch.testing.assert_close(compiled.step([token], cache), expected, **CLOSE)
    assert cache.length == 5 + steps
    filled = slice(0, min(cache.length, cache.slots))
    kept = (cache.keys[..., filled, :], reference.keys[..., filled, :])
    torch.testing.assert_close(*kept, **CLOSE)


@pytest.mark.parametrize("number", range(len(GRID)))
def test_every_part(number: int) -> None:
    config = config_number(number)
    model = make(config)
    limited = config.position in ("learned", "sinusoidal")
    steps = T - 5 if limited else 3 * T
    check(model, threads=1 + number % 3, steps=steps, capacity=(None, 6)[number % 2])


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
@pytest.mark.parametrize("number", [1, 7, 20, 33, 46])
def test_stored_weights(weights: Any, number: int) -> None:
    stored = store_weights(make(config_number(number)), weights)
    assert isinstance(stored, GPTModel)
    check(stored, threads=2, steps=T - 5, capacity=None)


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("options", [{"preset": "gpt2"}, {"n_kv_head": 1}, {"position": "alibi"}])
def test_the_same_text_as_torch(weights: Any, options: dict[str, Any]) -> None:
    model = create_model("gpt", V, size="nano", block_size=16, seed=1, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(5)
    prompt, sampling = [1, 2, 3], {"max_new_tokens": 40, "seed": 4, "temperature": 1.2}
    texts = [
        Generator(model, weights=weights, engine=engine).generate_ids(prompt, **sampling)
        for engine in ("compiled", "torch")
    ]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 5


@pytest.mark.parametrize("number", range(0, len(GRID), 3))
def test_rows_of_equal_lengths_past_the_context(number: int) -> None:
    model = make(config_number(number))
    steps = T - 2 if config_number(number).position in ("learned", "sinusoidal") else 30
    tokens = some_tokens(3, steps)
    with torch.inference_mode():
        decoders = [CachedDecoder(model, model.new_cache(), compiled=c) for c in (False, True)]
        for decoder in decoders:
            decoder.prefill([1, 2])
            decoder.select([0, 0, 0])
        for turn in range(steps):
            if turn == 6:
                for decoder in decoders:
                    decoder.select([1])
            rows = [1] if turn >= 6 else [0, 1, 2]
            reference, ours = (decoder.step(tokens[rows, turn]) for decoder in decoders)
            torch.testing.assert_close(ours, reference, **CLOSE)


def test_more_tokens_and_rows_than_one_pass_takes() -> None:
    from toolkit.generation.engine import MAX_TOKENS, CompiledModel

    model = create_model("gpt", V, size="nano", block_size=200, seed=1).eval()
    assert isinstance(model, GPTModel)
    count = 2 * MAX_TOKENS + 5
    prompt, reference = some_tokens(1, count), model.new_cache()
    with torch.inference_mode():
        compiled, cache = CompiledModel(model, threads=2), model.new_cache()
        logits = compiled.extend(prompt[0].tolist(), cache)
        torch.testing.assert_close(logits, model.extend(prompt, reference)[:, -1], **CLOSE)
        torch.testing.assert_close(
            cache.keys[..., :count, :], reference.keys[..., :count, :], **CLOSE
        )
        for each in (cache, reference):
            each.select([0] * (MAX_TOKENS + 3))
        column = some_tokens(MAX_TOKENS + 3, 1)
        expected = model.extend(column, reference)[:, -1]
        torch.testing.assert_close(compiled.step(column[:, 0].tolist(), cache), expected, **CLOSE)


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
def test_a_token_is_the_same_to_the_last_bit_whatever_is_beside_it(weights: Any) -> None:
    from toolkit.generation.engine import CompiledModel

    model = store_weights(make(config_number(31)), weights)
    assert isinstance(model, GPTModel)
    with torch.inference_mode():
        compiled, cache = CompiledModel(model, threads=2), model.new_cache(40, T)
        for position in range(T - 1):
            compiled.step([(row * position) % V for row in range(40)], cache)
        expected = {row: cache.keys[:, row].clone() for row in (0, 17, 39)}
        logits = compiled.compute(
            [7] * 40, range(40), [T - 1] * 40, cache.keys, cache.values
        ).clone()
        for rows in ([17, 0], [39, 17, 5], list(range(39, -1, -1))):
            again = compiled.compute(
                [7] * len(rows), rows, [T - 1] * len(rows), cache.keys, cache.values
            )
            for place, row in enumerate(rows):
                assert torch.equal(again[place], logits[row])
        for row, keys in expected.items():
            alone = model.new_cache(2, T)
            for position in range(T - 1):
                compiled.step([(row * position) % V, 3], alone)
            assert torch.equal(alone.keys[:, 0], keys)
        with pytest.raises(UsageError, match="Position 12: this model's are 0 … 11"):
            compiled.compute([7], [0], [T], cache.keys, cache.values)


@pytest.mark.parametrize("tile", [(1, 1), (3, 1), (4, 1), (8, 1), (8, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int8])
def test_a_product_in_registers(tile: tuple[int, int], dtype: Any) -> None:
    import numba

    from toolkit.generation.kernels.machine import LANES, Tile, _product

    product, source = _product(Tile(*tile)), np.random.default_rng(0)
    (rows, vectors), width = tile, 29
    numbers = source.standard_normal((rows, width)).astype(np.float32)
    if dtype is np.uint16:  # the upper half of a float32
        numbers = (numbers.view(np.uint32) & 0xFFFF0000).view(np.float32)
        stored = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    else:
        numbers = numbers if dtype is np.float32 else (numbers * 40).round()
        stored = numbers.astype(dtype)
    columns = source.standard_normal((width, vectors * LANES)).astype(np.float32)
    scales, biases = source.standard_normal((2, rows)).astype(np.float32)
    out = np.full((rows, vectors * LANES), np.nan, np.float32)

    @numba.njit
    def run(matrix: Any, x: Any, scale: Any, bias: Any, result: Any) -> None:
        starts = (matrix.ctypes.data, x.ctypes.data, scale.ctypes.data, bias.ctypes.data)
        product(*starts, result.ctypes.data, matrix.shape[1], x.shape[1], matrix[0])

    run(stored, columns, scales, biases, out)
    exact = numbers.astype(np.float64) @ columns * scales[:, None] + biases[:, None]
    # 29 sums of float32, each off by at most half a unit in the last place of what is summed.
    most = np.abs(numbers).astype(np.float64) @ np.abs(columns) * np.abs(scales)[:, None]
    assert (np.abs(out - exact) <= 30 * 2.0**-24 * (most + np.abs(biases)[:, None])).all()


def test_weights_that_change_are_seen() -> None:
    model = make(config_number(20))
    generator = Generator(model, engine="compiled")
    before = generator.generate_ids([1], max_new_tokens=20, strategy="greedy")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
            )
    after = generator.generate_ids([1], max_new_tokens=20, strategy="greedy")
    fresh = Generator(model, engine="torch")
    assert after == fresh.generate_ids([1], max_new_tokens=20, strategy="greedy") != before


def test_nan_comes_out() -> None:
    model = make(config_number(20))
    with torch.inference_mode():
        cache = model.new_cache()
        decoder = CachedDecoder(model, cache, compiled=True)
        assert not decoder.prefill([1]).isnan().any()
        assert not decoder.step(torch.tensor([1])).isnan().any()
        model.blocks[1].mlp.down.weight[3, 5] = math.nan
        assert decoder.step(torch.tensor([1])).isnan().all()
        decoder.select([0, 0])
        assert decoder.step(torch.tensor([1, 2])).isnan().all()


@pytest.mark.parametrize("others", [[], [5]])
def test_no_thread_waits_for_one_that_was_interrupted(
    others: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.generation import engine

    model, rows = make(config_number(20)), 1 + len(others)
    with torch.inference_mode():
        reference = model.new_cache(rows)
        for token in (1, 2):
            expected = model.extend(
                torch.tensor([[token], *([other] for other in others)]), reference
            )
    compiled, cache = engine.CompiledModel(model, threads=2), model.new_cache(rows)
    compiled.step([1, *others], cache)
    module, name = (engine.many_tokens, "decode_all") if others else (engine.one_token, "decode")
    kernel, left = getattr(module, name), threading.Event()

    class Interrupted:
        """The kernel, but Ctrl-C comes in the first of its threads."""

        __name__, stats, compile = kernel.__name__, kernel.stats, kernel.compile

        def __call__(self, thread: int, *arguments: Any) -> None:
            if thread == 0:
                raise KeyboardInterrupt
            kernel(thread, *arguments)
            left.set()

    with monkeypatch.context() as patch:
        patch.setattr(module, name, Interrupted())
        with pytest.raises(KeyboardInterrupt):
            compiled.step([2, *others], cache)
    assert left.wait(10)
    assert cache.length == 1
    torch.testing.assert_close(compiled.step([2, *others], cache), expected[:, -1], **CLOSE)
    for token in (-1, V):
        with pytest.raises(UsageError, match=rf"{token} is no token: this model's are 0 … 60\."):
            compiled.step([token, *others], cache)


def test_threads_end_with_the_model() -> None:
    from toolkit.generation.engine import CompiledModel

    model = make(config_number(20))
    compiled = CompiledModel(model, threads=3)
    before = set(threading.enumerate())
    compiled.step([1], model.new_cache())
    started = set(threading.enumerate()) - before
    assert len(started) == 2
    del compiled
    gc.collect()
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


def test_torch_has_its_threads_again_after_a_draw() -> None:
    threads = torch.get_num_threads()
    Generator(make(config_number(20)), engine="compiled").generate_ids([1], max_new_tokens=2)
    assert torch.get_num_threads() == threads


def test_the_exponential() -> None:
    import numba

    from toolkit.generation.kernels.layers import exp

    @numba.njit
    def exponentials(x: Any, y: Any) -> None:
        for i in range(len(x)):
            y[i] = exp(x[i])

    x = np.linspace(-87, 87, 100_001, dtype=np.float32)
    y = np.empty_like(x)
    exponentials(x, y)
    exact = np.exp(x.astype(np.float64))
    assert np.abs(y / exact - 1).max() < 2e-7
    for special, expected in ((-np.inf, 0.0), (-200.0, 0.0), (np.nan, np.nan)):
        exponentials(np.array([special], np.float32), y)
        np.testing.assert_allclose(y[0], expected, atol=2e-38)


def test_when_it_is_chosen() -> None:
    def compiled(model: Any, **options: Any) -> bool:
        decoder = make_decoder(model, **options)
        return isinstance(decoder, CachedDecoder) and decoder._compiled

    small = make(config_number(20))
    assert not compiled(small), "not worth loading it"
    assert compiled(small, engine="compiled")
    large = create_model("gpt", 40_000, size="nano")
    assert compiled(large)
    assert not compiled(large, engine="torch")
    assert compiled(store_weights(large, "int8"))
    assert not compiled(large.half())
    hooked = create_model("gpt", 40_000, size="nano")
    hooked.blocks[0].register_forward_hook(lambda *_: None)
    assert not compiled(hooked), "the hook would not be called"
    for model, options in (
        (hooked, {}),
        (create_model("bigram", 9), {}),
        (small, {"cache": False}),
        (small.half(), {}),
    ):
        with pytest.raises(UsageError, match="--engine compiled is for gpt models in float32"):
            make_decoder(model, engine="compiled", **options)
