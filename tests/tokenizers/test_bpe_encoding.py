"""Encoding and decoding in compiled code: the ids of the plain encoder, whatever the text."""

import random
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import VocabularyError
from toolkit.jit import COMPILED
from toolkit.tokenizers import BPETokenizer, TokenBatch
from toolkit.tokenizers.bpe import Encoder, Vocabulary, split_pattern
from toolkit.tokenizers.bpe.fast.encoding import FastEncoder
from toolkit.tokenizers.bpe.reference import encode_reference, train_reference
from toolkit.tokenizers.bpe.tokenizer import SMALL_TEXT
from toolkit.tokenizers.bpe.vocabulary import Pair

pytestmark = pytest.mark.skipif(not COMPILED, reason="nothing is compiled")

BYTES = [bytes([byte]) for byte in range(256)]


def vocabulary_of(merges: Sequence[Pair], *, ranks: bool = False) -> Vocabulary:
    tokens = list(BYTES)
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return Vocabulary(tokens, None if ranks else merges, ignore_merges=ranks)


def assert_same(vocabulary: Vocabulary, texts: Sequence[str], pattern: str = "gpt2") -> None:
    plain = Encoder(vocabulary, split_pattern(pattern))
    fast = FastEncoder(vocabulary, split_pattern(pattern))
    expected = [plain.encode(text) for text in texts]
    assert [fast.encode(text) for text in texts] == expected
    assert [fast.count(text) for text in texts] == [len(ids) for ids in expected]
    for threads in (1, 2, 3):
        batch = fast.encode_batch(texts, threads)
        assert batch.ids.dtype == np.uint32
        assert batch.offsets.dtype == np.int64
        assert [batch[i].tolist() for i in range(len(texts))] == expected
        assert fast.count_batch(texts, threads).tolist() == [len(ids) for ids in expected]


CORPORA = st.lists(st.text("ab ", min_size=1, max_size=10), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(corpus=CORPORA, word=st.text("ab", min_size=1, max_size=90), ranks=st.booleans())
def test_ids_of_the_reference(corpus: list[str], word: str, ranks: bool) -> None:
    words = {text.encode(): 1 for text in corpus}
    merges = train_reference(words, 10)
    fast = FastEncoder(vocabulary_of(merges, ranks=ranks), split_pattern("none"))
    assert fast.encode(word) == encode_reference(word.encode(), merges)


@pytest.fixture(scope="module")
def learned() -> list[Pair]:
    text = "the quick brown fox isn't there; über naïve 你好 hello hello 12345 " * 3000
    tokenizer = BPETokenizer.train([text, "aaaaaaaa " * 400], vocab_size=400)
    return tokenizer._vocabulary.merges


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(st.text("thequick üïé你'ſ\n\t 1a\ud800\udc00", max_size=80), max_size=6),
    ranks=st.booleans(),
    pattern=st.sampled_from(["gpt2", "cl100k", "o200k", "none"]),
)
def test_ids_of_any_text(texts: list[str], ranks: bool, pattern: str, learned: list[Pair]) -> None:
    assert_same(vocabulary_of(learned, ranks=ranks), texts, pattern)


@settings(max_examples=100, deadline=None)
@given(
    order=st.permutations(range(12)),
    text=st.text("abc", max_size=40),
    ignore_merges=st.booleans(),
)
def test_merges_in_any_order_of_ids(order: list[int], text: str, ignore_merges: bool) -> None:
    # Tokens that nothing makes, merges that come late, ids that say nothing about ranks.
    names = [
        b"ab",
        b"bc",
        b"abc",
        b"ca",
        b"cab",
        b"aa",
        b"aaa",
        b"bb",
        b"bca",
        b"cc",
        b"bbb",
        b"ac",
    ]
    shuffled = [names[index] for index in order]
    tokens: list[bytes | None] = [None, *shuffled, None, *BYTES]
    ids = {token: token_id for token_id, token in enumerate(tokens) if token is not None}
    parts = [(b"a", b"b"), (b"b", b"c"), (b"a", b"bc"), (b"ab", b"c"), (b"c", b"a"), (b"a", b"a")]
    parts += [(b"aa", b"a"), (b"b", b"b"), (b"bc", b"a"), (b"c", b"c"), (b"bb", b"b")]
    merges = [(ids[left], ids[right]) for left, right in parts]
    assert_same(Vocabulary(tokens, merges, ignore_merges=ignore_merges), [text, text * 3])


def test_words_of_every_length(learned: list[Pair]) -> None:
    # 7, 8, 15, 16 and 64 bytes are borders of one kind or another.
    texts = ["x" * length + " " + "the" * length for length in range(140)]
    texts += ["".join(chr(97 + (i * i) % 26) for i in range(length)) for length in range(140)]
    for ranks in (False, True):
        assert_same(vocabulary_of(learned, ranks=ranks), [*texts, *texts])


def test_words_that_differ_only_late(learned: list[Pair]) -> None:
    # Long words are found by their hash: these agree in all but one byte.
    words = ["q" * place + "z" + "q" * (40 - place) for place in range(41)]
    assert_same(vocabulary_of(learned), [" ".join(words), " ".join(reversed(words))])


@pytest.mark.slow
def test_more_words_than_are_remembered(learned: list[Pair]) -> None:
    # The table of what was met grows to its largest, is emptied, and grows again.
    numbers = random.Random(11)
    words = [
        "".join(numbers.choices("thequickbrown", k=numbers.randrange(4, 30)))
        for _ in range(500_000)
    ]
    texts = [" ".join(words[begin : begin + 5000]) for begin in range(0, len(words), 5000)]
    vocabulary = vocabulary_of(learned)
    fast = FastEncoder(vocabulary, split_pattern("gpt2"))
    plain = Encoder(vocabulary, split_pattern("gpt2"))
    for _ in range(2):
        batch = fast.encode_batch(texts, 1)
        for index in range(0, len(texts), 10):
            assert batch[index].tolist() == plain.encode(texts[index])


