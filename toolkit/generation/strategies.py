"""The sampling strategies by name: which logits processors each is made of, and in which order.

No torch here, so that a command's help is quick: a processor is named, and imported when a sampler
is made. A new strategy is one class in any module and one entry here:

    STRATEGIES["min-p"] = Strategy(
        "Among tokens at least 0.05 times as likely as the likeliest.",
        (Step("my_package.samplers:MinP", "min_p", default=0.05),),
    )
    make_sampler("min-p", min_p=0.1)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models.config import flag


@dataclass(frozen=True)
class Step:
    """One logits processor of a strategy.

    Attributes:
        processor: where its class is, "package.module:Class".
        option: the option that the class is made with; None for a class that takes none.
        default: the option's value where none is given; None leaves the step out.
    """

    processor: str
    option: str | None = None
    default: float | None = None


@dataclass(frozen=True)
class Strategy:
    """A way to choose the next token.

    Attributes:
        summary: one line for a list.
        steps: the processors in the order in which they are applied.
    """

    summary: str
    steps: tuple[Step, ...]

    @property
    def options(self) -> list[str]:
        """What it takes."""
        return [step.option for step in self.steps if step.option is not None]


_GREEDY = Step("toolkit.generation.samplers:Greedy")
_TEMPERATURE = Step("toolkit.generation.samplers:Temperature", "temperature")
_TOP_K = Step("toolkit.generation.samplers:TopK", "top_k")
_TOP_P = Step("toolkit.generation.samplers:TopP", "top_p")

# Temperature first, as in the papers: k and p then cut the distribution that is drawn from.
STRATEGIES: dict[str, Strategy] = {
    "greedy": Strategy("Always the likeliest token.", (_GREEDY,)),
    "multinomial": Strategy(
        "By the model's own probabilities, as far as no option changes them.",
        (_TEMPERATURE, _TOP_K, _TOP_P),
    ),
    "top-k": Strategy(
        "Among the k likeliest tokens, 50 unless told otherwise.",
        (_TEMPERATURE, replace(_TOP_K, default=50), _TOP_P),
    ),
    "top-p": Strategy(
        "Among the likeliest tokens that have probability p together, 0.9 unless told otherwise.",
        (_TEMPERATURE, _TOP_K, replace(_TOP_P, default=0.9)),
    ),
}
DEFAULT_STRATEGY = "multinomial"


def available_strategies() -> list[str]:
    """The names that `make_sampler` and `toolkit generate --strategy` take.

    >>> available_strategies()
    ['greedy', 'multinomial', 'top-k', 'top-p']
    """
    return sorted(STRATEGIES)


def choose_steps(
    strategy: str, given: Mapping[str, float | None]
) -> list[tuple[Step, float | None]]:
    """The steps to apply, in order, each with its option's value.

    >>> for step, value in choose_steps("top-k", {"temperature": 0.8, "top_k": None}):
    ...     print(step.processor, value)
    toolkit.generation.samplers:Temperature 0.8
    toolkit.generation.samplers:TopK 50

    Args:
        strategy: its name.
        given: the options by name; None is the same as not given.

    Raises:
        UsageError: an unknown strategy, or an option that it does not take.
    """
    if strategy not in STRATEGIES:
        raise UnknownNameError("strategy", str(strategy), STRATEGIES)
    chosen = STRATEGIES[strategy]
    for option, value in given.items():
        if value is not None and option not in chosen.options:
            takes = ", ".join(map(flag, chosen.options)) or "none"
            raise UsageError(
                f"The strategy {strategy} does not take {flag(option)} (its options: {takes}). "
                "Leave it out, or choose another --strategy."
            )
    steps: list[tuple[Step, float | None]] = []
    for step in chosen.steps:
        if step.option is None:
            steps.append((step, None))
            continue
        value = given.get(step.option)
        if value is None:
            value = step.default
        if value is not None:
            steps.append((step, value))
    return steps
