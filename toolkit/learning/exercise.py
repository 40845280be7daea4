"""What an exercise is: a right function, inputs to try it on, and mistakes with their hints."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_WIDEST = 100  # of a line in the learner's file


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
        return f"({', '.join(self._parameters)}) -> {self._returned}"

    @property
    def heading(self) -> str:
        """The `def` line; one for each parameter where it would be too long."""
        line = f"def {self.name}{self.signature}:"
        if len(line) <= _WIDEST:
            return line
        lines = "".join(f"    {parameter},\n" for parameter in self._parameters)
        return f"def {self.name}(\n{lines}) -> {self._returned}:"

    @property
    def _parameters(self) -> list[str]:
        parameters = inspect.signature(self.solution).parameters.values()
        return [f"{p.name}: {p.annotation}" for p in parameters]

    @property
    def _returned(self) -> str:
        return str(inspect.signature(self.solution).return_annotation)
