"""What a sweep tries: options from a TOML file, as a grid, at random, or both.

    corpus = "tiny-shakespeare"      # options of every trial, as in `toolkit train --config`
    tokenizer = "char"
    size = "nano"
    max_steps = 300

    [grid]                           # every combination
    optimizer = ["adamw", "muon"]

    [random]                         # and for each of them `trials` draws
    learning_rate = {min = 1e-3, max = 1e-1, log = true}
    n_embd = [32, 64]

    [sweep]
    trials = 8
    seed = 0

With `task = "reverse"` (or a file of pairs) in place of a corpus, trials learn pairs. Random search
finds as good options as a grid with fewer trials where few of them matter (Bergstra and Bengio
2012).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.corpora import DEFAULT_CORPUS
from toolkit.errors import UnknownNameError, UsageError
from toolkit.materials.choosing import PAIR_MODEL
from toolkit.models.registry import find_model
from toolkit.planning import DEFAULT_MODEL, plan_training
from toolkit.tasks import load_task
from toolkit.tokenizer_options import tokenizer_options
from toolkit.tokenizers.registry import class_of_spec
from toolkit.training import TrainConfig, resolve_device

# Options of a trial that are neither the model's nor the training's.
PARTS = ("corpus", "task", "model", "preset", "size", "held_out")
TOKENIZERS = ("tokenizer", "src_tokenizer", "tgt_tokenizer")
READING = ("encoding", "errors", "text_field")
OF_TOKENIZER = ("unknown", "max_memory", "option")
_TABLES = ("grid", "random", "sweep")
_MOST_TRIALS = 10_000
_DIGITS = 4  # of a number drawn at random: what differs beyond them makes no difference


@dataclass(frozen=True)
class SweepPlan:
    """The options of every trial.

    Attributes:
        base: what all trials have.
        grid: for each option its values; every combination is tried.
        random: for each option a list of choices, or a table with min, max and log.
        trials: draws of `random`; each is tried at every point of the grid.
        seed: of the draws.
    """

    base: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)
    random: dict[str, Any] = field(default_factory=dict)
    trials: int = 1
    seed: int = 0

    def varied(self) -> list[dict[str, Any]]:
        """The options in which trials differ, for each trial in its order."""
        points = itertools.product(*self.grid.values())
        grid = [dict(zip(self.grid, point, strict=True)) for point in points]
        generator = np.random.Generator(np.random.PCG64(self.seed))
        drawn = [
            {name: _draw(values, generator) for name, values in self.random.items()}
            for _ in range(self.trials if self.random else 1)
        ]
        return [{**point, **draw} for point in grid for draw in drawn]


def read_plan(path: str | Path) -> SweepPlan:
    """The plan that a TOML file describes, checked.

    Raises:
        UsageError: as `make_plan`, or a file that cannot be read.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The sweep {path} cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The sweep {path} is not valid TOML: {error}.") from error
    try:
        return make_plan(content)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def make_plan(content: Mapping[str, Any]) -> SweepPlan:
    """The plan that a mapping describes, laid out as the TOML file; every trial is checked.

    Raises:
        UsageError: unknown names, wrong types, an empty grid, options that do not fit together.
    """
    tables = {name: content.get(name, {}) for name in _TABLES}
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise UsageError(f"[{name}] must be a table of options.")
    base = {_name(key): value for key, value in content.items() if key not in _TABLES}
    grid = {_name(key): _values(key, value) for key, value in tables["grid"].items()}
    random = {_name(key): _distribution(key, value) for key, value in tables["random"].items()}
    if not grid and not random:
        raise UsageError("A sweep varies at least one option, in [grid] or [random].")
    both = sorted((grid.keys() & random.keys()) | (base.keys() & (grid.keys() | random.keys())))
    if both:
        raise UsageError(f"{both[0]} is given twice; an option has one value or one list of them.")
    settings = {"trials": 1, "seed": 0}
    for key, value in tables["sweep"].items():
        if key not in settings:
            raise UnknownNameError("setting of [sweep]", key, settings)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UsageError(f"[sweep] {key} = {value!r} must be a whole number from 0.")
        settings[key] = value
    if random and ("trials" not in tables["sweep"] or settings["trials"] < 1):
        raise UsageError("[random] needs to know how many: give [sweep] trials, at least 1.")
    if not random and tables["sweep"]:
        raise UsageError("[sweep] trials and seed belong to [random]; a grid has neither.")
    count = math.prod(map(len, grid.values())) * settings["trials"]
    if count > _MOST_TRIALS:
        raise UsageError(f"{count:,} trials are more than a sweep takes ({_MOST_TRIALS:,}).")
    plan = SweepPlan(base, grid, random, **settings)
    looked_up: set[tuple[str, str]] = set()
    for number, varied in enumerate(plan.varied(), start=1):
        options = {**base, **varied}
        try:
            check_options(options)
            for name in ("task", *TOKENIZERS):
                if options.get(name) is not None and (name, options[name]) not in looked_up:
                    # A tokenizer is looked for among installed packages, and a task may be a file.
                    _look_up(name, options)
                    looked_up.add((name, options[name]))
        except UnknownNameError:
            raise
        except UsageError as error:
            raise UsageError(f"{error} (trial {number}: {describe(varied)})") from error
    return plan


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that no trial can have; the names of tokenizers and tasks are not looked for.

    Raises:
        UsageError: what is wrong with them.
    """
    task = options.get("task")
    model = options.get("model", DEFAULT_MODEL if task is None else PAIR_MODEL)
    of_training = {field.name for field in dataclasses.fields(TrainConfig)}
    of_model = {field.name for field in dataclasses.fields(find_model(model).config_class)}
    of_model -= {"vocab_size"}
    known = {*PARTS, *TOKENIZERS, *READING, *OF_TOKENIZER} | of_training | of_model
    for name in options:
        if name not in known:
            raise UnknownNameError(f"option of {model}", name, known)
    for name in (*PARTS, *TOKENIZERS, *READING, "unknown", "max_memory"):
        value, kind = options.get(name), (int, float) if name == "held_out" else (str,)
        if value is not None and not isinstance(value, kind):
            raise UsageError(
                f"{name} = {value!r} must be a {'number' if kind != (str,) else 'text'}."
            )
    settings = options.get("option", [])
    if not isinstance(settings, list) or not all(isinstance(text, str) for text in settings):
        raise UsageError(f"option = {settings!r} must be a list of texts as in ['pattern=cl100k'].")
    training = {name: value for name, value in options.items() if name in of_training}
    config = TrainConfig(**{"max_steps": None if "max_time" in training else 1, **training})
    for name in READING:
        if task is not None and name in options:
            raise UsageError(f"{name} is for a text, and task is pairs of texts: leave one out.")
    shape = {name: value for name, value in options.items() if name in of_model}
    plan_training(
        options={**shape, **training},
        device=resolve_device(config.device),
        corpus=options.get("corpus", DEFAULT_CORPUS),
        **{name: options.get(name) for name in ("task", "model", "preset", "size", *TOKENIZERS)},
    )
    options_of_tokenizer(options)


def _look_up(name: str, options: Mapping[str, Any]) -> None:
    """Raise UsageError where there is no such task or tokenizer, the option `name`."""
    if name == "task":
        load_task(options[name], held_out=options.get("held_out", 0.1))
    else:
        class_of_spec(options[name])


def options_of_tokenizer(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the options say to the tokenizer.

    Raises:
        UsageError: a setting that is not NAME=VALUE, or a size that is none.
    """
    return tokenizer_options(*(options.get(name) for name in OF_TOKENIZER))


