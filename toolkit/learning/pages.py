"""The pages of the tutorial, in their order, and where the exercises of each are."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from toolkit.errors import UnknownNameError
from toolkit.learning.exercise import Exercise


@dataclass(frozen=True)
class Page:
    """One page of docs/tutorial."""

    number: int
    name: str
    summary: str


PAGES = (
    Page(1, "tokens", "from characters to numbers, and to fewer of them"),
    Page(2, "batches", "what goes in, and what should come out"),
    Page(3, "bigram", "a table of pairs: counted, then trained"),
    Page(4, "averaging", "looking back: loops, a matrix, a softmax"),
    Page(5, "attention", "weights that the tokens choose themselves"),
    Page(6, "gpt", "a transformer: trained, inspected, exported"),
    Page(7, "encoder_decoder", "one text in, another text out"),
)


def find_page(page: int | str) -> Page:
    """The page with this number ("4" is one too) or name.

    Raises:
        UnknownNameError: there is no such page.
    """
    for candidate in PAGES:
        if str(page) in (str(candidate.number), candidate.name):
            return candidate
    raise UnknownNameError("page", str(page), [f"{p.number} {p.name}" for p in PAGES])


def exercises_of(page: int | str) -> tuple[Exercise, ...]:
    """The exercises of a page, in their order.

    Raises:
        UnknownNameError: there is no such page.
    """
    module = importlib.import_module(f"toolkit.learning.exercises.{find_page(page).name}")
    exercises: tuple[Exercise, ...] = module.EXERCISES
    return exercises
