"""Token files: what is on disk, damage, resuming a killed build, and builders that race."""

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.corpora import Corpus
from toolkit.data import TokenDataset, building
from toolkit.errors import RunError, UnknownNameError, UsageError, VocabularyError
from toolkit.tokenizers import ByteTokenizer, CharTokenizer, TokenBatch

TEXT = "To be, or not to be: that is the question. " * 20


class EndingTokenizer(ByteTokenizer):
    """Bytes, and an end-of-text token where it is given a free id."""

    calls: int = 0
    stop_at: int | None = None

    @property
    def vocab_size(self) -> int:
        return 257

    @property
    def special_tokens(self) -> dict[str, int]:
        return {"<|endoftext|>": 256}

    def encode_batch(self, texts: Any, *, num_threads: int | None = None) -> TokenBatch:
        self.calls += len(texts)
        if self.stop_at is not None and self.calls > self.stop_at:
            raise KeyboardInterrupt
        return TokenBatch.from_lists([list(text.encode()) for text in texts])


def on_disk(folder: Path, split: str, dtype: str = "<u2") -> list[int]:
    """The ids as another program would read them."""
    files = sorted(folder.glob(f"{split}-*.bin"))
    return [i for file in files for i in np.fromfile(file, dtype).tolist()]


def test_files_hold_the_ids_of_each_side_of_the_split(tmp_path: Path) -> None:
    dataset = TokenDataset.build(Corpus.from_text(TEXT), ByteTokenizer(), tmp_path / "t")
    cut = len(TEXT) * 9 // 10
    assert bytes(on_disk(tmp_path / "t", "train")).decode() == TEXT[:cut]
    assert bytes(on_disk(tmp_path / "t", "val")).decode() == TEXT[cut:]
    assert dataset.num_tokens("val") == dataset.num_bytes("val") == len(TEXT) - cut
    assert dataset.tokens("train").dtype == np.uint16


def test_bytes_are_counted_in_utf8(tmp_path: Path) -> None:
    corpus = Corpus.from_text("aé€𝄞" * 5)
    dataset = TokenDataset.build(corpus, CharTokenizer.train(corpus), tmp_path / "t", held_out=0.2)
    assert (dataset.num_tokens("train"), dataset.num_bytes("train")) == (16, 40)
    assert (dataset.num_tokens("val"), dataset.num_bytes("val")) == (4, 10)


def test_an_end_of_text_token_stands_between_documents_and_nowhere_else(tmp_path: Path) -> None:
    corpus = Corpus.from_documents(["ab", "c", "de"])
    dataset = TokenDataset.build(corpus, EndingTokenizer(), tmp_path / "t", held_out=0)
    assert dataset.tokens("train").tolist() == [97, 98, 256, 99, 256, 100, 101]
    assert dataset.num_tokens("val") == 0


def test_large_vocabularies_take_four_bytes() -> None:
    dataset = TokenDataset.from_ids([0, 65536], [1], vocab_size=65537)
    assert dataset.tokens("train").dtype == np.uint32
    assert dataset.tokens("train").tolist() == [0, 65536]
    assert TokenDataset.from_ids([65535], [], 65536).tokens("train").dtype == np.uint16


@settings(max_examples=40, deadline=None)
@given(
    documents=st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=8),
    shard_tokens=st.integers(1, 20),
    stop_at=st.integers(0, 8),
    batch_chars=st.integers(1, 20),
)
def test_a_killed_build_ends_as_an_unbroken_one(
    tmp_path_factory: pytest.TempPathFactory,
    documents: list[str],
    shard_tokens: int,
    stop_at: int,
    batch_chars: int,
) -> None:
    tmp_path = tmp_path_factory.mktemp("killed")
    corpus = Corpus.from_documents(documents)
    options: dict[str, Any] = {"held_out": 0, "shard_tokens": shard_tokens}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "BATCH_CHARS", batch_chars)
        whole = TokenDataset.build(corpus, EndingTokenizer(), tmp_path / "whole", **options)
        tokenizer = EndingTokenizer()
        tokenizer.stop_at = stop_at
        try:
            TokenDataset.build(corpus, tokenizer, tmp_path / "t", **options)
        except KeyboardInterrupt:
            assert not (tmp_path / "t").exists()
            tokenizer.stop_at = None
            TokenDataset.build(corpus, tokenizer, tmp_path / "t", **options)
    for path in sorted((tmp_path / "whole").iterdir()):
        assert (tmp_path / "t" / path.name).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "t").iterdir())) == len(list((tmp_path / "whole").iterdir()))
    assert whole.num_bytes("train") == len("".join(documents).encode())
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "t"}  # nothing left behind


