"""Strategies by name: every option is applied or refused, and a new one is one class, one entry."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from toolkit.errors import UnknownNameError, UsageError
from toolkit.generation import (
    STRATEGIES,
    EpsilonCutoff,
    EtaCutoff,
    Greedy,
    LogitsProcessor,
    MinP,
    PresencePenalty,
    Step,
    Strategy,
    Temperature,
    TopK,
    TopP,
    Typical,
    available_strategies,
    make_sampler,
)


@dataclass(frozen=True)
class NotFarBelow(LogitsProcessor):
    """Tokens at least `share` times as likely as the likeliest: a strategy from outside."""

    share: float

    def __call__(self, logits: Tensor) -> Tensor:
        probabilities = logits.softmax(dim=-1)
        border = self.share * probabilities.amax(dim=-1, keepdim=True)
        return logits.masked_fill(probabilities < border, float("-inf"))


@pytest.mark.parametrize(
    ("strategy", "options", "expected"),
    [
        ("greedy", {}, [Greedy()]),
        ("multinomial", {}, []),
        ("multinomial", {"top_k": 7}, [TopK(7)]),
        ("multinomial", {"top_p": 0.5, "top_k": 7}, [TopK(7), TopP(0.5)]),
        (
            "multinomial",
            {"top_p": 0.5, "top_k": 7, "temperature": 2},
            [Temperature(2), TopK(7), TopP(0.5)],
        ),
        ("top-k", {}, [TopK(50)]),
        ("top-k", {"top_k": 5}, [TopK(5)]),
        ("top-k", {"top_p": 0.5, "temperature": 2}, [Temperature(2), TopK(50), TopP(0.5)]),
        ("top-p", {}, [TopP(0.9)]),
        ("top-p", {"top_p": 0.3}, [TopP(0.3)]),
        ("top-p", {"top_k": 5, "temperature": None}, [TopK(5), TopP(0.9)]),
        ("min-p", {}, [MinP(0.05)]),
        ("min-p", {"temperature": 2, "min_p": 0.2}, [Temperature(2), MinP(0.2)]),
        ("typical", {}, [Typical(0.9)]),
        ("epsilon", {}, [EpsilonCutoff(3e-4)]),
        ("eta", {"eta_cutoff": 0.1, "top_p": 0.5}, [TopP(0.5), EtaCutoff(0.1)]),
        ("greedy", {"presence_penalty": 1}, [PresencePenalty(1), Greedy()]),
    ],
)
def test_options_become_processors_in_order(
    strategy: str, options: dict[str, float], expected: list[LogitsProcessor]
) -> None:
    assert list(make_sampler(strategy, **options).processors) == expected


def test_the_default_draws_from_the_model_itself() -> None:
    assert make_sampler().processors == ()


@pytest.mark.parametrize("option", ["temperature", "top_k", "top_p"])
def test_greedy_refuses_what_it_would_ignore(option: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_sampler("greedy", **{option: 1})
    assert str(caught.value) == (
        f"The strategy greedy does not take --{option.replace('_', '-')} (its options: "
        "--logit-bias, --repetition-penalty, --presence-penalty, --frequency-penalty, "
        "--no-repeat-ngram, --forbid, --force). "
        "Leave it out, or choose another --strategy."
    )


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("multinomial", {"temperature": 0}),
        ("top-k", {"top_k": 0}),
        ("top-p", {"top_p": 0}),
        ("multinomial", {"top_p": 2}),
    ],
)
def test_a_value_of_zero_is_refused_and_not_taken_for_none(
    strategy: str, options: dict[str, float]
) -> None:
    with pytest.raises(UsageError, match="must be"):
        make_sampler(strategy, **options)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"multinomial does not take --topk .*--temperature, --top-k"
    ):
        make_sampler(topk=5)


def test_an_unknown_strategy_is_answered_with_a_guess() -> None:
    with pytest.raises(UnknownNameError, match=r"No strategy 'topk'\. Did you mean 'top-k'"):
        make_sampler("topk")


def test_a_new_strategy_is_a_class_and_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Step(f"{__name__}:NotFarBelow", "share", default=0.05)
    entry = Strategy("Not far below the likeliest.", (step,))
    monkeypatch.setitem(STRATEGIES, "near", entry)
    assert "near" in available_strategies()
    assert make_sampler("near").processors == (NotFarBelow(0.05),)
    sampler = make_sampler("near", share=0.5)
    probabilities = sampler.probabilities(torch.tensor([[4.0, 3.0, 1.0]]).log())
    # 3/8 is at least half of 4/8, 1/8 is not. Eight times float32's rounding.
    torch.testing.assert_close(probabilities, torch.tensor([[4 / 7, 3 / 7, 0]]), rtol=1e-6, atol=0)
    with pytest.raises(UsageError, match="near does not take --top-k"):
        make_sampler("near", top_k=3)


def test_every_strategy_says_what_it_does() -> None:
    for name in available_strategies():
        assert STRATEGIES[name].summary.endswith(".")


def test_listing_strategies_and_seeds_needs_no_torch() -> None:
    code = (
        "import sys; from toolkit.generation import STRATEGIES, available_strategies, fresh_seed;"
        "fresh_seed(); print(len(available_strategies()), 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "10 False"


def test_the_package_has_exactly_the_names_that_it_lists() -> None:
    import toolkit.generation

    for name in toolkit.generation.__all__:
        assert getattr(toolkit.generation, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'TopQ'"):
        _ = toolkit.generation.TopQ
