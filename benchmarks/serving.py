"""Many clients of one server at once: how fast, how fairly, how much memory, and nothing mixed up.

    python benchmarks/serving.py
    python benchmarks/serving.py --clients 50 --tokens 64 --waves 5 --size micro

A model with random weights is served by a process of its own, as `toolkit serve` does it. In each
wave all clients begin together; each streams a text of its own prompt and seed, which must be what
the model writes for it alone. What is shown:

- tokens a second of all clients together, and of the same texts one after the other without a
  server, in the same run;
- seconds to the first token;
- fairness: the slowest client's tokens a second over the fastest's;
- the server's memory after each wave.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import torch
from measuring import machine

from toolkit.generation import Generator
from toolkit.models import create_model
from toolkit.serving import Limits, listen, make_app, run_server, url_of
from toolkit.tokenizers import CharTokenizer

LETTERS = CharTokenizer("abcdefghijklmnopqrstuvwxyz .\n")


@dataclass(frozen=True)
class Settings:
    """What is served, and to how many."""

    clients: int
    tokens: int
    waves: int
    rows: int
    size: str
    block_size: int
    threads: int


@dataclass(frozen=True)
class Heard:
    """What a client got: its text, and after how many seconds its first and its last token came."""

    text: str
    first: float
    last: float
    tokens: int

    @property
    def rate(self) -> float:
        """Tokens a second from the request to the end."""
        return self.tokens / self.last


def make_generator(settings: Settings) -> Generator:
    torch.set_num_threads(settings.threads)
    options = {"size": settings.size, "block_size": settings.block_size, "seed": 1}
    return Generator(create_model("gpt", LETTERS.vocab_size, **options).eval(), LETTERS)


def serve(settings: Settings, ready: Connection) -> None:
    """The server's process."""
    app = make_app(
        make_generator(settings),
        name="model",
        limits=Limits(max_rows=settings.rows, max_queue=settings.clients),
    )
    with listen("127.0.0.1", 0) as listening:
        run_server(app, listening, on_ready=lambda: ready.send(url_of(listening)))


@contextmanager
def server(settings: Settings) -> Iterator[tuple[str, int]]:
    """A server's address and its process id, while the block lasts."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(settings, theirs))
    process.start()
    try:
        if not ours.poll(120):
            raise SystemExit("The server did not begin within two minutes.")
        assert process.pid is not None
        yield ours.recv(), process.pid
    finally:
        process.terminate()
        process.join(30)


def memory_of(pid: int) -> int:
    """The bytes of memory that a process holds now (Linux), or 0 where nobody says."""
    status = Path(f"/proc/{pid}/status")
    held = re.search(r"VmRSS:\s*(\d+) kB", status.read_text()) if status.exists() else None
    return 0 if held is None else int(held[1]) * 1024


def request_of(client: int, settings: Settings) -> dict[str, Any]:
    """Each client has another prompt and another seed; prompts are of different lengths."""
    prompt = ("to be or not to be that is the question " * 2)[client % 20 :][: 5 + client % 30]
    return {
        "prompt": prompt,
        "max_tokens": settings.tokens,
        "seed": client,
        "temperature": 1.0,
        "stream": True,
    }


async def ask(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> Heard:
    start = time.perf_counter()
    pieces: list[str] = []
    times: list[float] = []
    async with client.stream("POST", f"{url}/v1/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line or line == "data: [DONE]":
                continue
            pieces += [each["text"] for each in json.loads(line[len("data: ") :])["choices"]]
            times.append(time.perf_counter() - start)
    return Heard("".join(pieces), times[0], times[-1], body["max_tokens"])


async def one_wave(url: str, settings: Settings) -> tuple[list[Heard], float]:
    """What all clients got, and how long it took altogether."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=600) as client:
        start = time.perf_counter()
        bodies = [request_of(number, settings) for number in range(settings.clients)]
        heard = await asyncio.gather(*(ask(client, url, body) for body in bodies))
        return list(heard), time.perf_counter() - start


def texts_alone(settings: Settings) -> tuple[list[str], float]:
    """What each client should get, made one after the other, and how long that took."""
    generator = make_generator(settings)
    start = time.perf_counter()
    texts = []
    for number in range(settings.clients):
        body = request_of(number, settings)
        options = {"seed": body["seed"], "temperature": body["temperature"]}
        made = generator.generate(body["prompt"], max_new_tokens=settings.tokens, **options)
        texts.append(made.text)
    return texts, time.perf_counter() - start


def figures(heard: list[Heard], seconds: float, expected: list[str]) -> dict[str, float]:
    """The numbers of a wave."""
    firsts = sorted(each.first for each in heard)
    rates = sorted(each.rate for each in heard)
    return {
        "tokens_per_second": sum(each.tokens for each in heard) / seconds,
        "first_token_p50": statistics.median(firsts),
        "first_token_p95": firsts[round(0.95 * (len(firsts) - 1))],
        "first_token_max": firsts[-1],
        "fairness": rates[0] / rates[-1],
        "wrong_texts": sum(each.text != text for each, text in zip(heard, expected, strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--waves", type=int, default=6)
    parser.add_argument("--rows", type=int, default=32, help="texts that are written side by side")
    parser.add_argument("--size", default="micro")
    parser.add_argument("--block-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    settings_and_json = vars(parser.parse_args())
    as_json = settings_and_json.pop("json")
    settings = Settings(**settings_and_json)
    expected, alone = texts_alone(settings)
    rows: list[dict[str, float]] = []
    with server(settings) as (url, pid):
        before = memory_of(pid)
        for _ in range(settings.waves):
            heard, seconds = asyncio.run(one_wave(url, settings))
            rows.append({**figures(heard, seconds, expected), "memory": memory_of(pid)})
    one_by_one = settings.clients * settings.tokens / alone
    if as_json:
        report = {
            "settings": vars(settings),
            "machine": machine(),
            "one_by_one": one_by_one,
            "memory_before": before,
            "waves": rows,
            "load": os.getloadavg(),
        }
        print(json.dumps(report, indent=2))
    else:
        print(table(settings, rows, one_by_one, before))
    if any(row["wrong_texts"] for row in rows):
        raise SystemExit("Some clients got another text than alone.")


def table(
    settings: Settings, rows: list[dict[str, float]], one_by_one: float, before: float
) -> str:
    """The numbers of each wave, for people."""
    lines = [
        f"{settings.clients} clients, {settings.tokens} tokens each, {settings.rows} rows, gpt "
        f"{settings.size}; one by one without a server {one_by_one:,.0f} tokens/s; memory before "
        f"{before / 1e6:,.0f} MB; load {os.getloadavg()[0]:.1f}",
        "wave  tokens/s  × one by one  first token p50     p95     max  slowest/fastest  wrong  MB",
    ]
    for number, row in enumerate(rows, 1):
        lines.append(
            f"{number:4}  {row['tokens_per_second']:8,.0f}  "
            f"{row['tokens_per_second'] / one_by_one:12.2f}  {row['first_token_p50']:14.2f}s  "
            f"{row['first_token_p95']:5.2f}s  {row['first_token_max']:5.2f}s "
            f"{row['fairness']:16.2f}  {row['wrong_texts']:5.0f}  {row['memory'] / 1e6:3,.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
