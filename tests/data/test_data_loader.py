"""Batches: windows that are really in the text, and every token once in an evaluation."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from toolkit.corpora import Corpus
from toolkit.data import (
    BatchLoader,
    TokenDataset,
    bits_per_byte,
    evaluation_batches,
    require_length,
)
from toolkit.errors import UsageError
from toolkit.tokenizers import ByteTokenizer


def counting(train: int, val: int = 0) -> TokenDataset:
    return TokenDataset.from_ids(np.arange(train), np.arange(val), vocab_size=max(train, val, 1))


def test_targets_follow_inputs_and_every_start_occurs() -> None:
    loader = BatchLoader(counting(20), batch_size=500, block_size=8, seed=1)
    x, y = loader.next_batch()
    assert x.dtype == y.dtype == torch.int64
    assert x.is_contiguous()
    assert y.is_contiguous()
    assert torch.equal(y, x + 1)
    assert torch.equal(x, x[:, :1] + torch.arange(8))
    # 12 starts; one of them missing in 500 draws has odds of 12 · (11/12)^500 < 1e-17.
    assert sorted(set(x[:, 0].tolist())) == list(range(12))


def test_windows_of_many_shards_are_in_the_text(tmp_path: Path) -> None:
    text = bytes(range(200)).decode("latin-1")
    corpus = Corpus.from_text(text)
    options = {"held_out": 0, "shard_tokens": 30}
    dataset = TokenDataset.build(corpus, ByteTokenizer(), tmp_path / "t", **options)
    assert len(dataset.shards("train")) > 5
    ids = dataset.tokens("train").tolist()
    x, y = BatchLoader(dataset, batch_size=64, block_size=8, seed=2).next_batch()
    rows = {tuple(ids[i : i + 9]) for i in range(len(ids) - 8)}
    for row, target in zip(x.tolist(), y.tolist(), strict=True):
        assert (*row, target[-1]) in rows


def test_the_stream_depends_on_the_seed_and_not_on_the_batch_size() -> None:
    dataset = counting(1000)
    one = BatchLoader(dataset, batch_size=6, block_size=4, seed=3).next_batch()[0]
    loader = BatchLoader(dataset, batch_size=3, block_size=4, seed=3)
    assert torch.equal(one, torch.cat([loader.next_batch()[0], loader.next_batch()[0]]))
    other = BatchLoader(dataset, batch_size=6, block_size=4, seed=4).next_batch()[0]
    assert not torch.equal(one, other)


def test_a_saved_position_goes_on_exactly_and_is_json() -> None:
    loader = BatchLoader(counting(500), batch_size=3, block_size=5, seed=5)
    loader.next_batch()
    state = json.loads(json.dumps(loader.state_dict()))
    expected = [loader.next_batch()[0] for _ in range(3)]
    resumed = BatchLoader(counting(500), batch_size=3, block_size=5, seed=99)
    resumed.load_state_dict(state)
    assert all(torch.equal(a, resumed.next_batch()[0]) for a in expected)


@given(num_tokens=st.integers(2, 60), block_size=st.integers(1, 12), batch_size=st.integers(1, 5))
def test_an_evaluation_has_every_token_but_the_first_once_in_order(
    num_tokens: int, block_size: int, batch_size: int
) -> None:
    targets, pairs = [], []
    batches = evaluation_batches(
        counting(1, num_tokens), batch_size=batch_size, block_size=block_size
    )
    for x, y in batches:
        assert x.shape == y.shape
        assert x.shape[0] <= batch_size
        kept = y >= 0
        targets += y[kept].tolist()
        pairs += list(zip(x[kept].tolist(), y[kept].tolist(), strict=True))
        assert set(y[~kept].tolist()) <= {-100}
    assert targets == list(range(1, num_tokens))
    assert all(b == a + 1 for a, b in pairs)


def test_too_little_text_is_one_line_that_says_what_helps() -> None:
    with pytest.raises(UsageError, match=r"10 tokens.*--block-size 10.*below 10") as caught:
        BatchLoader(counting(10), batch_size=1, block_size=10, seed=0)
    assert "\n" not in str(caught.value)
    require_length(counting(10), "train", 9)
    with pytest.raises(UsageError, match="at least 2"):
        next(evaluation_batches(counting(5, 1), batch_size=1, block_size=4))


def test_bits_per_byte_of_a_uniform_guess() -> None:
    # 256 tokens, one byte each: 8 bits. The same loss on tokens of two bytes each is half of it.
    assert bits_per_byte(math.log(256), 10, 10) == pytest.approx(8, rel=1e-12)
    assert bits_per_byte(math.log(256), 10, 20) == pytest.approx(4, rel=1e-12)
