"""Options of text: time, logprobs, several prompts, streams in an event loop."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from toolkit.errors import ModelError, UsageError, VocabularyError
from toolkit.generation import Generator, LogitsProcessor, Sampler, read_prompts, sample_seed
from toolkit.generation import generator as generator_module
from toolkit.models import PRESETS, GPTConfig, GPTModel, create_model
from toolkit.tokenizers import ByteTokenizer, CharTokenizer

LETTERS = CharTokenizer("abcdefgh")


def gpt(vocab_size: int = 8) -> GPTModel:
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 8}
    config = GPTConfig(vocab_size=vocab_size, **shape, **PRESETS["modern"])
    model = GPTModel(config, torch.Generator().manual_seed(2))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(15)
    return model.eval()


class Nothing(LogitsProcessor):
    """Rules out every token."""

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.full_like(logits, float("-inf"))


@pytest.fixture(scope="module")
def letters() -> Generator:
    return Generator(gpt(), LETTERS)


# -- logprobs ----------------------------------------------------------------------------------


def test_logprobs_are_the_models_own(letters: Generator) -> None:
    """Not those of the distribution that was drawn from, which has one token here."""
    sample = letters.generate("abc", max_new_tokens=6, logprobs=3, strategy="greedy")
    assert sample.logprobs is not None
    ids = [0, 1, 2]
    for each, token_id in zip(sample.logprobs, sample.ids, strict=True):
        row = letters.model(torch.tensor([ids[-8:]])).logits[0, -1].log_softmax(dim=-1)
        best = row.topk(3)
        assert [other.id for other in each.top] == best.indices.tolist()
        values = torch.tensor([other.logprob for other in each.top])
        # A batch of another size may round the last digit.
        torch.testing.assert_close(values, best.values, rtol=1e-5, atol=1e-5)
        assert (each.id, each.token) == (token_id, LETTERS.token_bytes(token_id))
        assert each.logprob == each.top[0].logprob
        ids.append(token_id)


def test_logprobs_change_nothing(letters: Generator) -> None:
    plain = letters.generate_samples("a", 3, max_new_tokens=12, seed=4, stop="ab")
    noted = letters.generate_samples("a", 3, max_new_tokens=12, seed=4, stop="ab", logprobs=0)
    for one, other in zip(plain, noted, strict=True):
        assert (one.ids, one.text, one.logprobs) == (other.ids, other.text, None)
        assert other.logprobs is not None
        assert [each.id for each in other.logprobs] == list(one.ids)
        assert all(each.top == () for each in other.logprobs)
    # More than there are tokens: all of them.
    sample = letters.generate("a", max_new_tokens=1, logprobs=99)
    assert sample.logprobs is not None
    assert len(sample.logprobs[0].top) == 8


@pytest.mark.parametrize("value", [-1, 1.5, True])
def test_wrong_logprobs(letters: Generator, value: Any) -> None:
    with pytest.raises(UsageError, match="--logprobs"):
        letters.generate("a", logprobs=value)
    with pytest.raises(UsageError, match="--logprobs is for strategies that draw token by token"):
        letters.generate("a", logprobs=1, strategy="beam")


# -- time --------------------------------------------------------------------------------------


def test_time_that_is_over_ends_the_text_after_a_token(letters: Generator) -> None:
    samples = letters.generate_samples("a", 3, max_time=1e-9, seed=1)
    assert {(len(each.ids), each.finish_reason) for each in samples} == {(1, "time")}
    whole = letters.generate_samples("a", 3, max_new_tokens=20, seed=1)
    assert [each.text for each in samples] == [each.text[0] for each in whole]
    assert "".join(letters.stream("a", max_time=1e-9, seed=1)) == samples[0].text


def test_time_that_is_over_shows_what_was_held_back(letters: Generator) -> None:
    first = letters.generate("a", max_new_tokens=1, seed=1).text
    sample = letters.generate("a", max_time=1e-9, seed=1, stop=first + "b")
    assert (sample.text, sample.finish_reason) == (first, "time")


def test_enough_time_changes_nothing(letters: Generator) -> None:
    options: dict[str, Any] = {"max_new_tokens": 9, "seed": 1}
    assert letters.generate("a", max_time=1000, **options) == letters.generate("a", **options)
    wrong: tuple[Any, ...] = (0, -1, "long")
    for value in wrong:
        with pytest.raises(UsageError, match="--max-time"):
            letters.generate("a", max_time=value)


# -- an event loop -----------------------------------------------------------------------------


def test_a_stream_for_an_event_loop(letters: Generator) -> None:
    options: dict[str, Any] = {"max_new_tokens": 20}
    expected = [list(letters.stream("a", seed=seed, **options)) for seed in (1, 2)]

    async def collect(seed: int) -> list[str]:
        return [piece async for piece in letters.stream_async("a", seed=seed, **options)]

    async def both() -> list[list[str]]:
        return list(await asyncio.gather(collect(1), collect(2)))

    assert asyncio.run(both()) == expected


def test_the_loop_goes_on_between_two_pieces(letters: Generator) -> None:
    async def count() -> tuple[int, str]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(tick())
        pieces = [piece async for piece in letters.stream_async("a", max_new_tokens=5, seed=1)]
        other.cancel()
        return ticks, "".join(pieces)

    ticks, text = asyncio.run(count())
    assert ticks >= 5
    assert text == letters.generate("a", max_new_tokens=5, seed=1).text


def test_a_stream_for_a_loop_complains_at_once(letters: Generator) -> None:
    with pytest.raises(VocabularyError):
        letters.stream_async("xyz")
    with pytest.raises(UsageError):
        letters.stream_async("a", top_k=0)


# -- several prompts ---------------------------------------------------------------------------


def test_several_prompts_have_the_samples_of_each_alone(letters: Generator) -> None:
    prompts = ["a", "abcdefghabc", "", "bc"]
    options: dict[str, Any] = {"max_new_tokens": 12, "seed": 5, "temperature": 1.5}
    found = list(letters.generate_many(prompts, 2, **options))
    expected = [
        letters.generate(prompt, **{**options, "seed": sample_seed(5, number)})
        for prompt in prompts
        for number in range(2)
    ]
    assert found == expected
    fresh = list(letters.generate_many(["a", "a"], max_new_tokens=9))
    assert fresh[0] == fresh[1]  # one seed for all


@pytest.mark.parametrize("max_numbers", [2**28, 2**11, 1], ids=["together", "by some", "alone"])
@pytest.mark.parametrize("name", ["gpt", "single-head"])
def test_many_prompts_within_the_memory(
    name: str, max_numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than rows, of all lengths, in their order; one that ends makes room."""
    monkeypatch.setattr(generator_module, "MAX_NUMBERS", max_numbers)
    monkeypatch.setattr(generator_module, "MAX_ROWS", 7)
    model = gpt() if name == "gpt" else create_model(name, 8, block_size=8)
    generator = Generator(model, LETTERS)
    prompts = [("abcdefgh" * 3)[: n * 7 % 23] for n in range(12)]
    options: dict[str, Any] = {
        "max_new_tokens": 12,
        "seed": 5,
        "temperature": 2.0,
        "stop": ("b", "cc", "eg"),
    }
    found = list(generator.generate_many(prompts, 3, **options))
    expected = [each for text in prompts for each in generator.generate_samples(text, 3, **options)]
    assert found == expected
    assert len({len(each.ids) for each in found}) > 1