def test_a_second_build_skips_the_documents_of_finished_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "BATCH_CHARS", 1)  # one document at a time
    corpus = Corpus.from_documents([letter * 99 for letter in "abcdefgh"])
    tokenizer = EndingTokenizer()
    tokenizer.stop_at = 5
    with pytest.raises(KeyboardInterrupt):
        TokenDataset.build(corpus, tokenizer, tmp_path / "t", held_out=0, shard_tokens=100)
    tokenizer.calls, tokenizer.stop_at = 0, None
    TokenDataset.build(corpus, tokenizer, tmp_path / "t", held_out=0, shard_tokens=100)
    # 499 ids of five documents made 4 shards of 100; the fifth document has to be done again.
    assert tokenizer.calls == 4


def test_a_build_killed_twice_inside_one_document_goes_on_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "BATCH_CHARS", 1)
    text = "".join(chr(97 + i % 26) for i in range(39))
    corpus = Corpus.from_documents([text, "two"])
    # 20 of 39 ids are in a shard, then 15 of the other 19 too: both counts make the position.
    for shard_tokens in (20, 5):
        tokenizer = EndingTokenizer()
        tokenizer.stop_at = 1
        with pytest.raises(KeyboardInterrupt):
            TokenDataset.build(
                corpus, tokenizer, tmp_path / "t", held_out=0, shard_tokens=shard_tokens
            )
    dataset = TokenDataset.build(corpus, EndingTokenizer(), tmp_path / "t", held_out=0)
    assert dataset.tokens("train").tolist() == [*text.encode(), 256, *b"two"]


def test_an_interrupted_build_of_another_text_is_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "BATCH_CHARS", 1)
    tokenizer = EndingTokenizer()
    tokenizer.stop_at = 1
    documents = Corpus.from_documents(["a" * 50, "b" * 50])
    with pytest.raises(KeyboardInterrupt):
        TokenDataset.build(documents, tokenizer, tmp_path / "t", held_out=0, shard_tokens=20)
    other = Corpus.from_documents(["c" * 50])
    dataset = TokenDataset.build(other, EndingTokenizer(), tmp_path / "t", held_out=0)
    assert bytes(dataset.tokens("train").tolist()) == b"c" * 50


def test_build_replaces_other_token_files_but_nothing_else(tmp_path: Path) -> None:
    TokenDataset.build(Corpus.from_text("a" * 50), ByteTokenizer(), tmp_path / "t")
    dataset = TokenDataset.build(Corpus.from_text("b" * 50), ByteTokenizer(), tmp_path / "t")
    assert bytes(dataset.tokens("train").tolist()) == b"b" * 45
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    with pytest.raises(UsageError, match=r"is not empty and holds no token files"):
        TokenDataset.build(Corpus.from_text("b" * 50), ByteTokenizer(), tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep me"


def test_text_without_a_token_leaves_nothing_behind(tmp_path: Path) -> None:
    tokenizer = CharTokenizer.train(["ab"])
    with pytest.raises(VocabularyError, match="z"):
        TokenDataset.build(Corpus.from_text("abz" * 9), tokenizer, tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


def damage_missing(folder: Path) -> None:
    (folder / "val-00000.bin").unlink()


def damage_short(folder: Path) -> None:
    path = folder / "train-00000.bin"
    path.write_bytes(path.read_bytes()[:-2])


def damage_byte(folder: Path) -> None:
    path = folder / "train-00000.bin"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


def damage_no_index(folder: Path) -> None:
    (folder / "index.json").unlink()


def damage_torn_index(folder: Path) -> None:
    path = folder / "index.json"
    path.write_bytes(path.read_bytes()[:40])


def damage_list_index(folder: Path) -> None:
    (folder / "index.json").write_text("[1, 2]")


def damage_newer(folder: Path) -> None:
    change_index(folder, "format", 99)


def damage_dtype(folder: Path) -> None:
    change_index(folder, "dtype", "O")


def change_index(folder: Path, key: str, value: object) -> None:
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, key: value}))


