"""What the server writes, through OpenAI's own client: the text that the generator writes."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import torch
from live_server import LETTERS, Running, running

from toolkit.generation import Generator, sample_seed
from toolkit.models import create_model
from toolkit.tokenizers import ByteTokenizer


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with server.client() as found:
        yield found


# Options that OpenAI's client does not know.
OWN = {"top_k", "min_p", "repetition_penalty", "no_repeat_ngram", "regex", "json_schema"}


def complete(client: openai.OpenAI, **options: Any) -> Any:
    own = {name: options.pop(name) for name in OWN & options.keys()}
    return client.completions.create(model="tiny", extra_body=own, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 1.0},
        {"temperature": 1.3, "top_k": 5},
        {"top_p": 0.8},
        {"min_p": 0.1, "temperature": 2.0},
        {"temperature": 1.0, "presence_penalty": 1.5, "frequency_penalty": 0.5},
        {"temperature": 1.0, "repetition_penalty": 1.5, "no_repeat_ngram": 2},
        {"temperature": 1.0, "stop": ["a", "e"]},
    ],
)
def test_the_text_is_the_generators(
    client: openai.OpenAI, generator: Generator, options: dict[str, Any]
) -> None:
    for seed in range(3):
        found = complete(client, prompt="romeo", max_tokens=30, seed=seed, **options)
        same = options or {"temperature": 0.7}  # as `toolkit generate` has it
        expected = generator.generate("romeo", max_new_tokens=30, seed=seed, **same)
        assert found.choices[0].text == expected.text
        assert found.choices[0].seed == seed
        assert found.choices[0].ended_by == expected.finish_reason


def test_temperature_0_takes_the_likeliest_token_whatever_the_cutoffs(
    client: openai.OpenAI, generator: Generator
) -> None:
    expected = generator.generate("romeo", max_new_tokens=20, strategy="greedy").text
    for cutoffs in ({}, {"top_p": 0.5}, {"top_k": 3}):
        found = complete(client, prompt="romeo", max_tokens=20, temperature=0, **cutoffs)
        assert found.choices[0].text == expected


def test_a_bias_of_100_is_an_order(client: openai.OpenAI) -> None:
    (z,) = LETTERS.encode("z")
    found = complete(client, prompt="a", max_tokens=4, logit_bias={str(z): 100})
    assert found.choices[0].text == "zzzz"


def test_the_form_of_a_response(client: openai.OpenAI) -> None:
    found = complete(client, prompt="romeo", max_tokens=7)
    assert found.object == "text_completion"
    assert found.id.startswith("cmpl-")
    assert found.model == "tiny"
    assert found.choices[0].finish_reason == "length"
    assert found.choices[0].logprobs is None
    assert found.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 5,
        "completion_tokens": 7,
        "total_tokens": 12,
    }
    assert len(complete(client, prompt="romeo").choices[0].text) == 16  # OpenAI's default
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "toolkit"


def test_several_prompts_with_several_texts_each(
    client: openai.OpenAI, generator: Generator
) -> None:
    options = {"temperature": 1.0, "seed": 5}
    found = complete(client, prompt=["ab", "romeo"], n=3, max_tokens=9, **options)
    expected = list(generator.generate_many(["ab", "romeo"], 3, max_new_tokens=9, **options))
    assert [choice.index for choice in found.choices] == list(range(6))
    assert [choice.text for choice in found.choices] == [each.text for each in expected]
    assert [choice.seed for choice in found.choices] == [sample_seed(5, i) for i in (0, 1, 2)] * 2
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (7, 54)
    assert len({choice.text for choice in found.choices}) == 6

    ids = [LETTERS.encode("ab"), LETTERS.encode("romeo")]
    of_ids = complete(client, prompt=ids, n=3, max_tokens=9, echo=True, **options)
    assert [choice.text for choice in of_ids.choices] == [
        each.prompt + each.text for each in expected
    ]
    one = complete(client, prompt=ids[1], max_tokens=9, best_of=1, **options)
    assert one.choices[0].text == expected[3].text


def test_an_empty_prompt_begins_a_text(client: openai.OpenAI, generator: Generator) -> None:
    found = complete(client, prompt="", max_tokens=9, seed=1, temperature=1, echo=True, logprobs=0)
    expected = generator.generate("", max_new_tokens=9, seed=1, temperature=1.0).text
    assert found.choices[0].text == expected
    # The line break that the model starts from is no part of the text, and of its tokens neither.
    assert "".join(found.choices[0].logprobs.tokens) == expected


@pytest.mark.parametrize("prompt", ["romeo", "romeo and juliet, says".replace(",", "") * 9])
def test_logprobs_of_prompt_and_text_are_the_models(
    client: openai.OpenAI, generator: Generator, prompt: str
) -> None:
    """Against one pass of the model over all of it, where that fits into its context."""
    found = complete(client, prompt=prompt, max_tokens=12, echo=True, logprobs=3, seed=1)
    choice = found.choices[0]
    table = choice.logprobs
    assert choice.text.startswith(prompt)
    ids = LETTERS.encode(choice.text)
    assert "".join(table.tokens) == choice.text
    assert table.text_offset == list(range(len(ids)))
    assert table.token_logprobs[0] is table.top_logprobs[0] is None
    assert all(len(top) == 3 for top in table.top_logprobs[1:])
    if len(ids) > 64:  # in windows half a context apart: the first is that of one pass
        ids = ids[:64]
    with torch.inference_mode():
        log_p = generator.model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
    for place, token_id in enumerate(ids[1:], 1):
        row = log_p[place - 1]
        # float32, computed in batches of another shape
        assert table.token_logprobs[place] == pytest.approx(float(row[token_id]), abs=1e-4)
        expected = {LETTERS.decode([i]): float(row[i]) for i in row.topk(3).indices.tolist()}
        assert table.top_logprobs[place] == pytest.approx(expected, abs=1e-4)


def test_a_prompt_can_be_scored_without_a_text(client: openai.OpenAI) -> None:
    found = complete(client, prompt="romeo", max_tokens=0, echo=True, logprobs=0)
    assert found.choices[0].text == "romeo"
    assert len(found.choices[0].logprobs.token_logprobs) == 5
    assert found.choices[0].logprobs.top_logprobs is None
    assert found.usage.completion_tokens == 0
    assert complete(client, prompt="romeo", max_tokens=0).choices[0].text == ""


def joined(chunks: Any) -> dict[int, dict[str, Any]]:
    """The texts of a stream, as they are in a response."""
    found: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            text = found.setdefault(choice.index, {"text": "", "tokens": [], "offsets": []})
            assert text.get("finish_reason") is None, "nothing comes after the end"
            text["text"] += choice.text
            text["finish_reason"] = choice.finish_reason
            if choice.logprobs is not None:
                text["tokens"] += choice.logprobs.tokens
                text["offsets"] += choice.logprobs.text_offset
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "romeo"},
        {"prompt": ["romeo", "ab"], "n": 2, "logprobs": 1},
        {"prompt": "romeo", "echo": True, "logprobs": 1},
        {"prompt": "romeo", "stop": ["ab", "e", "xy", "q"], "logprobs": 1, "n": 8},
        {"prompt": "ab", "max_tokens": 0, "echo": True},
    ],
)
def test_a_stream_is_the_response_in_pieces(client: openai.OpenAI, options: dict[str, Any]) -> None:
    options = {"max_tokens": 25, "seed": 3, "temperature": 1.0, **options}
    whole = complete(client, **options)
    texts = joined(complete(client, stream=True, **options))
    assert sorted(texts) == [choice.index for choice in whole.choices]
    for choice in whole.choices:
        text = texts[choice.index]
        assert text["text"] == choice.text
        assert text["finish_reason"] == choice.finish_reason
        if choice.logprobs is not None:
            assert text["tokens"] == choice.logprobs.tokens
            assert text["offsets"] == choice.logprobs.text_offset


def test_the_events_of_a_stream(server: Running) -> None:
    body = {
        "prompt": "romeo",
        "max_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    response = server.post(body)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = response.text.split("\n\n")
    assert events.pop() == ""
    assert events.pop() == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 5
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_a_stop_string_is_not_shown_nor_are_its_tokens(
    client: openai.OpenAI, generator: Generator
) -> None:
    text = generator.generate("romeo", max_new_tokens=40, seed=2, temperature=1.0).text
    stop = text[10:13]
    cut = text[: text.index(stop)]
    options = {"prompt": "romeo", "max_tokens": 40, "seed": 2, "temperature": 1.0}
    choice = complete(client, stop=stop, logprobs=0, **options).choices[0]
    assert (choice.text, choice.finish_reason, choice.ended_by) == (cut, "stop", "stop")
    assert "".join(choice.logprobs.tokens) == cut
    pieces = complete(client, stop=stop, logprobs=0, stream=True, **options)
    assert joined(pieces)[0]["text"] == cut


def test_text_that_matches(client: openai.OpenAI) -> None:
    found = complete(client, prompt="romeo", regex="(abc|xyz)+\\.", n=4, max_tokens=60)
    for choice in found.choices:
        assert choice.finish_reason == "stop", choice.text
        assert choice.text.replace("abc", "").replace("xyz", "") == "."


def test_bytes_of_a_character_come_together() -> None:
    """Each letter of Greek is two bytes: tokens alone are none, text is whole."""
    tokenizer = ByteTokenizer()
    generator = Generator(create_model("bigram", 256, seed=1), tokenizer)
    with running(generator) as server, server.client() as client:
        options = {"prompt": "a", "regex": "[αβγ]{3}", "max_tokens": 6, "logprobs": 0}
        whole = complete(client, **options, seed=1).choices[0]
        assert len(whole.text) == 3
        assert set(whole.text) <= set("αβγ")
        assert whole.logprobs.tokens[0] == r"bytes:\xce"
        assert whole.logprobs.text_offset == [0, 0, 1, 1, 2, 2]
        chunks = list(complete(client, **options, seed=1, stream=True))
        assert [chunk.choices[0].text for chunk in chunks] == list(whole.text)
        schema = {"enum": ["yes", {"no": 1}]}
        found = complete(client, prompt="", json_schema=schema, max_tokens=30)
        assert json.loads(found.choices[0].text) in schema["enum"]


def test_a_prompt_longer_than_the_context_slides_or_is_refused(
    server: Running, generator: Generator
) -> None:
    body = {"prompt": "romeo " * 20, "max_tokens": 10, "seed": 1}
    expected = generator.generate("romeo " * 20, max_new_tokens=10, seed=1, temperature=0.7).text
    assert server.post(body).json()["choices"][0]["text"] == expected
    strict = Generator(generator.model, LETTERS, context_policy="error")
    with running(strict) as other:
        response = other.post(body)
        assert response.status_code == 400
        assert "do not fit" in response.json()["error"]["message"]


def test_health_and_metrics_count(start: Any) -> None:
    server: Running = start()
    assert server.http.get("/health").json() == {"status": "ok", "model": "tiny"}
    server.post({"prompt": "romeo", "max_tokens": 7, "n": 2})
    server.post({"prompt": "romeo", "regex": "("})
    assert server.metric("toolkit_requests_total", outcome="done") == 1
    assert server.metric("toolkit_requests_total", outcome="refused") == 1
    assert server.metric("toolkit_generated_tokens_total") == 14
    assert server.metric("toolkit_prompt_tokens_total") == 5
    assert server.metric("toolkit_first_token_seconds_count") == 1
    assert server.metric("toolkit_tokens_per_second_count") == 2
    assert server.metric("toolkit_queue_length") == server.metric("toolkit_active_rows") == 0
