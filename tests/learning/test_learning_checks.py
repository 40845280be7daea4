"""What is said of an answer, where it is no known mistake."""

import itertools
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from toolkit.errors import UnknownNameError
from toolkit.learning import check, checking, exercises_of
from toolkit.learning.comparing import difference, relation


@pytest.mark.parametrize(
    ("expected", "got", "said"),
    [
        (torch.ones(2), torch.ones(2) + 1e-6, None),
        (torch.ones(2), torch.tensor([1.0, 1.01]), "at [1]: 1.01, expected 1.0"),
        (torch.ones(2, 1), torch.ones(2), "shape (2,), expected (2, 1)"),
        (torch.ones(2), [1.0, 1], None),
        (torch.ones(2, 1), ((torch.tensor(1.0),), [1.0]), None),
        (torch.ones(2, 1), [torch.ones(1), np.ones(1)], None),
        (torch.ones(2, 1), np.ones((2, 1)), None),
        (torch.ones(2), [1.0, 2.0], "at [1]: 2.0, expected 1.0"),
        (torch.ones(2), [[1.0], [1.0]], "shape (2, 1), expected (2,)"),
        (torch.ones(2), [1.0, [1.0]], "the type list, expected a tensor"),
        (torch.ones(2), [1.0, None], "the type list, expected a tensor"),
        (torch.ones(2), {0: 1.0}, "the type dict, expected a tensor"),
        (torch.tensor([1, 2]), [1, 2], None),
        (torch.ones(2), [1, 10**30], "at [1]: 1e+30, expected 1.0"),
        (torch.tensor([1, 2]), [1.0, 2.0], "floating-point numbers, expected whole ones"),
        (torch.tensor(2.0), torch.tensor([2.0]), None),
        (torch.ones(2), None, "nothing (None): is there a return?, expected a tensor"),
        (torch.tensor(2.0), 2.0, None),
        (torch.tensor([1, 2]), torch.ones(2), "floating-point numbers, expected whole ones"),
        (torch.zeros(1), torch.tensor([torch.nan]), "at [0]: nan, expected 0.0"),
        (3, torch.tensor(3), None),
        (3, np.int64(3), None),
        (3, 4, "4, expected 3"),
        (0.5, 0.5000001, None),
        ([1, [2, 3]], (1, (2, 4)), "at [1][1]: 4, expected 3"),
        ([1, 2], [1], "1 elements, expected 2"),
        ([1, 2], torch.tensor([1, 2]), None),
        ([1, 2], np.array([1, 3]), "at [1]: 3, expected 2"),
        (([1], [2]), torch.tensor([[1], [2]]), None),
        (([1], [2]), (torch.tensor([1]), (2,)), None),
        ([1], "1", "the type str, expected a list"),
        ({"a": 0}, {}, "no key 'a'"),
        ({"a": 0}, {"a": 0, "b": 1}, "a key 'b' too many"),
        ({"a": 0}, {"a": 1}, "at ['a']: 1, expected 0"),
        ((torch.ones(1), torch.ones(1)), (torch.ones(1), torch.zeros(1)), "at [1][0]: 0.0"),
    ],
)
def test_the_first_difference(expected: object, got: object, said: str | None) -> None:
    found = difference(expected, got)
    if said is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(said)


def test_relations_of_whole_answers() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert relation(x, x.T) == "The result is transposed: rows and columns are swapped."
    assert relation(x, -x) == "Every number has the wrong sign."
    assert str(relation(x, x / 2)).startswith("Every number is 0.5 times what it should be")
    assert relation(x, x + 1) is None
    assert relation(x, torch.zeros(2, 2)) is None
    assert relation([1], [2]) is None
    assert relation(torch.tensor(1.0), torch.tensor(2.0)) is None  # one number has no relation
    assert relation(2.0, -2.0) == "Every number has the wrong sign."
    assert relation(5, 5.0) is None


