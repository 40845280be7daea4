"""Models and servers for the tests of this folder."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from live_server import LETTERS, Running, Start, running
from page_visits import PROMPT, TIMEOUT, Visit, visiting

from toolkit.generation import Generator
from toolkit.models import create_model
from toolkit.tokenizers import BPETokenizer


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def generator() -> Generator:
    """A small GPT whose weights are large enough for every token before to matter."""
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 64}
    model = create_model("gpt", LETTERS.vocab_size, seed=1, **shape)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    return Generator(model.eval(), LETTERS)


@pytest.fixture(scope="module")
def server(generator: Generator) -> Iterator[Running]:
    """One with the limits that servers have."""
    with running(generator) as found:
        yield found


@pytest.fixture
def start(generator: Generator) -> Iterator[Start]:
    """Start servers with limits of their own; they end with the test."""
    with ExitStack() as stack:
        yield lambda given=generator, **options: stack.enter_context(running(given, **options))


@pytest.fixture(scope="module")
def browser(browser: Any) -> Any:
    """Chromium, with the patience that a server takes."""
    from playwright import sync_api

    sync_api.expect.set_options(timeout=TIMEOUT)
    return browser


@pytest.fixture(scope="module")
def words() -> Generator:
    """A model whose tokens are words, letters and parts of characters, drawn almost at random."""
    tokenizer = BPETokenizer.train([PROMPT * 3 + "é😀"], vocab_size=300)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 64}
    model = create_model("gpt", tokenizer.vocab_size, seed=1, **shape)
    return Generator(model.eval(), tokenizer)


@pytest.fixture(scope="module")
def served(words: Generator) -> Iterator[Running]:
    with running(words) as found:
        yield found


@pytest.fixture
def visit(browser: Any, served: Running) -> Iterator[Visit]:
    with visiting(browser, served.url, reduced_motion="reduce") as found:
        yield found
