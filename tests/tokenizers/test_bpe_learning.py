"""Training in compiled code: the very merges of the plain trainer, and what is around it."""

import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import UsageError
from toolkit.jit import COMPILED
from toolkit.tokenizers import BPETokenizer
from toolkit.tokenizers.bpe import MergeStep, count_pretokens, iter_merges, learning
from toolkit.tokenizers.bpe.alphabet import CHARACTER_ORDER
from toolkit.tokenizers.bpe.fast.counting import WordCounts, WordTable, count_words
from toolkit.tokenizers.bpe.fast.documents import DocumentBuffer
from toolkit.tokenizers.bpe.fast.merging import MergeRun
from toolkit.tokenizers.bpe.fast.scanners import SCANNERS
from toolkit.tokenizers.bpe.reference import train_reference

pytestmark = pytest.mark.skipif(not COMPILED, reason="nothing is compiled")

Row = tuple[int, int, int, int, int]


def fast(words: dict[bytes, int], num_merges: int, **options: Any) -> list[Row]:
    run = MergeRun(WordCounts.from_dict(words), num_merges, **options)
    run.run()
    return [tuple(row) for row in run.result().tolist()]


def plain(words: dict[bytes, int], num_merges: int, **options: Any) -> list[Row]:
    steps = islice(iter_merges(words, **options), num_merges)
    return [(s.left, s.right, s.count, s.num_tokens, s.symbols_in_use) for s in steps]


# -- merging ------------------------------------------------------------------------------------

WORDS = st.dictionaries(st.text("abc", min_size=1, max_size=14).map(str.encode), st.integers(1, 5))


@settings(max_examples=400, deadline=None)
@given(
    words=WORDS,
    min_frequency=st.integers(0, 4),
    max_token_length=st.none() | st.integers(1, 5),
    order=st.sampled_from([range(256), CHARACTER_ORDER]),
)
def test_merges_and_statistics_of_small_corpora(
    words: dict[bytes, int], min_frequency: int, max_token_length: int | None, order: Any
) -> None:
    options = {
        "min_frequency": min_frequency,
        "max_token_length": max_token_length,
        "byte_order": order,
    }
    assert fast(words, 60, **options) == plain(words, 60, **options)


@settings(max_examples=100, deadline=None)
@given(words=WORDS)
def test_merges_of_the_reference(words: dict[bytes, int]) -> None:
    merges = [(left, right) for left, right, *_ in fast(words, 12)]
    assert merges == train_reference(words, 12)


def test_a_corpus_with_tens_of_thousands_of_merges() -> None:
    # Grows every table several times.
    numbers = random.Random(3)
    words = Counter(
        bytes(numbers.choices(b"abcdefghijklmnop", k=numbers.randrange(2, 12)))
        for _ in range(20_000)
    )
    assert fast(words, 30_000) == plain(words, 30_000)


def test_counts_past_two_to_the_32() -> None:
    many = 3 << 40
    words = {b"ab": many, b"bc": many - 1, b"abab": 5}
    rows = fast(words, 3)
    assert rows == plain(words, 3)
    assert rows[0][:4] == (97, 98, many + 10, 3 * many + 8)
    # The smallest difference decides, where floating point could not tell them apart.
    assert fast({b"xy": (1 << 60) + 1, b"ab": 1 << 60}, 1)[0][:3] == (120, 121, (1 << 60) + 1)


# -- counting -----------------------------------------------------------------------------------

TEXT = st.text(st.sampled_from("ab '.\n1éſ你\u0301 the"), max_size=60)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(TEXT, max_size=5), threads=st.integers(1, 3))
def test_counts_are_those_of_regex(texts: list[str], threads: int) -> None:
    for name in ("gpt2", "cl100k", "o200k", "none"):
        counted = count_words(texts, SCANNERS[name], num_threads=threads)
        assert counted.to_dict() == count_pretokens(texts, name)


def test_counts_of_more_words_than_the_tables_begin_with() -> None:
    texts = [" ".join(f"w{number}" for number in range(60_000)), "long" * 40_000 + " w1 w2"]
    counted = count_words(texts, SCANNERS["gpt2"], num_threads=2)
    assert counted.to_dict() == count_pretokens(texts)
    assert WordCounts.from_dict(counted.to_dict()).to_dict() == counted.to_dict()


