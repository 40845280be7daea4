"""The names of the sampling strategies and what each takes; no torch, so that help is quick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models.config import flag


@dataclass(frozen=True)
class Strategy:
    """A way to choose the next token.

    Attributes:
        options: what it takes, in the order in which the options are applied.
        defaults: the options that it has to have, and their values where none is given.
    """

    options: tuple[str, ...]
    defaults: Mapping[str, float]


STRATEGIES: dict[str, Strategy] = {
    "greedy": Strategy((), {}),
    "multinomial": Strategy(("temperature", "top_k", "top_p"), {}),
    "top-k": Strategy(("temperature", "top_k", "top_p"), {"top_k": 50}),
    "top-p": Strategy(("temperature", "top_k", "top_p"), {"top_p": 0.9}),
}
DEFAULT_STRATEGY = "multinomial"


def available_strategies() -> list[str]:
    """The names that `make_sampler` and `toolkit generate --strategy` take."""
    return sorted(STRATEGIES)


def resolve_options(strategy: str, given: Mapping[str, float | None]) -> dict[str, float]:
    """The options to apply, in order: those given, and the strategy's own defaults.

    >>> resolve_options("top-k", {"temperature": 0.8, "top_k": None, "top_p": None})
    {'temperature': 0.8, 'top_k': 50}

    Raises:
        UsageError: an unknown strategy, or an option that it does not take.
    """
    if strategy not in STRATEGIES:
        raise UnknownNameError("strategy", strategy, STRATEGIES)
    chosen = STRATEGIES[strategy]
    for name, value in given.items():
        if value is not None and name not in chosen.options:
            takes = ", ".join(flag(option) for option in chosen.options) or "none"
            raise UsageError(
                f"The strategy {strategy} does not take {flag(name)} (its options: {takes}). "
                "Leave it out, or choose --strategy multinomial."
            )
    options = {}
    for name in chosen.options:
        value = given.get(name)
        if value is None:
            value = chosen.defaults.get(name)
        if value is not None:
            options[name] = value
    return options