def describe(options: Mapping[str, Any]) -> str:
    """Options in a line.

    >>> describe({"learning_rate": 0.001, "n_layer": 2})
    'learning_rate 0.001, n_layer 2'
    """
    return ", ".join(f"{name} {value}" for name, value in options.items())


def _name(key: str) -> str:
    return key.replace("-", "_")


def _values(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise UsageError(f"[grid] {key} = {value!r} must be a list of one or more values.")
    return value


def _distribution(key: str, value: Any) -> Any:
    """A list of choices, or a table with min, max and log."""
    if isinstance(value, Mapping) and set(value) == {"choices"}:
        value = value["choices"]
    if isinstance(value, list) and value:
        return value
    wanted = "must be a list of choices, or {min = …, max = …} with or without log = true"
    if not isinstance(value, Mapping) or not {"min", "max"} <= set(value) <= {"min", "max", "log"}:
        raise UsageError(f"[random] {key} = {value!r} {wanted}.")
    low, high, log = value["min"], value["max"], value.get("log", False)
    numbers = all(isinstance(n, int | float) and not isinstance(n, bool) for n in (low, high))
    if not numbers or not isinstance(log, bool) or not math.isfinite(low) or not low < high:
        raise UsageError(f"[random] {key} = {value!r} {wanted}, min below max.")
    if log and low <= 0:
        raise UsageError(f"[random] {key}: with log = true, min = {low} must be above 0.")
    return {"min": low, "max": high, "log": log}


def _draw(values: Any, generator: np.random.Generator) -> Any:
    if isinstance(values, list):
        return values[int(generator.integers(len(values)))]
    low, high = values["min"], values["max"]
    whole = isinstance(low, int) and isinstance(high, int)
    if whole and not values["log"]:
        return int(generator.integers(low, high, endpoint=True))
    if values["log"]:
        number = math.exp(generator.uniform(math.log(low), math.log(high)))
    else:
        number = generator.uniform(low, high)
    return round(number) if whole else min(max(float(f"{number:.{_DIGITS}g}"), low), high)