def test_an_unknown_mistake_has_its_input_and_no_hint() -> None:
    first = check(4, {"average_loop": lambda x: x**3 + 1})[0]
    assert first.hint is None
    assert first.call == "average_loop([[1.0, 2.0], [3.0, -4.0], [8.0, 5.0]])"
    assert first.problem == "at [0][0]: 2.0, expected 1.0"


def test_a_scale_that_is_no_known_mistake_is_computed() -> None:
    scores = check(5, {"scaled_scores": lambda q, k: q @ k.T / q.size(-1) ** 0.5 * 7})[0]
    assert str(scores.hint).startswith("Every number is 7 times what it should be")


def test_a_mistake_that_the_first_input_shows_alone() -> None:
    def sometimes(ids: list[int]) -> dict[tuple[int, int], int]:
        if ids == [1, 2, 1, 2]:
            return {(1, 2): 2}  # every other pair
        return {}

    assert str(check(1, {"count_pairs": sometimes})[1].hint).startswith("You go on by two.")


def test_a_function_may_write_into_its_arguments() -> None:
    (exercise,) = (e for e in exercises_of(4) if e.name == "average_matrix")

    def in_place(x: Tensor) -> Tensor:
        answer = exercise.solution(x)
        x.zero_()
        return answer

    assert check(4, {"average_matrix": in_place})[1].passed
    assert check(4, {"average_matrix": in_place})[1].passed


def test_an_exception_of_a_known_mistake_has_its_hint() -> None:
    def past_the_end(ids: list[int]) -> dict[tuple[int, int], int]:
        return {(ids[i], ids[i + 1]): 1 for i in range(len(ids))}

    def no_key(ids: list[int]) -> dict[tuple[int, int], int]:
        counts: dict[tuple[int, int], int] = {}
        for pair in itertools.pairwise(ids):
            counts[pair] += 1
        return counts

    first = check(1, {"count_pairs": past_the_end})[1]
    assert first.problem == "IndexError: list index out of range"
    assert str(first.hint).startswith("The last id has no right neighbour")
    second = check(1, {"count_pairs": no_key})[1]
    assert second.problem == "KeyError: (1, 2)"
    assert second.hint is None


def test_a_loop_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "SECONDS", 0.2)
    rounds = []

    def merge(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
        position = 0
        while position < len(ids):
            try:
                rounds.append(position)
            except Exception:
                return []
        return ids

    def sometimes(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
        if ids[0] == 1 and len(ids) > 3:
            return [9, 3, 1, 2]
        return merge(ids, pair, new_id)

    trace = sys.gettrace()
    sys.settrace(None)  # one that measures coverage would be left alone, and wait for ever
    try:
        result = check(1, {"merge": merge})[2]
        wrong_before = check(1, {"merge": sometimes})[2]
        assert sys.gettrace() is None
    finally:
        sys.settrace(trace)
    assert result.problem == "no answer within 0.2 seconds"
    assert result.call == "merge([1, 2, 3, 1, 2], (1, 2), 9)"
    assert str(result.line).startswith("line ")
    assert str(result.hint).startswith("A loop that does not end?")
    assert rounds
    assert wrong_before.problem == "4 elements, expected 3"
    assert wrong_before.hint == "Only the first occurrence is replaced; go on to the end."


def test_gradients_do_no_harm() -> None:
    (exercise,) = (e for e in exercises_of(3) if e.name == "softmax")
    assert check(3, {"softmax": lambda x: exercise.solution(x.requires_grad_())})[1].passed


def test_a_function_that_is_missing_is_described() -> None:
    result = check("batches", {"last_start": 3})[2]
    assert result.problem == "there is no function of this name"
    assert result.hint == "Write def last_start(n_tokens: int, length: int) -> int:"


def test_no_such_page() -> None:
    with pytest.raises(UnknownNameError, match="No page 'attentoin'"):
        check("attentoin", {})
