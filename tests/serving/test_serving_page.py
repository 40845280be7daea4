"""What docs/serving.md shows is what happens."""

import re
from pathlib import Path

import pytest
from live_server import LETTERS, Running
from pydantic import BaseModel

from toolkit.generation import Generator
from toolkit.serving import Limits
from toolkit.serving.api import CompletionRequest
from toolkit.serving.metrics import Metrics

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")


def test_the_client_on_the_page(
    server: Running, generator: Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is printed, but for the address, the model and prompts that it has letters for."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for old, new in (
        ("http://localhost:8000", server.url),
        ('"small"', '"tiny"'),
        ('"JULIET:"', '"juliet"'),
        ('"ROMEO:", max_tokens=40', '"romeo", max_tokens=40, seed=1'),
    ):
        assert old in code
        code = code.replace(old, new)
    exec(code, {})
    first = generator.generate("juliet", max_new_tokens=40, seed=4, temperature=0.7).text
    second = generator.generate("romeo", max_new_tokens=40, seed=1, min_p=0.05).text
    assert capsys.readouterr().out == f"{first}\n{second}"
    assert set(first + second) <= set(LETTERS.decode(range(LETTERS.vocab_size)))


def test_the_error_on_the_page(server: Running) -> None:
    (shown,) = re.findall(r'^\{"error".*$', PAGE, re.MULTILINE)
    assert server.post({"prompt": "juliet", "max_token": 3}).text == shown


def test_the_fields_on_the_page() -> None:
    (fields,) = re.findall(r"The fields of `/v1/completions` are .*", PAGE)
    named = set(re.findall(r"`([a-z_]+)`", fields))
    model: type[BaseModel] = CompletionRequest
    assert named == model.model_fields.keys() - {"best_of", "suffix"}


def test_the_limits_on_the_page() -> None:
    limits = Limits()
    for shown, value in (
        (r"`--max-rows` \| (\d+)", limits.max_rows),
        (r"`--max-queue` \| (\d+)", limits.max_queue),
        (r"`--max-prompt-tokens` \| (\d+)", limits.max_new_tokens),
        (r"`--max-prompt-tokens` \| \d+, (\d+)", limits.max_prompt_tokens),
        (r"`--timeout` \| (\d+)", limits.timeout),
        (r"`--grace` \| (\d+)", limits.grace),
        (r"at most (\d+) texts", limits.max_texts),
        (r"more than (\d+) MiB", limits.max_body / 2**20),
    ):
        assert re.findall(shown, PAGE) == [f"{value:g}"], shown


def test_the_metrics_on_the_page() -> None:
    counted = set(re.findall(r"^# HELP (\w+)", Metrics().render().decode(), re.MULTILINE))
    counted = {name for name in counted if not name.endswith("_created")}
    assert set(re.findall(r"`(toolkit_\w+)", PAGE)) == counted
