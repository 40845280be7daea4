"""`toolkit generate -i`: write a text in turns with a model, and change its options on the way.

A line is added to the text, and the model goes on from there; of a model of pairs each line is a
source of its own, and its translation follows. A line that begins with / is a command. Left out:
editing a line and recalling earlier ones, which Python's readline does, and for translations
/undo, /new and /text, as there is no text that grows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit import console
from toolkit.errors import ToolkitError, UnknownNameError, UsageError
from toolkit.models.config import flag

if TYPE_CHECKING:
    from toolkit.generation import Generator

_INTEGERS = (
    "contrast_k",
    "max_new_tokens",
    "no_repeat_ngram",
    "num_beams",
    "num_draft_tokens",
    "num_groups",
    "seed",
    "top_k",
)
_NUMBERS = (
    "contrast_alpha",
    "diversity_penalty",
    "epsilon_cutoff",
    "eta_cutoff",
    "frequency_penalty",
    "length_penalty",
    "max_time",
    "min_p",
    "presence_penalty",
    "repetition_penalty",
    "temperature",
    "top_p",
    "typical_p",
)
_TEXTS = ("early_stopping", "regex", "stop", "strategy")


@dataclass(frozen=True)
class _Turn:
    """What was typed, and what the model made of it."""

    typed: str
    text: str


class Session:
    """A text that a person and a model write in turns.

    Attributes:
        greeting: what it says first.

    Args:
        generator: of the model and its tokenizer.
        options: of `Generator.stream`, with a seed; turn i has the seed `sample_seed(seed, i)`.
    """

    greeting = "Write, and the model goes on. /help lists commands, /quit ends."

    def __init__(self, generator: Generator, options: dict[str, Any]) -> None:
        self.options = options
        self._generator = generator
        self._turns: list[_Turn] = []
        self._attempt = 0  # which sample of the turn; /again counts it up
        self._commands: dict[str, tuple[Callable[[str], None], str]] = {
            "set": (self._set, "NAME VALUE: change an option; without VALUE it is not given"),
            "options": (self._show_options, "the options as they are"),
            "again": (self._again, "another text in place of the last one"),
            "undo": (self._undo, "take the last turn back"),
            "new": (self._new, "begin a new text"),
            "text": (self._show_text, "the whole text so far"),
            "help": (self._help, "this list"),
            "quit": (self._quit, "the end (so is Ctrl-D)"),
        }

    @property
    def text(self) -> str:
        """All that was written so far, by both."""
        return "".join(turn.typed + turn.text for turn in self._turns)

    def run(self) -> None:
        """Read lines until the input ends or /quit comes. Errors are shown and change nothing."""
        console.notice(self.greeting)
        for line in _lines():
            try:
                self.take(line)
            except ToolkitError as error:
                console.print_error(str(error))
            except EOFError:
                return

    def take(self, line: str) -> None:
        """One line of input.

        Raises:
            ToolkitError: it cannot be done; nothing has changed.
            EOFError: it is the last.
        """
        if not line.startswith("/"):
            self._attempt = 0
            self._continue(line)
            return
        name, _, argument = line[1:].partition(" ")
        if name not in self._commands:
            raise UnknownNameError("command", f"/{name}", [f"/{each}" for each in self._commands])
        self._commands[name][0](argument.strip())

    def _continue(self, typed: str) -> None:
        from toolkit.generation import sample_seed

        number = len(self._turns) + 1000 * self._attempt
        options = {**self.options, "seed": sample_seed(self.options["seed"], number)}
        pieces: list[str] = []
        stream = self._generator.stream(self._prompt(typed), **options)
        try:
            console.print_pieces(_noted(stream, pieces))
        except KeyboardInterrupt:  # of this text only
            console.print_pieces(iter([]))
        self._turns.append(_Turn(typed, "".join(pieces)))

    def _prompt(self, typed: str) -> str:
        """What the model is given after a line."""
        return self.text + typed

    def _check(self, options: dict[str, Any]) -> None:
        """Refuse what cannot be, and compute nothing."""
        self._generator.stream("", **options)

    def _set(self, argument: str) -> None:
        name, _, value = argument.partition(" ")
        name = name.strip("-").replace("-", "_")
        known = (*_INTEGERS, *_NUMBERS, *_TEXTS)
        if name not in known:
            names = [flag(each).strip("-") for each in known]
            raise UnknownNameError("option", flag(name).strip("-"), names)
        changed = {key: old for key, old in self.options.items() if key != name}
        if value.strip():
            changed[name] = _read_value(name, value.strip())
        elif name == "seed":
            raise UsageError("/set seed needs a number.")
        self._check(changed)
        self.options = changed
        self._show_options("")

    def _show_options(self, _: str) -> None:
        given = [each for each in sorted(self.options.items()) if each[1] not in ((), False)]
        shown = (f"{flag(key).strip('-')} {value}" for key, value in given)
        console.notice(", ".join(shown))

    def _again(self, _: str) -> None:
        last = self._take_back()
        self._attempt += 1
        self._continue(last.typed)

    def _undo(self, _: str) -> None:
        self._take_back()
        self._show_text("")

    def _take_back(self) -> _Turn:
        if not self._turns:
            raise UsageError("There is no turn yet: write something first.")
        return self._turns.pop()

    def _new(self, _: str) -> None:
        self._turns.clear()

    def _show_text(self, _: str) -> None:
        console.print_pieces(iter([self.text]))

    def _help(self, _: str) -> None:
        for name, (_action, what) in self._commands.items():
            console.notice(f"/{name:<8} {what}")

    def _quit(self, _: str) -> None:
        raise EOFError


class TranslationSession(Session):
    """Sources that a person writes, and their translations."""

    greeting = "Write a source, and its translation follows. /help lists commands, /quit ends."

    def __init__(self, generator: Generator, options: dict[str, Any]) -> None:
        super().__init__(generator, options)
        for name in ("undo", "new", "text"):
            del self._commands[name]
        again = self._commands["again"][0]
        self._commands["again"] = again, "another translation of the last source, if they are drawn"

    def _prompt(self, typed: str) -> str:
        return typed

    def _check(self, options: dict[str, Any]) -> None:
        self._generator.plan(options)


def _read_value(name: str, value: str) -> Any:
    from toolkit.generation import parse_early_stopping

    try:
        if name in _INTEGERS:
            return int(value)
        if name in _NUMBERS:
            return float(value)
    except ValueError:
        kind = "a whole number" if name in _INTEGERS else "a number"
        raise UsageError(f"/set {flag(name).strip('-')} needs {kind}, not '{value}'.") from None
    return parse_early_stopping(value) if name == "early_stopping" else value


def _noted(pieces: Iterator[str], into: list[str]) -> Iterator[str]:
    for piece in pieces:
        into.append(piece)
        yield piece


def _lines() -> Iterator[str]:
    """Lines of standard input; in a terminal with a prompt and the history of readline."""
    if not sys.stdin.isatty():
        for line in sys.stdin:
            yield line.removesuffix("\n")
        return
    import readline  # noqa: F401  # importing it is what gives input() a history

    while True:
        try:
            yield input("> ")
        except EOFError:
            return
        except KeyboardInterrupt:
            sys.stdout.write("\n")