@pytest.mark.parametrize("number", [0, 1, 3])
def test_many_texts_of_no_tokens(letters: Generator, number: int) -> None:
    found = list(letters.generate_many(["a"] * number, 2, max_new_tokens=0))
    assert [(each.text, each.finish_reason) for each in found] == [("", "length")] * 2 * number


def test_searches_of_many_prompts(letters: Generator) -> None:
    options: dict[str, Any] = {"strategy": "beam", "max_new_tokens": 7, "seed": 1}
    expected = [each for text in "abc" for each in letters.generate_samples(text, 2, **options)]
    assert list(letters.generate_many("abc", 2, **options)) == expected


def test_a_text_that_cannot_go_on_is_an_error(letters: Generator) -> None:
    texts = letters.generate_many(["a", "b"], sampler=Sampler([Nothing()]))
    with pytest.raises(ModelError, match="there is none to draw"):
        next(texts)


def test_a_wrong_prompt_is_refused_before_anything_is_computed(letters: Generator) -> None:
    with pytest.raises(VocabularyError):
        letters.generate_many(["a", "xyz"])
    with pytest.raises(UsageError, match="--num-samples 0"):
        letters.generate_many(["a"], 0)
    with pytest.raises(UsageError, match="--top-k"):
        letters.generate_many(["a"], top_k=0)


def test_prompts_from_files(tmp_path: Path) -> None:
    lines = tmp_path / "prompts.txt"
    lines.write_text("ROMEO:\n\n  two words\u2028one line \né\n", "utf-8")
    assert read_prompts(lines) == ["ROMEO:", "  two words\u2028one line ", "é"]
    rows = tmp_path / "prompts.jsonl"
    values = [{"prompt": "two\nlines", "id": 3}, "é", {"prompt": ""}]
    rows.write_text("\n".join(json.dumps(each) for each in values) + "\n\n", "utf-8")
    assert read_prompts(str(rows)) == ["two\nlines", "é", ""]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "cannot be read: No such file"),
        ("empty.txt", b"\n \n", "has no prompts: write one a line"),
        ("bad.txt", b"ab\xff", "is not UTF-8 (at offset 2)"),
        ("a.jsonl", b'"a"\n{', "line 2 is not JSON"),
        ("a.jsonl", b'{"text": "a"}', "line 1: expected a text, or an object such as"),
        ("a.jsonl", b"3", "line 1: expected a text"),
    ],
)
def test_files_that_are_none(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_prompts(path)
    assert message in str(caught.value)


# -- options that do not go together -----------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["stop", "max_time", "logprobs", "regex", "json_schema", "ignore_eos"]
)
def test_ids_have_no_options_of_text(letters: Generator, name: str) -> None:
    with pytest.raises(UsageError, match=f"generate_ids takes no {name}"):
        letters.generate_ids([1], **{name: "a"})


def test_ids_of_penalties_and_bias() -> None:
    generator = Generator(gpt(), LETTERS)
    ids = generator.generate_ids([3], max_new_tokens=7, no_repeat_ngram=1, seed=1)
    assert sorted([3, *ids]) == list(range(8))
    assert generator.generate_ids([3], max_new_tokens=5, logit_bias={2: 500.0}) == [2] * 5
    forced = generator.generate_ids([3], max_new_tokens=9, force=[7, 7, 7, 0], seed=1)
    assert forced[:4] == [7, 7, 7, 0]
    assert set(generator.generate_ids([3], max_new_tokens=60, forbid=[1, 2])) <= {0, 3, 4, 5, 6, 7}


def test_penalties_count_each_row_by_itself() -> None:
    generator = Generator(gpt(256), ByteTokenizer())
    options: dict[str, Any] = {"max_new_tokens": 20, "frequency_penalty": 3.0, "temperature": 2.0}
    samples = generator.generate_samples("ab", 5, seed=2, stop="\n", **options)
    alone = [generator.generate("ab", seed=each.seed, stop="\n", **options) for each in samples]
    assert samples == alone
