"""Speculative decoding leaves the distribution as it is: exactly, and in samples."""

import itertools
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from toolkit.errors import UsageError
from toolkit.generation import Generator, Sampler, Temperature, TopK
from toolkit.generation.speculation import acceptance, residual
from toolkit.models import PRESETS, BigramConfig, BigramModel, GPTConfig, GPTModel, LanguageModel
from toolkit.tokenizers import ByteTokenizer, CharTokenizer

# The chi-square value that a right sampler exceeds once in 10,000 tests, by degrees of freedom.
CHI_SQUARE = {8: 31.83, 26: 62.94}


def bigram(seed: int, vocab_size: int = 3, scale: float = 1.5) -> BigramModel:
    model = BigramModel(BigramConfig(vocab_size, block_size=8))
    with torch.no_grad():
        model.table.weight.copy_(
            scale
            * torch.randn(vocab_size, vocab_size, generator=torch.Generator().manual_seed(seed))
        )
    return model


def gpt(seed: int, n_layer: int = 2, block_size: int = 12) -> GPTModel:
    shape = {"n_layer": n_layer, "n_head": 2, "n_embd": 16, "block_size": block_size}
    config = GPTConfig(vocab_size=8, **shape, **PRESETS["modern"])
    model = GPTModel(config, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(15)
    return model.eval()


distributions = (
    st.lists(st.integers(0, 9), min_size=4, max_size=4)
    .filter(any)
    .map(lambda each: torch.tensor(each, dtype=torch.float64) / sum(each))
)


@settings(deadline=None)
@given(distributions, distributions)
def test_accepting_and_drawing_anew_give_p_whatever_q_is(p: Tensor, q: Tensor) -> None:
    """Σ over drafted tokens of what happens to each, against p: no sampling, no chance."""
    taken = q * acceptance(p, q)
    rest = residual(p, q)
    refused = 1 - taken.sum()
    result = taken + (refused * rest / rest.sum() if rest.sum() > 0 else 0)
    # A handful of roundings in float64.
    torch.testing.assert_close(result, p, rtol=0, atol=1e-12)


def joint(model: LanguageModel, sampler: Sampler, length: int) -> dict[tuple[int, ...], float]:
    """The exact probability of every sequence of new tokens after [0]."""
    size = model.config.vocab_size
    found = {}
    with torch.no_grad():
        for ids in itertools.product(range(size), repeat=length):
            logits = model(torch.tensor([[0, *ids]])).logits[0, :-1]
            rows = sampler.probabilities(logits)
            found[ids] = float(rows[range(length), list(ids)].double().prod())
    return found


def chi_square(counts: Counter[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> float:
    total = counts.total()
    assert all(counts[ids] == 0 for ids, p in expected.items() if p == 0)
    return sum((counts[ids] - total * p) ** 2 / (total * p) for ids, p in expected.items() if p > 0)


@pytest.mark.parametrize("num_draft_tokens", [1, 4])
def test_samples_are_distributed_as_without_a_draft(num_draft_tokens: int) -> None:
    """1,500 samples of three tokens: all 27 sequences in their proportions."""
    target, draft = bigram(1), bigram(2)
    expected = joint(target, Sampler(), 3)
    generator = Generator(target)
    counts = Counter(
        tuple(
            generator.generate_ids(
                [0], max_new_tokens=3, seed=seed, draft=draft, num_draft_tokens=num_draft_tokens
            )
        )
        for seed in range(1500)
    )
    assert chi_square(counts, expected) < CHI_SQUARE[26]
    # The draft's own distribution is far away: such samples would not pass.
    others = joint(draft, Sampler(), 3)
    wrong = Counter({ids: round(1500 * p) for ids, p in others.items()})
    assert chi_square(wrong, expected) > 10 * CHI_SQUARE[26]


def test_processors_shape_both_distributions() -> None:
    """Top-k and temperature: nothing outside the k, and what is within in proportion."""
    target, draft = bigram(3), bigram(4)
    sampler = Sampler([Temperature(1.5), TopK(2)])
    expected = joint(target, sampler, 2)
    generator = Generator(target)
    counts = Counter(
        tuple(generator.generate_ids([0], max_new_tokens=2, seed=n, sampler=sampler, draft=draft))
        for n in range(1000)
    )
    assert sum(p > 0 for p in expected.values()) == 4
    assert chi_square(counts, expected) < CHI_SQUARE[8]  # of 3 degrees, so stricter than said


@pytest.mark.parametrize("num_draft_tokens", [1, 3, 10])
@pytest.mark.parametrize("draft", [gpt(3, n_layer=1), gpt(2), gpt(4, block_size=5)])
def test_greedy_is_the_targets_own(draft: LanguageModel, num_draft_tokens: int) -> None:
    """Token for token, past both block sizes, whatever the draft says."""
    generator = Generator(gpt(2))
    options: dict[str, Any] = {"strategy": "greedy", "max_new_tokens": 30}
    expected = generator.generate_ids([1, 2], **options)
    found = generator.generate_ids(
        [1, 2], draft=draft, num_draft_tokens=num_draft_tokens, **options
    )
    assert found == expected
    assert len(set(expected)) > 2


def test_a_good_draft_saves_passes_of_the_model() -> None:
    model = gpt(2)
    calls: list[int] = []
    assert model.norm is not None
    model.norm.register_forward_hook(lambda *_: calls.append(1))
    # The same weights in the draft: every token is taken, five a pass.
    options: dict[str, Any] = {"max_new_tokens": 10, "seed": 1, "num_draft_tokens": 4}
    ids = Generator(model).generate_ids([1], draft=gpt(2), **options)
    assert len(ids) == 10
    assert len(calls) == 2


def test_what_was_read_is_not_read_again() -> None:
    """Neither by the model nor by the draft, within the context: every position once, but for
    those of tokens that were not taken."""
    target, draft = gpt(2, block_size=64), gpt(3, 1, block_size=64)
    read: dict[GPTModel, list[int]] = {target: [], draft: []}
    for model in read:
        model.blocks[0].register_forward_hook(
            lambda _, inputs, __, into=read[model]: into.append(inputs[0].size(1))
        )
    prompt = [1, 2, 3, 4, 5] * 4
    Generator(target).generate_ids(prompt, max_new_tokens=20, seed=1, draft=draft)
    assert read[target][0] == len(prompt) + 4
    assert max(read[target][1:]) <= 5, "the drafted ones, and the one before"
    assert read[draft][0] == len(prompt)
    assert max(read[draft][1:]) <= 2


def test_samples_side_by_side_are_those_made_one_by_one() -> None:
    letters = CharTokenizer("abcdefgh")
    generator = Generator(gpt(2), letters)
    options: dict[str, Any] = {"max_new_tokens": 15, "draft": gpt(3, 1), "stop": "a"}
    samples = generator.generate_samples("b", 6, seed=3, **options)
    assert samples == [
        generator.generate("b", **{**options, "seed": each.seed}) for each in samples
    ]
    assert len({len(each.ids) for each in samples}) > 1
    assert "".join(generator.stream("b", seed=3, **options)) == samples[0].text


def test_a_drafted_end_ends_the_text() -> None:
    tokenizer = ByteTokenizer(special_tokens=["<|endoftext|>"])
    model = BigramModel(BigramConfig(257, block_size=8))
    with torch.no_grad():
        model.table.weight.zero_()
        model.table.weight[97, 98] = model.table.weight[98, 256] = 1000.0
    sample = Generator(model, tokenizer).generate("a", draft=model, seed=0)
    assert (sample.text, sample.finish_reason) == ("b", "eos")


def test_penalties_look_at_drafted_tokens_too() -> None:
    options: dict[str, Any] = {"max_new_tokens": 7, "no_repeat_ngram": 1, "seed": 2}
    ids = Generator(gpt(2)).generate_ids([0], draft=gpt(3, 1), **options)
    assert sorted([0, *ids]) == list(range(8))


def test_models_are_left_as_they_were() -> None:
    target, draft = gpt(2).train(), gpt(3, 1).train()
    Generator(target).generate_ids([1], max_new_tokens=5, draft=draft)
    assert target.training
    assert draft.training


def test_what_is_refused() -> None:
    generator = Generator(gpt(2))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"draft": bigram(1)}, "The draft knows 3 tokens and 8 may be drawn"),
        ({"draft": "small"}, "draft must be a model"),
        ({"draft": gpt(3), "num_draft_tokens": 0}, "--num-draft-tokens 0 must be at least 1"),
        ({"num_draft_tokens": 3}, "--num-draft-tokens is for a --draft"),
        ({"draft": gpt(3), "strategy": "beam"}, "--draft is for strategies that draw token by"),
    ]
    for options, message in cases:
        with pytest.raises(UsageError, match=message):
            generator.generate_ids([1], **options)