@pytest.mark.parametrize(
    "damage",
    [
        damage_missing,
        damage_short,
        damage_byte,
        damage_no_index,
        damage_torn_index,
        damage_list_index,
        damage_newer,
        damage_dtype,
    ],
)
def test_damage_is_refused_by_open_and_repaired_by_cached(tmp_path: Path, damage: Any) -> None:
    corpus, tokenizer = Corpus.from_text(TEXT), ByteTokenizer()
    folder = TokenDataset.cached(corpus, tokenizer, tmp_path).folder
    assert folder is not None
    damage(folder)
    with pytest.raises(RunError) as caught:
        TokenDataset.open(folder)
    assert "\n" not in str(caught.value)
    repaired = TokenDataset.cached(corpus, tokenizer, tmp_path)
    assert repaired.folder == folder
    assert bytes(np.concatenate([repaired.tokens(s) for s in ("train", "val")]).tolist()) == (
        TEXT.encode()
    )


def test_cached_builds_once_for_each_text_tokenizer_and_split(tmp_path: Path) -> None:
    corpus, tokenizer = Corpus.from_text(TEXT), EndingTokenizer()
    first = TokenDataset.cached(corpus, tokenizer, tmp_path)
    calls = tokenizer.calls
    assert TokenDataset.cached(corpus, tokenizer, tmp_path).folder == first.folder
    assert tokenizer.calls == calls
    others = [
        TokenDataset.cached(Corpus.from_text(TEXT + "!"), tokenizer, tmp_path),
        TokenDataset.cached(corpus, CharTokenizer.train(corpus), tmp_path),
        TokenDataset.cached(corpus, tokenizer, tmp_path, held_out=0.2),
    ]
    assert len({first.folder, *(other.folder for other in others)}) == 4


def test_a_folder_that_appears_meanwhile_is_used_and_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, tokenizer = Corpus.from_text(TEXT), EndingTokenizer()
    folder = TokenDataset.cached(corpus, tokenizer, tmp_path / "c").folder
    assert folder is not None
    folder.rename(tmp_path / "winner")
    really_open = TokenDataset.open

    def open_while_the_winner_renames(path: Path) -> TokenDataset:
        try:
            return really_open(path)
        finally:
            if not folder.exists():
                (tmp_path / "winner").rename(folder)

    monkeypatch.setattr(TokenDataset, "open", open_while_the_winner_renames)
    tokenizer.calls = 0
    dataset = TokenDataset.cached(corpus, tokenizer, tmp_path / "c")
    assert tokenizer.calls == 0
    assert dataset.num_tokens("train") == len(TEXT) * 9 // 10


def _build_in_process(root: Path, results: Any) -> None:
    dataset = TokenDataset.cached(Corpus.from_text(TEXT), ByteTokenizer(), root)
    ids = np.concatenate([dataset.tokens("train"), dataset.tokens("val")])
    results.put((str(dataset.folder), bytes(ids.tolist())))


def test_processes_that_build_at_once_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results: Any = context.Queue()
    workers = [
        context.Process(target=_build_in_process, args=(tmp_path, results)) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    found = {results.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    assert {text for _, text in found} == {TEXT.encode()}
    assert len(found) == 1
    assert len(list(tmp_path.iterdir())) == 1  # no lock, no half-built folder


def test_an_unwritable_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError) as caught:
        TokenDataset.cached(Corpus.from_text(TEXT), ByteTokenizer(), tmp_path / "file" / "cache")
    assert "\n" not in str(caught.value)


def test_ids_and_splits_that_cannot_be_are_refused() -> None:
    for bad in ([7], [-1], [0.5], [[1, 2]]):
        with pytest.raises(UsageError):
            TokenDataset.from_ids(bad, [], vocab_size=7)
    dataset = TokenDataset.from_ids([1], [2], vocab_size=7)
    for method in (dataset.tokens, dataset.num_tokens, dataset.num_bytes):
        with pytest.raises(UnknownNameError, match="train, val"):
            method("test")


def test_reading_a_piece_joins_shards(tmp_path: Path) -> None:
    dataset = TokenDataset.build(
        Corpus.from_text(TEXT), ByteTokenizer(), tmp_path / "t", held_out=0, shard_tokens=100
    )
    ids = list(TEXT.encode())
    assert len(dataset.shards("train")) == 9
    for start, stop in (
        (0, 5),
        (95, 105),
        (0, 860),
        (100, 200),
        (199, 401),
        (850, 999),
        (900, 990),
    ):
        assert dataset.read("train", start, stop).tolist() == ids[start:stop], (start, stop)
    assert dataset.read("val", 0, 10).tolist() == []


def test_a_moved_folder_opens(tmp_path: Path) -> None:
    TokenDataset.build(Corpus.from_text(TEXT), ByteTokenizer(), tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert TokenDataset.open(tmp_path / "b").num_tokens("train") == len(TEXT) * 9 // 10
