"""Keys and values that are kept give the logits of computing everything, at and past the context.

Tolerances: a product of one row and one of many sum in another order, which float32 rounds
differently by some 1e-7 of logits near 1, after two layers.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.errors import UsageError
from toolkit.models import GPTConfig, GPTModel, create_model

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
SLIDING = ("rotary", "alibi", "none")
POSITIONS = ("learned", "sinusoidal", *SLIDING)
GRID = list(itertools.product(POSITIONS, (0, 4), ("pre", "post"), (4, 2, 1)))
V, T = 61, 12


def make(**options: Any) -> GPTModel:
    config = GPTConfig(V, **{"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": T, **options})
    model = GPTModel(config, torch.Generator().manual_seed(1)).eval()
    source = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=source))
    return model


def config_number(number: int) -> dict[str, Any]:
    position, window, norm_order, n_kv_head = GRID[number]
    return {
        "position": position,
        "window": window,
        "norm_order": norm_order,
        "n_kv_head": n_kv_head,
        "norm": ("rmsnorm", "layernorm")[number % 2],
        "mlp": ("gelu", "relu2", "swiglu")[number // 2 % 3],
        "qk_norm": number // 3 % 2 == 0,
        "bias": number // 5 % 2 == 0,
        "tie_embeddings": number // 7 % 2 == 0,
    }


def ids(rows: int, t: int, seed: int = 0) -> Tensor:
    return torch.randint(0, V, (rows, t), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def extended(model: GPTModel, x: Tensor, pieces: Sequence[int], capacity: int | None) -> Tensor:
    cache = model.new_cache(len(x), capacity)
    logits = [model.extend(piece, cache) for piece in x.split(list(pieces), dim=1)]
    assert cache.length == x.size(1)
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("number", range(len(GRID)))
def test_logits_are_those_of_the_whole(number: int) -> None:
    model, x = make(**config_number(number)), ids(3, T)
    with torch.inference_mode():
        expected = model(x).logits
    for pieces in ([T], [1] * T, [5, 1, 1, 4, 1]):
        for capacity in (None, 1):
            torch.testing.assert_close(extended(model, x, pieces, capacity), expected, **CLOSE)


@pytest.mark.parametrize("position", SLIDING)
@pytest.mark.parametrize("window", [0, 4])
def test_past_the_context_the_window_of_each_layer_slides(position: Any, window: int) -> None:
    """The oracle never slides: its attention sees as many positions, in a context that is long
    enough for all."""
    model, x = make(position=position, window=window, n_kv_head=2), ids(2, 41)
    longer = GPTModel(
        dataclasses.replace(model.config, block_size=64, window=window or T), init=False
    ).eval()
    longer.load_state_dict(model.state_dict())
    with torch.inference_mode():
        expected = longer(x).logits
    for pieces in ([41], [1] * 41, [T] * 3 + [5], [3, 20, 1, 1, 16], [T + 1] * 3 + [2]):
        torch.testing.assert_close(extended(model, x, pieces, None), expected, **CLOSE)
        torch.testing.assert_close(extended(model, x, pieces, 2), expected, **CLOSE)


def test_a_window_that_slides_sees_more_than_a_text_that_is_cut() -> None:
    """In the second layer, a key is of a position that saw what lies before the window."""
    model, x = make(), ids(1, 30)
    with torch.inference_mode():
        cut = model(x[:, -T:]).logits[0, -1]
    slid = extended(model, x, [1] * 30, None)[0, -1]
    assert (slid - cut).abs().max() > 0.01
    one_layer = make(n_layer=1)
    with torch.inference_mode():
        cut = one_layer(x[:, -T:]).logits[0, -1]
    slid = extended(one_layer, x, [1] * 30, None)[0, -1]
    torch.testing.assert_close(slid, cut, **CLOSE)


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
def test_positions_that_end_with_the_context(position: Any) -> None:
    model = make(position=position)
    cache = model.new_cache()
    model.extend(ids(1, T), cache)
    assert not cache.has_room(1)
    with pytest.raises(UsageError) as caught:
        model.extend(ids(1, 1), cache)
    assert str(caught.value) == (
        "13 tokens is longer than the model's --block-size 12. Give it the last ones only."
    )
    assert cache.length == T, "nothing was added"


def test_only_the_last_logits() -> None:
    model, x = make(), ids(2, 31)
    with torch.inference_mode():
        last = model.extend(x, model.new_cache(2), last_only=True)
    assert last.shape == (2, 1, V)
    torch.testing.assert_close(last, extended(model, x, [31], None)[:, -1:], **CLOSE)


def test_rows_are_chosen_and_repeated() -> None:
    model, x, more = make(), ids(3, 20), ids(4, 5, seed=1)
    cache = model.new_cache(3)
    with torch.inference_mode():
        model.extend(x, cache)
        cache.select([2, 0, 2, 2])
        assert cache.rows == 4
        logits = model.extend(more, cache)
    whole = torch.cat([x[[2, 0, 2, 2]], more], dim=1)
    torch.testing.assert_close(logits, extended(model, whole, [25], None)[:, 20:], **CLOSE)


@pytest.mark.parametrize("position", ["learned", "rotary", "alibi"])
def test_the_last_tokens_are_taken_back(position: Any) -> None:
    model, x, other = make(position=position), ids(2, T), ids(2, 4, seed=1)
    cache = model.new_cache(2, 3)
    with torch.inference_mode():
        model.extend(x, cache)
        cache.truncate(7)
        logits = model.extend(other, cache)
    whole = torch.cat([x[:, :7], other], dim=1)
    torch.testing.assert_close(logits, extended(model, whole, [11], None)[:, 7:], **CLOSE)


def test_what_has_made_room_cannot_be_taken_back() -> None:
    model = make()
    cache = model.new_cache()
    model.extend(ids(1, T + 2), cache)
    assert cache.can_truncate(T + 2)
    assert not cache.can_truncate(T)
    with pytest.raises(UsageError, match="14 tokens in 12 slots cannot be cut to the first 12"):
        cache.truncate(T)
    assert cache.length == T + 2


def test_memory_is_made_once() -> None:
    model = make(block_size=64)
    cache = model.new_cache(1, 40)
    keys, values = cache.keys, cache.values
    assert keys.shape == (2, 1, 4, 40, 8)
    assert cache.numbers_per_row == 2 * keys.numel()
    for piece in ids(1, 40).split(1, dim=1):
        model.extend(piece, cache)
    assert cache.keys is keys
    assert cache.values is values
    model.extend(ids(1, 1), cache)
    assert cache.slots == 64, "twice as many, and no more than are ever kept"
    for piece in ids(1, 200).split(1, dim=1):
        model.extend(piece, cache)
    assert (cache.length, cache.slots) == (241, 64)


def test_a_narrow_window_keeps_few_positions() -> None:
    assert make(window=4).new_cache().slots == 4
    assert make(window=100).new_cache().slots == T


def test_ids_that_cannot_be() -> None:
    model = make()
    cache = model.new_cache()
    with pytest.raises(UsageError, match="ids hold 61, which is no token"):
        model.extend(torch.tensor([[V]]), cache)
    with pytest.raises(UsageError, match=r"ids must have shape \(B, T\)"):
        model.extend(torch.tensor([1]), cache)
    assert cache.length == 0


def test_models_without_a_cache_say_so() -> None:
    model = create_model("bigram", V)
    assert model.new_cache() is None
    with pytest.raises(NotImplementedError, match="makes no cache"):
        model.extend(ids(1, 1), make().new_cache())


def test_half_precision() -> None:
    model, x = make(), ids(2, 40)
    exact = extended(model, x, [7] + [1] * 33, None)
    half = extended(model.bfloat16(), x, [7] + [1] * 33, None)
    assert half.dtype == torch.bfloat16
    # 8 bits of logits near 1, after two layers.
    torch.testing.assert_close(half.float(), exact, atol=0.05, rtol=0)
