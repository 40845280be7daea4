"""Texts of different lengths side by side: each is the text that it is alone, whoever is beside it.

The models and seeds here are such that float32's rounding never decides a token.
"""

import itertools
import math
from typing import Any

import pytest
import torch

from toolkit.errors import ModelError, UsageError, VocabularyError
from toolkit.generation import (
    Batch,
    Completion,
    Generator,
    LogitsProcessor,
    Progress,
    Sampler,
    Text,
)
from toolkit.jit import COMPILED
from toolkit.models import (
    PRESETS,
    BigramConfig,
    BigramModel,
    GPTConfig,
    GPTModel,
    LanguageModel,
    create_model,
)
from toolkit.tokenizers import ByteTokenizer, CharTokenizer

LETTERS = CharTokenizer("abcdefgh")
SLIDING: list[dict[str, Any]] = [
    {"preset": "modern", "n_kv_head": 1},
    {"position": "alibi"},
    {"position": "none"},
    {"position": "alibi", "window": 3},
    {"window": 5},
]
ENDING: list[dict[str, Any]] = [
    {"preset": "gpt2"},
    {"preset": "gpt2", "window": 3},
    {"position": "sinusoidal", "norm_order": "post", "tie_embeddings": True},
]


def gpt(vocab_size: int = 8, *, preset: str = "modern", **options: Any) -> GPTModel:
    """A small GPT whose weights are large enough for every token before to matter."""
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 8}
    config = GPTConfig(vocab_size=vocab_size, **{**shape, **PRESETS[preset], **options})
    model = GPTModel(config, torch.Generator().manual_seed(2))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(20)
    return model.eval()


