"""The exercises of docs/tutorial: three for each page, checked against values.

    for result in toolkit.learning.check(4, {"average_loop": my_function}):
        print(result)

A wrong answer is compared with the answers that known mistakes give (a missing scale, a mask that
is off by one, a softmax over the wrong axis), so that a hint is found, not guessed.

torch is imported when the exercises of a page are asked for; the list of pages does without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.learning.answers import default_file, load_answers, stubs, write_stubs
from toolkit.learning.exercise import Exercise, Mistake
from toolkit.learning.pages import PAGES, Page, exercises_of, find_page
from toolkit.learning.story import story

if TYPE_CHECKING:
    from toolkit.learning.checking import Result as Result
    from toolkit.learning.checking import check as check

__all__ = [
    "PAGES",
    "Exercise",
    "Mistake",
    "Page",
    "Result",
    "check",
    "default_file",
    "exercises_of",
    "find_page",
    "load_answers",
    "story",
    "stubs",
    "write_stubs",
]


def __getattr__(name: str) -> Any:
    if name in ("Result", "check"):
        from toolkit.learning import checking

        return getattr(checking, name)
    raise AttributeError(f"module 'toolkit.learning' has no attribute '{name}'")
