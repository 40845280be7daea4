"""A corpus from whatever the user calls one: a name, a file, a folder, a pattern, standard input.

A named corpus goes first; `./shakespeare` is the file or folder of that name.
"""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable
from os import PathLike, fspath
from pathlib import Path
from typing import BinaryIO

from toolkit.corpora.catalogue import corpus_names, load_named
from toolkit.corpora.corpus import Corpus
from toolkit.corpora.fetch import Progress
from toolkit.corpora.local import FileDocuments, ReadOptions, maybe_text, text_files
from toolkit.errors import CorpusError, UnknownNameError, UsageError

STANDARD_INPUT = "-"


def load_corpus(
    spec: str | PathLike[str],
    *,
    encoding: str = "utf-8",
    errors: str = "strict",
    text_field: str = "text",
    on_progress: Progress | None = None,
    stdin: BinaryIO | None = None,
) -> Corpus:
    """Open a corpus.

    Args:
        spec: one of
            a name that `list_corpora()` has;
            a file: one document, or one a line of `.jsonl`, or one a row of `.parquet`;
            a folder: all text files in it and below, sorted by path, without hidden and binary
            ones, a document each;
            a pattern such as `books/**/*.txt`, which takes files in the same way;
            `-`: standard input, one document.
        encoding: of files and standard input.
        errors: what to do with bytes that do not decode: "strict", "replace", "ignore" or
            "backslashreplace".
        text_field: the field or column with the text, in `.jsonl` and `.parquet`.
        on_progress: is called with (bytes done, bytes in total) while a corpus is fetched.
        stdin: what to read for `-` instead of the process's standard input.

    Files are read when the corpus is iterated, so a broken one among many may show only then, as
    the same kind of error.

    Raises:
        UsageError: no such corpus, an empty one, a broken file, an unknown encoding.
        CorpusError: a file cannot be read. Its subclass OfflineError: a named corpus is not on
            this machine and cannot be fetched.
        MissingExtraError: `.parquet` without pyarrow.
    """
    options = ReadOptions(encoding, errors, text_field)
    name = fspath(spec)
    if name == STANDARD_INPUT:
        return _from_stream(stdin or sys.stdin.buffer, "standard input", options)
    if isinstance(spec, str) and spec in corpus_names():
        return load_named(spec, on_progress)
    try:
        found = _from_path(name, options) if name else None
    except (OSError, RuntimeError) as error:
        # A name that is no path at all (too long, say), or ~user without such a user.
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise UsageError(f"'{name[:60]}' cannot be opened as a path: {reason}.") from None
    if found is None:
        raise _unknown(name)
    return found


def _from_path(name: str, options: ReadOptions) -> Corpus | None:
    path = Path(name).expanduser()
    if path.is_dir():
        return _from_files(text_files(path), path.resolve().name or name, name, options)
    if path.is_file():
        corpus = Corpus(path.name, FileDocuments((path,), options), title=name)
        corpus.require_text()
        return corpus
    if path.exists():
        # A pipe, such as the shell's <(command): it can be read once, so its text is kept.
        return _from_pipe(path, options)
    if glob.has_magic(name):
        matches = glob.glob(str(path), recursive=True)  # noqa: PTH207  # Path.glob takes no "/a/*"
        paths = sorted(map(Path, matches), key=lambda match: match.parts)
        return _from_files(filter(maybe_text, paths), name, name, options)
    return None


def _from_files(paths: Iterable[Path], name: str, title: str, options: ReadOptions) -> Corpus:
    corpus = Corpus(name, FileDocuments(tuple(paths), options, skip_binary=True), title=title)
    if next(iter(corpus), None) is None:
        raise UsageError(
            f"There is no text in '{title}': no file, or only empty, hidden or binary ones."
        )
    return corpus


def _from_pipe(path: Path, options: ReadOptions) -> Corpus:
    try:
        with path.open("rb") as stream:
            return _from_stream(stream, path.name, options)
    except OSError as error:
        raise CorpusError(f"Could not read {path}: {error.strerror}.") from error


def _from_stream(stream: BinaryIO, name: str, options: ReadOptions) -> Corpus:
    return Corpus.from_text(options.decode(stream.read(), name), name)


def _unknown(name: str) -> UnknownNameError:
    error = UnknownNameError("corpus", name, corpus_names())
    error.args = (f"{error} A file or folder of that name does not exist either.",)
    return error
