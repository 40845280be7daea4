"""Text that matches: every finished one does, whatever the model prefers."""

import json
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import MissingExtraError, UsageError
from toolkit.generation import Context, Generator, Sampler, TopK, matching_regex
from toolkit.generation.constraints import Constraint
from toolkit.models import BigramConfig, BigramModel
from toolkit.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer, Tokenizer

pytest.importorskip("llguidance")

END = "<|endoftext|>"
BYTES = ByteTokenizer(special_tokens=[END])
BPE = BPETokenizer.train(
    ['{"name": "ab", "age": 12, "tags": [true, null]} aaab abab cab é😀 hello 123'], vocab_size=280
)


def generator(tokenizer: Tokenizer, seed: int = 0) -> Generator:
    """A model that prefers other tokens after each token."""
    model = BigramModel(BigramConfig(tokenizer.vocab_size, block_size=4))
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.table.weight.copy_(2 * torch.randn(model.table.weight.shape, generator=source))
    return Generator(model, tokenizer)


PATTERNS = [
    r"[a-c]{2,5}d?",
    r"(yes|no|maybe)[.!?]",
    r"[0-9]{4}-(0[1-9]|1[0-2])",
    r"[^a-z\n]{3}",
    r"é+😀",
    r"(a|b(c|d(e|f)))+g",
]


@settings(max_examples=40, deadline=None)
@given(pattern=st.sampled_from(PATTERNS), seed=st.integers(0, 2**20), small=st.booleans())
def test_every_finished_text_matches(pattern: str, seed: int, small: bool) -> None:
    """With an end token the model says where it ends; without one, the text where nothing fits."""
    tokenizer: Tokenizer = BYTES if small else BPE
    sample = generator(tokenizer, seed % 7).generate("x", regex=pattern, seed=seed)
    if sample.finish_reason == "length":
        assert "+" in pattern  # it may go on for ever
    else:
        assert re.fullmatch(pattern, sample.text), sample


SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 5},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    {"type": "array", "items": {"enum": ["red", "green", 7, None]}, "minItems": 1, "maxItems": 3},
    {"type": "boolean"},
    {"type": "integer", "minimum": -5, "maximum": 40},
]


@settings(max_examples=40, deadline=None)
@given(number=st.integers(0, 3), seed=st.integers(0, 2**20), small=st.booleans())
def test_every_finished_text_is_of_the_schema(number: int, seed: int, small: bool) -> None:
    tokenizer: Tokenizer = BYTES if small else BPE
    sample = generator(tokenizer, seed % 5).generate("x", json_schema=SCHEMAS[number], seed=seed)
    assert sample.finish_reason in ("complete", "eos")
    value = json.loads(sample.text)
    assert json.dumps(value, ensure_ascii=False) == sample.text or "\\" in sample.text
    if number == 0:
        assert list(value) == ["name", "age"]
        assert len(value["name"]) <= 5
        assert 0 <= value["age"] <= 120
    elif number == 1:
        assert 1 <= len(value) <= 3
        assert all(each in ("red", "green", 7, None) for each in value)
    elif number == 2:
        assert isinstance(value, bool)
    else:
        assert isinstance(value, int)
        assert -5 <= value <= 40


def test_the_allowed_tokens_are_those_that_can_still_match() -> None:
    """Of characters, against trying every continuation by hand."""
    tokenizer = CharTokenizer("abcd")
    constraint = matching_regex("ab?(c|dd)", tokenizer)
    endings = ["abc", "ac", "abdd", "add"]
    for text in ("", "a", "ab", "abd", "ad"):
        row = Context([0], tokenizer.encode(text))
        allowed = constraint(torch.zeros(1, 4), [row])[0] == 0
        expected = [any(each.startswith(text + char) for each in endings) for char in "abcd"]
        assert allowed.tolist() == expected, text
        assert not constraint.is_complete(row)
    assert all(constraint.is_complete(Context([0], tokenizer.encode(text))) for text in endings)


def test_the_model_decides_within_the_pattern() -> None:
    # Of [ab] the likelier one, though "c" is the likeliest of all.
    tokenizer = CharTokenizer("abc")
    model = BigramModel(BigramConfig(3, block_size=4))
    with torch.no_grad():
        model.table.weight.copy_(torch.tensor([[0.0, 1.0, 9.0]] * 3))
    sample = Generator(model, tokenizer).generate("a", regex="[ab]{4}", strategy="greedy")
    assert (sample.text, sample.finish_reason) == ("bbbb", "complete")


def test_a_growing_row_gives_what_a_fresh_one_gives() -> None:
    constraint = matching_regex(r"(a|b(c|d(e|f)))+g", BYTES)
    row = Context([0])
    for char in b"abcbdeg":
        fresh = Context([0], list(row.new_ids))
        logits = torch.zeros(1, BYTES.vocab_size)
        assert torch.equal(constraint(logits, [row]), constraint(logits, [fresh]))
        row.new_ids.append(char)
    assert constraint.is_complete(row)


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 1},
        {"strategy": "beam", "num_beams": 3},
        {"repetition_penalty": 2.0, "logprobs": 2},
        {"draft": generator(BYTES, 3).model},
        {"force": list(b"be")},
    ],
)
def test_it_goes_with_other_options(options: dict[str, Any]) -> None:
    for seed in range(5):
        sample = generator(BYTES).generate("x", regex="(ab|be)[0-9]{2,3}", seed=seed, **options)
        assert re.fullmatch("(ab|be)[0-9]{2,3}", sample.text)
        if "force" in options:
            assert sample.text.startswith("be")


def test_samples_and_streams_are_those_of_generate() -> None:
    source = generator(BPE)
    samples = source.generate_samples("x", 4, regex="[a-c]{2,5}d?", seed=1)
    for sample in samples:
        again = source.generate("x", regex="[a-c]{2,5}d?", seed=sample.seed)
        assert again == sample
        pieces = source.stream("x", regex="[a-c]{2,5}d?", seed=sample.seed)
        assert "".join(pieces) == sample.text


def test_an_end_token_that_is_ignored_ends_nothing() -> None:
    sample = generator(BYTES).generate("x", regex="a+", ignore_eos=True, max_new_tokens=30, seed=0)
    assert (sample.text, sample.finish_reason) == ("a" * 30, "length")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regex": "a("}, "--regex 'a(': unclosed group."),
        ({"regex": "(?<=a)b"}, "--regex '(?<=a)b': look-around, including look-ahead and look-"),
        ({"regex": ""}, "--regex '' must be a pattern of at least one character"),
        ({"regex": "a", "json_schema": {}}, "--regex and --json-schema exclude each other"),
        ({"json_schema": "{"}, "--json-schema is not JSON: "),
        ({"json_schema": "[]"}, "--json-schema must be a JSON object"),
        ({"json_schema": {"type": "nonsense"}}, "--json-schema: Invalid type: nonsense."),
        ({"regex": "ab", "force": [99]}, "--regex 'ab': other options rule out every token"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        generator(BYTES).generate("x", **options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_that_cannot_write_it() -> None:
    with pytest.raises(UsageError, match="no token of the tokenizer goes on from"):
        generator(CharTokenizer("ab")).generate("a", regex="abc")


def test_a_constraint_in_a_sampler_of_ones_own() -> None:
    constraint = matching_regex("[ab]c", BYTES)
    assert isinstance(constraint, Constraint)
    sampler = Sampler([constraint, TopK(1)])
    sample = generator(BYTES).generate("x", sampler=sampler)
    assert sample.text in ("ac", "bc")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'toolkit\[constrain\]'"):
        generator(BYTES).generate("x", regex="a")
