"""The corpora that have a name. Each is data: one TOML file in `named/`.

A TOML file says where a text comes from (`[source]`), how the source becomes text (`[text]`), and
the sha256 of both, so that a name means the same text on every machine. It is looked for in

1. the folders that `TOOLKIT_CORPORA` names, as `<name>.txt` or as the source's own file,
2. the cache, `<toolkit home>/corpora/<name>.txt`,

and fetched into the cache if it is in neither. A file in 1 that is another text is an error; in the
cache it is damage, and is repaired. A text with a name is one document, except for those that come
with Python and are never fetched.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.corpora.corpus import Corpus
from toolkit.corpora.fetch import Progress, Source, exclusive, fetch, sha256_of
from toolkit.corpora.help_topics import help_topics
from toolkit.corpora.plays import read_plays
from toolkit.errors import CorpusError, OfflineError, ToolkitError
from toolkit.files import write_bytes
from toolkit.home import toolkit_home

DEFAULT_CORPUS = "shakespeare"
ALWAYS_THERE = "python-help"

_FOLDER = Path(__file__).parent / "named"


@dataclass(frozen=True)
class CorpusInfo:
    """One row of the list of named corpora.

    Attributes:
        name: what `load_corpus` takes.
        title: what it is.
        licence: under which terms the text may be used.
        num_bytes: its size in UTF-8; None where that depends on the version of Python.
        cached: whether it can be read without a network.
        description: one sentence.
        path: the file it would be read from; None if it must be fetched or comes with Python.
    """

    name: str
    title: str
    licence: str
    num_bytes: int | None
    cached: bool
    description: str
    path: Path | None


@dataclass(frozen=True)
class Definition:
    """What a TOML file says about a corpus that has a source.

    Attributes:
        name: its name.
        title: what it is.
        sha256: the hash of the text.
        source: the file it is made from.
        recipe: how, a key of `RECIPES`.
        options: the recipe's own settings.
    """

    name: str
    title: str
    sha256: str
    source: Source
    recipe: str
    options: Mapping[str, Any]


def corpus_names() -> list[str]:
    """The names of the named corpora, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def list_corpora() -> list[CorpusInfo]:
    """All named corpora, the default first, then by name."""
    return [_info(name) for name in sorted(corpus_names(), key=lambda n: (n != DEFAULT_CORPUS, n))]


def load_named(name: str, on_progress: Progress | None = None) -> Corpus:
    """The corpus with one of the names of `corpus_names()`.

    Raises:
        OfflineError: it is not on this machine and could not be fetched.
        CorpusError: a file that should hold it holds something else, or the cache is not writable.
    """
    table = _read_table(name)
    built_in = BUILT_IN.get(table["source"]["kind"])
    if built_in is not None:
        return Corpus.from_documents(built_in(), name, title=table["title"])
    definition = _definition(name, table)
    text = text_of(definition, on_progress).decode("utf-8")
    return Corpus.from_text(text, name, title=definition.title)


def text_of(definition: Definition, on_progress: Progress | None = None) -> bytes:
    """The text that a definition describes, from wherever it is, checked, in UTF-8.

    Raises:
        OfflineError, CorpusError: as `load_named`.
    """
    data = _from_user_folders(definition)
    if data is None:
        data = _from_cache(definition)
    return data if data is not None else _fetched(definition, on_progress)


def find_file(definition: Definition) -> Path | None:
    """The file that the text would be read from, or None if it has to be fetched first."""
    cached = _cache_path(definition)
    in_user_folder = _text_file(definition) or _source_file(definition)
    return in_user_folder or (cached if cached.is_file() else None)


# -- what the TOML files say --------------------------------------------------------------------


def _read_table(name: str) -> dict[str, Any]:
    import tomllib

    return tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def _definition(name: str, table: Mapping[str, Any]) -> Definition:
    text = table["text"]
    return Definition(
        name=name,
        title=table["title"],
        sha256=table["sha256"],
        source=Source(**table["source"]),
        recipe=text["recipe"],
        options=text,
    )


def _info(name: str) -> CorpusInfo:
    table = _read_table(name)
    built_in = table["source"]["kind"] in BUILT_IN
    path = None if built_in else find_file(_definition(name, table))
    return CorpusInfo(
        name=name,
        title=table["title"],
        licence=table["licence"],
        num_bytes=table.get("num_bytes"),
        cached=built_in or path is not None,
        description=table["description"],
        path=path,
    )


