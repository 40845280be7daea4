"""The sampling strategies by name: which logits processors each is made of, and in which order.

No torch here, so that a command's help is quick: a processor is named, and imported when a sampler
is made. A new strategy is one class in any module and one entry here:

    STRATEGIES["loud"] = Strategy(
        "Among tokens whose logit is above a border.",
        (Step("my_package.samplers:Loud", "loudness", default=0.0),),
    )
    make_sampler("loud", loudness=1.0)

A strategy that looks at whole sequences names a search as well: a class that is made with its
options and has the method `start` (see `toolkit.generation.requests`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models.config import flag


@dataclass(frozen=True)
class Step:
    """One logits processor of a strategy.

    Attributes:
        processor: where its class is, "package.module:Class".
        option: the option that the class is made with; None for a class that takes none.
        default: the option's value where none is given; None leaves the step out.
        numeric: whether the option's value is a number.
    """

    processor: str
    option: str | None = None
    default: float | None = None
    numeric: bool = True


@dataclass(frozen=True)
class Strategy:
    """A way to choose the next token.

    Attributes:
        summary: one line for a list.
        steps: the processors in the order in which they are applied.
        search: where the class is that finds the tokens, "package.module:Class"; None draws them
            one after the other.
        search_options: the options that the class is made with.
    """

    summary: str
    steps: tuple[Step, ...]
    search: str | None = None
    search_options: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        """What it takes."""
        of_steps = [step.option for step in self.steps if step.option is not None]
        return [*self.search_options, *of_steps]


_HERE = "toolkit.generation"
# What changes the logits by the tokens before, or for certain tokens.
_BY_CONTEXT = {
    "logit_bias": Step(f"{_HERE}.penalties:LogitBias", "logit_bias", numeric=False),
    "repetition_penalty": Step(f"{_HERE}.penalties:RepetitionPenalty", "repetition_penalty"),
    "presence_penalty": Step(f"{_HERE}.penalties:PresencePenalty", "presence_penalty"),
    "frequency_penalty": Step(f"{_HERE}.penalties:FrequencyPenalty", "frequency_penalty"),
    "no_repeat_ngram": Step(f"{_HERE}.penalties:NoRepeatNgram", "no_repeat_ngram"),
    "forbid": Step(f"{_HERE}.penalties:Forbidden", "forbid", numeric=False),
    "force": Step(f"{_HERE}.penalties:Forced", "force", numeric=False),
}
# What shapes the distribution. Temperature first, as in the papers: k and p then cut the
# distribution that is drawn from.
_BY_SHAPE = {
    "temperature": Step(f"{_HERE}.samplers:Temperature", "temperature"),
    "top_k": Step(f"{_HERE}.samplers:TopK", "top_k"),
    "top_p": Step(f"{_HERE}.samplers:TopP", "top_p"),
    "min_p": Step(f"{_HERE}.cutoffs:MinP", "min_p"),
    "typical_p": Step(f"{_HERE}.cutoffs:Typical", "typical_p"),
    "epsilon_cutoff": Step(f"{_HERE}.cutoffs:EpsilonCutoff", "epsilon_cutoff"),
    "eta_cutoff": Step(f"{_HERE}.cutoffs:EtaCutoff", "eta_cutoff"),
}
PROCESSORS: dict[str, Step] = {**_BY_CONTEXT, **_BY_SHAPE}
"""Every processor by its option, in the order in which the strategies apply them: transformers'."""


def _drawing(summary: str, **defaults: float) -> Strategy:
    """A strategy that takes every option, with values of its own for some."""
    steps = [replace(step, default=defaults.get(name)) for name, step in PROCESSORS.items()]
    return Strategy(summary, tuple(steps))


STRATEGIES: dict[str, Strategy] = {
    "greedy": Strategy(
        "Always the likeliest token.",
        (*_BY_CONTEXT.values(), Step(f"{_HERE}.samplers:Greedy")),
    ),
    "multinomial": _drawing("By the model's own probabilities, as far as no option changes them."),
    "top-k": _drawing("Among the k likeliest tokens, 50 unless told otherwise.", top_k=50),
    "top-p": _drawing(
        "Among the likeliest tokens that have probability p together, 0.9 unless told otherwise.",
        top_p=0.9,
    ),
    "min-p": _drawing(
        "Among tokens at least p times as likely as the likeliest, 0.05 unless told otherwise.",
        min_p=0.05,
    ),
    "typical": _drawing(
        "Among tokens of about average surprise with probability 0.9 unless told otherwise.",
        typical_p=0.9,
    ),
    "epsilon": _drawing(
        "Among tokens of probability 0.0003 and more unless told otherwise.", epsilon_cutoff=3e-4
    ),
    "eta": _drawing("As epsilon, with a lower border where the model is unsure.", eta_cutoff=3e-4),
    "beam": Strategy(
        "The likeliest sequences that a few beams find; nothing is drawn.",
        tuple(_BY_CONTEXT.values()),
        search=f"{_HERE}.beams:BeamSearch",
        search_options=(
            "num_beams",
            "length_penalty",
            "num_groups",
            "diversity_penalty",
            "early_stopping",
        ),
    ),
    "contrastive": Strategy(
        "A likely token that is unlike those before; nothing is drawn.",
        tuple(_BY_CONTEXT.values()),
        search=f"{_HERE}.contrastive:ContrastiveSearch",
        search_options=("contrast_k", "contrast_alpha"),
    ),
}
DEFAULT_STRATEGY = "multinomial"


def available_strategies() -> list[str]:
    """The names that `Generator` and `toolkit generate --strategy` take.

    >>> available_strategies()[:3]
    ['beam', 'contrastive', 'epsilon']
    """
    return sorted(STRATEGIES)


def choose_steps(strategy: str, given: Mapping[str, Any]) -> list[tuple[Step, Any]]:
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
    steps: list[tuple[Step, Any]] = []
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
