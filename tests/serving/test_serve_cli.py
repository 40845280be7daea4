"""`toolkit serve` as a user meets it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest

import toolkit
from toolkit.cli import main
from toolkit.generation import Generator

TEXT = "ROMEO:\nthe sun is bright, and so are we.\n\nJULIET:\nthe moon is pale.\n\n" * 20
Say = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run."""
    work = tmp_path_factory.mktemp("serve")
    (work / "text.txt").write_text(TEXT)
    corpus = toolkit.load_corpus(str(work / "text.txt"))
    shape = {"n_layer": 1, "n_head": 1, "n_embd": 16, "block_size": 32, "batch_size": 2}
    tokenizer = toolkit.load_tokenizer("char", corpus)
    toolkit.train(corpus, tokenizer, out=work / "runs" / "first", max_steps=3, seed=1, **shape)
    return work


@pytest.fixture
def refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Say:
    """Run a command that does not get to serve: its one line of error."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("TOOLKIT_API_KEY", raising=False)

    def command(*arguments: str, code: int) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["serve", "--device", "cpu", *arguments])
        printed = capsys.readouterr()
        assert caught.value.code == code, printed.err
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        return printed.err

    return command


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nothing"], 1, "nothing"),
        (["--host", "0.0.0.0"], 2, "--host 0.0.0.0 lets other machines ask: give a key by"),
        (["first", "--port", "0", "--api-key", "two words"], 2, "--api-key must be"),
        (["--port", "-1"], 2, "--port -1 must be between 0 and 65535"),
        (["--port", "0", "--max-rows", "0"], 2, "--max-rows 0 must be above 0"),
        (["--port", "0", "--dtype", "float8"], 2, "No dtype 'float8'"),
        (["first", "--model", "x"], 2, "RUN and --model exclude each other"),
        (["first", "--port", "0", "--context-policy", "x"], 2, "No context policy 'x'"),
    ],
)
def test_what_cannot_be_served(refused: Say, arguments: list[str], code: int, message: str) -> None:
    assert message in refused(*arguments, code=code)


def test_a_port_in_use_is_said_in_one_line(refused: Say) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = refused("--port", str(port), code=1)
    assert f"Port {port} of 127.0.0.1 cannot be used" in error
    assert "--port" in error


def test_without_its_packages_it_says_how_to_get_them(
    refused: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("toolkit.serving.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert "pip install 'toolkit[serve]'" in refused(code=1)


@contextmanager
def serving(folder: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "toolkit", "serve", "--port", "0", "--device", "cpu", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(toolkit.__file__).parents[1]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"first at (http://[\d.]+:\d+); Ctrl-C ends it\n", line)
    assert found is not None, line + str(process.stderr and process.stderr.read())
    return found[1]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(folder: Path, stop: signal.Signals) -> None:
    run = toolkit.Run.open(folder / "runs" / "first")
    expected = Generator(run.model, run.tokenizer).generate(
        "ROMEO:", max_new_tokens=20, seed=4, temperature=0.7
    )
    with serving(folder, "first", "--grace", "0.2", TOOLKIT_API_KEY="a-secret") as process:
        url = address(process)
        with openai.OpenAI(base_url=f"{url}/v1", api_key="a-secret", max_retries=0) as client:
            found = client.completions.create(model="first", prompt="ROMEO:", max_tokens=20, seed=4)
        assert found.choices[0].text == expected.text
        assert httpx.get(f"{url}/v1/models").status_code == 401
        body = {"prompt": "ROMEO:", "max_tokens": 2048, "stream": True}
        headers = {"authorization": "Bearer a-secret"}
        completions = f"{url}/v1/completions"
        with httpx.stream("POST", completions, json=body, headers=headers, timeout=60) as response:
            lines = response.iter_lines()
            assert "choices" in next(lines)
            process.send_signal(stop)
            events = [line for line in lines if line]
        assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "shutting_down"
        assert events[-1] == "data: [DONE]"
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")
