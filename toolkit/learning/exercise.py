"""What an exercise is: a right function, inputs to try it on, and mistakes with their hints."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mistake:
    """A function that goes wrong in a known way, and what to tell whoever has the same answers."""

    hint: str
    wrong: Callable[..., Any]


@dataclass(frozen=True)
class Exercise:
    """One function to write.

    `solution` is a right answer; its signature and docstring are the task. `inputs` are the
    arguments of each trial. `loops` names an exercise of the same page that computes the same in
    loops: where the two of a learner disagree, that is said.
    """

    solution: Callable[..., Any]
    inputs: tuple[tuple[Any, ...], ...]
    mistakes: tuple[Mistake, ...]
    loops: str | None = None

    @property
    def name(self) -> str:
        return self.solution.__name__

    @property
    def task(self) -> str:
        """The docstring: what the function should do, with shapes."""
        return inspect.getdoc(self.solution) or ""

    @property
    def signature(self) -> str:
        """`(ids: Tensor, start: int) -> Tensor`, as it is written."""
        signature = inspect.signature(self.solution)
        parameters = [f"{p.name}: {p.annotation}" for p in signature.parameters.values()]
        return f"({', '.join(parameters)}) -> {signature.return_annotation}"
