"""Explanations: the steps that lead from the bytes of a word to its tokens."""

from hypothesis import given
from hypothesis import strategies as st

from toolkit.tokenizers import BPETokenizer
from toolkit.tokenizers.bpe import Vocabulary
from toolkit.tokenizers.bpe.explain import ExplainedMerge, ExplainedWord

BYTES: list[bytes | None] = [bytes([byte]) for byte in range(256)]


def trained() -> BPETokenizer:
    return BPETokenizer.train(["low low low lower lower newest newest widest"], vocab_size=275)


def test_a_word_worked_out_by_hand() -> None:
    # Ranks: l+o is 0, lo+w is 1 (both five times in the text), whatever follows.
    tokenizer = BPETokenizer.train(["low low lower lower lowest"], vocab_size=260)
    assert tokenizer.merges == [(b"l", b"o"), (b"lo", b"w"), (b" ", b"low"), (b" low", b"e")]
    assert tokenizer.explain("slower lowest") == [
        ExplainedWord(
            word=b"slower",
            whole=False,
            merges=(
                ExplainedMerge(0, b"l", b"o", 256, (b"s", b"lo", b"w", b"e", b"r")),
                ExplainedMerge(1, b"lo", b"w", 257, (b"s", b"low", b"e", b"r")),
            ),
            tokens=(b"s", b"low", b"e", b"r"),
            ids=(115, 257, 101, 114),
        ),
        ExplainedWord(
            word=b" lowest",
            whole=False,
            merges=(
                ExplainedMerge(0, b"l", b"o", 256, (b" ", b"lo", b"w", b"e", b"s", b"t")),
                ExplainedMerge(1, b"lo", b"w", 257, (b" ", b"low", b"e", b"s", b"t")),
                ExplainedMerge(2, b" ", b"low", 258, (b" low", b"e", b"s", b"t")),
                ExplainedMerge(3, b" low", b"e", 259, (b" lowe", b"s", b"t")),
            ),
            tokens=(b" lowe", b"s", b"t"),
            ids=(259, 115, 116),
        ),
    ]


def test_a_word_that_is_a_token_as_a_whole() -> None:
    # "abc" is a token, but its bytes are merged to "ab" and "c" and no further.
    vocabulary = Vocabulary([*BYTES, b"ab", b"abc"], [(97, 98)], ignore_merges=True)
    (word,) = BPETokenizer(vocabulary, "none").explain("abc")
    assert (word.whole, word.ids, word.tokens) == (True, (257,), (b"abc",))
    assert [merge.symbols for merge in word.merges] == [(b"ab", b"c")]


@given(text=st.text("lowernst \u00e9\ud800", max_size=40))
def test_explanations_end_in_the_ids(text: str) -> None:
    tokenizer = trained()
    words = tokenizer.explain(text)
    assert [token_id for word in words for token_id in word.ids] == tokenizer.encode(text)
    for word in words:
        assert b"".join(word.tokens) == word.word
        for merge in word.merges:
            assert b"".join(merge.symbols) == word.word
            assert tokenizer.token_bytes(merge.id) == merge.left + merge.right
            assert tokenizer.merges[merge.rank] == (merge.left, merge.right)