# -- where a text may be ------------------------------------------------------------------------


def _text_file(definition: Definition) -> Path | None:
    name = definition.name
    return _first_in_user_folders(f"{name}.txt", f"{name.replace('-', '_')}.txt")


def _source_file(definition: Definition) -> Path | None:
    return _first_in_user_folders(definition.source.filename)


def _first_in_user_folders(*filenames: str) -> Path | None:
    folders = [Path(part).expanduser() for part in _user_folders()]
    candidates = (folder / filename for folder in folders for filename in filenames)
    return next((path for path in candidates if path.is_file()), None)


def _user_folders() -> list[str]:
    return [part for part in os.environ.get("TOOLKIT_CORPORA", "").split(os.pathsep) if part]


def _cache_path(definition: Definition) -> Path:
    return toolkit_home() / "corpora" / f"{definition.name}.txt"


# -- reading it from there ----------------------------------------------------------------------


def _from_user_folders(definition: Definition) -> bytes | None:
    text_file = _text_file(definition)
    if text_file is not None:
        data = _read(text_file)
        _require_hash(text_file, hashlib.sha256(data).hexdigest(), definition.sha256, definition)
        return data
    source_file = _source_file(definition)
    if source_file is None:
        return None
    try:
        found = sha256_of(source_file)
    except OSError as error:
        raise CorpusError(f"Could not read {source_file}: {error.strerror}.") from error
    _require_hash(source_file, found, definition.source.sha256, definition)
    data = _from_cache(definition) or _make_text(definition, source_file)
    # It can be made again from the same file: a cache that cannot be written costs only time.
    with contextlib.suppress(ToolkitError):
        write_bytes(_cache_path(definition), data)
    return data


def _from_cache(definition: Definition) -> bytes | None:
    path = _cache_path(definition)
    if not path.is_file():
        return None
    data = _read(path)
    return data if hashlib.sha256(data).hexdigest() == definition.sha256 else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorpusError(f"Could not read {path}: {error.strerror}.") from error


def _require_hash(path: Path, found: str, expected: str, definition: Definition) -> None:
    if found != expected:
        raise CorpusError(
            f"{path} is not the file that '{definition.name}' names: its sha256 is {found[:12]}…, "
            f"not {expected[:12]}…. Take it out of the TOOLKIT_CORPORA folder; to use it as a "
            f"corpus of its own, give its path."
        )


# -- fetching it --------------------------------------------------------------------------------


def _fetched(definition: Definition, on_progress: Progress | None) -> bytes:
    folder = _cache_path(definition).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CorpusError(
            f"The cache {folder} cannot be made ({error.strerror}): set TOOLKIT_HOME to a folder "
            "that can be written."
        ) from error
    with exclusive(folder / f".{definition.name}.lock"):
        # While this process waited, another may have done the work.
        data = _from_cache(definition)
        if data is not None:
            return data
        try:
            source_file = fetch(definition.source, folder, on_progress)
        except OfflineError as error:
            raise OfflineError(_three_ways_out(definition, str(error))) from error
        data = _make_text(definition, source_file)
        write_bytes(_cache_path(definition), data)
        source_file.unlink(missing_ok=True)
    return data


def _three_ways_out(definition: Definition, reason: str) -> str:
    return (
        f"The corpus '{definition.name}' is not on this machine and could not be fetched "
        f"({reason}). Connect once and run this again; or put {definition.name}.txt or "
        f"{definition.source.filename} into a folder that TOOLKIT_CORPORA names; or use "
        f"--corpus {ALWAYS_THERE} or a file of your own."
    )


def _make_text(definition: Definition, source_file: Path) -> bytes:
    data = RECIPES[definition.recipe](source_file, definition.options)
    found = hashlib.sha256(data).hexdigest()
    if found != definition.sha256:
        raise CorpusError(
            f"The text made from {source_file.name} has the sha256 {found}; "
            f"{definition.name}.toml says {definition.sha256}. They must change together."
        )
    return data


def _as_it_is(source_file: Path, options: Mapping[str, Any]) -> bytes:
    return _read(source_file)


def _plays(source_file: Path, options: Mapping[str, Any]) -> bytes:
    return read_plays(source_file, options).encode("utf-8")


RECIPES: dict[str, Callable[[Path, Mapping[str, Any]], bytes]] = {
    "as-it-is": _as_it_is,
    "plays": _plays,
}
BUILT_IN: dict[str, Callable[[], list[str]]] = {"python-help": help_topics}
