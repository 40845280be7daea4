"""Many requests at once: whose turn it is, who is refused, who is let go, and how it all ends."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest
import torch
from live_server import LETTERS, Running, Start

from toolkit.generation import Generator
from toolkit.models import create_model

# Tokens that take long; no test waits for the last of them.
MANY = 20_000
LONG = {"prompt": "romeo", "max_tokens": MANY, "stream": True}


@contextmanager
def streaming(server: Running, **options: Any) -> Iterator[Iterator[str]]:
    """A request that is being answered: its lines. The client leaves with the block."""
    url = f"{server.url}/v1/completions"
    with httpx.stream("POST", url, json={**LONG, **options}, timeout=30) as response:
        lines = response.iter_lines()
        assert response.status_code == 200
        assert next(lines).startswith("data: ")
        yield lines


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for it; whether it comes at all is what is tested, not how fast the machine is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_twelve_clients_are_not_mixed_up(server: Running, generator: Generator) -> None:
    """Each has the text that it has alone, with its own prompt, options and seed."""
    cases: list[dict[str, Any]] = [
        {
            "prompt": "romeo juliet tybalt"[: 3 + number],
            "max_tokens": 20 + 5 * (number % 4),
            "seed": number,
            "temperature": 0.5 + 0.25 * (number % 3),
            "top_p": 0.9 if number % 2 else 1.0,
        }
        for number in range(12)
    ]

    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="-") as client:

            async def one(case: dict[str, Any]) -> str:
                stream = await client.completions.create(model="tiny", stream=True, **case)
                return "".join([chunk.choices[0].text async for chunk in stream])

            return await asyncio.gather(*map(one, cases))

    found = asyncio.run(ask())
    for case, text in zip(cases, found, strict=True):
        expected = generator.generate(
            case["prompt"],
            max_new_tokens=case["max_tokens"],
            seed=case["seed"],
            temperature=case["temperature"],
            top_p=case["top_p"],
        )
        assert text == expected.text
    assert len(set(found)) == 12


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_rows(start: Start, stream: bool) -> None:
    server = start(limits={"max_new_tokens": MANY, "max_rows": 4})
    body = {**LONG, "n": 4, "stream": stream, "logprobs": 0}
    gone = threading.Event()

    async def leave() -> None:
        async with httpx.AsyncClient() as client:
            url = f"{server.url}/v1/completions"
            task = asyncio.create_task(client.post(url, json=body, timeout=30))
            while not gone.is_set():
                await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.wait([task])

    client = threading.Thread(target=asyncio.run, args=(leave(),))
    client.start()
    until(lambda: server.metric("toolkit_active_rows") == 4)
    gone.set()
    client.join()
    until(lambda: server.metric("toolkit_active_rows") == 0)
    assert server.metric("toolkit_requests_total", outcome="cancelled") == 1
    assert server.metric("toolkit_requests_total", outcome="done") == 0
    assert server.metric("toolkit_generated_tokens_total") < 4 * MANY
    assert server.post({"prompt": "romeo", "n": 4}).status_code == 200


def test_a_client_that_leaves_the_queue_is_forgotten(start: Start) -> None:
    server = start(limits={"max_new_tokens": MANY, "max_rows": 1})
    with streaming(server):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/v1/completions", json=LONG, timeout=0.3)
        until(lambda: server.metric("toolkit_queue_length") == 0)
        assert server.metric("toolkit_requests_total", outcome="cancelled") == 1


def test_a_full_queue_refuses(start: Start) -> None:
    server = start(limits={"max_new_tokens": MANY, "max_rows": 1, "max_queue": 2})
    with ThreadPoolExecutor() as pool:
        with streaming(server):
            waiting = [pool.submit(server.post, {"prompt": "romeo"}) for _ in range(2)]
            until(lambda: server.metric("toolkit_queue_length") == 2)
            refused = server.post({"prompt": "romeo"})
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "1"
            error = refused.json()["error"]
            assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")
            assert "2 requests are waiting" in error["message"]
            with server.client() as client, pytest.raises(openai.RateLimitError):
                client.completions.create(model="tiny", prompt="a")
        # The one before them has left: those that waited have their turn.
        assert [each.result().status_code for each in waiting] == [200, 200]


def test_first_come_first_served_and_nobody_starves(start: Start) -> None:
    """A request for all rows is not overtaken by small ones that would fit."""
    server = start(limits={"max_new_tokens": MANY, "max_rows": 2})
    order: list[str] = []

    def ask(name: str, **options: Any) -> None:
        assert server.post({"prompt": "romeo", "max_tokens": 4, **options}).status_code == 200
        order.append(name)

    with ThreadPoolExecutor() as pool, streaming(server):
        waiting = [pool.submit(ask, "both rows", n=2)]
        until(lambda: server.metric("toolkit_queue_length") == 1)
        waiting.append(pool.submit(ask, "one row"))
        until(lambda: server.metric("toolkit_queue_length") == 2)
        time.sleep(0.2)
        assert order == []  # a row is free, and whose turn it is needs two
        assert server.metric("toolkit_active_rows") == 1
    for each in waiting:
        each.result()
    assert order == ["both rows", "one row"]


def test_a_text_ends_when_the_time_of_its_request_is_over(start: Start) -> None:
    server = start(limits={"max_new_tokens": MANY, "timeout": 1.0})
    for found in server.post({**LONG, "n": 8, "stream": False}).json()["choices"]:
        assert (found["finish_reason"], found["ended_by"]) == ("length", "time")
        assert 0 < len(found["text"]) < MANY


def test_a_request_that_waits_too_long_is_told(start: Start) -> None:
    # Four prompts and one row: the last ones have no turn within the time of their request.
    server = start(limits={"max_new_tokens": MANY, "max_rows": 1, "timeout": 1.0})
    body = {"prompt": ["romeo"] * 4, "max_tokens": MANY}
    response = server.post(body)
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "timeout"
    assert server.metric("toolkit_requests_total", outcome="timeout") == 1
    streamed = server.post({**body, "stream": True}).text.strip().split("\n\n")
    assert json.loads(streamed[-2].removeprefix("data: "))["error"]["code"] == "timeout"
    assert streamed[-1] == "data: [DONE]"


def test_the_end_gives_texts_time_and_then_says_so(start: Start) -> None:
    server = start(limits={"max_new_tokens": MANY, "max_rows": 1, "grace": 0.3})
    with ThreadPoolExecutor() as pool, streaming(server) as lines:
        waiting = pool.submit(server.post, {"prompt": "romeo"})
        until(lambda: server.metric("toolkit_queue_length") == 1)
        server.server.should_exit = True
        refused = waiting.result()
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "shutting_down"
        events = [line for line in lines if line]
    assert events[-1] == "data: [DONE]"
    error = json.loads(events[-2].removeprefix("data: "))["error"]
    assert (error["type"], error["code"]) == ("server_error", "shutting_down")
    assert len(events) > 2  # it went on for a while


def test_a_short_text_is_finished_at_the_end(start: Start) -> None:
    server = start(limits={"max_new_tokens": MANY, "grace": 20.0})
    with streaming(server, max_tokens=300) as lines:
        server.server.should_exit = True
        events = [line for line in lines if line]
    assert json.loads(events[-2].removeprefix("data: "))["choices"][0]["ended_by"] == "length"


def test_a_model_that_computes_no_numbers_fails_its_requests_alone(start: Start) -> None:
    model = create_model("bigram", LETTERS.vocab_size, seed=1)
    with torch.no_grad():
        model.table.weight[LETTERS.encode("q")] = float("nan")
    server = start(Generator(model, LETTERS), limits={"max_new_tokens": MANY})
    with streaming(server, logit_bias={str(LETTERS.encode("q")[0]): -100}) as lines:
        response = server.post({"prompt": "q"})
        assert response.status_code == 500
        assert response.json()["error"]["type"] == "server_error"
        echoed = server.post({"prompt": "qa", "echo": True, "logprobs": 0})
        assert echoed.status_code == 500
        assert "choices" in json.loads([next(lines) for _ in range(2)][1].removeprefix("data: "))
    assert server.metric("toolkit_requests_total", outcome="failed") == 2


def test_the_server_goes_on_after_a_failure_that_nobody_has_foreseen(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    model = create_model("bigram", LETTERS.vocab_size, seed=1)
    fails = [False, True, False]

    def hook(*_: object) -> None:
        if fails.pop(0) if fails else False:
            raise RuntimeError("out of memory")

    model.register_forward_hook(hook)
    server = start(Generator(model, LETTERS))
    with caplog.at_level(logging.ERROR, logger="toolkit"):
        failed = server.post({"prompt": "romeo"})
    assert failed.status_code == 500
    assert failed.json()["error"]["message"] == (
        "The server failed at this request; its log says why."
    )
    assert "out of memory" in caplog.text
    assert server.post({"prompt": "romeo"}).status_code == 200
    assert server.metric("toolkit_active_rows") == 0
