"""The compiled step against `GPTModel.extend`, for every part that a config can choose.

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
from toolkit.generation.engine_kernels import COMPILED
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


@torch.inference_mode()
def check(model: GPTModel, threads: int, steps: int, capacity: int | None) -> None:
    from toolkit.generation.engine import CompiledStep

    tokens = torch.randint(0, V, (1, 5 + steps), generator=torch.Generator().manual_seed(0))
    reference, cache = model.new_cache(), model.new_cache(1, capacity)
    for each in (reference, cache):
        model.extend(tokens[:, :5], each)
    step = CompiledStep(model, cache, threads=threads)
    for token in tokens[0, 5:].tolist():
        expected = model.extend(torch.tensor([[token]]), reference)[:, -1]
        torch.testing.assert_close(step(token), expected, **CLOSE)
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


def test_a_row_that_is_left_alone_goes_on_compiled() -> None:
    model = make(config_number(20))
    tokens = torch.randint(0, V, (3, 30), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        decoders = [CachedDecoder(model, model.new_cache(), compiled=c) for c in (False, True)]
        for decoder in decoders:
            decoder.prefill([1, 2])
            decoder.select([0, 0, 0])
        for turn in range(30):
            if turn == 10:
                for decoder in decoders:
                    decoder.select([1])
            rows = [1] if turn >= 10 else [0, 1, 2]
            ours, reference = (decoder.step(tokens[rows, turn]) for decoder in reversed(decoders))
            torch.testing.assert_close(ours, reference, **CLOSE)


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
        model.extend(torch.tensor([[1]]), cache)
        decoder = CachedDecoder(model, cache, compiled=True)
        assert not decoder.step(torch.tensor([1])).isnan().any()
        model.blocks[1].mlp.down.weight[3, 5] = math.nan
        assert decoder.step(torch.tensor([1])).isnan().all()


def test_no_thread_waits_for_one_that_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.generation import engine

    model = make(config_number(20))
    with torch.inference_mode():
        expected = model.extend(torch.tensor([[1, 2]]), model.new_cache())[:, -1]
    step = engine.CompiledStep(model, model.new_cache(), threads=2)
    step(1)
    decode, left = engine.kernels.decode, threading.Event()

    def interrupted(thread: int, *arguments: Any) -> None:
        if thread == 0:
            raise KeyboardInterrupt
        decode(thread, *arguments)
        left.set()

    with monkeypatch.context() as patch:
        patch.setattr(engine.kernels, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            step(2)
    assert left.wait(10)
    torch.testing.assert_close(step(2), expected, **CLOSE)
    for token in (-1, V):
        with pytest.raises(UsageError, match=rf"{token} is no token: this model's are 0 … 60\."):
            step(token)


def test_threads_end_with_the_step() -> None:
    from toolkit.generation.engine import CompiledStep

    model = make(config_number(20))
    step = CompiledStep(model, model.new_cache(), threads=3)
    before = set(threading.enumerate())
    step(1)
    started = set(threading.enumerate()) - before
    assert len(started) == 2
    del step
    gc.collect()
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


def test_the_exponential() -> None:
    import numba

    from toolkit.generation import engine_kernels as kernels

    @numba.njit
    def exponentials(x: Any, y: Any) -> None:
        for i in range(len(x)):
            y[i] = kernels._exp(x[i])

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
