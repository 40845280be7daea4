"""Samplers against distributions worked out by hand, against transformers, and by frequency."""

import math

import pytest
import torch

from toolkit.errors import ModelError, UnknownNameError, UsageError
from toolkit.generation import Greedy, Sampler, Temperature, TopK, TopP, make_sampler

# Probabilities 0.5, 0.25, 0.125, 0.125: every answer can be checked in the head.
LOGITS = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
INF = float("inf")


def probabilities(sampler: Sampler, logits: torch.Tensor = LOGITS) -> list[float]:
    return [round(p, 4) for p in sampler.probabilities(logits)[0].tolist()]


def test_multinomial_is_the_softmax_itself() -> None:
    assert probabilities(make_sampler()) == [0.5, 0.25, 0.125, 0.125]


def test_temperature_raises_probabilities_to_a_power() -> None:
    # At 0.5 they are squared: 1/4, 1/16, 1/64, 1/64 of a sum of 22/64.
    assert probabilities(make_sampler(temperature=0.5)) == [0.7273, 0.1818, 0.0455, 0.0455]
    # At 2 their roots: 0.7071, 0.5, 0.3536, 0.3536 of 1.9142.
    assert probabilities(make_sampler(temperature=2.0)) == [0.3694, 0.2612, 0.1847, 0.1847]


def test_top_k_keeps_exactly_k() -> None:
    assert probabilities(make_sampler("top-k", top_k=2)) == [0.6667, 0.3333, 0.0, 0.0]
    # A tie at the border: the lower id stays.
    assert probabilities(make_sampler("top-k", top_k=3)) == [0.5714, 0.2857, 0.1429, 0.0]
    assert probabilities(make_sampler("top-k", top_k=100)) == [0.5, 0.25, 0.125, 0.125]


def test_top_k_of_many_equals_keeps_the_lowest_ids() -> None:
    kept = TopK(5)(torch.zeros(2, 1000))
    assert (kept > -INF).sum(-1).tolist() == [5, 5]
    assert (kept[:, :5] == 0).all()


def test_top_p_keeps_the_smallest_set_that_reaches_p() -> None:
    assert probabilities(make_sampler("top-p", top_p=0.4)) == [1.0, 0.0, 0.0, 0.0]
    assert probabilities(make_sampler("top-p", top_p=0.5)) == [1.0, 0.0, 0.0, 0.0]
    assert probabilities(make_sampler("top-p", top_p=0.6)) == [0.6667, 0.3333, 0.0, 0.0]
    assert probabilities(make_sampler("top-p", top_p=0.8)) == [0.5714, 0.2857, 0.1429, 0.0]
    assert probabilities(make_sampler("top-p", top_p=1.0)) == [0.5, 0.25, 0.125, 0.125]
    assert probabilities(make_sampler("top-p", top_p=1e-9)) == [1.0, 0.0, 0.0, 0.0]


def test_greedy_is_certain_of_the_first_best() -> None:
    assert probabilities(make_sampler("greedy")) == [1.0, 0.0, 0.0, 0.0]
    assert Greedy()(torch.tensor([[1.0, 3.0, 3.0]])).argmax().item() == 1


def test_the_order_of_processors_matters() -> None:
    # Sharpened first, the likeliest token has 0.73 and reaches 0.6 alone; else it takes two.
    assert probabilities(Sampler([Temperature(0.5), TopP(0.6)])) == [1.0, 0.0, 0.0, 0.0]
    assert probabilities(Sampler([TopP(0.6), Temperature(0.5)])) == [0.8, 0.2, 0.0, 0.0]


def test_every_option_of_a_strategy_is_applied() -> None:
    both = make_sampler("top-k", temperature=0.5, top_k=2, top_p=0.7)
    assert [type(p).__name__ for p in both.processors] == ["Temperature", "TopK", "TopP"]
    assert probabilities(both) == [1.0, 0.0, 0.0, 0.0]
    assert [type(p).__name__ for p in make_sampler("top-k").processors] == ["TopK"]
    assert make_sampler("top-k").processors[0].top_k == 50
    assert make_sampler("top-p").processors[0].top_p == 0.9


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        ("multinomial", {"top_k": 0}, "--top-k 0 must be a whole number of at least 1"),
        ("multinomial", {"temperature": -1.0}, "--temperature -1 must be above 0"),
        ("multinomial", {"temperature": 0.0}, "use --strategy greedy"),
        ("multinomial", {"temperature": math.nan}, "--temperature nan must be above 0"),
        ("top-p", {"top_p": 0.0}, "--top-p 0 must be above 0 and at most 1"),
        ("top-p", {"top_p": 1.5}, "--top-p 1.5 must be above 0 and at most 1"),
        ("greedy", {"temperature": 0.7}, "greedy does not take --temperature"),
        ("greedy", {"top_k": 5}, "greedy does not take --top-k"),
    ],
)
def test_options_that_cannot_be(strategy: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_sampler(strategy, **options)


def test_an_unknown_strategy_comes_with_a_guess() -> None:
    with pytest.raises(UnknownNameError, match="No strategy 'gredy'. Did you mean 'greedy'"):
        make_sampler("gredy")


def test_logits_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ModelError, match="not numbers"):
        make_sampler().probabilities(torch.tensor([[0.0, math.nan]]))


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("multinomial", {}),
        ("multinomial", {"temperature": 0.7}),
        ("top-k", {"top_k": 3}),
        ("top-p", {"top_p": 0.8}),
    ],
)
def test_frequencies_are_the_probabilities(strategy: str, options: dict[str, float]) -> None:
    sampler = make_sampler(strategy, **options)
    source = torch.Generator().manual_seed(0)
    draws = torch.cat([sampler.draw(LOGITS, [source]) for _ in range(20_000)])
    counts = torch.bincount(draws, minlength=4).double()
    expected = sampler.probabilities(LOGITS)[0].double() * len(draws)
    possible = expected > 0
    assert (counts[~possible] == 0).all()
    chi_square = ((counts - expected) ** 2 / expected)[possible].sum()
    # Above these, for 1 to 3 degrees of freedom, once in ten thousand seeds; this one is fixed.
    assert chi_square < [15.1, 18.4, 21.1][int(possible.sum()) - 2]


def test_a_row_depends_on_its_own_generator_alone() -> None:
    sampler = make_sampler()
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(1))

    def sources() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(row) for row in range(5)]

    together = sampler.draw(logits, sources())
    alone = [sampler.draw(logits[i : i + 1], [s]) for i, s in enumerate(sources())]
    assert together.tolist() == [int(token) for token in alone]


@pytest.mark.parametrize("seed", range(5))
def test_processors_equal_those_of_transformers(seed: int) -> None:
    warpers = pytest.importorskip("transformers.generation.logits_process")
    # Random real logits have no ties, where the two differ on purpose.
    logits = 3 * torch.randn(4, 100, generator=torch.Generator().manual_seed(seed))
    pairs = [
        (Temperature(0.7), warpers.TemperatureLogitsWarper(0.7)),
        (TopK(7), warpers.TopKLogitsWarper(7)),
        (TopP(0.85), warpers.TopPLogitsWarper(0.85)),
    ]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours(logits), theirs(None, logits.clone()))
