"""Every error that toolkit raises on purpose, as one family.

A message is one line: what was wrong, what was expected, what to do about it. The command line
prints it and exits with `exit_code`; from Python the same line is `str(error)`.

This module imports nothing of toolkit's, so anything may import it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class ToolkitError(Exception):
    """Something failed that a message can explain: a broken file, a full disk, no network."""

    exit_code: ClassVar[int] = 1


class UsageError(ToolkitError, ValueError):
    """The caller asked for something that cannot be: a bad option, name, value or input."""

    exit_code: ClassVar[int] = 2


class UnknownNameError(UsageError):
    """A name that no registry entry, preset or size has.

    >>> str(UnknownNameError("tokenizer", "bep", ["char", "word", "bpe"]))
    "No tokenizer 'bep'. Did you mean 'bpe'? Available: bpe, char, word."
    """

    def __init__(self, kind: str, name: str, available: Iterable[str]) -> None:
        names = sorted(available)
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        guess = f" Did you mean '{close[0]}'?" if close else ""
        super().__init__(f"No {kind} '{name}'.{guess} Available: {', '.join(names)}.")
        self.kind = kind
        self.name = name


class CorpusError(ToolkitError):
    """A corpus that cannot be read or fetched."""


class OfflineError(CorpusError):
    """A download was needed and the network did not give it."""


class VocabularyError(UsageError):
    """Text that a tokenizer has no token for, or ids that it does not know."""


class RunError(ToolkitError):
    """A run folder, checkpoint or token file that is missing, broken or too new."""


class ModelError(ToolkitError):
    """A model that computes what is no number."""


class TrainingError(ToolkitError):
    """Training cannot go on: the loss is not a number, or a checkpoint cannot be written."""


class ServingError(ToolkitError):
    """A server that cannot start, or a request that it cannot answer now."""


class MissingExtraError(ToolkitError):
    """An optional dependency is not installed.

    >>> str(MissingExtraError("plots", "drawing figures"))
    "drawing figures needs an optional package: pip install 'toolkit[plots]'"
    """

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs an optional package: pip install 'toolkit[{extra}]'")
