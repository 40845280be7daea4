"""Each exercise: a right answer passes, and each known mistake fails with its own hint."""

from collections.abc import Callable
from typing import Any

import pytest

from toolkit.learning import PAGES, Exercise, Mistake, check, exercises_of

ALL = [(page.number, exercise) for page in PAGES for exercise in exercises_of(page.number)]
MISTAKES = [(page, exercise, m) for page, exercise in ALL for m in exercise.mistakes]


def result_of(page: int, exercise: Exercise, function: Callable[..., Any]) -> Any:
    results = check(page, {exercise.name: function})
    return next(result for result in results if result.name == exercise.name)


def test_three_exercises_a_page() -> None:
    assert [page.number for page in PAGES] == [1, 2, 3, 4, 5, 6, 7]
    assert all(len(exercises_of(page.number)) == 3 for page in PAGES)
    assert len({exercise.name for _, exercise in ALL}) == 21


@pytest.mark.parametrize(("page", "exercise"), ALL, ids=[e.name for _, e in ALL])
def test_the_right_answer_passes(page: int, exercise: Exercise) -> None:
    result = result_of(page, exercise, exercise.solution)
    assert result.passed
    assert result.problem is result.hint is None


@pytest.mark.parametrize(
    ("page", "exercise", "mistake"),
    MISTAKES,
    ids=[f"{e.name}-{m.hint[:30]}" for _, e, m in MISTAKES],
)
def test_a_known_mistake_gets_its_hint(page: int, exercise: Exercise, mistake: Mistake) -> None:
    result = result_of(page, exercise, mistake.wrong)
    assert not result.passed
    assert result.problem
    assert result.call.startswith(f"{exercise.name}(")
    assert result.hint == mistake.hint