def test_counts_past_two_to_the_32_are_added() -> None:
    table = WordTable()
    for _ in range(3):
        table.add(WordCounts.from_dict({b" the": 1 << 40, b"a word of more than sixteen": 7}))
    assert table.words().to_dict() == {b" the": 3 << 40, b"a word of more than sixteen": 21}


def test_long_texts_are_cut_where_it_changes_nothing() -> None:
    # More than a million characters: the batches of the counter end inside this document.
    text = "It isn't 12345  so,\n\n  said we'LL  \t. " * 40_000
    assert count_words([text], SCANNERS["cl100k"], num_threads=2).to_dict() == count_pretokens(
        [text], "cl100k"
    )


# -- memory -------------------------------------------------------------------------------------


LETTERS = str.maketrans("0123456789", "abcdefghij")


def texts_of_rare_words(num_texts: int) -> list[str]:
    """A few frequent words, and in every text a hundred thousand that never come again."""
    frequent = " ".join(["the", "of", "and"] * 50_000)
    return [
        frequent + " " + " ".join(f"q{number}".translate(LETTERS) for number in range(begin, end))
        for begin, end in ((n * 100_000, (n + 1) * 100_000) for n in range(num_texts))
    ]


def test_the_rarest_words_are_dropped_and_it_is_said() -> None:
    texts = texts_of_rare_words(4)
    with pytest.warns(learning.RareWordsDropped) as caught:
        trained = BPETokenizer.train(texts, vocab_size=262, max_memory=32 << 20, num_threads=1)
    words = int(re.search(r"([\d,]+) rare pre-tokens", str(caught[0].message))[1].replace(",", ""))
    assert 200_000 < words < 400_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unlimited = BPETokenizer.train(texts, vocab_size=262, num_threads=1)
    # What is frequent stays, and its merges come first; what is rare has lost its weight.
    assert trained.merges[:4] != unlimited.merges[:4]
    assert (b"t", b"he") in trained.merges
    assert (b" ", b"q") in unlimited.merges
    again = count_words(texts, SCANNERS["gpt2"], max_memory=32 << 20, num_threads=1)
    assert again.to_dict()[b" the"] == 4 * 50_000 - 4
    assert again.dropped_words == words


def test_what_is_dropped_follows_the_rule() -> None:
    # Limit small enough to bite at once: the rarer half goes, counts of the others stay.
    words = {f"word{number}".encode(): 1 + number % 4 for number in range(40_000)}
    table = WordTable(limit=1)
    table.add(WordCounts.from_dict(words))
    left = table.words()
    assert left.to_dict() == {word: count for word, count in words.items() if count > 2}
    assert left.dropped_words == 20_000
    assert left.dropped_occurrences == 10_000 * (1 + 2)
    table.add(WordCounts.from_dict({b"word0": 1}))
    # Now 20,001 words: to leave no more than half of them, all 3s have to go as well.
    assert set(table.words().to_dict().values()) == {4}


