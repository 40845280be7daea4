"""Encoding against the plain reference, for short and long words."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolkit.errors import UsageError
from toolkit.tokenizers.bpe import Encoder, Vocabulary, iter_merges, split_pattern
from toolkit.tokenizers.bpe import encoder as encoder_module
from toolkit.tokenizers.bpe.encoder import LONG_WORD, merge_long
from toolkit.tokenizers.bpe.reference import encode_reference
from toolkit.tokenizers.bpe.vocabulary import Pair, merge_ids

BYTES: list[bytes | None] = [bytes([byte]) for byte in range(256)]


def vocabulary_of(merges: list[Pair], **options: bool) -> Vocabulary:
    tokens = list(BYTES)
    for left, right in merges:
        tokens.append((tokens[left] or b"") + (tokens[right] or b""))
    return Vocabulary(tokens, merges, **options)


@st.composite
def trained_merges(draw: st.DrawFn) -> list[Pair]:
    words = draw(st.lists(st.text("ab ", min_size=1, max_size=20), min_size=1, max_size=5))
    return [(step.left, step.right) for step in iter_merges({w.encode(): 1 for w in words})]


@given(trained_merges(), st.text("abc ", max_size=60).map(str.encode))
@example([(97, 97), (256, 256)], b"aaaaaaa")
def test_both_ways_to_merge_equal_the_reference(merges: list[Pair], word: bytes) -> None:
    vocabulary = vocabulary_of(merges)
    expected = encode_reference(word, merges)
    ids = list(word)
    merge_ids(ids, vocabulary.pair_ranks, vocabulary.merged_ids)
    assert ids == expected
    assert merge_long(list(word), vocabulary.pair_ranks, vocabulary.merged_ids) == expected


@given(trained_merges(), st.text("ab ", max_size=30))
def test_ranks_alone_say_the_same_as_trained_merges(merges: list[Pair], text: str) -> None:
    explicit = vocabulary_of(merges)
    by_ranks = Vocabulary(explicit.tokens, None, ignore_merges=True)
    pattern = split_pattern("none")
    assert Encoder(by_ranks, pattern).encode(text) == Encoder(explicit, pattern).encode(text)
    assert by_ranks.merges == merges


def test_every_trained_token_encodes_to_itself() -> None:
    steps = list(iter_merges({b"the theory of the thing, then": 3, b"others bother": 2}))
    vocabulary = vocabulary_of([(step.left, step.right) for step in steps])
    encoder = Encoder(vocabulary, split_pattern("none"))
    for step in steps:
        assert encoder.encode_word(step.token) == [step.new_id]


def test_a_hundred_thousand_equal_letters() -> None:
    # 97 twice, and so on: 2, 4, 8, 16 letters. Quadratic time would take most of an hour.
    merges: list[Pair] = [(97, 97), (256, 256), (257, 257), (258, 258)]
    encoder = Encoder(vocabulary_of(merges), split_pattern("gpt2"))
    assert encoder.encode("a" * 100_003) == [259] * 6250 + [256, 97]


def test_long_words_change_nothing_at_the_border() -> None:
    merges: list[Pair] = [(97, 98), (256, 97), (98, 256), (256, 256)]
    encoder = Encoder(vocabulary_of(merges), split_pattern("none"))
    for length in (LONG_WORD - 1, LONG_WORD, LONG_WORD + 1):
        word = (b"abbaab" * length)[:length]
        assert encoder.encode_word(word) == encode_reference(word, merges)


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "CACHE_SIZE", 10)
    encoder = Encoder(vocabulary_of([(97, 98)]), split_pattern(r"ab\d+|.*"))
    for number in range(100):
        text = f"ab{number}"
        assert encoder.encode(text) == [256, *str(number).encode()]
        assert encoder.encode(text) == [256, *str(number).encode()]
        assert len(encoder._cache) <= 10


def test_a_whole_word_is_looked_up_only_with_ignore_merges() -> None:
    # "abc" cannot be reached: b and c are merged first, and a with bc never.
    tokens = [*BYTES, b"bc", b"ab", b"abc"]
    merges = [(98, 99), (97, 98), (257, 99)]
    pattern = split_pattern("none")
    assert Encoder(Vocabulary(tokens, merges), pattern).encode("abc") == [97, 256]
    whole = Encoder(Vocabulary(tokens, merges, ignore_merges=True), pattern)
    assert whole.encode("abc") == [258]
    assert whole.encode("abcb") == [97, 256, 98]


def test_merges_from_ranks_leave_out_what_is_never_reached() -> None:
    # "bc" has the lower rank, and neither "xa" nor "bcy" is a token: "xabcy" is out of reach.
    tokens = [*BYTES, b"bc", b"ab", b"abc", b"xabcy"]
    vocabulary = Vocabulary(tokens, None, ignore_merges=True)
    assert vocabulary.merges_as_bytes() == [(b"b", b"c"), (b"a", b"b"), (b"a", b"bc")]
    assert vocabulary.last_pair(259) is None
    assert vocabulary.merges_as_text() == ["b c", "a b", "a bc"]


def test_ids_may_be_in_any_order() -> None:
    # The merge that comes first makes the token with the higher id.
    tokens = [None, *reversed(BYTES), b"cd", b"ab", b"abcd"]
    ids = {token: i for i, token in enumerate(tokens) if token is not None}
    merges = [(ids[b"a"], ids[b"b"]), (ids[b"c"], ids[b"d"]), (ids[b"ab"], ids[b"cd"])]
    encoder = Encoder(Vocabulary(tokens, merges), split_pattern("none"))
    assert encoder.encode("abcdab!") == [ids[b"abcd"], ids[b"ab"], 256 - ord("!")]


@pytest.mark.parametrize(
    ("tokens", "merges", "message"),
    [
        (BYTES[:255], [], "No token stands for the byte 0xFF"),
        ([*BYTES, b"a"], [], "The ids 97 and 256 are both the token b'a'"),
        ([*BYTES, b""], [], "The token with the id 256 is empty"),
        (BYTES, [(97, 98)], "Merge 0 makes b'ab' of b'a' and b'b', which is no token"),
        (BYTES, [(97, 256)], "Merge 0 is of the id 256, which is no token"),
        (BYTES, [(-1, 97)], "Merge 0 is of the id -1, which is no token"),
        ([*BYTES, None], [(97, 256)], "Merge 0 is of the id 256, which is no token"),
    ],
)
def test_inconsistent_vocabularies_are_refused(
    tokens: list[bytes | None], merges: list[Pair], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Vocabulary(tokens, merges)


def test_pairs_of_one_rank_merge_from_left_to_right() -> None:
    tokens = [*BYTES, b"aa", b"aaa"]
    vocabulary = Vocabulary(tokens, None, ignore_merges=True)
    assert vocabulary.pair_ranks[97, 256] == vocabulary.pair_ranks[256, 97] == 257
    encoder = Encoder(vocabulary, split_pattern("none"))
    assert encoder.encode("aaaaa") == [256, 257]  # aa aa a: the pair on the right is (aa, a)
