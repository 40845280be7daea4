"""Split patterns: the regular expressions that cut a text into pre-tokens before BPE sees it.

No token crosses a cut, so the pattern decides what a token can be: with "gpt2" a word with the
space before it, with "none" anything.

The named ones are those of OpenAI's encodings: "gpt2" (GPT-2, r50k_base, p50k_base), "cl100k"
(GPT-3.5, GPT-4) and "o200k" (GPT-4o). They are written so that Python's `regex`, tiktoken's and
Hugging Face's engines read them alike. What the classes `\\p{L}`, `\\p{N}` … hold comes with the
engine's edition of Unicode: characters that one engine knows and another does not yet may be cut
differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import regex

from toolkit.errors import UnknownNameError, UsageError

# `\s++(?!\S)` takes the whole of a run of whitespace that ends the text and nothing else.
PATTERNS: dict[str, str | None] = {
    "gpt2": (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
    "cl100k": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s++(?!\S)|\s*[\r\n]|\s+(?!\S)|\s+"
    ),
    "o200k": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "whitespace": r"\s+|\S+",
    "none": None,
}
"""The named patterns; "none" does not split."""

# A mark at the end of a word has to be one symbol that no text can hold: the byte 0xFF, which UTF-8
# never has. This is how Python writes a byte that is no character in a str.
_MARK = "\udcff"
MARK_BYTE = b"\xff"
SHOWN_MARK = b"</w>"
"""How Sennrich et al. write the mark."""

_SAME_AS = {
    # How recent tiktoken spells them; every text is cut in the same places.
    (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"): "gpt2",
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
        r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ): "cl100k",
}

# What Oniguruma may read otherwise than `regex` does; too strict rather than too lax. (Of the
# classes, \s, \d and \p{…} hold the same characters in both, \w does not.)
_DIALECT = regex.compile(
    r"""
    (?<!\[)\^ | \$                   # in Ruby's syntax the anchors stand at every line
    | \{[0-9,]+\}\+                  # … and an interval cannot be possessive
    | \(\?(?!i?:|[=!>])              # flags for the rest, names, conditions, recursion
    | \(\?i:[^)]*(?:[iI]|ff|fl|ss|st|[^\x00-\x7f])  # foldings that differ or grow
    | \\(?![pPsSdDrntfu])\w          # escapes of other meanings
    | \[\[ | && | -- | \|\| | ~~     # sets of sets, classes in POSIX's names
    """,
    regex.VERBOSE,
)


@dataclass(frozen=True)
class SplitPattern:
    """A way to cut texts into pre-tokens.

    Attributes:
        name: one of the named patterns, or "custom".
        regex: the regular expression; None does not split.
        end_of_word: each pre-token that is not whitespace gets a mark after it, and whitespace is
            dropped (only for "whitespace"; Sennrich et al. 2016).
    """

    name: str
    regex: str | None
    end_of_word: bool = False

    @cached_property
    def _compiled(self) -> Any:
        return regex.compile(self.regex) if self.regex is not None else None

    def split(self, text: str) -> list[str]:
        """The pre-tokens of `text`; joined they are the text again (without `end_of_word`).

        What the expression does not match is kept: each gap between two matches is a pre-token of
        its own (Hugging Face calls this "isolated"; tiktoken drops gaps. The named patterns leave
        none). A match of no characters cuts, too.

        >>> split_pattern("gpt2").split("Don't stop  now")
        ['Don', "'t", ' stop', ' ', ' now']
        """
        compiled = self._compiled
        if self.end_of_word:
            return [word + _MARK for word in text.split()]
        if compiled is None:
            return [text] if text else []
        if compiled.groups == 0:  # findall gives groups, where there are any, not matches
            pieces: list[str] = compiled.findall(text)
            # Matches do not overlap: with the text's length among them they leave no gap.
            if sum(map(len, pieces)) == len(text) and "" not in pieces:
                return pieces
        return self._split_with_gaps(text)

    def _split_with_gaps(self, text: str) -> list[str]:
        pieces = []
        end = 0
        for match in self._compiled.finditer(text):
            pieces += [text[end : match.start()], match.group()]
            end = match.end()
        pieces.append(text[end:])
        return [piece for piece in pieces if piece]

    @property
    def portable(self) -> bool:
        """Whether Hugging Face's engine (Oniguruma, Ruby's syntax) surely reads it as we do."""
        if self.regex is None or self.end_of_word:
            return not self.end_of_word
        matches_nothing = regex.match(self.regex, "") is not None
        return _DIALECT.search(self.regex) is None and not matches_nothing

    def __reduce__(self) -> tuple[Any, ...]:
        return SplitPattern, (self.name, self.regex, self.end_of_word)

    def show(self, token: bytes) -> bytes:
        """A part of a pre-token for people: the mark at the end of a word is `</w>`."""
        return token.replace(MARK_BYTE, SHOWN_MARK) if self.end_of_word else token

    def plain(self, token: bytes) -> bytes:
        """A part of a pre-token as text: the mark at the end of a word is a space."""
        return token.replace(MARK_BYTE, b" ") if self.end_of_word else token


def with_end_of_word(pattern: SplitPattern) -> SplitPattern:
    """The pattern with a mark at the end of each word.

    >>> marked = with_end_of_word(split_pattern("whitespace"))
    >>> [utf8(word) for word in marked.split("low  lower")]
    [b'low\\xff', b'lower\\xff']

    Raises:
        UsageError: it is not "whitespace".
    """
    if pattern.name != "whitespace":
        raise UsageError(
            f"end_of_word marks the words between whitespace: it needs pattern='whitespace', not "
            f"'{pattern.name}'"
        )
    return SplitPattern(pattern.name, pattern.regex, end_of_word=True)


def utf8(word: str) -> bytes:
    """A pre-token in UTF-8."""
    return word.encode("utf-8", "surrogateescape")


def split_pattern(pattern: str | SplitPattern | None) -> SplitPattern:
    r"""The pattern of a name, or of any regular expression in the syntax of `regex`.

    >>> split_pattern("cl100k").name, split_pattern(r"\S+|\s+").name, split_pattern(None).name
    ('cl100k', 'custom', 'none')

    Raises:
        UnknownNameError: a plain word that is no name.
        UsageError: a broken regular expression.
    """
    if isinstance(pattern, SplitPattern):
        return pattern
    if pattern is None:
        return SplitPattern("none", None)
    if pattern in PATTERNS:
        return SplitPattern(pattern, PATTERNS[pattern])
    if regex.fullmatch(r"[\w-]*", pattern):
        # As an expression, a misspelt name would be legal and cut nowhere.
        raise UnknownNameError("split pattern", pattern, PATTERNS)
    if pattern in _SAME_AS:
        return split_pattern(_SAME_AS[pattern])
    for name, expression in PATTERNS.items():
        if pattern == expression:
            return SplitPattern(name, expression)
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise UsageError(
            f"The split pattern {pattern!r} is not a regular expression: {error}. "
            f"Names are {', '.join(PATTERNS)}."
        ) from error
    return SplitPattern("custom", pattern)


def well_formed(text: str) -> str:
    """`text` with its surrogates repaired, so that it has a UTF-8 form.

    A high and a low surrogate in sequence become the character that they stand for, a lone one
    becomes U+FFFD, as in tiktoken. Other texts come back as they are.

    >>> well_formed("a\\ud83d\\ude00b\\ud83d")
    'a😀b�'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
