"""A user's own files: text byte for byte, folders, patterns, JSON lines, Parquet, errors."""

import importlib.util
import io
import json
import os
import pickle
import threading
from pathlib import Path

import pytest

import toolkit
from toolkit.corpora import Corpus, load_corpus
from toolkit.errors import CorpusError, MissingExtraError, UnknownNameError, UsageError


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


# -- one file -----------------------------------------------------------------------------------


def test_a_file_is_one_document_with_its_newlines(tmp_path: Path) -> None:
    data = "un\r\ndeux\rtrois\n\u2028quatre é".encode()
    write(tmp_path, {"lines.txt": data})
    corpus = toolkit.load_corpus(str(tmp_path / "lines.txt"))
    assert list(corpus) == [data.decode()]
    assert (corpus.name, corpus.num_bytes) == ("lines.txt", len(data))
    assert load_corpus(tmp_path / "lines.txt").sha256 == corpus.sha256


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("utf-8", b"\xef\xbb\xbfa\xef\xbb\xbfb"),
        ("utf-8-sig", b"\xef\xbb\xbfa\xef\xbb\xbfb"),
        ("utf-16", b"\xff\xfea\x00\xff\xfeb\x00"),
        ("utf-16-le", b"\xff\xfea\x00\xff\xfeb\x00"),
        ("utf-32", "a\ufeffb".encode("utf-32")),
    ],
)
def test_only_a_leading_byte_order_mark_is_dropped(
    tmp_path: Path, encoding: str, data: bytes
) -> None:
    write(tmp_path, {"marked.txt": data})
    assert load_corpus(tmp_path / "marked.txt", encoding=encoding).text() == "a\ufeffb"
    assert load_corpus(tmp_path, encoding=encoding).text() == "a\ufeffb"  # NULs are no sign here


def test_bytes_that_do_not_decode_are_located(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    write(tmp_path, {"latin.txt": "Käse und Brot".encode("latin-1")})
    with pytest.raises(UsageError) as caught:
        load_corpus(path)
    assert str(caught.value) == (
        f"{path} is not valid utf-8: byte 0xe4 at offset 1. Name its encoding with --encoding "
        "(latin-1, utf-16, …), or read on over such bytes with --errors replace."
    )
    assert load_corpus(path, encoding="latin-1").text() == "Käse und Brot"
    assert load_corpus(path, errors="replace").text() == "K\ufffdse und Brot"
    assert load_corpus(path, errors="ignore").text() == "Kse und Brot"
    assert load_corpus(path, errors="backslashreplace").text() == "K\\xe4se und Brot"


@pytest.mark.parametrize("encoding", ["utf-9", "base64", "rot13", "undefined", "", "a\0b"])
def test_an_encoding_that_is_none(tmp_path: Path, encoding: str) -> None:
    write(tmp_path, {"a.txt": b"a"})
    with pytest.raises(UsageError, match="There is no text encoding"):
        load_corpus(tmp_path / "a.txt", encoding=encoding)


@pytest.mark.parametrize("errors", ["replce", "surrogateescape", "xmlcharrefreplace"])
def test_an_error_handler_that_gives_no_text(tmp_path: Path, errors: str) -> None:
    write(tmp_path, {"a.txt": b"a"})
    with pytest.raises(UnknownNameError, match="Available: backslashreplace, ignore, replace"):
        load_corpus(tmp_path / "a.txt", errors=errors)


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file(tmp_path: Path, data: bytes) -> None:
    write(tmp_path, {"void.txt": data})
    with pytest.raises(UsageError, match=r"'void.txt' is empty"):
        load_corpus(tmp_path / "void.txt")


def test_standard_input() -> None:
    corpus = load_corpus("-", stdin=io.BytesIO("ab\r\né".encode()))
    assert (list(corpus), list(corpus)) == (["ab\r\né"], ["ab\r\né"])
    with pytest.raises(UsageError, match="'standard input' is empty"):
        load_corpus("-", stdin=io.BytesIO(b""))
    with pytest.raises(
        UsageError, match="standard input is not valid utf-8: byte 0xff at offset 2"
    ):
        load_corpus("-", stdin=io.BytesIO(b"ab\xff"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_read_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"through a pipe",))
    writer.start()
    corpus = load_corpus(path)
    writer.join()
    assert (corpus.text(), corpus.text()) == ("through a pipe", "through a pipe")


# -- names that are none ------------------------------------------------------------------------


def test_a_name_that_is_no_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError) as caught:
        load_corpus("shakespear")
    assert str(caught.value) == (
        "No corpus 'shakespear'. Did you mean 'shakespeare'? Available: python-help, shakespeare, "
        "tiny-shakespeare. A file or folder of that name does not exist either."
    )
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("spec", ["", "no/such/file.txt", "x" * 5000, "x" * 5000 + "*", "a\0b"])
def test_paths_that_cannot_be(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_corpus(spec)
    assert "\n" not in str(caught.value)


def test_a_name_goes_before_a_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"python-help": b"mine"})
    assert load_corpus("python-help").num_documents > 50
    assert load_corpus("./python-help").text() == "mine"
    assert load_corpus(Path("python-help")).text() == "mine"


