"""Requests that nobody would write, made by schemathesis from the server's own description.

None may end in an error of the server, and every answer is what the description says.
"""

from collections.abc import Iterator

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


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_is_an_error_of_the_server(quick: Running, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{quick.url}/openapi.json")
    wanted = [*CHECKS, checks.negative_data_rejection] if mode.is_negative else CHECKS
    asked = []
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode.is_negative and operation.method != "post":
            continue  # there is nothing in it that could be wrong

        @settings(
            max_examples=60 if operation.method == "post" else 5,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=wanted)

        check()
        asked.append(operation.path)
    assert "/v1/completions" in asked
    assert quick.metric("toolkit_requests_total", outcome="failed") == 0
    if not mode.is_negative:
        assert quick.metric("toolkit_requests_total", outcome="done") > 5
    assert quick.post({"prompt": "still there"}).status_code == 400
    assert quick.post({"prompt": "still there", "max_tokens": 3}).status_code == 200
