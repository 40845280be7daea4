"""Tokens as text in which everything can be seen: on a terminal, in figures, on a page."""

from __future__ import annotations

import unicodedata

from toolkit.tokenizers import Tokenizer

_SHOWN = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"}
_BLANK = "\u115f\u1160\u3164\uffa0"  # letters by their category, fillers of Hangul by their look
_DOTTED_CIRCLE = "◌"
END, BEGIN, PADDING = "end", "begin", "padding"
"""What an encoder–decoder has beside its tokenizer's tokens, in the order of their ids."""


def shown_token(tokenizer: Tokenizer, token: int) -> str:
    """A token by its id; a model may know more of them than its tokenizer."""
    if token >= tokenizer.vocab_size:
        return f"<{token}>"
    return show_token(tokenizer.token_bytes(token))[0]


def shown_in_pair(tokenizer: Tokenizer, token: int) -> str:
    """A token of one side of an encoder–decoder, whose own have names."""
    own = token - tokenizer.vocab_size
    names = (END, BEGIN, PADDING)
    return names[own] if 0 <= own < len(names) else shown_token(tokenizer, token)


def show_token(token: bytes) -> tuple[str, bool]:
    r"""A token so that it can be seen, and whether it holds a part of a character.

    Whitespace has visible signs, what does not print is `\u{..}`, bytes of a character that the
    token holds only a part of are `\x..`. What would attach to the character before (an accent)
    gets a dotted circle to stand on where the token itself shows none before it.

    >>> show_token(b" the\n"), show_token(b"\xf0\x9f")
    (('·the⏎', False), ('\\xf0\\x9f', True))
    >>> show_token("\u0301a\u0301\u200b".encode())[0] == "◌\u0301a\u0301\\u{200b}"
    True
    """
    partial = False
    try:
        text = token.decode("utf-8")
    except UnicodeDecodeError:
        partial = True
        text = token.decode("utf-8", "backslashreplace")
    shown: list[str] = []
    has_base = False  # whether the last character stands as it is and can carry an accent
    for char in text:
        if char in _SHOWN:
            shown.append(_SHOWN[char])
            has_base = False
        elif not char.isprintable() or char in _BLANK or (_selects(char) and not has_base):
            shown.append(f"\\u{{{ord(char):x}}}")
            has_base = False
        else:
            shown.append(_DOTTED_CIRCLE + char if _attaches(char) and not has_base else char)
            has_base = True
    return "".join(shown), partial


def _attaches(char: str) -> bool:
    """Whether a character is drawn on the one before: accents, vowels of Hangul, skin tones."""
    if unicodedata.category(char).startswith("M"):
        return True
    return "\u1160" <= char <= "\u11ff" or "\U0001f3fb" <= char <= "\U0001f3ff"


def _selects(char: str) -> bool:
    """Whether a character is a mark that has no look of its own: variation selectors and such."""
    return (
        "\ufe00" <= char <= "\ufe0f"
        or "\U000e0100" <= char <= "\U000e01ef"
        or char in "\u034f\u180b\u180c\u180d\u180f"
    )
