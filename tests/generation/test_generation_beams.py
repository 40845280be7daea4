"""Beam search: transformers' sequences, the best of all sequences, groups, and its limits."""

import itertools
from collections import Counter
from typing import Any

import pytest
import torch

from toolkit.errors import UsageError
from toolkit.generation import (
    BeamSearch,
    Context,
    Forbidden,
    Generator,
    Hypothesis,
    NoRepeatNgram,
    Request,
    Sampler,
)
from toolkit.generation.beams import EarlyStopping
from toolkit.generation.decoding import make_decoder
from toolkit.models import PRESETS, GPTConfig, GPTModel, LanguageModel, hf_config
from toolkit.models.interop import to_hf_state_dict
from toolkit.tokenizers import ByteTokenizer, CharTokenizer

V = 40


def gpt(vocab_size: int = V, seed: int = 2, **options: Any) -> GPTModel:
    """A small GPT whose weights are large enough for every token before to matter."""
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 32}
    config = GPTConfig(vocab_size=vocab_size, **shape, **{**PRESETS["gpt2"], **options})
    model = GPTModel(config, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(12)
    return model.eval()


def request(
    model: LanguageModel, prompt: list[int], length: int, *, end_ids: set[int] | None = None,
    sampler: Sampler | None = None,
) -> Request:  # fmt: skip
    return Request(
        model=model,
        decoder=make_decoder(model),
        cache=True,
        prompt_ids=prompt,
        sampler=sampler or Sampler(),
        generators=[],
        contexts=[Context(prompt)],
        vocab_size=model.config.vocab_size,
        max_new_tokens=length,
        end_ids=frozenset(end_ids or ()),
    )


def score_of(model: LanguageModel, prompt: list[int], new: tuple[int, ...], power: float) -> float:
    """The sum of log-probabilities over the length, computed in one pass in float64."""
    logits = model(torch.tensor([[*prompt, *new]])).logits[0].double().log_softmax(dim=-1)
    places = range(len(prompt) - 1, len(prompt) + len(new) - 1)
    total = sum(logits[place, token].item() for place, token in zip(places, new, strict=True))
    return total / len(new) ** power


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
@pytest.mark.parametrize("num_beams", [2, 5])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.5, -1.0])
@pytest.mark.parametrize("ends", [set(), {3}, {3, 11, 17, 20, 30}])
def test_the_sequences_of_transformers(
    preset: str, num_beams: int, length_penalty: float, ends: set[int]
) -> None:
    for early_stopping in (False, True, "never"):
        check_transformers(preset, num_beams, length_penalty, ends, early_stopping)


