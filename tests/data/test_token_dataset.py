"""Token files: what is in them, and that they survive kills, damage and two builders at once."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from toolkit.corpora import Corpus
from toolkit.data import TokenDataset, bits_per_byte
from toolkit.errors import RunError, UsageError, VocabularyError
from toolkit.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer

TEXT = "to be or not to be, that is the question: é\n" * 40


def test_the_files_hold_the_ids_of_both_parts(tmp_path: Path) -> None:
    corpus, tokenizer = Corpus.from_text(TEXT, "t"), ByteTokenizer()
    dataset = TokenDataset.build(corpus, tokenizer, tmp_path / "tokens", held_out=0.25)
    train, val = corpus.split(0.25)
    assert dataset.tokens("train").tolist() == tokenizer.encode(train.text())
    assert dataset.tokens("val").tolist() == tokenizer.encode(val.text())
    assert dataset.num_bytes("train") == len(train.text().encode())
    assert dataset.num_bytes("train") + dataset.num_bytes("val") == len(TEXT.encode())
    assert isinstance(dataset.shards("train")[0], np.memmap)
    assert dataset.shards("train")[0].dtype == np.uint16


def test_shards_joined_are_the_whole(tmp_path: Path) -> None:
    corpus, tokenizer = Corpus.from_text(TEXT, "t"), ByteTokenizer()
    dataset = TokenDataset.build(corpus, tokenizer, tmp_path / "tokens", shard_tokens=100)
    sizes = [len(shard) for shard in dataset.shards("train")]
    assert len(sizes) > 2
    assert set(sizes[:-1]) == {100}
    train, _ = corpus.split(0.1)
    assert dataset.tokens("train").tolist() == tokenizer.encode(train.text())


def test_documents_are_kept_apart_by_the_end_of_text_token(tmp_path: Path) -> None:
    documents = ["first document. " * 5, "second one. " * 5, "third. " * 5]
    tokenizer = BPETokenizer.train(documents, vocab_size=300, special_tokens=["<|endoftext|>"])
    end = tokenizer.special_tokens["<|endoftext|>"]
    corpus = Corpus.from_documents(documents, "docs")
    dataset = TokenDataset.build(corpus, tokenizer, tmp_path / "tokens", held_out=0.0)
    whole = [tokenizer.encode(text) for text in documents]
    expected = [*whole[0], end, *whole[1], end, *whole[2]]
    assert dataset.tokens("train").tolist() == expected


def test_the_cache_is_used_again_and_belongs_to_corpus_and_tokenizer(tmp_path: Path) -> None:
    corpus, other = Corpus.from_text(TEXT, "t"), Corpus.from_text(TEXT + "!", "t")
    tokenizer = CharTokenizer.train([TEXT + "!"])
    first = TokenDataset.cached(corpus, tokenizer, tmp_path)
    assert first.folder is not None
    stamp = (first.folder / "index.json").stat().st_mtime_ns
    assert TokenDataset.cached(corpus, tokenizer, tmp_path).folder == first.folder
    assert (first.folder / "index.json").stat().st_mtime_ns == stamp
    folders = {
        first.folder,
        TokenDataset.cached(other, tokenizer, tmp_path).folder,
        TokenDataset.cached(corpus, ByteTokenizer(), tmp_path).folder,
        TokenDataset.cached(corpus, tokenizer, tmp_path, held_out=0.2).folder,
    }
    assert len(folders) == 4


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "index", "newer"])
def test_a_damaged_cache_is_refused_and_built_again(tmp_path: Path, damage: str) -> None:
    corpus, tokenizer = Corpus.from_text(TEXT, "t"), ByteTokenizer()
    good = TokenDataset.cached(corpus, tokenizer, tmp_path)
    assert good.folder is not None
    expected = good.tokens("train").tolist()
    shard, index = good.folder / "train-00000.bin", good.folder / "index.json"
    data = bytearray(shard.read_bytes())
    if damage == "flip":
        data[10] ^= 1
        shard.write_bytes(data)
    elif damage == "truncate":
        shard.write_bytes(data[:-2])
    elif damage == "remove":
        shard.unlink()
    elif damage == "index":
        index.write_text("{")
    else:
        index.write_text(json.dumps({**json.loads(index.read_text()), "format": 99}))
    with pytest.raises(RunError):
        TokenDataset.open(good.folder)
    again = TokenDataset.cached(corpus, tokenizer, tmp_path)
    assert again.tokens("train").tolist() == expected


def test_a_build_that_failed_leaves_no_dataset_and_can_be_repeated(tmp_path: Path) -> None:
    tokenizer = CharTokenizer.train(["abc"])
    with pytest.raises(VocabularyError, match="'x'"):
        TokenDataset.build(Corpus.from_text("abcx" * 50, "t"), tokenizer, tmp_path / "tokens")
    assert not (tmp_path / "tokens").exists()
    good = Corpus.from_text("abca" * 50, "t")
    dataset = TokenDataset.build(good, tokenizer, tmp_path / "tokens")
    assert dataset.num_tokens("train") + dataset.num_tokens("val") == 200


def _build(folder: str) -> int:
    corpus = Corpus.from_text(TEXT, "t")
    return TokenDataset.cached(corpus, ByteTokenizer(), folder).num_tokens("train")


def test_two_builders_at_once_get_the_same_files(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        counts = pool.map(_build, [str(tmp_path)] * 4)
    expected = len(Corpus.from_text(TEXT, "t").split(0.1)[0].text().encode())
    assert counts == [expected] * 4


def test_large_vocabularies_take_four_bytes() -> None:
    dataset = TokenDataset.from_ids([70_000, 1], [2], vocab_size=70_001)
    assert dataset.tokens("train").dtype == np.uint32
    assert dataset.tokens("train").tolist() == [70_000, 1]
    with pytest.raises(UsageError, match=r"not all in 0 … 9"):
        TokenDataset.from_ids([10], [1], vocab_size=10)


def test_bits_per_byte_of_a_uniform_guess_over_bytes_is_eight() -> None:
    assert bits_per_byte(np.log(256), 1000, 1000) == pytest.approx(8.0)
    assert bits_per_byte(np.log(256), 500, 1000) == pytest.approx(4.0)
