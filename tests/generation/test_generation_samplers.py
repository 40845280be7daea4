"""Each processor against distributions worked out by hand, draws against their frequencies."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from toolkit.errors import ModelError, UsageError
from toolkit.generation import (
    Greedy,
    LogitsProcessor,
    Sampler,
    Temperature,
    TopK,
    TopP,
    fresh_seed,
    sample_seed,
)

# Probabilities 8/15, 4/15, 2/15, 1/15, not in order of their ids.
WEIGHTS = [2, 8, 1, 4]
# float32 has 24 binary digits; a softmax of a handful of terms loses the last two or three of them.
CLOSE = {"rtol": 1e-6, "atol": 1e-7}

numbers = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


def logits_of(weights: list[int]) -> Tensor:
    """Logits (1, V) of probabilities that are in proportion to the weights."""
    return torch.tensor([weights], dtype=torch.float64).log().float()


def kept(logits: Tensor) -> list[int]:
    return torch.isfinite(logits[0]).nonzero().flatten().tolist()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_distribution(sampler: Sampler, weights: list[int], expected: list[float]) -> None:
    actual = sampler.probabilities(logits_of(weights))[0]
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float32), **CLOSE)


# -- the distributions -------------------------------------------------------------------------


def test_multinomial_is_the_models_own_distribution() -> None:
    assert_distribution(Sampler(), WEIGHTS, [2 / 15, 8 / 15, 1 / 15, 4 / 15])


def test_temperature_is_a_power_of_the_probabilities() -> None:
    # p^(1/T): T = 1/2 squares the weights (sum 85), T = 2 takes their square roots.
    assert_distribution(Sampler([Temperature(0.5)]), WEIGHTS, [4 / 85, 64 / 85, 1 / 85, 16 / 85])
    roots = [math.sqrt(weight) for weight in WEIGHTS]
    assert_distribution(Sampler([Temperature(2)]), WEIGHTS, [root / sum(roots) for root in roots])


def test_temperature_divides_and_one_changes_nothing() -> None:
    logits = torch.tensor([[1.0, -3.0]])
    assert Temperature(0.25)(logits).tolist() == [[4.0, -12.0]]
    assert torch.equal(Temperature(1)(logits), logits)


def test_the_lowest_temperature_is_greedy_and_overflows_nowhere() -> None:
    sampler = Sampler([Temperature(1e-6)])
    assert sampler.probabilities(torch.tensor([[-1e5, 3e4, 2.9e4]])).tolist() == [[0, 1, 0]]


def test_top_k_shares_among_the_k() -> None:
    assert_distribution(Sampler([TopK(2)]), WEIGHTS, [0, 8 / 12, 0, 4 / 12])
    assert_distribution(Sampler([TopK(1)]), WEIGHTS, [0, 1, 0, 0])


@pytest.mark.parametrize("k", [4, 5, 10**9])
def test_top_k_of_the_whole_vocabulary_and_more_keeps_all(k: int) -> None:
    assert_distribution(Sampler([TopK(k)]), WEIGHTS, [2 / 15, 8 / 15, 1 / 15, 4 / 15])


def test_top_p_shares_among_the_smallest_set_that_reaches_p() -> None:
    # In order: 8/15 = .533, 12/15 = .8, 14/15 = .933, 1.
    assert_distribution(Sampler([TopP(0.5)]), WEIGHTS, [0, 1, 0, 0])
    assert_distribution(Sampler([TopP(0.54)]), WEIGHTS, [0, 8 / 12, 0, 4 / 12])
    assert_distribution(Sampler([TopP(0.81)]), WEIGHTS, [2 / 14, 8 / 14, 0, 4 / 14])
    assert_distribution(Sampler([TopP(0.94)]), WEIGHTS, [2 / 15, 8 / 15, 1 / 15, 4 / 15])
    assert_distribution(Sampler([TopP(1)]), WEIGHTS, [2 / 15, 8 / 15, 1 / 15, 4 / 15])


def test_top_p_stops_exactly_at_p() -> None:
    # 1/2 and 1/4 are exact in binary: two tokens reach 3/4, no third is needed.
    assert kept(TopP(0.75)(torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log())) == [0, 1]


def test_top_p_keeps_the_likeliest_however_small_p_is() -> None:
    assert kept(TopP(1e-30)(logits_of(WEIGHTS))) == [1]


def test_greedy_keeps_the_likeliest_and_of_equals_the_first() -> None:
    assert_distribution(Sampler([Greedy()]), WEIGHTS, [0, 1, 0, 0])
    assert_distribution(Sampler([Greedy()]), [3, 7, 5, 7], [0, 1, 0, 0])


@given(numbers, st.integers(1, 13))
def test_top_k_keeps_exactly_k_and_lower_ids_of_equals(values: list[int], k: int) -> None:
    ranked = sorted(range(len(values)), key=lambda token_id: (-values[token_id], token_id))
    logits = torch.tensor([values], dtype=torch.float32)
    result = TopK(k)(logits)
    assert kept(result) == sorted(ranked[:k])
    assert torch.equal(result[result > -math.inf], logits[result > -math.inf])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.floats(0.001, 1))
def test_top_p_is_the_shortest_ranking_that_reaches_p(weights: list[int], p: float) -> None:
    ranked = sorted(range(len(weights)), key=lambda token_id: (-weights[token_id], token_id))
    reached = Fraction(0)
    expected: list[int] = []
    for token_id in ranked:
        if reached >= Fraction(p):
            break
        expected.append(token_id)
        reached += Fraction(weights[token_id], sum(weights))
        assume(abs(reached - Fraction(p)) > 1e-6 or reached == 1)  # float32 cannot tell them apart
    assert kept(TopP(p)(logits_of(weights))) == sorted(expected)


@pytest.mark.parametrize("processor", [Temperature(0.7), TopK(2), TopP(0.6), Greedy()])
def test_rows_are_processed_one_by_one_and_the_logits_left_alone(
    processor: LogitsProcessor,
) -> None:
    logits = torch.randn(6, 9, generator=seeded(0))
    before = logits.clone()
    batch = processor(logits)
    assert torch.equal(logits, before)
    assert torch.equal(batch, torch.cat([processor(row[None]) for row in logits]))


# -- composition -------------------------------------------------------------------------------


def test_the_order_of_processors_matters() -> None:
    # Weights 4, 3, 2, 1: the two likeliest have 7/10 of all, but the first has 4/7 of those two.
    assert_distribution(Sampler([TopK(2), TopP(0.55)]), [4, 3, 2, 1], [1, 0, 0, 0])
    assert_distribution(Sampler([TopP(0.55), TopK(2)]), [4, 3, 2, 1], [4 / 7, 3 / 7, 0, 0])
    # A temperature of 100 makes the four almost equal: then it takes three to reach 0.69.
    flat, cut = Temperature(100), TopP(0.69)
    assert kept(Sampler([cut, flat]).process(logits_of([4, 3, 2, 1]))) == [0, 1]
    assert kept(Sampler([flat, cut]).process(logits_of([4, 3, 2, 1]))) == [0, 1, 2]


def test_a_sampler_shows_its_order() -> None:
    sampler = Sampler([Temperature(0.8), TopK(50), TopP(0.9)])
    shown = "Sampler([Temperature(temperature=0.8), TopK(top_k=50), TopP(top_p=0.9)])"
    assert repr(sampler) == shown


def test_a_processor_of_ones_own() -> None:
    class Forbid(LogitsProcessor):
        def __call__(self, logits: Tensor) -> Tensor:
            return logits.index_fill(-1, torch.tensor([1]), -math.inf)

    assert_distribution(Sampler([Forbid(), Greedy()]), WEIGHTS, [0, 0, 0, 1])


# -- drawing -----------------------------------------------------------------------------------


def chi_square(counts: Tensor, probabilities: Tensor) -> float:
    """Σ (observed − expected)² / expected over the tokens that can be drawn."""
    possible = probabilities > 0
    assert not counts[~possible].any(), "a token without probability was drawn"
    expected = probabilities[possible] * counts.sum()
    return float(((counts[possible] - expected) ** 2 / expected).sum())


# Upper 1/1000 points of the chi-square distribution (tables: NIST handbook 1.3.6.7.4), by degrees
# of freedom: were the draws right and the seed a new one, 1 of 1,000 such tests would fail. The
# seed is fixed, so these fail only when something changes.
CRITICAL = {1: 10.828, 2: 13.816, 3: 16.266}


@pytest.mark.parametrize(
    ("processors", "freedom"),
    [([], 3), ([Temperature(2.5)], 3), ([TopK(2)], 1), ([TopP(0.9)], 2)],
    ids=str,
)
def test_frequencies_follow_the_distribution(
    processors: list[LogitsProcessor], freedom: int
) -> None:
    sampler, logits = Sampler(processors), logits_of(WEIGHTS)
    drawn = sampler.draw(logits.expand(10_000, -1), seeded(1))
    counts = torch.bincount(drawn, minlength=4)
    assert chi_square(counts, sampler.probabilities(logits)[0].double()) < CRITICAL[freedom]


def test_first_draws_of_different_seeds_follow_the_distribution() -> None:
    # What samples side by side do: each has a generator of its own, and the seeds are related.
    generators = [seeded(sample_seed(1, number)) for number in range(10_000)]
    drawn = Sampler().draw(logits_of(WEIGHTS).expand(10_000, -1), generators)
    expected = torch.tensor(WEIGHTS, dtype=torch.float64) / 15
    assert chi_square(torch.bincount(drawn, minlength=4), expected) < CRITICAL[3]


def test_a_draw_is_the_inverse_of_the_distribution_function() -> None:
    # Cumulated: .133, .667, .733, 1.
    uniform = torch.rand(200, generator=seeded(5), dtype=torch.float64).tolist()
    expected = [sum(u >= edge for edge in (2 / 15, 10 / 15, 11 / 15)) for u in uniform]
    generator = seeded(5)
    drawn = [int(Sampler().draw(logits_of(WEIGHTS), generator)) for _ in uniform]
    assert drawn == expected


def test_a_row_draws_the_same_alone_and_in_a_batch() -> None:
    logits = torch.randn(8, 20, generator=seeded(0))
    sampler = Sampler([Temperature(1.5), TopK(12)])
    together = [seeded(number) for number in range(8)]
    alone = [seeded(number) for number in range(8)]
    for _ in range(20):
        batch = sampler.draw(logits, together).tolist()
        assert batch == [int(sampler.draw(logits[i : i + 1], [alone[i]])) for i in range(8)]


def test_one_generator_for_all_rows_is_used_row_by_row() -> None:
    logits = torch.randn(5, 20, generator=seeded(0))
    one_by_one = seeded(3)
    expected = [int(Sampler().draw(row[None], one_by_one)) for row in logits]
    assert Sampler().draw(logits, seeded(3)).tolist() == expected


def test_excluded_tokens_at_both_ends_are_never_drawn() -> None:
    logits = torch.full((1, 1000), -math.inf)
    logits[0, 400:600] = 0.0
    drawn = Sampler().draw(logits.expand(2000, -1), seeded(0))
    assert 400 <= int(drawn.min()) < 410
    assert 590 < int(drawn.max()) < 600


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53], ids=["lowest", "highest"])
def test_the_ends_of_the_uniform_distribution_draw_possible_tokens(
    uniform: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No seed gets there: each end comes once in 2⁵³ numbers.
    extreme = torch.tensor(uniform, dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *size, **options: extreme)
    logits = torch.randn(500, 20, generator=seeded(0))  # sums just below, at and above 1
    logits[:, [0, 1, 18, 19]] = -math.inf
    drawn = Sampler().draw(logits, seeded(0))
    assert set(drawn.tolist()) == {2 if uniform == 0 else 17}


def test_half_precision_is_drawn_from_in_float32() -> None:
    logits = torch.randn(4, 50, generator=seeded(0))
    for dtype in (torch.bfloat16, torch.float16):
        rounded = logits.to(dtype)
        assert Sampler().probabilities(rounded).dtype == torch.float32
        one, other = Sampler().draw(rounded, seeded(1)), Sampler().draw(rounded.float(), seeded(1))
        assert one.tolist() == other.tolist()


def test_nothing_global_is_drawn_from() -> None:
    before = torch.get_rng_state()
    Sampler([TopP(0.9)]).draw(torch.zeros(3, 10), seeded(0))
    assert torch.equal(torch.get_rng_state(), before)


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("processors", [[], [TopK(1)], [Greedy()], [TopP(0.5)]], ids=str)
def test_broken_logits_are_an_error(broken: float, processors: list[LogitsProcessor]) -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [0.0, broken, 2.0]])
    with pytest.raises(ModelError, match="not numbers"):
        Sampler(processors).draw(logits, seeded(0))


def test_no_token_left_is_an_error() -> None:
    with pytest.raises(ModelError, match="none to draw"):
        Sampler([TopK(2)]).draw(torch.full((1, 5), -math.inf), seeded(0))


@pytest.mark.parametrize("shape", [(5,), (1, 2, 5), (0, 5), (1, 0)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"shape \(B, V\)"):
        Sampler().draw(torch.zeros(shape), seeded(0))


def test_as_many_generators_as_rows() -> None:
    with pytest.raises(UsageError, match="2 rows of logits need 2 generators, not 1"):
        Sampler().draw(torch.zeros(2, 5), [seeded(0)])


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (TopK, 0, "--top-k 0 must be at least 1"),
        (TopK, -3, "--top-k -3 must be at least 1"),
        (TopK, 2.5, "--top-k 2.5 must be a whole number of at least 1"),
        (TopK, True, "--top-k True must be a whole number of at least 1"),
        (TopP, 0, "--top-p 0 must be above 0 and at most 1"),
        (TopP, -0.1, "--top-p -0.1 must be above 0 and at most 1"),
        (TopP, 1.01, "--top-p 1.01 must be above 0 and at most 1"),
        (TopP, math.nan, "--top-p nan must be above 0 and at most 1"),
        (TopP, 0.0, "--top-p 0 must be above 0 and at most 1"),
        (TopP, "0.9", "--top-p 0.9 must be a number"),
        (Temperature, "hot", "--temperature hot must be a number"),
        (Temperature, True, "--temperature True must be a number"),
    ],
)
def test_a_value_that_cannot_be(kind: type[LogitsProcessor], value: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        kind(value)  # type: ignore[call-arg]  # the base class takes none
    assert str(caught.value) == message


@pytest.mark.parametrize("temperature", [0, -1, 1e-9, math.nan, math.inf])
def test_a_temperature_of_zero_names_the_way_out(temperature: float) -> None:
    with pytest.raises(UsageError, match=r"must be above 0 .*--strategy greedy") as caught:
        Temperature(temperature)
    assert "\n" not in str(caught.value)


# -- seeds -------------------------------------------------------------------------------------


def test_the_seeds_of_samples_are_all_different() -> None:
    seeds = [sample_seed(seed, number) for seed in range(30) for number in range(30)]
    assert len(set(seeds)) == 900
    assert [sample_seed(seed, 0) for seed in range(30)] == list(range(30))
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_fresh_seeds_are_fresh() -> None:
    # 20 draws of 2³¹ coincide with odds of about 1 in 11 million.
    assert len({fresh_seed() for _ in range(20)}) == 20
