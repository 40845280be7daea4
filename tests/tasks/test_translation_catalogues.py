"""The example that reads message catalogues, against Python's own gettext."""

import gettext
import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.tasks import load_task

SCRIPT = Path(__file__).parents[2] / "examples" / "translation_catalogues.py"
MESSAGES = {
    "": "Content-Type: text/plain; charset=UTF-8\n",
    "Cannot open %s": "%s kann nicht geöffnet werden",
    "menu\x04Open": "Öffnen",
    "one file\0%d files": "eine Datei\0%d Dateien",
    "two\nlines": "zwei\nZeilen",
    "same": "same",
    "untranslated": "",
}


def write_catalogue(path: Path, messages: dict[str, str], order: str = "<") -> None:
    """A `.mo` file as msgfmt makes it, in either byte order."""
    texts = [[key.encode() for key in messages], [value.encode() for value in messages.values()]]
    place = 28 + 16 * len(messages)
    tables, body = b"", b""
    for column in texts:
        for text in column:
            tables += struct.pack(f"{order}2I", len(text), place + len(body))
            body += text + b"\0"
    n = len(messages)
    header = struct.pack(f"{order}7I", 0x950412DE, 0, n, 28, 28 + 8 * n, 0, 0)
    path.write_bytes(header + tables + body)


@pytest.mark.parametrize("order", ["<", ">"])
def test_it_finds_what_gettext_finds(tmp_path: Path, order: str) -> None:
    write_catalogue(tmp_path / "a.mo", MESSAGES, order)
    with (tmp_path / "a.mo").open("rb") as file:
        theirs = gettext.GNUTranslations(file)
    spec = importlib.util.spec_from_file_location("translation_catalogues", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pairs = list(module.pairs_of(tmp_path / "a.mo"))
    assert pairs == [
        ("Cannot open %s", theirs.gettext("Cannot open %s")),
        ("Open", theirs.pgettext("menu", "Open")),
    ]


def test_what_it_writes_is_a_task(tmp_path: Path) -> None:
    messages = {f"message {number}": f"Meldung {number}" for number in range(60)}
    write_catalogue(tmp_path / "a.mo", messages)
    write_catalogue(tmp_path / "b.mo", {"message 1": "Nachricht 1", "more": "mehr"})
    (tmp_path / "c.mo").write_bytes(b"no catalogue, and long enough")
    command = [sys.executable, SCRIPT, "--folder", tmp_path, "--out", tmp_path / "out.tsv"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("61 messages from 3 catalogues")
    assert done.stderr.startswith(f"Left out: {tmp_path / 'c.mo'}: ")
    task = load_task(str(tmp_path / "out.tsv"))
    assert {*task.examples(), *task.held_out} == {*messages.items(), ("more", "mehr")}
    command[3] = tmp_path / "nothing"
    assert "No .mo files" in subprocess.run(command, capture_output=True, text=True).stderr
