"""Batches: windows of the text, every validation token once, state that can be restored."""

import numpy as np
import pytest
import torch

from toolkit.data import BatchLoader, TokenDataset, evaluation_batches
from toolkit.errors import UsageError


def dataset(num_train: int = 1000, num_val: int = 103) -> TokenDataset:
    train = np.arange(num_train)
    return TokenDataset.from_ids(train, np.arange(num_val) + 5, vocab_size=2000)


def loader(data: TokenDataset, seed: int = 1) -> BatchLoader:
    return BatchLoader(data, batch_size=4, block_size=8, seed=seed)


def test_targets_are_the_next_tokens() -> None:
    x, y = loader(dataset()).next_batch()
    assert x.shape == y.shape == (4, 8)
    assert x.dtype == torch.int64
    # The ids of this dataset count up, so a window does too.
    assert torch.equal(x, x[:, :1] + torch.arange(8))
    assert torch.equal(y, x + 1)


def test_windows_are_random_uniform_and_reach_both_ends() -> None:
    data = TokenDataset.from_ids(np.arange(20), [1, 2], vocab_size=30)
    batches = loader(data)
    starts = np.concatenate([batches.next_batch()[0][:, 0].numpy() for _ in range(3000)])
    counts = np.bincount(starts, minlength=12)
    assert len(counts) == 12  # windows begin at 0 … 11: the last target is token 19
    # Chi-square with 11 degrees of freedom is above 31.3 for one seed in a thousand; this one is
    # fixed.
    assert ((counts - 1000) ** 2 / 1000).sum() < 31.3


def test_windows_stay_inside_shards() -> None:
    data = TokenDataset(
        2000,
        {
            "train": [np.arange(50, dtype=np.uint16), np.arange(500, 900, dtype=np.uint16)],
            "val": [np.arange(5, dtype=np.uint16)],
        },
        {"train": 450, "val": 5},
    )
    batches = loader(data)
    x = torch.cat([batches.next_batch()[0] for _ in range(200)])
    assert torch.equal(x, x[:, :1] + torch.arange(8))
    starts = set(x[:, 0].tolist())
    assert starts <= set(range(42)) | set(range(500, 892))
    assert min(starts) < 42
    assert max(starts) >= 500


def test_the_seed_decides_the_batches() -> None:
    data = dataset()
    one, same, other = loader(data, 1), loader(data, 1), loader(data, 2)
    first = one.next_batch()[0]
    assert torch.equal(first, same.next_batch()[0])
    assert not torch.equal(first, other.next_batch()[0])


def test_a_restored_state_goes_on_with_the_same_batches() -> None:
    batches = loader(dataset())
    batches.next_batch()
    state = batches.state_dict()
    expected = [batches.next_batch()[0] for _ in range(3)]
    again = loader(dataset(), seed=99)
    again.load_state_dict(state)
    for x in expected:
        assert torch.equal(again.next_batch()[0], x)


@pytest.mark.parametrize(("batch_size", "num_val"), [(3, 103), (1, 17), (4, 2), (2, 33), (100, 50)])
def test_every_validation_token_is_a_target_once(batch_size: int, num_val: int) -> None:
    data = dataset(num_val=num_val)
    targets, inputs = [], []
    for x, y in evaluation_batches(data, batch_size=batch_size, block_size=8):
        assert x.shape == y.shape
        counted = y >= 0
        targets += y[counted].tolist()
        inputs += x[counted].tolist()
    ids = data.tokens("val").tolist()
    assert targets == ids[1:]
    assert inputs == ids[:-1]


def test_too_little_text_names_lengths_and_the_way_out() -> None:
    data = TokenDataset.from_ids(np.arange(8), [1], vocab_size=10)
    with pytest.raises(UsageError, match=r"train part has 8 tokens.*--block-size 8.*below 8"):
        loader(data)
    with pytest.raises(UsageError, match="val part has 1 tokens"):
        next(evaluation_batches(data, batch_size=1, block_size=4))
