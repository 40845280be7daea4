"""Running a learner's functions against values, and finding out what went wrong.

A hint is given where the wrong answers are those of a known mistake: of one that gives the same as
the learner's function for every input, else of one that does for the first wrong one.
"""

from __future__ import annotations

import copy
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any

from toolkit.learning.comparing import difference, relation, show
from toolkit.learning.exercise import Exercise
from toolkit.learning.pages import exercises_of


@dataclass(frozen=True)
class Result:
    """What became of one exercise; as `str`, for people.

    `problem` is one line; `call` the first input that went wrong; `hint` the likely mistake;
    `line` the learner's line that an exception came from. None where there is nothing to say.

    >>> print(Result("window", False, "shape (3,), expected (2,)", hint="One too many."))
    failed  window
            shape (3,), expected (2,)
            hint: One too many.
    """

    name: str
    passed: bool
    problem: str | None = None
    call: str | None = None
    hint: str | None = None
    line: str | None = None

    @property
    def details(self) -> list[str]:
        """What is known of a failure, a line each."""
        hint = self.hint and f"hint: {self.hint}"
        return [text for text in (self.call, self.problem, self.line, hint) if text]

    def __str__(self) -> str:
        lines = [f"{'passed' if self.passed else 'failed'}  {self.name}", *self.details]
        return "\n        ".join(lines)


SECONDS = 3.0
"""How long one call may take. The exercises take less than a thousandth of it."""


@dataclass(frozen=True)
class _Raised:
    """An exception instead of an answer."""

    error: BaseException


class _TooLong(BaseException):
    """Not one that `except Exception` in a learner's loop would catch."""


def check(page: int | str, module: ModuleType | Mapping[str, Any]) -> list[Result]:
    """Try the functions of a learner, in a module or by name, as the exercises of a page.

    >>> check(2, {"last_start": lambda n_tokens, length: n_tokens - length})[2].hint
    'The last window has no target for its last token: a window takes length + 1 tokens.'

    Raises:
        UnknownNameError: there is no such page.
    """
    names = vars(module) if isinstance(module, ModuleType) else module
    return [_check(exercise, names) for exercise in exercises_of(page)]


def _check(exercise: Exercise, names: Mapping[str, Any]) -> Result:
    function = names.get(exercise.name)
    if not callable(function):
        problem = "there is no function of this name"
        return Result(
            exercise.name, False, problem, hint=f"Write def {exercise.name}{exercise.signature}:"
        )
    answers: list[Any] = []
    for arguments in exercise.inputs:
        answers.append(_call(function, arguments))
        if isinstance(answers[-1], _Raised) and isinstance(answers[-1].error, _TooLong):
            break
    # Fewer answers than inputs where one call did not end: it is wrong at the last of them.
    for number, (arguments, got) in enumerate(zip(exercise.inputs, answers, strict=False)):
        expected = _call(exercise.solution, arguments)
        call = _shown(exercise, arguments)
        if isinstance(got, _Raised):
            if isinstance(got.error, NotImplementedError):
                return Result(exercise.name, False, "not written yet")
            problem, hint = _of_exception(got.error), _hint(exercise, answers, number)
            if isinstance(got.error, _TooLong):
                hint = "A loop that does not end? See that each round brings its end nearer."
            line = _line(got.error, function)
            return Result(exercise.name, False, problem, call, hint, line)
        problem_here = difference(expected, got)
        if problem_here:
            hint = _hint(exercise, answers, number) or relation(expected, got)
            if exercise.loops:
                hint = _beside_loops(exercise, names, arguments, expected, hint)
            return Result(exercise.name, False, problem_here, call, hint)
    return Result(exercise.name, True)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    # Each call gets its own copy: a function may write into what it is given. A debugger that is
    # at work is left alone, and waits as long as it likes.
    given = copy.deepcopy(arguments)
    before = sys.gettrace()
    try:
        if before is None:
            sys.settrace(_deadline(time.monotonic() + SECONDS))
        return function(*given)
    except (Exception, SystemExit, _TooLong) as error:
        return _Raised(error)
    finally:
        sys.settrace(before)


def _deadline(end: float) -> Callable[[FrameType, str, Any], Any]:
    """A trace function, called at each line: the way to stop a loop that works on any platform,
    in any thread."""

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if time.monotonic() > end:
            raise _TooLong
        return trace

    return trace


def _hint(exercise: Exercise, answers: list[Any], number: int) -> str | None:
    for_first = None
    tried = exercise.inputs[: len(answers)]
    for mistake in exercise.mistakes:
        wrong = [_call(mistake.wrong, arguments) for arguments in tried]
        same = [_alike(left, right) for left, right in zip(wrong, answers, strict=True)]
        if all(same):
            return mistake.hint
        if same[number] and for_first is None and not isinstance(answers[number], _Raised):
            for_first = mistake.hint
    return for_first


def _alike(left: Any, right: Any) -> bool:
    if isinstance(left, _Raised) and isinstance(right, _Raised):
        return type(left.error) is type(right.error)
    if isinstance(left, _Raised) or isinstance(right, _Raised):
        return False
    return difference(left, right) is None


def _beside_loops(
    exercise: Exercise,
    names: Mapping[str, Any],
    arguments: tuple[Any, ...],
    expected: Any,
    hint: str | None,
) -> str | None:
    """The hint, and whether the learner's own loops get these numbers right."""
    loops = names.get(exercise.loops or "")
    if not callable(loops):
        return hint
    answer = _call(loops, arguments)
    if isinstance(answer, _Raised) or difference(expected, answer):
        return hint
    right = f"Your {exercise.loops} is right here, so the loops and the matrix are not equal."
    return f"{right} {hint}" if hint else f"{right} Print both and compare row by row."


def _of_exception(error: BaseException) -> str:
    if isinstance(error, _TooLong):
        return f"no answer within {SECONDS:g} seconds"
    return f"{type(error).__name__}: {error}".strip(": \n").replace("\n", " ")


def _shown(exercise: Exercise, arguments: tuple[Any, ...]) -> str:
    return f"{exercise.name}({', '.join(map(show, arguments))})"


def _line(error: BaseException, function: Callable[..., Any]) -> str | None:
    """The last line of the learner's own file that an exception went through."""
    code = getattr(function, "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    if not own:
        return None
    return f"line {own[-1].lineno}: {own[-1].line}"
