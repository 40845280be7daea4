"""Rows of different lengths that grow together have the logits that each has alone.

Tolerances: a product of one row and one of many sum in another order, which float32 rounds
differently by some 1e-7 of logits near 1, after two layers.
"""

import itertools
from typing import Any

import pytest
import torch

from toolkit.errors import UsageError
from toolkit.models import GPTConfig, GPTModel, RowCache, create_model

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
SLIDING = ("rotary", "alibi", "none")
POSITIONS = ("learned", "sinusoidal", *SLIDING)
GRID = list(itertools.product(POSITIONS, (0, 4), (4, 2, 1)))
V, T = 61, 12


def make(**options: Any) -> GPTModel:
    config = GPTConfig(V, **{"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": T, **options})
    model = GPTModel(config, torch.Generator().manual_seed(1)).eval()
    source = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=source))
    return model


def draw_ids(t: int, seed: int) -> list[int]:
    source = torch.Generator().manual_seed(seed)
    drawn: list[int] = torch.randint(0, V, (t,), generator=source).tolist()
    return drawn


class Alone:
    """A row of the cache, and the same tokens in a cache of their own: the oracle."""

    def __init__(self, model: GPTModel, prompt: list[int], rows: RowCache) -> None:
        self.model, self.cache = model, model.new_cache()
        model.extend(torch.tensor([prompt]), self.cache)
        beginning = model.new_cache(1, len(prompt))
        model.extend(torch.tensor([prompt]), beginning)
        self.row = rows.add(beginning)

    def extend(self, token: int) -> torch.Tensor:
        return self.model.extend(torch.tensor([[token]]), self.cache)[0, -1]


def grow(model: GPTModel, rows: RowCache, alone: list[Alone], steps: int) -> None:
    """Steps of all rows, each compared with the row alone; the list is in the cache's order."""
    for step in range(steps):
        tokens = draw_ids(len(alone), seed=step)
        logits = model.extend_rows(torch.tensor(tokens), rows)
        expected = torch.stack([a.extend(t) for a, t in zip(alone, tokens, strict=True)])
        torch.testing.assert_close(logits, expected, **CLOSE)
        assert rows.lengths[: rows.rows].tolist() == [each.cache.length for each in alone]


@pytest.mark.parametrize("number", range(len(GRID)))
@torch.inference_mode()
def test_every_row_is_as_it_is_alone(number: int) -> None:
    """Past the ring's wrap too: rows that begin before, at and after it, and cross it."""
    position, window, n_kv_head = GRID[number]
    norm_order = ("pre", "post")[number % 2]
    model = make(position=position, window=window, n_kv_head=n_kv_head, norm_order=norm_order)
    limited = position in ("learned", "sinusoidal")
    lengths = (1, 3, 4, 5, 8) if limited else (1, 4, 7, T - 1, T, T + 1, 2 * T + 5)
    rows = model.new_row_cache(len(lengths))
    alone = [Alone(model, draw_ids(t, seed=t), rows) for t in lengths]
    grow(model, rows, alone, steps=T - max(lengths) if limited else 2 * T)


@pytest.mark.parametrize("position", ["rotary", "alibi"])
@torch.inference_mode()
def test_rows_come_and_go(position: Any) -> None:
    model = make(position=position)
    rows = model.new_row_cache(4)
    memory = rows.keys, rows.values
    alone = [Alone(model, draw_ids(t, seed=t), rows) for t in (5, 2, 20, 9)]
    grow(model, rows, alone, steps=3)
    with pytest.raises(UsageError, match="All 4 rows of the cache are in use"):
        Alone(model, [1], rows)
    for leaving in (1, 2, 0):
        last = rows.remove(leaving)
        assert last == len(alone) - 1
        alone[leaving] = alone[last]
        alone.pop()
        grow(model, rows, alone, steps=2)
    alone += [Alone(model, draw_ids(t, seed=t), rows) for t in (1, 14)]
    grow(model, rows, alone, steps=T)
    assert rows.keys is memory[0]
    assert rows.values is memory[1]
    for _ in alone:
        rows.remove(0)
    with pytest.raises(UsageError, match="No row of the cache is in use"):
        rows.advance()


@torch.inference_mode()
def test_fewer_slots_than_attention_sees() -> None:
    model = make()
    rows = model.new_row_cache(2, 7)
    assert rows.keys.shape == (2, 2, 4, 7, 8)
    grow(model, rows, [Alone(model, draw_ids(t, seed=t), rows) for t in (2, 4)], steps=3)
    with pytest.raises(UsageError, match="A row has 7 tokens already, and no more fit here"):
        model.extend_rows(torch.tensor([1, 2]), rows)
    rows.remove(1)
    with pytest.raises(UsageError, match="A row of 8 tokens: at most 7 fit here"):
        Alone(model, draw_ids(8, seed=0), rows)


@torch.inference_mode()
def test_positions_that_end_with_the_context() -> None:
    model = make(position="learned")
    rows = model.new_row_cache(2)
    alone = [Alone(model, draw_ids(t, seed=t), rows) for t in (T - 2, 1)]
    grow(model, rows, alone, steps=2)
    with pytest.raises(UsageError, match="A row has 12 tokens already"):
        model.extend_rows(torch.tensor([1, 2]), rows)
    assert rows.lengths.tolist() == [T, 3], "nothing was added"
    rows.remove(0)
    grow(model, rows, alone[1:], steps=T - 3)


@torch.inference_mode()
def test_wrong_tokens() -> None:
    model = make()
    rows = model.new_row_cache(3)
    Alone(model, [1], rows)
    with pytest.raises(UsageError, match="2 tokens for 1 rows: give each row one"):
        model.extend_rows(torch.tensor([1, 2]), rows)
    with pytest.raises(UsageError, match="ids hold 61, which is no token"):
        model.extend_rows(torch.tensor([V]), rows)
    assert rows.lengths.tolist() == [1, 0, 0]


def test_models_without_a_cache_say_so() -> None:
    model = create_model("bigram", V)
    assert model.new_row_cache(2) is None
    with pytest.raises(NotImplementedError, match="makes no cache"):
        model.extend_rows(torch.tensor([1]), make().new_row_cache(1))


@torch.inference_mode()
def test_half_precision() -> None:
    model = make().bfloat16()
    rows = model.new_row_cache(2)
    alone = [Alone(model, draw_ids(t, seed=t), rows) for t in (3, 14)]
    tokens = [5, 6]
    logits = model.extend_rows(torch.tensor(tokens), rows)
    assert logits.dtype == rows.keys.dtype == torch.bfloat16
    expected = torch.stack([a.extend(t) for a, t in zip(alone, tokens, strict=True)])
    # 8 bits of logits near 1, after two layers.
    torch.testing.assert_close(logits, expected, atol=0.05, rtol=0)
