"""Where two tokenizers cut differently: by hand, and against the definition taken literally."""

from collections.abc import Mapping, Sequence, Set
from itertools import accumulate, pairwise
from typing import Any, Self

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolkit.errors import UsageError, VocabularyError
from toolkit.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer
from toolkit.tokenizers.diff import DiffToken, TokenDifference, compare_tokens, diff_tokens


class Fixed(Tokenizer):
    """Gives the tokens that it was told to, whatever the text; ids count from `first_id`."""

    name = "fixed"

    def __init__(self, tokens: Sequence[bytes], first_id: int = 0) -> None:
        self.tokens = tokens
        self.first_id = first_id

    @property
    def vocab_size(self) -> int:
        return self.first_id + len(self.tokens)

    def encode(self, text: str, *, allowed_special: Set[str] = frozenset()) -> list[int]:
        return list(range(self.first_id, self.vocab_size))

    def token_bytes(self, token_id: int) -> bytes:
        return self.tokens[token_id - self.first_id]

    def state(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        return cls([])


def cut(text: str, pattern: str) -> Fixed:
    """A tokenizer that cuts `text` as `pattern` does, which has a bar at each boundary."""
    tokens = [part.encode() for part in pattern.split("|")]
    assert b"".join(tokens) == text.encode()
    return Fixed(tokens)


def shown(found: Sequence[TokenDifference]) -> list[tuple[int, str, str, str]]:
    return [
        (
            difference.position,
            difference.text.decode(),
            "|".join(token.token.decode() for token in difference.first),
            "|".join(token.token.decode() for token in difference.second),
        )
        for difference in found
    ]


def diff(first: str, second: str) -> list[tuple[int, str, str, str]]:
    text = first.replace("|", "")
    return shown(diff_tokens(text, cut(text, first), cut(text, second)))


def test_by_hand() -> None:
    assert diff("low|er| new|est", "low|er| new|est") == []
    assert diff("low|er| new|est", "lo|wer| new|est") == [(0, "lower", "low|er", "lo|wer")]
    assert diff("low|er| newest", "low|er| new|est") == [(5, " newest", " newest", " new|est")]
    # A boundary that both have ends a difference, even if another one begins there.
    assert diff("ab|c|de|f", "a|bc|d|ef") == [
        (0, "abc", "ab|c", "a|bc"),
        (3, "def", "de|f", "d|ef"),
    ]
    assert diff("é|你好|x", "é|你|好|x") == [(1, "你好", "你好", "你|好")]


def test_bytes_positions_and_ids() -> None:
    text = "é你"
    char = CharTokenizer.train([text])
    found = diff_tokens(text, char, ByteTokenizer())
    assert found == [
        TokenDifference(
            0, 0, b"\xc3\xa9", (DiffToken(0, b"\xc3\xa9"),),
            (DiffToken(195, b"\xc3"), DiffToken(169, b"\xa9")),
        ),
        TokenDifference(
            2, 1, b"\xe4\xbd\xa0", (DiffToken(1, b"\xe4\xbd\xa0"),),
            (DiffToken(228, b"\xe4"), DiffToken(189, b"\xbd"), DiffToken(160, b"\xa0")),
        ),
    ]  # fmt: skip
    # A stretch that begins inside a character has the character's position.
    whole, halves = Fixed([b"a\xf0", b"\x9f\x98\x80"]), Fixed([b"a\xf0", b"\x9f", b"\x98\x80"])
    [inside] = diff_tokens("a😀", whole, halves)
    assert (inside.start, inside.position, inside.text) == (2, 1, b"\x9f\x98\x80")


def test_the_numbers_of_a_comparison() -> None:
    compared = compare_tokens(
        "aébc", Fixed(["aé".encode(), b"bc"]), Fixed(["aé".encode(), b"b", b"c"])
    )
    assert compared.num_bytes == 5
    assert compared.num_tokens == (2, 3)
    assert compared.agreement == pytest.approx(3 / 5)
    assert compare_tokens("", ByteTokenizer(), Fixed([])).agreement == 1.0


def test_ids_do_not_matter() -> None:
    assert diff_tokens("abc", Fixed([b"ab", b"c"]), Fixed([b"ab", b"c"], first_id=7)) == []


def test_one_leading_space_is_allowed_for() -> None:
    plain, added = Fixed([b"ab", b"c"]), Fixed([b" ab", b"c"])
    assert diff_tokens("abc", plain, added) == []
    assert diff_tokens("abc", added, added) == []
    # The space as a token of its own makes no boundary inside the text.
    apart = Fixed([b" ", b"ab", b"c"])
    assert diff_tokens("abc", plain, apart) == []
    assert compare_tokens("abc", plain, apart).num_tokens == (2, 3)
    [found] = diff_tokens("abc", Fixed([b"abc"]), apart)
    assert (found.start, found.text) == (0, b"abc")
    assert [token.token for token in found.second] == [b" ", b"ab", b"c"]
    # A text that begins with a space may get another one.
    assert diff_tokens(" a", Fixed([b" ", b"a"]), Fixed([b"  ", b"a"])) == []


def test_tokens_of_no_bytes_make_no_boundary() -> None:
    empty = Fixed([b"", b"ab", b"", b"", b"c", b""])
    assert diff_tokens("abc", empty, Fixed([b"ab", b"c"])) == []
    assert diff_tokens("abc", Fixed([b"ab", b"c"]), empty) == []
    [found] = diff_tokens("abc", empty, Fixed([b"abc"]))
    assert found.text == b"abc"
    assert diff_tokens("", Fixed([b""]), Fixed([])) == []


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([b"the"], "at byte 0 the text has 'The é' and its tokens have 'the'"),
        ([b"The "], "at byte 4 the text has 'é' and its tokens have ''"),
        ([b"The \xc3\xa8"], "at byte 4 the text has 'é' and its tokens have 'è'"),
        ([b"The ", "é".encode(), b"!"], "at byte 6 the text has '' and its tokens have '!'"),
        ([b"  The ", "é".encode()], "at byte 0 the text has 'The é' and its tokens have '  The é'"),
    ],
)
def test_a_tokenizer_that_changes_the_text(tokens: list[bytes], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        diff_tokens("The é", Fixed(tokens), ByteTokenizer())
    assert f"The first tokenizer ('fixed') changes the text: {message}. " in str(raised.value)
    with pytest.raises(UsageError, match=r"^The second tokenizer \('fixed'\) changes the text"):
        diff_tokens("The é", ByteTokenizer(), Fixed(tokens))


def test_texts_that_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match=r"half of a surrogate pair \(U\+D800\) at position 1"):
        diff_tokens("a\ud800", ByteTokenizer(), ByteTokenizer())
    with pytest.raises(VocabularyError, match="'b'"):
        diff_tokens("ab", ByteTokenizer(), CharTokenizer.train(["a"]))