def check_transformers(
    preset: str, num_beams: int, length_penalty: float, ends: set[int], early_stopping: Any
) -> None:
    transformers = pytest.importorskip("transformers")
    model = gpt(**PRESETS[preset])
    theirs = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**hf_config(model.config))
    ).eval()
    theirs.load_state_dict(to_hf_state_dict(model), strict=False)
    theirs.tie_weights()
    prompt = [5, 7, 11]
    found = theirs.generate(
        torch.tensor([prompt]),
        max_new_tokens=12,
        num_beams=num_beams,
        num_return_sequences=num_beams,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        do_sample=False,
        eos_token_id=sorted(ends) or None,
        pad_token_id=0,
        output_scores=True,
        return_dict_in_generate=True,
    )
    search = BeamSearch(num_beams, length_penalty, early_stopping=early_stopping)
    ours = search.search(request(model, prompt, 12, end_ids=ends))
    assert len(ours) == num_beams
    for mine, row in zip(ours, found.sequences[:, 3:].tolist(), strict=True):
        ends_at = next((place for place, each in enumerate(row) if each in ends), 11)
        assert list(mine.ids) == row[: ends_at + 1]
    # Sums of 12 logarithms in float32.
    scores = torch.tensor([each.score for each in ours])
    torch.testing.assert_close(scores, found.sequences_scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_with_enough_beams_it_finds_the_best_of_all(length_penalty: float) -> None:
    model = gpt(3)
    every = [tuple(each) for each in itertools.product(range(3), repeat=4)]
    best = sorted(every, key=lambda each: -score_of(model, [1], each, length_penalty))
    found = BeamSearch(81, length_penalty).search(request(model, [1], 4))
    assert [each.ids for each in found] == best
    # A greedy choice is not the best one here, else the test would show nothing.
    greedy = Generator(model).generate_ids([1], max_new_tokens=4, strategy="greedy")
    assert tuple(greedy) != best[0]


def test_when_a_search_ends() -> None:
    """Passes of the model, and what they find: at once, when likely, when certain."""
    found, passes = {}, {}
    ways: tuple[EarlyStopping, ...] = (True, False, "never")
    for early_stopping in ways:
        model, calls = gpt(), list[int]()
        model.blocks[0].register_forward_hook(lambda *_, calls=calls: calls.append(1))
        search = BeamSearch(3, 0.5, early_stopping=early_stopping)
        found[early_stopping] = search.search(request(model, [5, 7], 25, end_ids={3, 11, 17, 20}))
        passes[early_stopping] = len(calls)
    assert passes[True] < passes[False] < passes["never"] <= 25
    best = [found[each][0].score for each in (True, False, "never")]
    assert best == sorted(best)


def test_with_enough_beams_it_finds_the_best_that_ends() -> None:
    """Sequences that end with 2, and those of the full length without it, by their sums."""
    model = gpt(3, seed=5)
    every = [
        each
        for length in (1, 2, 3, 4)
        for each in itertools.product(range(3), repeat=length)
        if 2 not in each[:-1] and (length == 4 or each[-1] == 2)
    ]
    best = max(every, key=lambda each: score_of(model, [0], each, 0.0))
    assert BeamSearch(27, 0.0).search(request(model, [0], 4, end_ids={2}))[0].ids == best


def test_one_beam_is_greedy() -> None:
    generator = Generator(gpt())
    greedy = generator.generate_ids([5], max_new_tokens=40, strategy="greedy")
    assert greedy == generator.generate_ids([5], max_new_tokens=40, strategy="beam", num_beams=1)


def test_scores_are_those_of_the_model() -> None:
    model = gpt()
    for each in BeamSearch(3, 0.7).search(request(model, [5, 6], 8)):
        expected = score_of(model, [5, 6], each.ids, 0.7)
        assert each.score == pytest.approx(expected, rel=1e-4)  # a sum of eight float32


def diverse(
    model: LanguageModel, prompt: list[int], length: int, width: int, groups: int, penalty: float
) -> list[Hypothesis]:
    """Diverse beam search as in the paper, one group and one step after the other, in lists."""
    beams = [[((), 0.0)] for _ in range(groups)]
    for _ in range(length):
        chosen: Counter[int] = Counter()
        for group in range(groups):
            candidates = []
            for ids, total in beams[group]:
                row = model(torch.tensor([[*prompt, *ids]])).logits[0, -1].log_softmax(dim=-1)
                for token, value in enumerate(row.tolist()):
                    score = total + value - penalty * chosen[token]
                    candidates.append(((*ids, token), score))
            beams[group] = sorted(candidates, key=lambda each: -each[1])[:width]
            chosen.update(ids[-1] for ids, _ in beams[group])
    found = [Hypothesis(ids, total / length) for group in beams for ids, total in group]
    return sorted(found, key=lambda each: -each.score)


@pytest.mark.parametrize(("groups", "penalty"), [(1, 0.0), (2, 0.0), (2, 2.0), (3, 1.5), (6, 3.0)])
def test_diverse_groups(groups: int, penalty: float) -> None:
    model = gpt()
    with torch.inference_mode():
        expected = diverse(model, [4, 9], 6, 6 // groups, groups, penalty)
    search = BeamSearch(6, 1.0, groups, penalty)
    found = search.search(request(model, [4, 9], 6))
    assert [each.ids for each in found] == [each.ids for each in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-4)
    if groups == 2:
        # Without a penalty both groups find the same; with one they begin differently.
        assert (len({each.ids for each in found}) == 3) == (penalty == 0)


def test_processors_hold_within_beams() -> None:
    sampler = Sampler([Forbidden([7]), NoRepeatNgram(1)])
    for each in BeamSearch(4).search(request(gpt(), [5], 10, sampler=sampler)):
        assert len(set(each.ids)) == 10
        assert 7 not in each.ids
        assert 5 not in each.ids


def test_samples_are_the_best_sequences_and_the_stream_is_the_first() -> None:
    tokenizer = CharTokenizer("".join(chr(ord("A") + n) for n in range(V)))
    generator = Generator(gpt(), tokenizer)
    options = {"strategy": "beam", "num_beams": 3, "max_new_tokens": 9}
    found = BeamSearch(3).search(request(gpt(), [5], 9))
    samples = generator.generate_samples("F", 3, **options)
    assert [each.ids for each in samples] == [each.ids for each in found]
    assert generator.generate("F", **options).text == samples[0].text
    assert "".join(generator.stream("F", **options)) == samples[0].text
    assert {each.finish_reason for each in samples} == {"length"}
    stop = samples[0].text[4:6]
    cut = generator.generate("F", stop=stop, **options)
    assert (cut.text, cut.finish_reason) == (samples[0].text[: samples[0].text.find(stop)], "stop")


def test_end_tokens_end_completions() -> None:
    tokenizer = ByteTokenizer(special_tokens=["<|endoftext|>"])
    model = gpt(257, seed=4)
    found = BeamSearch(4, 0.0).search(request(model, [65], 30, end_ids={256}))
    samples = Generator(model, tokenizer, end_ids=[256]).generate_samples(
        "A", 4, strategy="beam", length_penalty=0.0, max_new_tokens=30
    )
    for sample, hypothesis in zip(samples, found, strict=True):
        ended = hypothesis.ids[-1] == 256
        assert sample.finish_reason == ("eos" if ended else "length")
        assert sample.ids == (hypothesis.ids[:-1] if ended else hypothesis.ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "--num-beams 0 must be at least 1"),
        ({"num_beams": 4, "num_groups": 3}, "--num-beams 4 must be divisible by --num-groups 3"),
        ({"diversity_penalty": 1.0}, "--diversity-penalty is between groups: give --num-groups"),
        ({"num_groups": 2, "diversity_penalty": -1}, "--diversity-penalty -1 must be at least 0"),
        ({"early_stopping": "no"}, "--early-stopping no must be true, false or never"),
        ({"length_penalty": float("inf")}, "--length-penalty inf must be finite"),
        ({"top_k": 3}, "The strategy beam does not take --top-k"),
        ({"logprobs": 3}, "generate_ids takes no logprobs"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Generator(gpt()).generate_ids([1], strategy="beam", **options)
    assert str(caught.value).startswith(message)


def test_more_rows_than_there_are() -> None:
    generator = Generator(gpt(3), CharTokenizer("abc"))
    with pytest.raises(UsageError, match="--num-samples 5 is more than --num-beams 4"):
        generator.generate_samples("a", 5, strategy="beam")
    options: dict[str, Any] = {"strategy": "beam", "max_new_tokens": 1}
    assert len(generator.generate_samples("a", 3, **options)) == 3
    with pytest.raises(UsageError, match="Beam search found 3 sequences, not 4"):
        generator.generate_samples("a", 4, **options)