# -- folders and patterns -----------------------------------------------------------------------

TREE = {
    "b.txt": b"b",
    "a/z.md": b"az",
    "a-b/x": b"a-b",
    "a/deep/er/y.txt": b"ady",
    "empty.txt": b"",
    ".hidden.txt": b"hidden",
    ".git/config": b"hidden",
    "picture.PNG": b"no text, says the name",
    "program": b"\x7fELF\0\0",
    "more.jsonl": b'{"text": "line 1"}\n{"text": "line 2"}\n',
}


def test_a_folder_is_its_text_files_sorted_by_path(tmp_path: Path) -> None:
    write(tmp_path / "texts", TREE)
    corpus = load_corpus(tmp_path / "texts")
    assert list(corpus) == ["ady", "az", "a-b", "b", "line 1", "line 2"]
    assert corpus.name == "texts"


def test_a_folder_is_read_lazily_and_can_be_sent_to_a_process(tmp_path: Path) -> None:
    write(tmp_path, {"1.txt": b"one", "2.txt": b"\xff"})
    corpus = load_corpus(tmp_path)
    documents = iter(corpus)
    assert next(documents) == "one"
    with pytest.raises(UsageError, match=r"2\.txt is not valid utf-8"):
        next(documents)
    assert next(iter(pickle.loads(pickle.dumps(corpus)))) == "one"


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_that_leads_back_up_ends_nowhere(tmp_path: Path) -> None:
    write(tmp_path, {"a/b.txt": b"b", "elsewhere.txt": b"linked"})
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "c.txt").symlink_to(tmp_path / "elsewhere.txt")
    (tmp_path / "a" / "dangling.txt").symlink_to(tmp_path / "nothing")
    assert list(load_corpus(tmp_path / "a")) == ["b", "linked"]


@pytest.mark.parametrize(
    "files", [{}, {"e.txt": b""}, {".h": b"x"}, {"n.txt": b"\0"}, {"p.png": b"x"}]
)
def test_a_folder_without_text(tmp_path: Path, files: dict[str, bytes]) -> None:
    write(tmp_path, files)
    with pytest.raises(UsageError, match="There is no text in"):
        load_corpus(tmp_path)


def test_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, TREE)
    monkeypatch.chdir(tmp_path)
    assert list(load_corpus("**/*.txt")) == ["ady", "b"]
    assert list(load_corpus(f"{tmp_path}/[ab].txt")) == ["b"]
    assert list(load_corpus("*")) == ["b", "line 1", "line 2"]  # files alone, not what is in a/
    assert load_corpus("**/*.txt").name == "**/*.txt"
    with pytest.raises(UsageError, match=r"There is no text in '\*\.rst'"):
        load_corpus("*.rst")
    write(tmp_path, {"[x].txt": b"literally"})
    assert load_corpus("[x].txt").text() == "literally"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    write(tmp_path, {"secret.txt": b"x"})
    (tmp_path / "secret.txt").chmod(0)
    with pytest.raises(CorpusError, match=r"Could not read .*secret\.txt: Permission denied"):
        load_corpus(tmp_path / "secret.txt")


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    write(tmp_path, {"1.txt": b"one", "2.txt": b"two"})
    corpus = load_corpus(tmp_path)
    (tmp_path / "2.txt").unlink()
    with pytest.raises(CorpusError, match=r"Could not read .*2\.txt: No such file"):
        corpus.text()


