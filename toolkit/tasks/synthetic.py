"""Tasks that are made by a rule: copy, reverse, sort and add.

Small problems that show whether a model works, and how: which of them it learns, how fast, and what
its attention looks at (reversing and sorting were among the first tests of sequence models:
Sutskever et al. 2014, arXiv:1409.3215; Vinyals et al. 2015, arXiv:1511.06391). `dates` is another.
"""

from __future__ import annotations

import hashlib
import re
import string
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from random import Random

from toolkit.errors import UsageError
from toolkit.tasks.base import Pair, PairTask, check_share, is_held_out

NUM_HELD_OUT = 1000
NUM_EXAMPLES = 2000
MAX_LENGTH = 4096
"""Far above what a model of pairs reads. Python writes no number of more than 4,300 digits."""
# Draws for each pair that is looked for. Where few exist (`add:1`) they are all found by then.
_ATTEMPTS = 5
_MOST_DRAWS = 200_000  # about a second; of a very small share fewer pairs are found
_MOST_IN_VAIN = 10_000  # one after the other


class SyntheticTask(PairTask):
    """Pairs that are drawn, from a generator of its own for each pool.

    A subclass says what a pair is (`draw`), and what it is about (`key`): all pairs of one key are
    on one side, to train on or held out.
    """

    default_length: int

    def __init__(self, name: str, length: int | None = None, *, held_out: float = 0.1) -> None:
        """
        Args:
            length: how long sources are at most; what it counts is the task's.

        Raises:
            UsageError: a length below 1 or above 4,096, or a share that is none.
        """
        check_share(held_out)
        self.length = self.default_length if length is None else length
        if not 1 <= self.length <= MAX_LENGTH:
            raise UsageError(f"The task {name} needs a length from 1 to {MAX_LENGTH:,}.")
        self.name = name
        self.spec = f"{name}:{self.length}"
        self._share = held_out

    @abstractmethod
    def draw(self, random: Random) -> Pair:
        """One pair by chance."""

    def key(self, pair: Pair) -> str:
        """What the pair is about."""
        return pair.source

    def pool(self, number: int, size: int, seed: int) -> list[Pair]:
        random = Random(f"{self.spec} {seed} {number}")
        pairs: list[Pair] = []
        in_vain = 0
        while len(pairs) < size:
            pair = self.draw(random)
            if not is_held_out(self.key(pair), self._share):
                pairs.append(pair)
                in_vain = 0
                continue
            in_vain += 1
            if in_vain == _MOST_IN_VAIN:
                raise UsageError(
                    f"Of the task {self.spec} --held-out {self._share:g} leaves nothing to train "
                    "on: take a smaller share, or a longer task."
                )
        return pairs

    @cached_property
    def held_out(self) -> Sequence[Pair]:
        """Different pairs, the same for every seed."""
        random = Random(f"{self.spec} held out")
        found: dict[Pair, None] = {}
        for _ in range(min(round(_ATTEMPTS * NUM_HELD_OUT / self._share), _MOST_DRAWS)):
            pair = self.draw(random)
            if is_held_out(self.key(pair), self._share):
                found[pair] = None
            if len(found) == NUM_HELD_OUT:
                break
        if not found:
            raise UsageError(
                f"Of the task {self.spec} nothing is held out by --held-out {self._share:g}: take "
                "a larger share, or a longer task."
            )
        return list(found)

    def examples(self) -> list[Pair]:
        return self.pool(0, NUM_EXAMPLES, seed=0)

    @property
    def sha256(self) -> str:
        pairs = [*self.pool(0, 100, seed=0), *self.held_out]
        return hashlib.sha256(repr(pairs).encode()).hexdigest()

    @property
    def summary(self) -> str:
        return f"{self.spec}, pairs without end, {len(self.held_out):,} held out"


class LettersTask(SyntheticTask):
    """Letters in, letters out: `length` is how many there are at most."""

    default_length = 20
    alphabet = string.ascii_lowercase

    def draw(self, random: Random) -> Pair:
        length = random.randint(1, self.length)
        letters = "".join(random.choices(string.ascii_lowercase, k=length))
        return Pair(letters, self.answer(letters))

    def target_of(self, source: str) -> str | None:
        """Of letters, however many."""
        letters = source and set(source) <= set(string.ascii_lowercase)
        return self.answer(source) if letters else None

    @abstractmethod
    def answer(self, letters: str) -> str:
        """What they are to be turned into."""


class CopyTask(LettersTask):
    """The same again.

    >>> CopyTask("copy").answer("hello")
    'hello'
    """

    def answer(self, letters: str) -> str:
        return letters


class ReverseTask(LettersTask):
    """The last letter first.

    >>> ReverseTask("reverse").answer("hello")
    'olleh'
    """

    def answer(self, letters: str) -> str:
        return letters[::-1]


class SortTask(LettersTask):
    """In the order of the alphabet.

    >>> SortTask("sort").answer("hello")
    'ehllo'
    """

    def answer(self, letters: str) -> str:
        return "".join(sorted(letters))


class AddTask(SyntheticTask):
    """Two numbers and their sum; `length` is the most digits of each: "123+45" is "168"."""

    default_length = 3
    alphabet = string.digits + "+"

    def draw(self, random: Random) -> Pair:
        a, b = self._number(random), self._number(random)
        return Pair(f"{a}+{b}", str(a + b))

    def target_of(self, source: str) -> str | None:
        """
        >>> AddTask("add").target_of("123+45"), AddTask("add").target_of("1234+5")
        ('168', None)
        """
        digits = f"([0-9]{{1,{self.length}}})"
        numbers = re.fullmatch(rf"{digits}\+{digits}", source)
        return None if numbers is None else str(int(numbers[1]) + int(numbers[2]))

    def _number(self, random: Random) -> int:
        """As many of one digit as of two …: of all numbers alike, nine in ten would be long."""
        return random.randrange(10 ** random.randint(1, self.length))