def test_no_limit_drops_nothing_and_texts_are_not_kept() -> None:
    # 200 MB of text from a generator, with next to nothing distinct in it.
    line = "the same words again and again\n" * 1000

    def stream() -> Any:
        for _ in range(6000):
            yield line

    table = WordTable()
    counted = count_words(stream(), SCANNERS["gpt2"], num_threads=1)
    assert counted.counts.max() == 12_000_000
    assert counted.dropped_words == 0
    assert table.num_bytes < 8 << 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_memory": 1000}, "max_memory 1000 must be at least"),
        ({"num_threads": 0}, "num_threads 0 must be at least 1"),
        ({"max_memory": 1 << 30, "pattern": r"\w+|\W+"}, "max_memory needs one of the split"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BPETokenizer.train(["some text "] * 20_000, vocab_size=300, **options)


# -- the whole training -------------------------------------------------------------------------

CORPUS = [
    f"It isn't so, said the {number}. — naïve — cat; the more, the merrier they would be{number}! "
    + "We'll see what comes of it, if anything: " * 300
    + "你好 " * 300
    for number in range(9)
]


@pytest.mark.parametrize("pattern", ["gpt2", "cl100k", "o200k", "none", r"\w+|\W"])
def test_large_and_small_texts_take_different_ways_to_the_same_merges(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[MergeStep] = []
    compiled = BPETokenizer.train(CORPUS, vocab_size=310, pattern=pattern, on_merge=seen.append)
    monkeypatch.setattr(learning, "can_compile", lambda: False)
    seen_plainly: list[MergeStep] = []
    plainly = BPETokenizer.train(
        CORPUS, vocab_size=310, pattern=pattern, on_merge=seen_plainly.append
    )
    assert compiled.merges == plainly.merges
    assert seen == seen_plainly
    assert len(seen) == 310 - 256
    assert [step.token for step in seen] == [compiled.token_bytes(i) for i in range(256, 310)]


def test_progress_is_told_in_order() -> None:
    told: list[tuple[str, int, int | None]] = []
    BPETokenizer.train(
        CORPUS, vocab_size=300, on_progress=lambda *progress: told.append(progress), num_threads=2
    )
    counting = [done for stage, done, _ in told if stage == "counting"]
    merging = [(done, total) for stage, done, total in told if stage == "merging"]
    assert counting[-1] == sum(map(len, CORPUS))
    assert merging[-1] == (44, 44)
    assert [stage for stage, *_ in told] == ["counting"] * len(counting) + ["merging"] * len(
        merging
    )


def test_what_on_merge_raises_stops_the_training() -> None:
    def refuse(step: MergeStep) -> None:
        raise RuntimeError(f"not {step.token!r}")

    with pytest.raises(RuntimeError, match="not "):
        BPETokenizer.train(CORPUS, vocab_size=300, on_merge=refuse)
    assert not [t for t in threading.enumerate() if t.name == "toolkit-bpe-merging"]


@pytest.mark.slow
def test_ctrl_c_stops_a_long_merge_at_once(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent("""
            import random
            import signal
            from toolkit.tokenizers import BPETokenizer
            # Whoever was started in the background ignores Ctrl-C, and so would this.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            numbers = random.Random(0)
            text = "".join(numbers.choices("abcdefgh", k=3_000_000))

            def show(stage, done, total):
                if stage == "merging" and done:
                    print("merging", flush=True)

            # Compiling, where it has not been done before, cannot be stopped: it comes first.
            BPETokenizer.train([text[:1000]], vocab_size=300, pattern="none")
            # One word of three million letters: each merge takes milliseconds.
            BPETokenizer.train([text], vocab_size=60_000, pattern="none", on_progress=show)
            print("finished", flush=True)
        """)
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "merging\n"
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    rest, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert "finished" not in rest
    assert "KeyboardInterrupt" in errors


# -- compiled code itself -----------------------------------------------------------------------


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


TRAIN_AND_ENCODE = """
    import hashlib
    from toolkit.tokenizers import BPETokenizer
    texts = ["the cat sat on the mat, isn't it so? 你好 "] * 4000
    tokenizer = BPETokenizer.train(texts, vocab_size=290)
    batch = tokenizer.encode_batch(texts)
    assert tokenizer.decode_batch(batch) == texts
    assert tokenizer.count_batch(texts).tolist() == [len(batch[0])] * len(texts)
    print(hashlib.sha256(repr(tokenizer.merges).encode() + batch.ids.tobytes()).hexdigest())
"""


def test_without_the_compiler_everything_works_the_same() -> None:
    compiled = run_python(TRAIN_AND_ENCODE)
    plainly = run_python(TRAIN_AND_ENCODE, NUMBA_DISABLE_JIT="1")
    assert compiled.returncode == plainly.returncode == 0, compiled.stderr + plainly.stderr
    assert compiled.stdout == plainly.stdout
    assert len(compiled.stdout.strip()) == 64


def test_a_buffer_holds_documents_apart() -> None:
    documents = DocumentBuffer.pack(["ab", "", "é\ud83d\ude00\ud83d"])
    parts = [
        bytes(documents.buffer[begin:end])
        for begin, end in zip(documents.begins, documents.ends, strict=True)
    ]
    assert parts == [b"ab", b"", "é😀\ufffd".encode()]
    assert (len(documents), documents.longest) == (3, 9)  # é, 😀 and U+FFFD: 2 + 4 + 3
    assert np.all(documents.buffer[-64:] == 0)
