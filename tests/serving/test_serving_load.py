"""Fifty clients at once, more than there are rows: everybody gets the text that is theirs."""

import asyncio
import gc
import json
from collections import Counter

import httpx
import pytest
from live_server import Start

from toolkit.generation import Generator, Text
from toolkit.serving.tickets import Ticket

CLIENTS, TOKENS, WAVES = 50, 24, 3


def kept() -> Counter[str]:
    """What of requests is still in memory."""
    gc.collect()
    return Counter(kind.__name__ for kind in map(type, gc.get_objects()) if kind in (Ticket, Text))


@pytest.mark.slow
def test_fifty_streams_at_once(start: Start, generator: Generator) -> None:
    server = start()
    expected = [
        generator.generate(
            "romeo and juliet"[: 1 + client % 16],
            max_new_tokens=TOKENS,
            seed=client,
            temperature=1.0,
        ).text
        for client in range(CLIENTS)
    ]

    async def one(http: httpx.AsyncClient, client: int) -> str:
        body = {
            "prompt": "romeo and juliet"[: 1 + client % 16],
            "max_tokens": TOKENS,
            "seed": client,
            "temperature": 1.0,
            "stream": True,
        }
        async with http.stream("POST", f"{server.url}/v1/completions", json=body) as response:
            lines = [line async for line in response.aiter_lines() if line]
        assert lines.pop() == "data: [DONE]"
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
        return "".join(chunk["choices"][0]["text"] for chunk in chunks)

    async def wave() -> list[str]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=120, limits=limits) as http:
            return await asyncio.gather(*(one(http, client) for client in range(CLIENTS)))

    before = kept()
    for _ in range(WAVES):
        assert asyncio.run(wave()) == expected
    assert server.metric("toolkit_requests_total", outcome="done") == WAVES * CLIENTS
    assert server.metric("toolkit_generated_tokens_total") == WAVES * CLIENTS * TOKENS
    assert server.metric("toolkit_active_rows") == server.metric("toolkit_queue_length") == 0
    # All of it is forgotten but what the last round of the scheduler may hold.
    assert (kept() - before).total() <= 1