def by_definition(
    data: bytes, first: Sequence[bytes], second: Sequence[bytes]
) -> list[tuple[int, bytes, int, int]]:
    """Start, text and numbers of tokens of each difference, from the sets of all boundaries."""
    ours, theirs = ({0, *accumulate(map(len, tokens))} for tokens in (first, second))
    common = sorted(ours & theirs)
    found = []
    for start, end in pairwise(common):
        inside = set(range(start + 1, end))
        if inside & ours != inside & theirs:
            counts = [len(inside & boundaries) + 1 for boundaries in (ours, theirs)]
            found.append((start, data[start:end], counts[0], counts[1]))
    return found


@st.composite
def segmentations(draw: st.DrawFn) -> tuple[str, list[bytes], list[bytes]]:
    """A text and two ways to cut its bytes."""
    text = draw(st.text(alphabet="ab é你😀\u0301", max_size=12))
    data = text.encode()
    places = st.sets(st.integers(1, max(len(data) - 1, 1)))

    def pieces() -> list[bytes]:
        ends = sorted({0, len(data), *(place for place in draw(places) if place < len(data))})
        return [data[a:b] for a, b in pairwise(ends)]

    return text, pieces(), pieces()


@given(segmentations())
@example(("ab", [b"a", b"b"], [b"ab"]))
def test_as_the_definition_says(case: tuple[str, list[bytes], list[bytes]]) -> None:
    text, first, second = case
    data = text.encode()
    compared = compare_tokens(text, Fixed(first), Fixed(second))
    found = compared.differences
    assert [(d.start, d.text, len(d.first), len(d.second)) for d in found] == by_definition(
        data, first, second
    )
    for difference in found:
        for tokens in (difference.first, difference.second):
            assert b"".join(token.token for token in tokens) == difference.text
        before = data[: difference.start]
        assert difference.position == len(before.decode("utf-8", "ignore"))
    agreed = len(data) - sum(len(difference.text) for difference in found)
    assert compared.agreement == pytest.approx(agreed / len(data) if data else 1.0)


@given(segmentations())
def test_symmetry_and_equals(case: tuple[str, list[bytes], list[bytes]]) -> None:
    text, first, second = case
    there = diff_tokens(text, Fixed(first), Fixed(second))
    back = diff_tokens(text, Fixed(second), Fixed(first))
    assert [(d.start, d.position, d.text, d.second, d.first) for d in back] == [
        (d.start, d.position, d.text, d.first, d.second) for d in there
    ]
    assert diff_tokens(text, Fixed(first), Fixed(first)) == []
    assert diff_tokens(text, ByteTokenizer(), ByteTokenizer()) == []