def test_long_texts_are_shared_between_threads(learned: list[Pair]) -> None:
    text = "It isn't 12345  so,\n\n  said the fox  \t. über " * 30_000
    assert len(text) > 1_000_000
    for pattern in ("gpt2", "cl100k", "o200k"):
        fast = FastEncoder(vocabulary_of(learned), split_pattern(pattern))
        batch = fast.encode_batch(["a", text, "", "b c"], 3)
        assert batch[0].tolist() == [97]
        assert batch[1].tolist() == fast.encode(text)
        assert len(batch[2]) == 0
        assert fast.count_batch(["a", text, "", "b c"], 3).tolist() == [
            len(batch[index]) for index in range(4)
        ]


PATHOLOGICAL = [
    *("a" * 1_000_000, " " * 1_000_000, "\n" * 1_000_000, "😀" * 250_000, "ab" * 500_000),
    *("é你" * 200_000, "\t \n" * 300_000, "1" * 1_000_000, "'" * 1_000_000, "a'" * 400_000),
    "." * 999_999 + "\n",
]


@pytest.mark.parametrize("text", PATHOLOGICAL, ids=lambda text: f"{text[:2]!r} x {len(text)}")
def test_pathological_texts_come_back(text: str, learned: list[Pair]) -> None:
    # Quadratic time would take hours here.
    for pattern in ("gpt2", "cl100k", "o200k"):
        vocabulary = vocabulary_of(learned)
        tokenizer = BPETokenizer(vocabulary, pattern)
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.count(text) == len(ids)
        plain = Encoder(vocabulary, split_pattern(pattern))
        assert FastEncoder(vocabulary, split_pattern(pattern)).encode(text[:5000]) == plain.encode(
            text[:5000]
        )


def test_threads_may_share_an_encoder(learned: list[Pair]) -> None:
    fast = FastEncoder(vocabulary_of(learned), split_pattern("gpt2"))
    numbers = random.Random(5)
    texts = ["".join(numbers.choices("the quick brown", k=3000)) for _ in range(40)]
    expected = [fast.encode(text) for text in texts]
    wrong: list[int] = []

    def encode(order: list[int]) -> None:
        for index in order:
            if fast.encode(texts[index]) != expected[index]:
                wrong.append(index)

    threads = [
        threading.Thread(target=encode, args=(numbers.sample(range(40), 40) * 3,)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- through the tokenizer ----------------------------------------------------------------------


def test_short_and_long_use_give_the_same_ids(learned: list[Pair]) -> None:
    tokenizer = BPETokenizer(vocabulary_of(learned))
    text = "the quick brown fox isn't there"
    first = tokenizer.encode(text)  # plain
    assert tokenizer.encode_batch([text] * 3, num_threads=2)[1].tolist() == first
    tokenizer.encode("x" * SMALL_TEXT)
    assert tokenizer.encode(text) == first  # compiled
    assert tokenizer.count(text) == len(first)
    assert tokenizer.encode_batch([]).ids.tolist() == []
    assert tokenizer.count_batch([]).tolist() == []


def test_special_tokens_and_surrogates_in_compiled_use(learned: list[Pair]) -> None:
    vocabulary = vocabulary_of(learned)
    special = {"<|endoftext|>": len(vocabulary.tokens)}
    tokenizer = BPETokenizer(vocabulary, special_tokens=special)
    text = "the <|endoftext|> fox \ud83d\ude00 \ud83d"
    short = tokenizer.encode(text), tokenizer.encode(text, allowed_special=set(special))
    tokenizer.encode("x" * SMALL_TEXT)
    assert (tokenizer.encode(text), tokenizer.encode(text, allowed_special=set(special))) == short
    assert special["<|endoftext|>"] not in short[0]
    assert short[1].count(special["<|endoftext|>"]) == 1
    assert tokenizer.decode(short[1]) == "the <|endoftext|> fox 😀 \ufffd"


def test_batches_decode_to_their_texts(learned: list[Pair]) -> None:
    vocabulary = vocabulary_of(learned)
    end = len(vocabulary.tokens) + 3  # and ids between that stand for nothing
    tokenizer = BPETokenizer(vocabulary, special_tokens={"<|end|>": end})
    texts = ["the quick 你好 fox\n" * 300, "", "über", "x" * 70_000]
    batch = tokenizer.encode_batch(texts)
    assert len(batch.ids) > SMALL_TEXT
    assert tokenizer.decode_batch(batch) == texts
    assert tokenizer.decode_batch([batch[0].tolist(), [], batch[2]]) == texts[:3]
    # Bytes that are no character, special tokens, and ids that are none.
    broken = TokenBatch.from_lists([[0xE4] * SMALL_TEXT, [end, 97, end - 1]])
    assert tokenizer.decode_batch(broken) == ["\ufffd" * SMALL_TEXT, "<|end|>a"]
    wrong = TokenBatch.from_lists([[97] * SMALL_TEXT, [end + 1]])
    with pytest.raises(VocabularyError, match=f"No token has the id {end + 1}"):
        tokenizer.decode_batch(wrong)


def test_part_of_a_batch_decodes_alone(learned: list[Pair]) -> None:
    tokenizer = BPETokenizer(vocabulary_of(learned))
    texts = ["the fox " * 20_000, "quick " * 20_000]
    batch = tokenizer.encode_batch(texts)
    second = TokenBatch(batch.ids, batch.offsets[1:])
    assert tokenizer.decode_batch(second) == texts[1:]