# -- JSON lines ---------------------------------------------------------------------------------


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        '{"text": "a\\nb", "id": 1}',
        "",
        '{"text": null}',
        '{"text": ""}',
        '{"text": "é\u2028"}',
    ]
    write(tmp_path, {"some.jsonl": "\r\n".join(lines).encode()})
    assert list(load_corpus(tmp_path / "some.jsonl")) == ["a\nb", "é\u2028"]
    write(tmp_path, {"other.ndjson": b'{"body": "b", "text": 3}'})
    assert list(load_corpus(tmp_path / "other.ndjson", text_field="body")) == ["b"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a"', "line 2 is not JSON: Expecting ',' delimiter at column 13."),
        (b'["a"]', "line 2 is a JSON list; expected an object with a field 'text'."),
        (
            b'{"id": 1, "body": "b"}',
            "line 2 has no field 'text'. It has: id, body. Choose one with --text-field.",
        ),
        (b'{"text": 5}', "line 2: the field 'text' is no text but int."),
        (b'{"text": "\\ud83d"}', "line 2: the field 'text' has half of a surrogate pair"),
        (b"[" * 100_000, "line 2 is not JSON: RecursionError."),
        (b'{"text": "\xff"}', "line 2 is not valid utf-8: byte 0xff at offset 29."),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    first = b'{"text": "fine 1"}'  # 18 bytes, and the newline
    write(tmp_path, {"broken.jsonl": first + b"\n" + line + b"\n"})
    with pytest.raises(UsageError) as caught:
        load_corpus(tmp_path / "broken.jsonl").text()
    assert str(caught.value).startswith(f"{tmp_path / 'broken.jsonl'}, {message}")


def test_whole_surrogate_pairs_are_fine(tmp_path: Path) -> None:
    write(tmp_path, {"escaped.jsonl": json.dumps({"text": "𝄞\n"}).encode()})
    assert b"\\ud834" in (tmp_path / "escaped.jsonl").read_bytes()
    assert load_corpus(tmp_path / "escaped.jsonl").text() == "𝄞\n"


# -- Parquet ------------------------------------------------------------------------------------


@pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is not None, reason="pyarrow is installed here"
)
def test_parquet_without_pyarrow(tmp_path: Path) -> None:
    write(tmp_path, {"table.parquet": b"PAR1"})
    with pytest.raises(MissingExtraError, match=r"toolkit\[data\]"):
        load_corpus(tmp_path / "table.parquet")


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "table.parquet"
    rows = {"text": ["ä", None, "", "b\r\n"], "id": [1, 2, 3, 4]}
    parquet.write_table(pyarrow.table(rows), path, row_group_size=2)
    assert list(load_corpus(path)) == ["ä", "b\r\n"]
    with pytest.raises(UsageError, match=r"has no column 'body'\. It has: text, id\."):
        load_corpus(path, text_field="body")
    with pytest.raises(UsageError, match="the column 'id' is no text but int"):
        load_corpus(path, text_field="id")
    write(tmp_path, {"broken.parquet": b"this is no table"})
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        load_corpus(tmp_path / "broken.parquet")


def test_the_classic_when_it_is_at_hand() -> None:
    path = Path(__file__).parents[2].parent / "shared" / "corpora" / "tiny_shakespeare.txt"
    if not path.is_file():
        pytest.skip("tiny Shakespeare is not beside the project")
    corpus = load_corpus(path)
    assert corpus.sha256 == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    train, held_out = corpus.split()
    # What nanoGPT's and other published preparations of this text report.
    assert (train.num_chars, held_out.num_chars) == (1_003_854, 111_540)
    assert isinstance(held_out, Corpus)
    assert held_out.text().startswith("?\n\nGREMIO:\nGood morrow, neighbour Baptista.")
