"""A real server in a thread, and how to ask it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai

from toolkit.generation import Generator
from toolkit.serving import Limits, listen, make_app, url_of
from toolkit.serving.server import Server
from toolkit.tokenizers import CharTokenizer

LETTERS = CharTokenizer("abcdefghijklmnopqrstuvwxyz .\n")


@dataclass
class Running:
    """A server that answers, and how to ask it."""

    url: str
    server: Server
    http: httpx.Client  # one for all: to make one takes longer than most requests

    def client(self, api_key: str = "any") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=api_key, max_retries=0)

    def post(self, body: object, **options: Any) -> httpx.Response:
        return self.http.post("/v1/completions", json=body, **options)

    def metric(self, name: str, **labels: str) -> float:
        """A number of /metrics."""
        inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
        wanted = f"{name}{{{inner}}}" if inner else name
        for line in self.http.get("/metrics").text.splitlines():
            key, _, value = line.rpartition(" ")
            if key == wanted:
                return float(value)
        raise AssertionError(f"no metric {wanted}")


@contextmanager
def running(generator: Generator, **options: Any) -> Iterator[Running]:
    """Serve a generator while the block lasts."""
    limits = Limits(**options.pop("limits", {}))
    app = make_app(generator, name="tiny", limits=limits, **options)
    listening: socket.socket = listen("127.0.0.1", 0)
    ready = threading.Event()
    server = Server(app, on_ready=ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        url = url_of(listening)
        with httpx.Client(base_url=url, timeout=30) as http:
            yield Running(url, server, http)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


Start = Callable[..., Running]
