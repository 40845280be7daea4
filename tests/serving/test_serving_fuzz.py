"""Requests that nobody would write, made by schemathesis from the server's own description.

None may end in an error of the server, and every answer is what the description says.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from live_server import Running, running
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from toolkit.generation import Generator
from toolkit.models import create_model
from toolkit.tokenizers import ByteTokenizer

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def quick() -> Iterator[Running]:
    """A server whose texts are short, with a tokenizer that knows every character."""
    generator = Generator(create_model("bigram", 256, seed=1), ByteTokenizer())
    with running(generator, limits={"max_new_tokens": 8, "max_rows": 4}) as server:
        yield server


def answerable(body: Any) -> Any:
    """A request as described, made such that this server has an answer: with the options as they
    are, for the model that there is, and few texts."""
    body = dict(body) if isinstance(body, dict) else {}
    for name in ("model", "suffix", "best_of"):
        body.pop(name, None)
    if not body.get("stream"):
        body.pop("stream_options", None)
    if body.get("regex") is not None:
        body.pop("json_schema", None)
    for name, most in (("max_tokens", 8), ("n", 4), ("logprobs", 20)):
        if body.get(name) is not None:
            body[name] = min(body[name], most)
    if body.get("logit_bias"):
        biases = body["logit_bias"].values()
        body["logit_bias"] = {str(place): bias for place, bias in enumerate(biases)}
    return body


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["as described", "answerable", "wrong"])
def test_no_request_is_an_error_of_the_server(quick: Running, kind: str) -> None:
    schema = schemathesis.openapi.from_url(f"{quick.url}/openapi.json")
    mode = GenerationMode.NEGATIVE if kind == "wrong" else GenerationMode.POSITIVE
    done = quick.metric("toolkit_requests_total", outcome="done")
    asked = []
    for found in schema.get_all_operations():
        operation = found.ok()
        if kind == "answerable" and operation.path != "/v1/completions":
            continue
        if kind == "wrong" and operation.method != "post":
            continue  # there is nothing in it that could be wrong

        @settings(
            max_examples=40 if operation.method == "post" else 5,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            if kind == "answerable":
                case.body = answerable(case.body)
            wanted = [*CHECKS, checks.negative_data_rejection] if kind == "wrong" else CHECKS
            case.call_and_validate(checks=wanted)

        check()
        asked.append(operation.path)
    assert "/v1/completions" in asked
    if kind == "answerable":
        assert quick.metric("toolkit_requests_total", outcome="done") - done > 10
    assert quick.metric("toolkit_requests_total", outcome="failed") == 0
    assert quick.post({"prompt": "still there", "max_tokens": 3}).status_code == 200
