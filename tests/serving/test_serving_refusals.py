"""Requests that are refused: the status, OpenAI's form, and a message that says what is wrong."""

from typing import Any

import openai
import pytest
from live_server import Running


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"prompt": 1}, "prompt", "valid string"),
        ({"prompt": []}, "prompt", "at least 1 item"),
        ({"prompt": [[]]}, "prompt", "at least 1 item"),
        ({"prompt": ["a", 1]}, "prompt", "valid"),
        ({"prompt": [29]}, "prompt", "Id 29 is no token: this model's are 0 to 28"),
        ({"prompt": [-1]}, "prompt", "greater than or equal to 0"),
        ({"prompt": "Q"}, None, "'Q' (U+0051)"),
        ({"max_tokens": -1}, "max_tokens", "greater than or equal to 0"),
        ({"max_tokens": "7"}, "max_tokens", "valid integer"),
        ({"max_tokens": True}, "max_tokens", "valid integer"),
        ({"max_tokens": 2049}, "max_tokens", "at most 2048"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 33}, None, "32 texts"),
        ({"prompt": ["a"] * 60, "n": 3}, None, "128 texts in a request"),
        ({"prompt": ["a"] * 129}, "prompt", "At most 128 prompts"),
        ({"best_of": 2}, "best_of", "equals n (1)"),
        ({"suffix": "the end"}, "suffix", "not supported"),
        ({"logprobs": 21}, "logprobs", "at most 20"),
        ({"temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"temperature": 1e-9}, "temperature", "0 or at least 1e-06"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"top_k": 0}, "top_k", "greater than or equal to 1"),
        ({"presence_penalty": 3}, "presence_penalty", "less than or equal to 2"),
        ({"repetition_penalty": 0}, "repetition_penalty", "greater than or equal to 0.01"),
        ({"stop": ""}, "stop", "at least 1 character"),
        ({"stop": ["a"] * 17}, "stop", "at most 16"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"seed": 2**63}, "seed", "less than"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "no id of a token"),
        ({"logit_bias": {"29": 1}}, "logit_bias", '"28"'),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias", "no id of a token"),
        ({"logit_bias": {"1": 101}}, "logit_bias", "less than or equal to 100"),
        ({"stream_options": {}}, "stream_options", "'stream': true"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options", "'stream_options.x'"),
        ({"regex": "(a"}, None, "'regex' '(a': unclosed group"),
        ({"regex": "a", "json_schema": {}}, None, "exclude each other"),
        ({"json_schema": {"type": "nothing"}}, None, "json_schema"),
        ({"regex": "Z"}, None, "no token of the tokenizer"),
        ({"temprature": 1}, "temprature", "Did you mean 'temperature'?"),
        ({"chat": 1}, "chat", "Unknown field 'chat'. Leave it out."),
        ([], None, "JSON object"),
        (None, None, "JSON object"),
        ("text", None, "JSON object"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_wrong_requests(
    server: Running, body: Any, param: str | None, message: str, stream: bool
) -> None:
    if isinstance(body, dict) and "stream_options" not in body:
        body = {"prompt": "a", **body, "stream": stream}
    response = server.post(body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert message in error["message"]
    assert "\n" not in error["message"]
    assert "--" not in error["message"].replace("--unknown", "")  # fields, not options
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b'{"prompt": "a" "b"}',
        b'{"prompt": "\\ud800"}',
        b'{"stop": "\\udfff"}',
        b'{"\\ud800": 1}',
        b'{"logit_bias": {"\\ud800": 1}}',
        b'{"temperature": NaN}',
        b'{"temperature": 1e999}',
        b'{"temperature": ' + b"9" * 400 + b"}",
        b'{"max_tokens": ' + b"9" * 5000 + b"}",
        b'{"json_schema": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        b'{"json_schema": {"enum": ["\\ud800"]}}',
        b"[" * 100_000,
    ],
)
def test_bodies_that_are_not_what_json_should_be(server: Running, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    response = server.http.post("/v1/completions", content=content, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_what_is_not_there(server: Running) -> None:
    response = server.post({"model": "gpt-4", "prompt": "a"})
    assert response.status_code == 404
    assert response.json()["error"] == {
        "message": "There is no model 'gpt-4' here, but 'tiny'.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert server.http.get("/v1/models/gpt-4").status_code == 404
    missing = server.http.get("/v1/chat/completions")
    assert missing.status_code == 404
    assert missing.json()["error"]["message"] == "There is no /v1/chat/completions."
    wrong = server.http.get("/v1/completions")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


def test_the_client_knows_the_errors(server: Running) -> None:
    with server.client() as client:
        with pytest.raises(openai.BadRequestError, match="at most 2048"):
            client.completions.create(model="tiny", prompt="a", max_tokens=10**6)
        with pytest.raises(openai.NotFoundError, match="There is no model 'x'"):
            client.completions.create(model="x", prompt="a")


def test_a_long_body_is_not_read(start: Any) -> None:
    server: Running = start(limits={"max_body": 1000})
    assert server.post({"prompt": "a" * 500}).status_code == 200
    said = server.post({"prompt": "a" * 5000})
    assert said.status_code == 413
    assert "at most 1,000 bytes" in said.json()["error"]["message"]
    # In chunks, which do not say how long they are together.
    chunks = (b" " * 100 for _ in range(1000))
    headers = {"content-type": "application/json"}
    unsaid = server.http.post("/v1/completions", content=chunks, headers=headers)
    assert unsaid.status_code == 413


def test_a_long_prompt_is_refused(start: Any) -> None:
    server: Running = start(limits={"max_prompt_tokens": 100})
    assert server.post({"prompt": "a" * 100}).status_code == 200
    response = server.post({"prompt": "a" * 101})
    assert response.status_code == 400
    assert "101 tokens; this server takes 100" in response.json()["error"]["message"]
