"""Batches: windows that are really in the text, and every token once in an evaluation."""

import hashlib
import json
import math
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from toolkit.corpora import Corpus, load_corpus
from toolkit.data import (
    BatchLoader,
    TokenDataset,
    bits_per_byte,
    building,
    evaluation_batches,
    require_length,
)
from toolkit.errors import UsageError
from toolkit.token_files import make_tokenizer
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


def test_a_batch_that_was_looked_at_is_still_the_next_one() -> None:
    loader = BatchLoader(counting(500), batch_size=3, block_size=5, seed=5)
    seen = loader.peek()
    assert all(torch.equal(a, b) for a, b in zip(seen, loader.next_batch(), strict=True))
    assert not torch.equal(seen[0], loader.peek()[0])


def test_parts_of_a_batch_are_the_batch() -> None:
    options: dict[str, Any] = {"batch_size": 6, "block_size": 4, "seed": 7}
    whole = BatchLoader(counting(500), **options)
    parts = [BatchLoader(counting(500), **options, rows=slice(i, i + 2)) for i in (0, 2, 4)]
    for _ in range(3):
        x, y = whole.next_batch()
        drawn = [part.next_batch() for part in parts]
        assert torch.equal(torch.cat([x for x, _ in drawn]), x)
        assert torch.equal(torch.cat([y for _, y in drawn]), y)


STREAM = """
import hashlib, numpy as np, torch
from toolkit.data import BatchLoader, TokenDataset
torch.set_num_threads(2)
dataset = TokenDataset.from_ids(np.arange(5000) % 997, [], vocab_size=997)
loader = BatchLoader(dataset, batch_size=5, block_size=16, seed=11)
digest = hashlib.sha256()
for _ in range(20):
    for ids in loader.next_batch():
        digest.update(ids.numpy().tobytes())
print(digest.hexdigest())
"""


def test_the_windows_of_a_seed_are_the_same_in_another_process_with_more_threads() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STREAM],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    # What a loop over NumPy's generator gives, written out.
    random, digest = np.random.Generator(np.random.PCG64(11)), hashlib.sha256()
    ids = np.arange(5000) % 997
    for _ in range(20):
        begins = random.integers(5000 - 16, size=5)
        for shift in (0, 1):
            rows = [ids[begin + shift : begin + shift + 16] for begin in begins]
            digest.update(np.stack(rows).astype(np.int64).tobytes())
    assert done.stdout.strip() == digest.hexdigest()


@pytest.mark.parametrize("kind", ["folder", "jsonl"])
def test_windows_cross_documents_at_an_end_of_text_token(tmp_path: Path, kind: str) -> None:
    documents = [f"Document {n} says {'yes and no ' * n}" for n in range(1, 30)]
    if kind == "jsonl":
        path = tmp_path / "all.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    else:
        path = tmp_path / "texts"
        path.mkdir()
        for n, text in enumerate(documents):
            (path / f"{n:02d}.txt").write_text(text)
    corpus = load_corpus(str(path))
    tokenizer = make_tokenizer("bpe:270", corpus, 0)
    end = tokenizer.special_tokens["<|endoftext|>"]
    dataset = TokenDataset.build(corpus, tokenizer, tmp_path / "ids", held_out=0)
    ids = dataset.tokens("train").tolist()
    expected: list[int] = []
    for text in documents:  # each encoded for itself, nothing before the first or after the last
        expected += [end, *tokenizer.encode(text)] if expected else tokenizer.encode(text)
    assert ids == expected
    x, _ = BatchLoader(dataset, batch_size=64, block_size=32, seed=0).next_batch()
    assert any(end in row[1:-1] for row in x.tolist())


def test_a_corpus_of_one_document_has_no_end_of_text_token(tmp_path: Path) -> None:
    corpus = Corpus.from_text("to be or not to be " * 20)
    tokenizer = make_tokenizer("bpe:260", corpus, 0)
    assert tokenizer.special_tokens == {}


class Stream:
    """Documents that are made when they are read: a corpus that is never whole in memory."""

    def __init__(self, num_documents: int) -> None:
        self.num_documents = num_documents

    def __iter__(self) -> Iterator[str]:
        for number in range(self.num_documents):
            yield f"{number:09d} " * 5_000  # 50 kB


def test_memory_does_not_grow_with_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "BATCH_CHARS", 500_000)
    peaks = []
    for num_documents in (80, 400):
        corpus = Corpus("stream", Stream(num_documents))
        tracemalloc.start()
        dataset = TokenDataset.build(
            corpus,
            ByteTokenizer(),
            tmp_path / str(num_documents),
            held_out=0.5,
            shard_tokens=1 << 17,
        )
        loader = BatchLoader(dataset, batch_size=8, block_size=64, seed=0)
        loader.next_batch()
        targets = sum(
            int((y >= 0).sum())
            for _, y in evaluation_batches(dataset, batch_size=512, block_size=64)
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert targets == num_documents * 25_000 - 1
    # 16 MB more of text, a tenth of which would show. What grows is the list of shards.
    assert peaks[1] - peaks[0] < 500_000
    assert peaks[0] > 500_000  # a batch of documents at least: the measure measures


@given(num_tokens=st.integers(2, 90), block_size=st.integers(1, 9), num_parts=st.integers(1, 4))
def test_parts_of_an_evaluation_are_as_long_and_together_the_whole(
    num_tokens: int, block_size: int, num_parts: int
) -> None:
    options = {"batch_size": 2, "block_size": block_size}
    whole = [y for _, y in evaluation_batches(counting(1, num_tokens), **options)]
    parts = [
        [y for _, y in evaluation_batches(counting(1, num_tokens), **options, part=(i, num_parts))]
        for i in range(num_parts)
    ]
    assert len({len(part) for part in parts}) == 1
    in_turn = [part[turn] for turn in range(len(parts[0])) for part in parts]
    assert all(torch.equal(a, b) for a, b in zip(in_turn, whole, strict=False))
    assert len(in_turn) >= len(whole)
    assert all(bool((y == -100).all()) for y in in_turn[len(whole) :])


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
    with pytest.raises(UsageError, match=r"1 tokens.* Use more text\.$"):
        BatchLoader(counting(1), batch_size=1, block_size=1, seed=0)
    require_length(counting(10), "train", 9)
    with pytest.raises(UsageError, match="at least 2"):
        next(evaluation_batches(counting(5, 1), batch_size=1, block_size=4))


def test_bits_per_byte_of_a_uniform_guess() -> None:
    # 256 tokens, one byte each: 8 bits. The same loss on tokens of two bytes each is half of it.
    assert bits_per_byte(math.log(256), 10, 10) == pytest.approx(8, rel=1e-12)
    assert bits_per_byte(math.log(256), 10, 20) == pytest.approx(4, rel=1e-12)
