"""Batches of pairs: what is in them, how they are padded, and going on where they stopped."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from toolkit.data import PairDataset, PairLoader
from toolkit.errors import UnknownNameError, UsageError
from toolkit.tasks import Pair, load_task
from toolkit.tokenizers import ByteTokenizer, CharTokenizer

ABC = CharTokenizer("abcdefghijklmnopqrstuvwxyz")


def dataset(spec: str = "reverse:9", block_size: int = 10) -> PairDataset:
    return PairDataset(load_task(spec), ABC, block_size=block_size)


def test_a_batch_written_out() -> None:
    digits = CharTokenizer("0123456789+")
    data = PairDataset(load_task("add:2"), CharTokenizer("9876543210"), digits, block_size=8)
    assert (data.vocab_size, data.source_vocab_size) == (13, 14)
    ids, targets, sources = data.batch(data.encode([Pair("1+2", "3"), Pair("95+7", "102")]))
    assert ids.tolist() == [[11, 6, 12, 12], [11, 8, 9, 7]]
    assert targets.tolist() == [[6, 10, -100, -100], [8, 9, 7, 10]]
    assert sources.tolist() == [[1, 10, 2, 11, 13], [9, 5, 10, 7, 11]]
    assert {tensor.dtype for tensor in (ids, targets, sources)} == {torch.int64}


def texts(batch: tuple[Tensor, ...], data: PairDataset) -> list[tuple[str, str]]:
    """The pairs of a batch, read back."""
    _, targets, sources = batch
    end = ABC.vocab_size
    found = []
    for target, source in zip(targets.tolist(), sources.tolist(), strict=True):
        assert target.count(end) == source.count(end) == 1
        found.append(
            (ABC.decode(source[: source.index(end)]), ABC.decode(target[: target.index(end)]))
        )
    return found


def test_batches_hold_the_pairs_of_the_task() -> None:
    data = dataset()
    loader = PairLoader(data, batch_size=8, seed=3)
    batches = [loader.next_batch() for _ in range(16)]
    found = [pair for batch in batches for pair in texts(batch, data)]
    assert sorted(found) == sorted(map(tuple, data.task.pool(0, 128, seed=3)))
    assert all(target == source[::-1] for source, target in found)
    # Like lengths together: what is padded is a small part, and without order it is near a half.
    targets = [batch[1] for batch in batches]
    padded = sum(int((target < 0).sum()) for target in targets)
    assert padded < 0.1 * sum(target.numel() for target in targets)
    lengths = [batch[2].size(1) for batch in batches]
    assert lengths != sorted(lengths)  # and yet in no order
    assert loader.num_tokens(16) == sum(len(target) + 1 for _, target in found)


def test_it_goes_on_where_it_stopped() -> None:
    data = dataset()
    loader = PairLoader(data, batch_size=4, seed=3)
    for _ in range(21):
        loader.next_batch()
    state = loader.state_dict()
    assert loader.peek()[1].equal(loader.peek()[1])
    assert loader.state_dict() == state
    later = [loader.next_batch() for _ in range(20)]
    again = PairLoader(dataset(), batch_size=4, seed=3)
    again.load_state_dict(state)
    for batch in later:
        for expected, found in zip(batch, again.next_batch(), strict=True):
            assert expected.equal(found)
    assert again.num_tokens(41) == loader.num_tokens(41)


def test_rows_of_a_batch() -> None:
    whole = PairLoader(dataset(), batch_size=6, seed=1).next_batch()[1]
    part = PairLoader(dataset(), batch_size=6, seed=1, rows=slice(2, 4)).next_batch()[1]
    assert part.equal(whole[2:4, : part.size(1)])
    assert (whole[2:4, part.size(1) :] == -100).all()


def test_what_is_held_out_comes_once() -> None:
    data = dataset()
    found: list[tuple[str, str]] = []
    tokens = 0
    for part in ((0, 3), (1, 3), (2, 3)):
        batches = list(data.evaluation_batches(batch_size=16, block_size=10, part=part))
        assert len(batches) == 21
        for batch in batches:
            tokens += int((batch[1] >= 0).sum())
            if (batch[1] >= 0).any():
                found += texts(batch, data)
    assert sorted(found) == sorted(map(tuple, data.task.held_out))
    assert tokens == data.num_tokens("val") == data.num_bytes("val")  # letters, and their ends
    with pytest.raises(UnknownNameError, match="split 'train'"):
        data.num_tokens("train")


def test_what_is_too_long() -> None:
    with pytest.raises(UsageError, match="reverse:9 has texts of 10 tokens"):
        dataset(block_size=9)


def test_a_file_loses_what_is_too_long(tmp_path: Path) -> None:
    """With an end 8 bytes are 9 tokens; longer ones are out, on either side."""
    sizes = [(n, source, target) for n in range(100, 130) for source in (8, 9) for target in (8, 9)]
    lines = [
        f"{n}{'s' * (source - 3)}\t{'ä' * 4}{'t' * (target - 8)}" for n, source, target in sizes
    ]
    path = tmp_path / "a.tsv"
    path.write_text("\n".join(lines), encoding="utf-8")
    data = PairDataset(load_task(str(path)), ByteTokenizer(), block_size=9)
    assert data.left_out == 90
    loader = data.loader(batch_size=4, block_size=9, seed=0)
    for _ in range(20):
        _, targets, sources = loader.next_batch()
        assert targets.shape == sources.shape == (4, 9)
