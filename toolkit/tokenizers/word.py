r"""One token for each word, as Shannon (1948) counted them, and nothing of the text is lost.

Two rules to cut by:

- "words": a run of letters, digits and underscores, with apostrophes inside ("o'er"), is a word;
  every other character is a token of its own. A word or a punctuation mark takes a single space
  before it along (" the"), as in GPT-2: spaces as tokens would double the length of most texts.
- "whitespace": runs of whitespace and runs of everything else, in turn.

Real text always has words that training did not see. Here they are an error or `<unk>`; seeing how
many there are is the reason to look at word tokenizers, and to go on to byte pair encoding. Left
out: stemming, languages that write no spaces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import regex

from toolkit.errors import UnknownNameError, UsageError
from toolkit.tokenizers.closed import (
    NOT_FOUND,
    ClosedVocabularyTokenizer,
    documents_of,
    require_policy,
)

# \p{…} and not \w and \s: those differ between Python, `regex` and Hugging Face's engine.
_WORD = r"[\p{L}\p{M}\p{N}_]+"
_SPACE = r"\p{White_Space}"
RULES: dict[str, str] = {
    "words": rf" ?{_WORD}(?:['’]{_WORD})*| ?[^\p{{L}}\p{{M}}\p{{N}}_{_SPACE}]|{_SPACE}",
    "whitespace": rf"[^{_SPACE}]+|{_SPACE}+",
}
"""The expressions that match each piece of a text; both match every character of any text."""


class WordTokenizer(ClosedVocabularyTokenizer):
    r"""A word tokenizer. Frequent words have small ids.

    >>> tokenizer = WordTokenizer.train(["To be, or not to be.\n"])
    >>> [tokenizer.token_bytes(i).decode() for i in range(tokenizer.vocab_size)]
    [' be', '\n', ' not', ' or', ' to', ',', '.', 'To']
    >>> tokenizer.encode("To be,\n")
    [7, 0, 5, 1]
    >>> tokenizer.decode([7, 0, 5, 1])
    'To be,\n'
    """

    name = "word"
    piece_kind = "word"

    def __init__(
        self,
        words: Sequence[str],
        unknown: str = "error",
        *,
        rule: str = "words",
        lowercase: bool = False,
    ) -> None:
        """A tokenizer in which `words[i]` has the id i.

        Raises:
            UsageError: no words, one twice, or an unknown rule or policy.
        """
        if rule not in RULES:
            raise UnknownNameError("rule for words", rule, RULES)
        super().__init__(words, unknown)
        self.rule = rule
        self.lowercase = lowercase
        self._pattern = regex.compile(RULES[rule])

    @classmethod
    def train(  # type: ignore[override]  # the options have names here
        cls,
        texts: Iterable[str],
        *,
        vocab_size: int | None = None,
        min_count: int = 1,
        unknown: str | None = None,
        rule: str = "words",
        lowercase: bool = False,
    ) -> Self:
        """A tokenizer of the words in `texts`: the most frequent first, ties by code points.

        Args:
            texts: documents, read once.
            vocab_size: keep the most frequent words only, so that there are at most this many
                ids, `<unk>` included. None keeps all.
            min_count: words that occur less often are left out.
            unknown: what to do with words outside the vocabulary, "error" or "unk". None is "unk"
                with `vocab_size` or a `min_count` above 1, because then the text itself may have
                such words, and "error" otherwise.
            rule: where to cut, "words" or "whitespace".
            lowercase: make words lower case. The text's own case is lost.

        Raises:
            UsageError: no words are left, an unknown rule or policy, an option out of range, or
                "error" with words of this very text left out.
        """
        if min_count < 1:
            raise UsageError(f"min_count {min_count} must be at least 1")
        if unknown is None:
            unknown = "error" if vocab_size is None and min_count == 1 else "unk"
        require_policy(unknown)
        num_special = 1 if unknown == "unk" else 0
        if vocab_size is not None and vocab_size <= num_special:
            raise UsageError(f"vocab_size {vocab_size} must be at least {num_special + 1}")
        if rule not in RULES:
            raise UnknownNameError("rule for words", rule, RULES)

        pattern = regex.compile(RULES[rule])
        counts: Counter[str] = Counter()
        for text in documents_of(texts):
            counts.update(_words(pattern, text, lowercase))
        words = sorted(counts, key=lambda word: (-counts[word], word))
        kept = [word for word in words if counts[word] >= min_count]
        if words and not kept:
            raise UsageError(f"No word occurs {min_count} times: choose a smaller min_count.")
        if vocab_size is not None:
            kept = kept[: vocab_size - num_special]
        if unknown == "error" and len(kept) < len(words):
            raise UsageError(
                f"vocab_size and min_count keep {len(kept)} of the text's {len(words)} words, so "
                "unknown='error' would refuse the text itself. Keep all words, or use "
                "--unknown unk (from Python: unknown='unk')."
            )
        return cls(kept, unknown, rule=rule, lowercase=lowercase)

    def look_up(self, text: str) -> npt.NDArray[np.int32]:
        get = self._token_ids.get
        words = _words(self._pattern, text, self.lowercase)
        return np.fromiter((get(word, NOT_FOUND) for word in words), dtype=np.int32)

    def locate(self, text: str, index: int) -> tuple[str, int]:
        match = next(islice(self._pattern.finditer(text), index, None))
        return match.group(), match.start()

    def huggingface_pattern(self) -> str | None:
        # Hugging Face's lower case is that of each character alone, not always Python's ("Σ").
        return None if self.lowercase else RULES[self.rule]

    def state(self) -> dict[str, Any]:
        return {
            "words": list(self._tokens),
            "unknown": self.unknown,
            "rule": self.rule,
            "lowercase": self.lowercase,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        return cls(
            state["words"], state["unknown"], rule=state["rule"], lowercase=state["lowercase"]
        )


def _words(pattern: Any, text: str, lowercase: bool) -> Iterator[str] | list[str]:
    """The pieces of `text`. Cut first, then made lower case: "İ" becomes two characters, and
    positions in messages have to be those of the text as it was given."""
    words: list[str] = pattern.findall(text)
    return map(str.lower, words) if lowercase else words
