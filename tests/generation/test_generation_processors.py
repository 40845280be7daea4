"""Cut-offs and penalties: transformers' logits, hand-worked numbers, and what is refused."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.errors import ModelError, UnknownNameError, UsageError, VocabularyError
from toolkit.generation import (
    PROCESSORS,
    Context,
    ContextProcessor,
    EpsilonCutoff,
    EtaCutoff,
    Forbidden,
    Forced,
    FrequencyPenalty,
    LogitBias,
    LogitsProcessor,
    MinP,
    NoRepeatNgram,
    PresencePenalty,
    RepetitionPenalty,
    Sampler,
    Temperature,
    TopK,
    Typical,
    make_sampler,
    parse_sampler,
)

V = 60
T = 40


@pytest.fixture(scope="module")
def logits() -> Tensor:
    # Normal numbers: no ties, and no border within rounding of a probability.
    return 3 * torch.randn(16, V, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def ids() -> Tensor:
    """Few different ids, so that n-grams of them repeat."""
    return torch.randint(0, 5, (16, T), generator=torch.Generator().manual_seed(1))


def contexts(ids: Tensor) -> list[Context]:
    """The same tokens as prompt and new ones, cut at another place in each row."""
    return [Context(row[: n % T], row[n % T :]) for n, row in enumerate(ids.tolist())]


def transformers_process() -> Any:
    return pytest.importorskip("transformers.generation.logits_process")


# -- the logits of transformers ----------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 0.01, 0.05, 0.3, 1])
def test_min_p_of_transformers(logits: Tensor, value: float) -> None:
    expected = transformers_process().MinPLogitsWarper(value)(None, logits)
    assert torch.equal(MinP(value)(logits), expected)


@pytest.mark.parametrize("value", [1e-6, 0.2, 0.5, 0.9, 0.99])
def test_typical_of_transformers(logits: Tensor, value: float) -> None:
    expected = transformers_process().TypicalLogitsWarper(value)(None, logits)
    assert torch.equal(Typical(value)(logits), expected)


@pytest.mark.parametrize("value", [1e-6, 3e-4, 0.01, 0.2, 0.9])
def test_epsilon_and_eta_of_transformers(logits: Tensor, value: float) -> None:
    process = transformers_process()
    expected = process.EpsilonLogitsWarper(value)(None, logits)
    assert torch.equal(EpsilonCutoff(value)(logits), expected)
    expected = process.EtaLogitsWarper(value)(None, logits)
    assert torch.equal(EtaCutoff(value)(logits), expected)


def test_cutoffs_after_top_k_see_the_k_alone(logits: Tensor) -> None:
    process = transformers_process()
    few = TopK(4)(logits)
    for ours, theirs in (
        (MinP(0.3), process.MinPLogitsWarper(0.3)),
        (Typical(0.6), process.TypicalLogitsWarper(0.6)),
        (EpsilonCutoff(0.2), process.EpsilonLogitsWarper(0.2)),
        (EtaCutoff(0.2), process.EtaLogitsWarper(0.2)),
    ):
        assert torch.equal(ours(few), theirs(None, few))


@pytest.mark.parametrize("value", [0.7, 1, 1.3, 5.0])
def test_repetition_penalty_of_transformers(logits: Tensor, ids: Tensor, value: float) -> None:
    process = transformers_process()
    expected = process.RepetitionPenaltyLogitsProcessor(float(value))(ids, logits)
    assert torch.equal(RepetitionPenalty(value)(logits, contexts(ids)), expected)


@pytest.mark.parametrize("n", [1, 2, 3, 5, T, T + 1])
def test_no_repeat_ngram_of_transformers(logits: Tensor, ids: Tensor, n: int) -> None:
    expected = transformers_process().NoRepeatNGramLogitsProcessor(n)(ids, logits)
    assert torch.equal(NoRepeatNgram(n)(logits, contexts(ids)), expected)


def test_bias_and_forbidden_of_transformers(logits: Tensor, ids: Tensor) -> None:
    process = transformers_process()
    last = ids[3, -1].item()
    biases = {(7,): 2.5, (last, 9): -1.5, (4, 4, 2): 0.25}
    expected = process.SequenceBiasLogitsProcessor(
        [[list(each), bias] for each, bias in biases.items()]
    )(ids, logits)
    biased = LogitBias({7: 2.5, (last, 9): -1.5, (4, 4, 2): 0.25})(logits, contexts(ids))
    assert torch.equal(biased, expected)
    assert (biased != logits).sum() > 16  # some rows end with a longer one's beginning
    expected = process.NoBadWordsLogitsProcessor([list(each) for each in biases], eos_token_id=V)(
        ids, logits
    )
    assert torch.equal(Forbidden([7, (last, 9), (4, 4, 2)])(logits, contexts(ids)), expected)
    expected = process.SuppressTokensLogitsProcessor([3, 8])(ids, logits)
    assert torch.equal(Forbidden([3, 8])(logits, contexts(ids)), expected)


def test_forced_is_the_forced_first_token_of_transformers(logits: Tensor) -> None:
    process = transformers_process()
    first = torch.full((16, 1), 2)  # transformers counts from the beginning of the ids
    expected = process.ForcedBOSTokenLogitsProcessor(11)(first, logits)
    rows = [Context([2]) for _ in range(16)]
    assert torch.equal(Forced([11])(logits, rows), expected)


def test_all_in_the_order_of_transformers(logits: Tensor, ids: Tensor) -> None:
    process = transformers_process()
    expected = logits
    for step in (
        process.SequenceBiasLogitsProcessor([[[7], 2.5]]),
        process.RepetitionPenaltyLogitsProcessor(1.3),
        process.NoRepeatNGramLogitsProcessor(2),
        process.TemperatureLogitsWarper(0.8),
        process.TopKLogitsWarper(20),
        process.TopPLogitsWarper(0.95),
        process.MinPLogitsWarper(0.02),
        process.TypicalLogitsWarper(0.9),
        process.EpsilonLogitsWarper(0.01),
        process.EtaLogitsWarper(0.01),
    ):
        expected = step(ids, expected)
    sampler = make_sampler(
        logit_bias={7: 2.5},
        eta_cutoff=0.01,
        epsilon_cutoff=0.01,
        typical_p=0.9,
        min_p=0.02,
        top_p=0.95,
        top_k=20,
        temperature=0.8,
        no_repeat_ngram=2,
        repetition_penalty=1.3,
    )
    assert torch.equal(sampler.process(logits, contexts(ids)), expected)


# -- hand-worked numbers -----------------------------------------------------------------------


def test_presence_and_frequency_as_openai_documents_them() -> None:
    # logit − count · frequency − (count > 0) · presence; the prompt (all 0s) does not count.
    row = Context([0, 0, 0], [2, 2, 1, 2])
    sampler = make_sampler(presence_penalty=0.5, frequency_penalty=0.25)
    result = sampler.process(torch.tensor([[1.0, 1.0, 1.0, 1.0]]), [row])
    assert result.tolist() == [[1.0, 0.25, -0.25, 1.0]]
    result = make_sampler(frequency_penalty=-1).process(torch.zeros(1, 4), [row])
    assert result.tolist() == [[0.0, 1.0, 3.0, 0.0]]


def test_typical_rules_out_what_is_too_likely() -> None:
    # p = .6, .2, .1, .1: entropy 1.089, surprises .511, 1.609, 2.303, 2.303; the second is
    # nearest (.520), then the first (.578).
    p = torch.tensor([[0.6, 0.2, 0.1, 0.1]]).log()
    assert (Typical(0.15)(p) > -math.inf).tolist() == [[False, True, False, False]]
    assert (Typical(0.5)(p) > -math.inf).tolist() == [[True, True, False, False]]
    assert torch.equal(Typical(1)(p), p)


def test_eta_asks_for_less_where_the_model_is_unsure() -> None:
    # Four equal tokens: entropy ln 4, so eta = min(.3, √.3 / 4 = .137) and each .25 stays.
    flat = torch.zeros(1, 4)
    assert torch.equal(EtaCutoff(0.3)(flat), flat)
    # p = .9, .1: entropy .325, √.3 · e^−.325 = .396, so eta = .3 and .1 goes.
    sure = torch.tensor([[0.9, 0.1]]).log()
    assert (EtaCutoff(0.3)(sure) > -math.inf).tolist() == [[True, False]]


def test_the_likeliest_stays_below_every_border() -> None:
    p = torch.tensor([[0.4, 0.3, 0.3]]).log()
    for processor in (EpsilonCutoff(0.9), EtaCutoff(0.9), MinP(1)):
        assert (processor(p) > -math.inf).tolist() == [[True, False, False]]


def test_forced_tokens_come_one_after_the_other() -> None:
    sampler = Sampler([Forced([2, 0])])
    row = Context([1])
    for expected in (2, 0):
        assert sampler.probabilities(torch.randn(1, 3), [row])[0, expected] == 1
        row.new_ids.append(expected)
    free = torch.tensor([[0.5, 0.25, 0.25]]).log()
    torch.testing.assert_close(sampler.probabilities(free, [row]), free.exp())


def test_the_given_logits_are_not_changed(logits: Tensor, ids: Tensor) -> None:
    before = logits.clone()
    values: dict[str, Any] = {"logit_bias": {1: 1.0}, "forbid": [1], "force": [1] * 99}
    for name, step in PROCESSORS.items():
        value = values.get(name, 1 if name in ("top_k", "no_repeat_ngram") else 0.5)
        processor = make_sampler(**{step.option: value}).processors[0]
        if isinstance(processor, ContextProcessor):
            assert not torch.equal(processor(logits, contexts(ids)), before), name
        else:
            assert not torch.equal(processor(logits), before), name
        assert torch.equal(logits, before), name


def test_ids_that_only_the_model_has_are_passed_over() -> None:
    row = Context([9, 1, 9], [])
    for processor in (RepetitionPenalty(2.0), NoRepeatNgram(1)):
        result = processor(torch.ones(1, 3), [row])
        assert (result != 1).tolist() == [[False, True, False]]


# -- order -------------------------------------------------------------------------------------


def test_processors_work_in_the_order_in_which_they_stand() -> None:
    row = [Context([], [0, 0])]
    logits = torch.tensor([[3.0, 2.9, 2.0]])
    # Before top-k the penalty lets token 1 win, after it token 0 has won already.
    first = Sampler([FrequencyPenalty(1.0), TopK(1)]).process(logits, row)
    last = Sampler([TopK(1), FrequencyPenalty(1.0)]).process(logits, row)
    assert first.isfinite().tolist() == [[False, True, False]]
    assert last.tolist() == [[1.0, -math.inf, -math.inf]]


def test_a_sampler_from_text_keeps_its_order() -> None:
    sampler = parse_sampler("top-k=40, temperature=0.8,presence-penalty=-1,no-repeat-ngram=3")
    expected = (TopK(40), Temperature(0.8), PresencePenalty(-1), NoRepeatNgram(3))
    assert sampler.processors == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("top-kk=3", "No processor 'top-kk'. Did you mean 'top-k'?"),
        ("", "No processor ''"),
        ("temperature", "temperature needs a number, as in temperature=0.5"),
        ("temperature=hot", "temperature needs a number"),
        ("top-k=2.5", "--top-k 2.5 must be a whole number of at least 1"),
        ("logit-bias=3", "No processor 'logit-bias'"),
        ("temperature=nan", "--temperature nan must be above 0 and finite"),
    ],
)
def test_a_sampler_from_wrong_text(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_sampler(text)
    assert message in str(caught.value)


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("min_p", 1.5, "--min-p 1.5 must be at least 0 and at most 1"),
        ("min_p", -0.1, "--min-p -0.1 must be at least 0 and at most 1"),
        ("min_p", "0.5", "--min-p 0.5 must be a number"),
        ("typical_p", 0, "--typical-p 0 must be above 0 and at most 1"),
        ("typical_p", math.nan, "--typical-p nan must be above 0 and at most 1"),
        ("epsilon_cutoff", 1, "--epsilon-cutoff 1 must be above 0 and below 1"),
        ("eta_cutoff", 0, "--eta-cutoff 0 must be above 0 and below 1"),
        ("repetition_penalty", 0, "--repetition-penalty 0 must be above 0 and finite; 1 is none."),
        ("presence_penalty", math.inf, "--presence-penalty inf must be finite"),
        ("frequency_penalty", True, "--frequency-penalty True must be a number"),
        ("no_repeat_ngram", 0, "--no-repeat-ngram 0 must be at least 1"),
        ("logit_bias", {5: math.nan}, "--logit-bias nan must be finite"),
        ("logit_bias", {(): 1.0}, "--logit-bias () must be an id or several"),
        ("forbid", ["a"], "--forbid 'a' must be an id or several, whole numbers from 0 on"),
        ("force", [-1], "--force [-1] must be an id or several, whole numbers from 0 on"),
    ],
)
def test_a_value_that_cannot_be(option: str, value: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_sampler(**{option: value})
    assert str(caught.value).startswith(message)


def test_ids_that_cannot_be_drawn() -> None:
    for processor in (LogitBias({3: 1.0}), Forbidden([(0, 3)]), Forced([3])):
        with pytest.raises(VocabularyError, match="Id 3 of a processor is no token: 0 to 2 are"):
            processor(torch.zeros(1, 3), [Context([0])])


def test_contexts_are_asked_for_where_they_are_needed() -> None:
    sampler = Sampler([TopK(2), NoRepeatNgram(2)])
    for rows in (None, [], [Context([1])] * 3):
        with pytest.raises(UsageError, match=r"looks at the tokens before: give one Context .* 2"):
            sampler.process(torch.zeros(2, 3), rows)


def test_nothing_left_to_draw() -> None:
    with pytest.raises(ModelError, match="none to draw"):
        Sampler([Forbidden([0, 1])]).probabilities(torch.zeros(1, 2), [Context([])])


def test_greedy_takes_penalties_and_refuses_cut_offs() -> None:
    sampler = make_sampler("greedy", repetition_penalty=3.0)
    row = [Context([0], [])]
    assert sampler.draw(torch.tensor([[3.0, 2.0]]), torch.Generator(), row).tolist() == [1]
    with pytest.raises(UsageError, match="greedy does not take --min-p"):
        make_sampler("greedy", min_p=0.1)


@pytest.mark.parametrize("strategy", ["beam", "contrastive"])
def test_a_search_is_no_sampler(strategy: str) -> None:
    with pytest.raises(UsageError, match="is no sampler: give it to a Generator"):
        make_sampler(strategy)


def test_a_processor_of_ones_own() -> None:
    class Loud(LogitsProcessor):
        def __call__(self, logits: Tensor) -> Tensor:
            return logits * 2

    assert Sampler([Loud()]).process(torch.ones(1, 2)).tolist() == [[2.0, 2.0]]
    with pytest.raises(UnknownNameError):
        parse_sampler("loud=1")
