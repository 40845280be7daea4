"""Texts to measure on: the toolkit's corpora, and what lies on every machine with a Python."""

from __future__ import annotations

import gettext
import hashlib
import io
import os
import random
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import toolkit

PROSE_SHARE = 0.25
DOCUMENTATION_SHARE = 0.1
MULTILINGUAL_SHARE = 0.15

DOCUMENTATION_ENDINGS = (".md", ".markdown", ".rst", ".txt")


@dataclass(frozen=True)
class Texts:
    """Documents to measure on.

    Attributes:
        title: what they are, in a line.
        parts: how many bytes of them are of which kind.
        documents: the texts themselves.
    """

    title: str
    parts: dict[str, int]
    documents: list[str]

    @property
    def num_bytes(self) -> int:
        return sum(len(document.encode()) for document in self.documents)

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for document in self.documents:
            digest.update(document.encode())
        return digest.hexdigest()

    def joined(self, document_size: int) -> Texts:
        """The same as one text, cut anew where it makes no difference."""
        documents = list(cut("".join(self.documents), document_size))
        return Texts(self.title, self.parts, documents)

    def describe(self) -> str:
        """The composition, for people."""
        lines = [f"{self.title}: {self.num_bytes:,} bytes in {len(self.documents):,} documents"]
        lines += [f"  {size / 1e6:6.2f} MB {kind}" for kind, size in self.parts.items()]
        return "\n".join([*lines, f"  sha256 {self.sha256}"])

    def summary(self) -> dict[str, object]:
        """The composition, for JSON."""
        return {
            "title": self.title,
            "bytes": self.num_bytes,
            "documents": len(self.documents),
            "parts": self.parts,
            "sha256": self.sha256,
        }


def one_corpus(spec: str, document_size: int) -> Texts:
    """A file, or one of the toolkit's named corpora.

    Raises:
        toolkit.ToolkitError: it is not there and cannot be fetched.
    """
    corpus = toolkit.load_corpus(spec)
    documents = [piece for text in corpus for piece in cut(text, document_size)]
    size = sum(len(document.encode()) for document in documents)
    return Texts(corpus.name, {corpus.name: size}, documents)


def mixture(num_bytes: int, document_size: int, *, multilingual: bool) -> Texts:
    """About `num_bytes` of English prose, documentation and code of this machine.

    The files of each kind are taken in an order that depends on their names alone.
    """
    kinds: list[tuple[str, float, Callable[[], Iterator[str]]]] = [
        ("English prose (the toolkit's corpora)", PROSE_SHARE, _prose),
        ("Markdown, reST and plain text (installed packages)", DOCUMENTATION_SHARE, _documentation),
    ]
    if multilingual:
        title = "translated messages (gettext catalogues)"
        kinds.append((title, MULTILINGUAL_SHARE, _translations))
    kinds.append(("Python (the standard library)", 1, _standard_library))
    kinds.append(("Python (installed packages)", 1, _packages))

    parts: dict[str, int] = {}
    documents: list[str] = []
    for title, share, texts in kinds:
        left = num_bytes - sum(parts.values())
        taken = list(_take(texts(), min(left, round(share * num_bytes))))
        if taken:
            parts[title] = sum(len(text.encode()) for text in taken)
        documents += [piece for text in taken for piece in cut(text, document_size)]
    # A trainer or a cache should not meet all of one kind first.
    random.Random(0).shuffle(documents)
    return Texts("mixed text", parts, documents)


def cut(text: str, size: int) -> Iterator[str]:
    """Cut a text into documents of `size` characters or a little more.

    The cuts are at ends of lines where GPT-2's split pattern cuts as well, so that the documents
    have the same pre-tokens as the whole text.

    >>> list(cut("one\\ntwo\\n\\nthree", 2))
    ['one\\n', 'two\\n\\nthree']
    """
    return _cut_lines(io.StringIO(text, newline="\n"), size)


def cut_file(path: Path, size: int) -> Iterator[str]:
    """The documents of `cut`, read from a file one after the other."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        yield from _cut_lines(lines, size)


def _cut_lines(lines: Iterable[str], size: int) -> Iterator[str]:
    held: list[str] = []
    held_size = 0
    for line in lines:
        if held_size >= size and line[0].strip() and held[-1][-2:-1].strip():
            yield "".join(held)
            held, held_size = [], 0
        held.append(line)
        held_size += len(line)
    if held:
        yield "".join(held)


def _take(texts: Iterable[str], num_bytes: int) -> Iterator[str]:
    """Texts up to a number of bytes; the last one may be cut short."""
    for text in texts:
        data = text.encode()
        if len(data) >= num_bytes:
            if num_bytes > 0:
                yield data[:num_bytes].decode(errors="ignore")
            return
        yield text
        num_bytes -= len(data)


def _prose() -> Iterator[str]:
    cached = [info.name for info in toolkit.list_corpora() if info.cached]
    plays = [name for name in ("shakespeare", "tiny-shakespeare") if name in cached]
    for name in [*plays[:1], "python-help"]:
        yield from toolkit.load_corpus(name)


def _documentation() -> Iterator[str]:
    for root in (_folder("purelib"), _folder("stdlib")):
        yield from _read(_files(root, DOCUMENTATION_ENDINGS))


def _standard_library() -> Iterator[str]:
    yield from _read(_files(_folder("stdlib"), (".py",)))


def _packages() -> Iterator[str]:
    yield from _read(_files(_folder("purelib"), (".py",)))


def _translations() -> Iterator[str]:
    """What programs say, in all languages that they are translated into."""
    shared = os.environ.get("XDG_DATA_DIRS", "/usr/local/share:/usr/share").split(os.pathsep)
    roots = dict.fromkeys([*map(Path, shared), Path(sys.base_prefix, "share")])
    for root in roots:
        for path in _files(root / "locale", (".mo",)):
            try:
                with path.open("rb") as file:
                    catalogue = gettext.GNUTranslations(file)
            except (OSError, ValueError, IndexError):
                continue  # another encoding, or damaged
            messages = getattr(catalogue, "_catalog", {})
            yield "\n".join(text for name, text in messages.items() if name and text)


def _folder(name: str) -> Path:
    return Path(sysconfig.get_path(name))


def _files(root: Path, endings: tuple[str, ...]) -> list[Path]:
    """The files below a folder, other packages' apart, in an order that is mixed but fixed."""
    found = [
        (path.relative_to(root).as_posix(), path)
        for path in root.rglob("*")
        if path.suffix in endings
    ]
    names = sorted(
        (name, path)
        for name, path in found
        if not name.startswith(("site-packages/", "dist-packages/")) and "__pycache__" not in name
    )
    random.Random(0).shuffle(names)
    return [path for _, path in names]


def _read(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        try:
            text = path.read_bytes().decode()
        except (OSError, UnicodeDecodeError):
            continue
        if text:
            yield text