def ladder(name: str) -> LanguageModel:
    model = create_model(name, 8, block_size=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(40)
    return model


# Texts of different lengths end with one of these.
PAIRS = tuple(f"{one}{two}" for one, two in zip("abcdefghabc", "hgfedcbaabc", strict=True))
# Prompts and options of all kinds, and the step before which each joins. Of 8 positions: within
# the context, across its end, and past it from the beginning.
JOINS: list[tuple[int, str, int, dict[str, Any]]] = [
    (0, "a", 1, {"seed": 0, "strategy": "greedy", "max_new_tokens": 30}),
    (0, "abc", 3, {"seed": 1, "temperature": 1.5, "max_new_tokens": 20}),
    (2, "hgfedcba", 1, {"seed": 2, "top_k": 4, "max_new_tokens": 9}),
    (2, "bad", 2, {"seed": 3, "temperature": 2.0, "stop": PAIRS, "max_new_tokens": 25}),
    (5, "abcdefgh" * 3, 2, {"seed": 4, "top_p": 0.9, "max_new_tokens": 7}),
    (9, "abc", 1, {"seed": 5, "repetition_penalty": 1.3, "max_new_tokens": 5}),
    (9, "", 1, {"seed": 6, "frequency_penalty": 0.5, "logit_bias": {2: 1.0}, "max_new_tokens": 9}),
    (30, "fade", 1, {"seed": 1, "temperature": 1.5, "max_new_tokens": 20}),
]


def run(batch: Batch) -> list[list[Progress]]:
    """All steps of those that are in it."""
    steps = []
    while batch.rows:
        steps.append(batch.step())
    return steps


def finish_all(generator: Generator) -> tuple[list[Completion], list[str]]:
    """The texts of `JOINS` through one batch, and their pieces joined."""
    batch = Batch(generator, max_rows=12)
    texts: list[Text] = []
    pieces: dict[Text, str] = {}
    for turn in itertools.count():
        for _, prompt, num_samples, options in (join for join in JOINS if join[0] == turn):
            texts += batch.join(prompt, num_samples, **options)
        active = [text for text in texts if text.finish_reason is None]
        assert batch.rows == 12 - batch.free == len(active)
        progress = batch.step()
        assert [each.text for each in progress] == active
        for each in progress:
            assert each.finish_reason == each.text.finish_reason
            assert each.error is None
            pieces[each.text] = pieces.get(each.text, "") + each.piece
        if turn > 30 and not batch.rows:
            return [text.completion() for text in texts], [pieces[text] for text in texts]
    raise AssertionError


def check(generator: Generator) -> list[Completion]:
    found, pieces = finish_all(generator)
    expected = [
        sample
        for _, prompt, num_samples, options in JOINS
        for sample in generator.generate_samples(prompt, num_samples, **options)
    ]
    assert found == expected
    assert pieces == [sample.text for sample in expected]
    assert len({sample.text for sample in found}) > 6
    return found


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("options", [*SLIDING, *ENDING])
def test_every_text_is_the_one_it_is_alone(options: dict[str, Any], cache: bool) -> None:
    found = check(Generator(gpt(**options), LETTERS, cache=cache))
    assert {sample.finish_reason for sample in found} == {"length", "stop"}


@pytest.mark.parametrize("name", ["bigram", "average-matmul", "single-head"])
def test_models_that_keep_nothing(name: str) -> None:
    check(Generator(ladder(name), LETTERS))


@pytest.mark.skipif(not COMPILED, reason="NUMBA_DISABLE_JIT is set")
@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("options", [*SLIDING, *ENDING])
def test_compiled_steps_give_the_texts_of_torch(options: dict[str, Any], weights: Any) -> None:
    completions = check(Generator(gpt(**options), LETTERS, weights=weights, engine="compiled"))
    reference = Generator(gpt(**options), LETTERS, weights=weights, engine="torch")
    assert [each.ids for each in completions] == [each.ids for each in check(reference)]


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_stored_weights(weights: Any) -> None:
    check(Generator(gpt(), LETTERS, weights=weights))


@pytest.fixture(scope="module")
def letters() -> Generator:
    return Generator(gpt(), LETTERS)


# -- joining and leaving -----------------------------------------------------------------------


def test_rows_are_used_again(letters: Generator) -> None:
    """And the memory is what was made at first, however many come and go."""
    batch = Batch(letters, max_rows=3)
    memory = batch._decoder._cache
    assert memory is not None
    assert memory.keys.shape == (2, 3, 2, 8, 8)
    before = memory.keys, memory.values
    options: dict[str, Any] = {"temperature": 1.5, "max_new_tokens": 4}
    for seed in range(0, 30, 3):
        texts = [batch.join("abc" * (seed % 4 + 1), seed=seed + n, **options)[0] for n in range(3)]
        with pytest.raises(UsageError, match="2 texts cannot join: 3 of 3 rows are in use"):
            batch.join("a", 2)
        assert (batch.rows, batch.free) == (3, 0)
        assert [len(each) for each in run(batch)] == [3, 3, 3, 3]
        for text in texts:
            alone = letters.generate(
                text.completion().prompt, seed=text.completion().seed, **options
            )
            assert text.completion() == alone
    assert memory.keys is before[0]
    assert memory.values is before[1]
    assert memory.rows == 0


def test_a_text_that_is_dropped_leaves_the_others_alone(letters: Generator) -> None:
    options: dict[str, Any] = {"temperature": 1.5, "max_new_tokens": 12}
    batch = Batch(letters)
    texts = batch.join("abc", 4, seed=1, **options)
    (never,) = batch.join("b", seed=2, **options)
    batch.leave(never)
    batch.step()
    batch.leave(texts[1])
    batch.leave(texts[1])
    assert batch.rows == 3
    batch.step()
    batch.leave(texts[0])
    run(batch)
    batch.leave(texts[2])  # has finished
    expected = letters.generate_samples("abc", 4, seed=1, **options)
    assert [texts[n].completion() for n in (2, 3)] == expected[2:]
    assert (texts[0].finish_reason, texts[0].num_new_ids) == (None, 2)
    with pytest.raises(UsageError, match="The text has not finished"):
        texts[0].completion()


def test_counts(letters: Generator) -> None:
    (text,) = (batch := Batch(letters)).join("abcab", seed=1, max_new_tokens=3)
    assert (text.num_prompt_ids, text.num_new_ids, text.finish_reason) == (5, 0, None)
    batch.step()
    assert text.num_new_ids == 1
    run(batch)
    assert (text.num_new_ids, text.finish_reason) == (3, "length")


def test_no_new_tokens(letters: Generator) -> None:
    batch = Batch(letters)
    (nothing,) = batch.join("ab", max_new_tokens=0, seed=1)
    (other,) = batch.join("ab", max_new_tokens=2, seed=1)
    assert batch.rows == 2
    first, second = run(batch)
    assert first[0] == Progress(nothing, "", None, "length")
    assert nothing.completion() == letters.generate("ab", max_new_tokens=0, seed=1)
    assert [each.text for each in second] == [other]
    assert batch.step() == []


def test_ids_as_a_prompt(letters: Generator) -> None:
    batch = Batch(letters)
    (text,) = batch.join([0, 1, 2], seed=1, max_new_tokens=9)
    run(batch)
    assert text.completion() == letters.generate("abc", seed=1, max_new_tokens=9)


def test_each_distinct_prompt_is_computed_once_and_then_all_in_one_pass() -> None:
    model = gpt()
    shapes: list[tuple[int, ...]] = []
    model.blocks[0].register_forward_hook(lambda _, inputs, __: shapes.append(inputs[0].shape[:2]))
    batch = Batch(Generator(model, LETTERS))
    batch.join("abc", 3, seed=1)
    batch.join("abcde", seed=1)
    batch.step()
    batch.join("b", seed=1)
    batch.step()
    batch.step()
    assert shapes == [(1, 3), (1, 5), (4, 1), (1, 1), (5, 1)]


class Counting(LogitsProcessor):
    """Notes how many rows it is given."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(logits))
        return logits


def test_equal_options_are_drawn_together(letters: Generator) -> None:
    batch, one, other = Batch(letters), Counting(), Counting()
    for prompt, processor in (("a", one), ("b", other), ("ab", one), ("c", one)):
        batch.join(prompt, sampler=Sampler([processor]), max_new_tokens=2)
    run(batch)
    assert (one.rows, other.rows) == ([3, 3], [1, 1])
    first = batch.join("a", temperature=0.7, logprobs=2)[0]
    second = batch.join("b", temperature=0.7, logprobs=1)[0]
    assert first.sampler is second.sampler
    assert batch.join("b", temperature=0.8, logprobs=1)[0].sampler is not first.sampler


# -- what each may ask for ---------------------------------------------------------------------


def test_logprobs(letters: Generator) -> None:
    batch = Batch(letters)
    (noted,) = batch.join("abc", seed=1, logprobs=3, max_new_tokens=9)
    (plain,) = batch.join("ab", seed=1, max_new_tokens=9)
    tokens = [each.token for step in run(batch) for each in step if each.text is noted]
    assert tuple(tokens) == noted.completion().logprobs
    assert plain.completion().logprobs is None
    alone = letters.generate("abc", seed=1, logprobs=3, max_new_tokens=9)
    assert alone.logprobs is not None
    for ours, theirs in zip(noted.completion().logprobs or (), alone.logprobs, strict=True):
        assert [each.id for each in ours.top] == [each.id for each in theirs.top]
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)  # float32, of numbers to 20


def test_time_of_one_text(letters: Generator) -> None:
    batch = Batch(letters)
    (short,) = batch.join("a", max_time=1e-9, seed=1)
    (long,) = batch.join("a", max_time=3600, seed=1, max_new_tokens=5)
    run(batch)
    assert (short.finish_reason, short.num_new_ids) == ("time", 1)
    assert (long.finish_reason, long.num_new_ids) == ("length", 5)


def test_pieces_hold_back_what_may_be_a_stop_string() -> None:
    model = BigramModel(BigramConfig(256, block_size=4))
    with torch.no_grad():
        model.table.weight.zero_()
        for current, following in itertools.pairwise(b"abcdefgh"):
            model.table.weight[current, following] = 1000.0
    batch = Batch(Generator(model, ByteTokenizer()))
    batch.join("a", stop="def", seed=1)
    found = [(each.piece, each.finish_reason) for step in run(batch) for each in step]
    assert found == [("b", None), ("c", None), ("", None), ("", None), ("", "stop")]


def test_the_end_of_text_token() -> None:
    tokenizer = ByteTokenizer(special_tokens=["<|endoftext|>"])
    model = BigramModel(BigramConfig(257, block_size=4))
    with torch.no_grad():
        model.table.weight.zero_()
        model.table.weight[97, 98] = model.table.weight[98, 256] = 1000.0
    batch = Batch(Generator(model, tokenizer))
    (text,) = batch.join("a", seed=1, logprobs=0)
    (on,) = batch.join("a", seed=1, ignore_eos=True, max_new_tokens=3)
    last = [[each.token for each in step] for step in run(batch)][1]
    assert last == [None, None]
    assert (text.completion().text, text.finish_reason, text.num_new_ids) == ("b", "eos", 1)
    assert on.completion().text.startswith("b<|endoftext|>")


def test_patterns() -> None:
    pytest.importorskip("llguidance")
    model = create_model("gpt", 256, size="nano", block_size=16, seed=1)
    generator = Generator(model, ByteTokenizer())
    batch = Batch(generator)
    joins: list[dict[str, Any]] = [{"regex": "(yes|no)+!"}, {"regex": "[0-9]{3}"}, {"top_k": 3}]
    texts = [batch.join("Is it?", seed=1, max_new_tokens=20, **options)[0] for options in joins]
    run(batch)
    for text, options in zip(texts, joins, strict=True):
        expected = generator.generate("Is it?", seed=1, max_new_tokens=20, **options)
        assert text.completion() == expected
    assert texts[1].finish_reason == "complete"


# -- what goes wrong ---------------------------------------------------------------------------


class Nothing(LogitsProcessor):
    """Rules out every token."""

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.full_like(logits, -math.inf)


def test_a_text_that_cannot_go_on_does_not_stop_the_others(letters: Generator) -> None:
    batch = Batch(letters)
    (broken,) = batch.join("a", sampler=Sampler([Nothing()]))
    (good,) = batch.join("a", seed=1, max_new_tokens=4)
    first, second = batch.step()
    assert isinstance(first.error, ModelError)
    assert (first.text, first.finish_reason, first.piece) == (broken, None, "")
    assert (second.text, second.error) == (good, None)
    assert batch.rows == 1
    run(batch)
    assert good.completion() == letters.generate("a", seed=1, max_new_tokens=4)
    assert broken.finish_reason is None


def test_one_row_of_broken_logits_among_equal_options() -> None:
    """Its neighbour is drawn as if it were alone, from the same generator."""
    model = BigramModel(BigramConfig(8, block_size=4))
    with torch.no_grad():
        model.table.weight[3] = math.nan
    generator = Generator(model, LETTERS)
    batch = Batch(generator)
    (good,) = batch.join("a", seed=1, max_new_tokens=2, forbid=[3])
    (broken,) = batch.join("d", seed=1, max_new_tokens=2, forbid=[3])
    errors = {each.text: each.error for each in batch.step()}
    assert "not numbers" in str(errors[broken])
    run(batch)
    assert good.completion() == generator.generate("a", seed=1, max_new_tokens=2, forbid=[3])


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("a", {"max_new_tokens": -1}, "--max-new-tokens -1 must not be negative"),
        ("a", {"num_samples": 0}, "--num-samples 0 must be at least 1"),
        ("a", {"strategy": "beam"}, "A batch takes steps, and a search"),
        ("a", {"strategy": "contrastive"}, "A batch takes steps, and a search"),
        ("a", {"draft": gpt()}, "A batch takes steps, and a search"),
        ("a", {"max_new_tokens": 10}, "1 tokens of the prompt and --max-new-tokens 10 are more"),
        ([], {}, "A prompt of ids needs at least one id"),
        (["a"], {}, "A prompt of ids needs whole numbers"),
    ],
)
def test_what_is_refused(
    letters: Generator, prompt: Any, options: dict[str, Any], message: str
) -> None:
    batch = Batch(letters, max_tokens=10)
    with pytest.raises(UsageError) as caught:
        batch.join(prompt, **options)
    assert str(caught.value).startswith(message)
    assert batch.rows == 0


def test_more_that_is_refused(letters: Generator) -> None:
    with pytest.raises(VocabularyError, match="'x'"):
        Batch(letters).join("x")
    with pytest.raises(VocabularyError, match="Id 8 is no token"):
        Batch(letters).join([8])
    with pytest.raises(UsageError, match="max_rows 0 must be at least 1"):
        Batch(letters, max_rows=0)
    with pytest.raises(UsageError, match="max_tokens 0 must be at least 1"):
        Batch(letters, max_tokens=0)
    with pytest.raises(UsageError, match="no tokenizer"):
        Batch(Generator(gpt()))
    strict = Batch(Generator(gpt(), LETTERS, context_policy="error"))
    with pytest.raises(UsageError, match="do not fit into the model's --block-size 8"):
        strict.join("ab", max_new_tokens=8)
    strict.join("ab", max_new_tokens=7)


@pytest.mark.parametrize("options", [{"preset": "modern"}, {"preset": "gpt2"}])
def test_less_memory_for_short_texts(options: dict[str, Any]) -> None:
    generator = Generator(gpt(block_size=64, **options), LETTERS)
    batch = Batch(generator, max_tokens=20)
    cache = batch._decoder._cache
    assert cache is not None
    assert cache.slots == 20
    texts = [batch.join("abc"[:n], seed=n, max_new_tokens=17)[0] for n in (1, 2, 3)]
    run(batch)
    for n, text in enumerate(texts, 1):
        assert text.completion() == generator.generate("abc"[:n], seed=n, max_new_tokens=17)


def test_the_model_is_left_as_it_was() -> None:
    model = gpt(dropout=0.5).train()
    model.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    batch = Batch(Generator(model, LETTERS))
    (text,) = batch.join("abc", seed=1, max_new_tokens=9)
    while batch.rows:
        batch.step()
        assert [module.training for module in model.modules()] == modes
        assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    assert text.completion() == Generator(gpt(), LETTERS).generate("abc", seed=1, max_new_tokens=9)


# -- transformers ------------------------------------------------------------------------------


def test_a_ragged_batch_of_transformers() -> None:
    """Its rows are padded on the left and masked; greedy, with GPT-2's shape and weights."""
    transformers = pytest.importorskip("transformers")
    from toolkit.models import hf_config, to_hf_state_dict

    model = gpt(40, preset="gpt2", block_size=48)
    theirs = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**hf_config(model.config))
    ).eval()
    theirs.load_state_dict(to_hf_state_dict(model), strict=False)
    theirs.tie_weights()
    tokenizer = CharTokenizer("".join(chr(ord("A") + n) for n in range(40)))
    prompts = [[5], [7, 11, 3, 9, 30, 2, 8], [1, 39, 20], [12] * 10]
    padded = torch.tensor([[0] * (10 - len(each)) + each for each in prompts])
    mask = torch.tensor([[0] * (10 - len(each)) + [1] * len(each) for each in prompts])
    expected = theirs.generate(
        padded,
        attention_mask=mask,
        max_new_tokens=30,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )[:, 10:].tolist()
    batch = Batch(Generator(model, tokenizer))
    texts = [batch.join(each, strategy="greedy", max_new_tokens=30)[0] for each in prompts]
    run(batch)
    assert [list(text.completion().ids) for text in texts] == expected
    assert len({*expected[0], *expected[1], *expected[2]}) > 5  # not one token over and over
