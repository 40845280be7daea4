"""Who may ask: hosts, origins, keys."""

from typing import Any

import openai
import pytest
from live_server import Running, Start

from toolkit.errors import ServingError, UsageError
from toolkit.generation import Generator
from toolkit.serving import Limits, hosts_of, is_loopback, listen, make_app, url_of

KEY = "a-secret"


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("evil.example", False),
        ("localhost.evil.example:8000", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example@localhost.", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_a_name_that_another_site_lets_point_here_is_refused(
    server: Running, host: str, allowed: bool
) -> None:
    response = server.http.get("/health", headers={"host": host})
    assert response.status_code == (200 if allowed else 403)
    if not allowed:
        assert response.json()["error"]["code"] == "host_not_allowed"


def test_a_page_may_only_ask_the_server_that_it_came_from(server: Running) -> None:
    body = {"prompt": "romeo", "max_tokens": 1}
    for origin, status in (
        (server.url, 200),
        ("http://evil.example", 403),
        ("http://localhost:1", 403),
        ("null", 403),
    ):
        response = server.post(body, headers={"origin": origin})
        assert response.status_code == status, origin
        assert "access-control-allow-origin" not in response.headers
    preflight = server.http.options(
        "/v1/completions",
        headers={"origin": "http://evil.example", "access-control-request-method": "POST"},
    )
    assert preflight.status_code == 403
    # What a page can send without asking first has no type of JSON.
    text = server.http.post("/v1/completions", content='{"prompt": "a"}')
    assert text.status_code == 400


def test_more_hosts_can_be_allowed(start: Start) -> None:
    server = start(hosts=hosts_of("127.0.0.1", ["Models.example"]))
    assert server.http.get("/health", headers={"host": "models.example"}).status_code == 200
    assert server.http.get("/health", headers={"host": "other.example"}).status_code == 403
    assert hosts_of("0.0.0.0", ["a"]) == ["localhost", "127.0.0.1", "::1", "0.0.0.0", "a"]
    anywhere = start(hosts=hosts_of("0.0.0.0", []))
    assert anywhere.http.get("/health", headers={"host": "other"}).status_code == 200


def test_all_but_health_needs_the_key(start: Start) -> None:
    server = start(api_key=KEY)
    assert server.http.get("/health").status_code == 200
    for path in ("/v1/models", "/metrics", "/openapi.json", "/v1/models/tiny", "/nothing"):
        for headers in (
            {},
            {"authorization": KEY},
            {"authorization": f"Basic {KEY}"},
            {"authorization": "Bearer a-secre"},
            {"authorization": "Bearer ü"},
        ):
            raw = {name: value.encode() for name, value in headers.items()}
            response = server.http.get(path, headers=raw)
            assert response.status_code == 401, (path, headers)
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"
        response = server.http.get(path, headers={"authorization": f"Bearer {KEY}"})
        assert response.status_code == (404 if path == "/nothing" else 200)
    assert server.post({"prompt": "a"}).status_code == 401
    with server.client(KEY) as client:
        assert client.completions.create(model="tiny", prompt="a", max_tokens=3).choices[0].text
    with server.client("wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


@pytest.mark.parametrize("key", ["", "two words", "ü"])
def test_a_key_that_no_header_can_have_is_refused(generator: Generator, key: str) -> None:
    with pytest.raises(UsageError, match="--api-key must be"):
        make_app(generator, name="tiny", api_key=key)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("example.org", False),
    ],
)
def test_what_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


def test_a_port_that_is_taken() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert url_of(first) == f"http://127.0.0.1:{port}"
        with pytest.raises(ServingError, match=f"Port {port} of 127.0.0.1 cannot be used: "):
            listen("127.0.0.1", port)
    with pytest.raises(UsageError, match="--port 70000 must be between"):
        listen("127.0.0.1", 70000)
    with pytest.raises(UsageError, match=r"--host no\.such\.host\.invalid: no such address"):
        listen("no.such.host.invalid", 0)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_rows": 0}, "--max-rows 0 must be above 0"),
        ({"max_queue": -1}, "--max-queue -1"),
        ({"timeout": float("nan")}, "--timeout nan"),
        ({"grace": -0.5}, "--grace -0.5 must be not negative"),
    ],
)
def test_limits_that_cannot_be(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Limits(**limits)
