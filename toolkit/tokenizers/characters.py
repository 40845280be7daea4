"""Where tokens lie in a text, and which characters they share.

A token of a byte-level vocabulary may begin or end inside a character: then several tokens have a
part of it each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class CharacterPart:
    """What a token has of a character that is spread over several tokens.

    Attributes:
        character: the whole of it.
        number: of the part, from 1.
        parts: how many tokens share the character.
    """

    character: str
    number: int
    parts: int


def character_parts(tokens: Sequence[bytes]) -> list[list[CharacterPart]]:
    r"""For each token, the characters that it has only a part of; at most two.

    >>> character_parts([b"a\xf0\x9f", b"\x98\x80"])[1]
    [CharacterPart(character='😀', number=2, parts=2)]
    """
    found: list[list[CharacterPart]] = [[] for _ in tokens]
    ends = list(accumulate(map(len, tokens)))
    text = b"".join(tokens).decode("utf-8", "surrogateescape")
    start = index = 0
    for char in text:
        end = start + len(char.encode("utf-8", "surrogateescape"))
        while ends[index] <= start:
            index += 1
        if ends[index] < end:
            last = index
            while ends[last] < end:
                last += 1
            # Tokens of no bytes in between have no part.
            sharing = [i for i in range(index, last + 1) if tokens[i]]
            for number, i in enumerate(sharing, start=1):
                found[i].append(CharacterPart(char, number, len(sharing)))
        start = end
    return found


def character_spans(tokens: Sequence[bytes], text: str) -> list[tuple[int, int]] | None:
    r"""For each token, the characters of `text` that it has at least a byte of: (start, end).

    None where the tokens one after the other are not the text (`<unk>`, changed spaces or case).

    >>> character_spans([b"a\xc3", b"\xa9b"], "aéb"), character_spans([b"<unk>"], "a")
    ([(0, 2), (1, 3)], None)
    """
    if b"".join(tokens) != text.encode("utf-8", "surrogatepass"):
        return None
    # The character that each byte is of.
    owners = [
        index for index, char in enumerate(text) for _ in char.encode("utf-8", "surrogatepass")
    ]
    spans = []
    end = 0
    for token in tokens:
        start, end = end, end + len(token)
        if token:
            spans.append((owners[start], owners[end - 1] + 1))
        else:
            place = owners[start] if start < len(owners) else len(text)
            spans.append((place, place))
    return spans
