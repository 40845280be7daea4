"""Where two tokenizers cut a text differently.

Both segmentations are walked along the bytes of the text, from one boundary that they share to the
next. It is about boundaries and not about ids: two vocabularies that number their tokens
differently agree wherever they cut at the same places.

Left out: tokenizers whose tokens do not give the text back (lower case, `<unk>`), because a place
in what they made of the text is no place in the text. One leading space, as SentencePiece puts
before a text, is allowed for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from toolkit.errors import UsageError
from toolkit.tokenizers.base import Tokenizer

_CONTEXT = 12  # characters that a message shows of each side


@dataclass(frozen=True)
class DiffToken:
    """A token of one of the two.

    Attributes:
        id: in its tokenizer.
        token: what it stands for.
    """

    id: int
    token: bytes


@dataclass(frozen=True)
class TokenDifference:
    """A stretch of the text that both tokenizers begin and end with a boundary and cut differently.

    Attributes:
        start: the first byte of the stretch.
        position: the character that this byte belongs to, counted from 0.
        text: the bytes of the stretch.
        first: the tokens of the first tokenizer in it.
        second: those of the second.
    """

    start: int
    position: int
    text: bytes
    first: tuple[DiffToken, ...]
    second: tuple[DiffToken, ...]


@dataclass(frozen=True)
class TokenComparison:
    """Two tokenizers on one text.

    Attributes:
        num_bytes: of the text, in UTF-8.
        num_tokens: of the first and of the second tokenizer.
        differences: in the order of the text.
    """

    num_bytes: int
    num_tokens: tuple[int, int]
    differences: tuple[TokenDifference, ...]

    @property
    def agreement(self) -> float:
        """The share of the text's bytes that lie in no difference; 1 for an empty text."""
        differing = sum(len(difference.text) for difference in self.differences)
        return 1.0 - differing / self.num_bytes if self.num_bytes else 1.0


def diff_tokens(text: str, first: Tokenizer, second: Tokenizer) -> list[TokenDifference]:
    """The stretches of `text` that two tokenizers cut differently, each as short as it can be.

    A stretch goes from one boundary that both have to the next one that both have. Where neither
    has a boundary in between, they agree there.

    >>> from toolkit.tokenizers import ByteTokenizer, CharTokenizer
    >>> text = "aéb"
    >>> [found] = diff_tokens(text, CharTokenizer.train([text]), ByteTokenizer())
    >>> found.start, found.text, [len(found.first), len(found.second)]
    (1, b'\\xc3\\xa9', [1, 2])

    Raises:
        UsageError: the tokens of one of them do not give the text back, or the text holds half of
            a surrogate pair.
        VocabularyError: one of them has no token for a part of the text.
    """
    return list(compare_tokens(text, first, second).differences)


def compare_tokens(text: str, first: Tokenizer, second: Tokenizer) -> TokenComparison:
    """`diff_tokens` with the numbers that belong to it; raises the same errors."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"The text holds half of a surrogate pair (U+{ord(text[error.start]):04X}) at position "
            f"{error.start}, which is not text in Unicode. Repair or remove it."
        ) from None
    ours = _spans(data, first, "first")
    theirs = _spans(data, second, "second")
    differences = []
    start = characters = 0
    for one, other in _stretches(ours, theirs):
        end = one[-1].end
        stretch = data[start:end]
        if _inner_ends(one, start) != _inner_ends(other, start):
            # Inside a character when the stretch begins with one of its later bytes.
            position = characters - (1 if _is_continuation(stretch[0]) else 0)
            difference = TokenDifference(start, position, stretch, _tokens(one), _tokens(other))
            differences.append(difference)
        characters += sum(not _is_continuation(byte) for byte in stretch)
        start = end
    return TokenComparison(len(data), (len(ours), len(theirs)), tuple(differences))


@dataclass(frozen=True)
class _Span:
    """A token and the byte of the text that it ends before."""

    token: DiffToken
    end: int


def _tokens(spans: Sequence[_Span]) -> tuple[DiffToken, ...]:
    return tuple(span.token for span in spans)


def _inner_ends(spans: Sequence[_Span], start: int) -> set[int]:
    """The boundaries after `start`: a token of no bytes (an added space) makes no new one."""
    return {span.end for span in spans} - {start}


def _is_continuation(byte: int) -> bool:
    """Whether a byte of UTF-8 is a later byte of a character."""
    return byte & 0b1100_0000 == 0b1000_0000


def _spans(data: bytes, tokenizer: Tokenizer, which: str) -> list[_Span]:
    ids = tokenizer.encode(data.decode())
    tokens = [DiffToken(token_id, tokenizer.token_bytes(token_id)) for token_id in ids]
    joined = b"".join(token.token for token in tokens)
    added = 1 if joined == b" " + data else 0
    if joined[added:] != data:
        raise _changes_text(data, joined, tokenizer.name, which)
    ends = accumulate(len(token.token) for token in tokens)
    return [_Span(token, max(end - added, 0)) for token, end in zip(tokens, ends, strict=True)]


def _stretches(
    ours: Sequence[_Span], theirs: Sequence[_Span]
) -> Iterator[tuple[Sequence[_Span], Sequence[_Span]]]:
    """Both lists cut wherever they share an end; empty tokens after the last are left out."""
    i = j = 0
    while i < len(ours) and j < len(theirs):
        first_i, first_j = i, j
        i, j = i + 1, j + 1
        # Both lists end where the text ends, so whichever is behind has another token.
        while ours[i - 1].end != theirs[j - 1].end:
            if ours[i - 1].end < theirs[j - 1].end:
                i += 1
            else:
                j += 1
        yield ours[first_i:i], theirs[first_j:j]


def _changes_text(data: bytes, joined: bytes, name: str, which: str) -> UsageError:
    same = 0
    while same < min(len(data), len(joined)) and data[same] == joined[same]:
        same += 1
    while same > 0 and _is_continuation((data[same:] or b"\0")[0]):
        same -= 1  # to the beginning of the character
    wanted, got = (
        repr(part[same:].decode("utf-8", "replace")[:_CONTEXT]) for part in (data, joined)
    )
    return UsageError(
        f"The {which} tokenizer ('{name}') changes the text: at byte {same} the text has {wanted} "
        f"and its tokens have {got}. Only tokenizers whose tokens joined are the text can be "
        "compared; choose another."
    )
