"""Pairs of languages from a machine's own programs: English messages and their translations.

    python examples/translation_catalogues.py --language de --out messages.tsv
    toolkit train --task messages.tsv

Programs keep translations of what they say in message catalogues, GNU gettext's `.mo` files; on
Debian and its relatives they are in /usr/share/locale/LANGUAGE/LC_MESSAGES, put there by the
packages that one has installed. This script reads them where they are and writes each message with
its translation as a line of a TSV file. Python packages have such files too: Django's are in
`django/conf/locale/LANGUAGE/LC_MESSAGES` (`--folder`).

Left out: plural forms, messages of several lines, and those that are the same in both languages.
"""

from __future__ import annotations

import argparse
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = "/usr/share/locale/{language}/LC_MESSAGES"
MAGIC = 0x950412DE


def read_catalogue(path: Path) -> Iterator[tuple[str, str]]:
    """The messages of a `.mo` file and their translations.

    The file begins with a magic number, a version, how many messages there are, and where two
    tables are: of the messages and of the translations, length and place of each (GNU gettext
    manual, "The Format of GNU MO Files"). It is in the byte order of the machine that made it.

    Raises:
        ValueError: another kind of file.
    """
    data = path.read_bytes()
    order = "<" if data[:4] == struct.pack("<I", MAGIC) else ">"
    if len(data) < 20 or struct.unpack_from(f"{order}I", data)[0] != MAGIC:
        raise ValueError(f"{path} is no .mo file")
    count, messages, translations = struct.unpack_from(f"{order}3I", data, 8)
    for number in range(count):
        texts = []
        for table in (messages, translations):
            length, place = struct.unpack_from(f"{order}2I", data, table + 8 * number)
            texts.append(data[place : place + length])
        message, translation = texts
        try:
            yield message.decode("utf-8"), translation.decode("utf-8")
        except UnicodeDecodeError:  # an old catalogue in another encoding
            continue


def pairs_of(path: Path) -> Iterator[tuple[str, str]]:
    """The messages of a catalogue that make a line each, without what is in front of a context."""
    for message, translation in read_catalogue(path):
        source = message.rpartition("\x04")[2]  # "context\4message"
        pair = source.strip(), translation.strip()
        whole = "".join(pair)
        if not all(pair) or pair[0] == pair[1]:
            continue
        if any(mark in whole for mark in "\0\n\t\r"):  # \0 stands between plural forms
            continue
        yield pair


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--language", default="de", help="such as de, fr or pt_BR")
    parser.add_argument("--folder", help="of the .mo files; default: the machine's own")
    parser.add_argument("--out", type=Path, default=Path("messages.tsv"))
    options = parser.parse_args()
    folder = Path(options.folder or FOLDER.format(language=options.language))
    paths = sorted(folder.glob("*.mo"))
    if not paths:
        sys.exit(f"No .mo files in {folder}: give --folder, or install packages with translations.")
    pairs: dict[str, str] = {}  # the first translation of each message
    for path in paths:
        for source, target in pairs_of(path):
            pairs.setdefault(source, target)
    lines = [f"{source}\t{target}\n" for source, target in pairs.items()]
    options.out.write_text("".join(lines), encoding="utf-8")
    print(f"{len(pairs):,} messages from {len(paths)} catalogues in {options.out}")


if __name__ == "__main__":
    main()
