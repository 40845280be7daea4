"""What every task is: an endless row of pairs to train on, and a few that are kept out of it.

Which pairs are kept out is decided by a hash of what they are about, not by chance: it is the same
for every seed, and no pair is on both sides however often it is drawn.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from toolkit.errors import UsageError


class Pair(NamedTuple):
    """A text, and the one that it is to be turned into."""

    source: str
    target: str


class PairTask(ABC):
    """Pairs of texts.

    Attributes:
        name: a short one: "reverse", or a file's.
        spec: what `load_task` makes it from again.
        is_prose: whether the targets are text in a language, which BLEU and chrF are made for.
        alphabet: all characters that a text of the task can have; None where that is not known.
    """

    name: str
    spec: str
    is_prose: bool = False
    alphabet: str | None = None

    @property
    @abstractmethod
    def held_out(self) -> Sequence[Pair]:
        """Pairs to measure on, of which none is trained on."""

    @abstractmethod
    def pool(self, number: int, size: int, seed: int) -> list[Pair]:
        """`size` pairs to train on: the pool of this number in the endless row of this seed.

        The same arguments give the same pairs, so a training that goes on in the middle needs to
        know the number alone.
        """

    @abstractmethod
    def examples(self) -> Sequence[Pair]:
        """Pairs to train a tokenizer on: all there are, or as many as show what comes."""

    def target_of(self, source: str) -> str | None:
        """What a source is to be turned into; None where the task cannot tell."""
        return None

    @property
    @abstractmethod
    def sha256(self) -> str:
        """A hash of what the task is: equal for equal pairs."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """What there is, for people: "900 pairs to train on, 100 held out"."""


def is_held_out(key: str, share: float) -> bool:
    """Whether the pairs about `key` are kept out of training; so it is for a `share` of all keys.

    >>> sum(is_held_out(str(number), 0.1) for number in range(1000))
    104
    """
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def check_share(share: float) -> None:
    """Raise UsageError unless a share of pairs can be held out."""
    if not 0 < share < 1:
        raise UsageError(f"--held-out {share:g} must be above 0 and below 1 for pairs.")
