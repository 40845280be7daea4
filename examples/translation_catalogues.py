"""Pairs of languages from a machine's own programs: English messages and their translations.

    pip install polib
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
import sys
from collections.abc import Iterator
from pathlib import Path

import polib

FOLDER = "/usr/share/locale/{language}/LC_MESSAGES"


def pairs_of(path: Path) -> Iterator[tuple[str, str]]:
    """The messages of a catalogue that make a line each, and their translations.

    Raises:
        OSError, UnicodeDecodeError: another kind of file, or text in another encoding.
    """
    for entry in polib.mofile(str(path)):
        pair = entry.msgid.strip(), entry.msgstr.strip()
        if not all(pair) or pair[0] == pair[1] or entry.msgid_plural:
            continue
        if any(mark in "".join(pair) for mark in "\n\t\r"):
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
        try:
            for source, target in pairs_of(path):
                pairs.setdefault(source, target)
        except (OSError, UnicodeDecodeError) as error:
            print(f"Left out: {path}: {error}", file=sys.stderr)
    lines = [f"{source}\t{target}\n" for source, target in pairs.items()]
    options.out.write_text("".join(lines), encoding="utf-8")
    print(f"{len(pairs):,} messages from {len(paths)} catalogues in {options.out}")


if __name__ == "__main__":
    main()
