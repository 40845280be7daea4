"""What the page's endpoints refuse, and the files of the page."""

import json
import re
import sys
from pathlib import Path

import httpx
import pytest
from live_server import LETTERS, Running, Start
from page_visits import answer, ask

from toolkit.generation import Generator
from toolkit.serving.playground import MEDIA_TYPES, PAGE_FOLDER, page_files
from toolkit.tokenizers import ByteTokenizer

# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("next", {}, "either 'text' or 'ids'"),
        ("next", {"text": "a", "ids": [1]}, "either 'text' or 'ids'"),
        ("next", {"ids": []}, "at least 1"),
        ("next", {"ids": [29]}, "Id 29 is no token"),
        ("next", {"text": "a", "also": [29]}, "Id 29 is no token"),
        ("next", {"ids": [-1]}, "greater than or equal to 0"),
        ("next", {"ids": [True]}, "valid integer"),
        ("next", {"ids": [1] * 16_385}, "at most 16384"),
        ("next", {"text": "a" * 20_001}, "at most 20000"),
        ("next", {"text": "a" * 16_385}, "16,385 tokens; at most 16,384"),
        ("next", {"text": "É"}, "'É' (U+00C9)"),
        ("next", {"text": "a", "top": 101}, "less than or equal to 100"),
        ("next", {"text": "a", "top": "5"}, "valid integer"),
        ("next", {"text": "a", "sampling": {"temperature": -1}}, "greater than or equal to 0"),
        ("next", {"text": "a", "sampling": {"temperature": 1e-9}}, "'temperature' 1e-09 must"),
        ("next", {"text": "a", "sampling": {"top_p": 0}}, "greater than 0"),
        ("next", {"text": "a", "sampling": {"beams": 3}}, "Unknown field 'sampling.beams'"),
        ("next", {"text": "a", "model": "x"}, "Unknown field 'model'"),
        ("tokenize", {"tokenizer": "own", "text": "a" * 20_001}, "at most 20000"),
        ("tokenize", {"tokenizer": "own"}, "required"),
        ("tokenize", {"tokenizer": 1, "text": "a"}, "valid string"),
        ("tokenize", [], "JSON object"),
    ],
)
def test_wrong_questions_get_one_line(
    server: Running, path: str, body: object, message: str
) -> None:
    response = ask(server, path, body)
    assert response.status_code == 400
    said = response.json()["error"]["message"]
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize("path", ["next", "tokenize"])
@pytest.mark.parametrize(
    "content", [b"{", b"\xff", b'{"text": "\\ud800", "tokenizer": "char"}', b'{"text": NaN}', b""]
)
def test_broken_bodies_are_refused_and_never_fail(
    server: Running, path: str, content: bytes
) -> None:
    response = httpx.post(
        f"{server.url}/playground/{path}",
        content=content,
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_no_spec_opens_a_file_or_imports_a_module(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ByteTokenizer().save(tmp_path / "saved")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "never_imported.py").write_text("class Evil: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    for spec in (
        str(tmp_path / "saved"),
        f"{tmp_path}/saved/",
        f"hf:{tmp_path}/tokenizer.json",
        f"sentencepiece:{tmp_path}/x.model",
        f"tiktoken:{tmp_path}/x.tiktoken",
        "sentencepiece:unigram:4k",
        "bpe:100000",
        "never_imported:Evil",
        "toolkit.tokenizers.byte:ByteTokenizer",
        "../saved",
        "saved-1",
        "",
    ):
        response = ask(server, "tokenize", {"tokenizer": spec, "text": "a"})
        assert response.status_code == 400, spec
        assert "No tokenizer on this page" in response.json()["error"]["message"]
    assert "never_imported" not in sys.modules


# -- the page and its files -------------------------------------------------------------------


def test_the_page_and_its_files_are_sent_with_their_types_and_a_strict_policy(
    server: Running,
) -> None:
    files = page_files()
    assert {"index.html", "style.css", "app.js", "icon.svg"} <= files.keys()
    paths = {"/": files["index.html"]} | {f"/playground/page/{n}": f for n, f in files.items()}
    for path, file in paths.items():
        response = httpx.get(server.url + path)
        assert response.status_code == 200
        assert response.content == file.content
        assert response.headers["content-type"] == file.media_type
        assert response.headers["x-content-type-options"] == "nosniff"
        policy = response.headers["content-security-policy"].split("; ")
        assert "default-src 'self'" in policy
        assert not any("unsafe" in rule or "http" in rule or "*" in rule for rule in policy)
    etag = httpx.get(server.url).headers["etag"]
    again = httpx.get(server.url, headers={"if-none-match": etag})
    assert (again.status_code, again.content) == (304, b"")


def test_nothing_else_is_sent(server: Running) -> None:
    for name in (
        "../playground.py",
        "..%2fplayground.py",
        "%2e%2e/api.py",
        "nothing.js",
        "",
        "%00",
    ):
        assert httpx.get(f"{server.url}/playground/page/{name}").status_code in (404, 307)


def test_the_page_is_for_everybody_and_its_answers_are_not(start: Start) -> None:
    server = start(api_key="secret")
    assert httpx.get(server.url).status_code == 200
    for name in page_files():
        assert httpx.get(f"{server.url}/playground/page/{name}").status_code == 200
    body = {"text": "a"}
    assert ask(server, "next", body).status_code == 401
    assert httpx.get(f"{server.url}/playground/tokenizers").status_code == 401
    allowed = httpx.post(
        f"{server.url}/playground/next", json=body, headers={"authorization": "Bearer secret"}
    )
    assert allowed.status_code == 200


@pytest.mark.parametrize("path", sorted(PAGE_FOLDER.iterdir()), ids=lambda path: path.name)
def test_page_files_stand_alone(path: Path) -> None:
    """No address of another site, no script or style inside the page, no file that is missing."""
    assert path.suffix in MEDIA_TYPES
    text = path.read_text("utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"(https?:)?//[\w.-]+\.\w", text), "an address of another site"
    for name in re.findall(r"from \"\./([\w.]+)\"", text):
        assert (PAGE_FOLDER / name).exists()
    for name in re.findall(r"playground/page/([\w.]+)", text):
        assert (PAGE_FOLDER / name).exists()
    if path.suffix == ".html":
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\bsrc=)", text)
    if path.suffix == ".js":
        # What would make markup, or code, of text.
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text
        )


def test_the_description_of_the_interface_has_the_endpoints(server: Running) -> None:
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    ours = {path for path in paths if path.startswith("/playground")}
    assert ours == {f"/playground/{name}" for name in ("model", "next", "tokenize", "tokenizers")}


def test_the_model_is_described(server: Running, generator: Generator) -> None:
    found = httpx.get(f"{server.url}/playground/model").json()
    assert found == {
        "name": "tiny",
        "num_params": generator.model.num_params(),
        "vocab_size": LETTERS.vocab_size,
        "block_size": 64,
        "tokenizer": "char",
    }
    listed = httpx.get(f"{server.url}/playground/tokenizers").json()
    assert json.dumps(listed[0]["title"]) == f'"tiny: char, {LETTERS.vocab_size} tokens"'


def test_the_answers_in_the_docs(server: Running) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")
    ((body, shown),) = re.findall(r"playground/tokenize --json '(.*)'\n(.*)\n", page)
    assert ask(server, "tokenize", json.loads(body)).text == shown
    ((body, shown),) = re.findall(r"playground/next --json '(.*)'\n(.*)\n", page)
    asked = {**json.loads(body), "text": "juliet"}  # a model of other tokens, and their names
    assert answer(server, "next", asked).keys() == json.loads(shown).keys()
