"""A user's own files as documents: text, JSON lines, Parquet, and folders of them.

Text is taken as it is: newlines stay `\\n`, `\\r\\n` or `\\r` as the file has them, because a
language model learns what it is given. The one thing dropped is a byte order mark at the very
start of a file (U+FEFF), which is a note about the encoding and no part of the text.

Left out: compressed files, and JSON that is not one object a line.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import CorpusError, MissingExtraError, UnknownNameError, UsageError

# The error handlers that give text for any bytes. Python's "surrogateescape" and "surrogatepass"
# are missing on purpose: they make strings that are not Unicode text and that no tokenizer takes.
ERROR_HANDLERS = ("strict", "replace", "ignore", "backslashreplace")

# A folder may hold pictures and programs beside its texts. Files that these endings do not give
# away are recognised by a NUL byte.
_BINARY = """
    7z a avi bin bmp bz2 ckpt class db dll doc docx dylib eot epub exe flac gif gz h5 ico jar jpeg
    jpg lz4 m4a mkv mov mp3 mp4 npy npz o odt ogg onnx otf pdf pickle pkl png ppt pptx psd pt pth
    pyc rar safetensors so sqlite tar tgz tif tiff ttf wav webm webp whl woff woff2 xls xlsx xz zip
    zst
"""
BINARY_SUFFIXES = frozenset("." + name for name in _BINARY.split())


@dataclass(frozen=True)
class ReadOptions:
    """How the bytes of files become text.

    Attributes:
        encoding: any text encoding that Python knows.
        errors: what to do with bytes that do not decode, one of `ERROR_HANDLERS`.
        text_field: the field (JSON lines) or column (Parquet) that holds the text.

    Raises:
        UsageError: no such encoding or handler.
    """

    encoding: str = "utf-8"
    errors: str = "strict"
    text_field: str = "text"

    def __post_init__(self) -> None:
        if self.errors not in ERROR_HANDLERS:
            raise UnknownNameError("error handler (--errors)", self.errors, ERROR_HANDLERS)
        try:
            "a".encode(self.encoding)
        except (LookupError, ValueError):
            raise UsageError(
                f"There is no text encoding '{self.encoding}'. Try utf-8, utf-16, latin-1 or "
                "cp1252 with --encoding."
            ) from None

    def decode(self, data: bytes, source: str, offset: int = 0) -> str:
        """The text of `data`, without a leading byte order mark.

        `source` and `offset` say in an error where the bytes are from.

        Raises:
            UsageError: bytes that are not in the encoding; the message says which and where.
        """
        try:
            return data.decode(self.encoding, self.errors).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{source} is not valid {self.encoding}: byte 0x{data[error.start]:02x} at offset "
                f"{offset + error.start}. Name its encoding with --encoding (latin-1, utf-16, …), "
                "or read on over such bytes with --errors replace."
            ) from None
        except UnicodeError as error:
            raise UsageError(f"{source} is not valid {self.encoding}: {error}.") from None

    @property
    def nul_means_binary(self) -> bool:
        """Whether a NUL byte gives a file away as binary: UTF-16 and UTF-32 are full of them."""
        return b"\0" not in "a".encode(self.encoding)


@dataclass(frozen=True)
class FileDocuments:
    """The documents of some files, read one at a time, each time it is iterated.

    Attributes:
        paths: the files, in the order in which they are read. Those ending in `.jsonl`, `.ndjson`
            or `.parquet` hold many documents; any other is one.
        options: how to read them.
        skip_binary: leave out files that have a NUL byte in them, instead of reading them as text.
    """

    paths: tuple[Path, ...]
    options: ReadOptions
    skip_binary: bool = False

    def __iter__(self) -> Iterator[str]:
        for path in self.paths:
            read = _READERS.get(path.suffix.lower())
            try:
                if read is not None:
                    yield from read(path, self.options)
                    continue
                data = path.read_bytes()
            except OSError as error:
                raise _unreadable(path, error) from error
            if self.skip_binary and self.options.nul_means_binary and b"\0" in data:
                continue
            yield self.options.decode(data, str(path))


def read_text(path: Path, options: ReadOptions) -> str:
    """The text of one file, whatever its name ends in: a `.jsonl` is read as it stands there.

    Raises:
        CorpusError: the file is missing, is a folder, or cannot be read.
        UsageError: bytes that are not in the encoding.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    return options.decode(data, str(path))


def _unreadable(path: Path, error: OSError) -> CorpusError:
    return CorpusError(f"Could not read {path}: {error.strerror or error}.")


def text_files(folder: Path) -> tuple[Path, ...]:
    """The files below `folder` that may hold text, sorted by their path's parts.

    Hidden files and folders and known binary formats are left out; links to folders are not
    followed, so a link that leads back up ends nowhere.

    Raises:
        CorpusError: a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise CorpusError(f"Could not list {error.filename}: {error.strerror}.") from error

    found: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.extend(Path(parent, name) for name in files if not name.startswith("."))
    return tuple(sorted((path for path in found if maybe_text(path)), key=lambda path: path.parts))


def maybe_text(path: Path) -> bool:
    """Whether this is an ordinary file whose name does not say that it is binary."""
    return path.suffix.lower() not in BINARY_SUFFIXES and path.is_file()


def read_json_lines(path: Path, options: ReadOptions) -> Iterator[str]:
    """The `text_field` of each line, a JSON object. Blank lines and null texts are left out.

    Raises:
        UsageError: a line is broken or has no such text; the message names file and line.
    """
    offset = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            text = options.decode(line, where, offset).rstrip()
            offset += len(line)
            if text:
                yield _text_of_line(text, where, options.text_field)


def _text_of_line(line: str, where: str, field: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        column = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(f"{where} is not JSON: {reason}{column}.") from None
    if not isinstance(value, dict):
        raise UsageError(
            f"{where} is a JSON {type(value).__name__}; expected an object with a field '{field}'."
        )
    if field not in value:
        raise UsageError(_no_field(where, "field", field, list(value)))
    text = value[field]
    if text is not None and not isinstance(text, str):
        raise UsageError(f"{where}: the field '{field}' is no text but {type(text).__name__}.")
    if text and "\\u" in line and any("\ud800" <= char <= "\udfff" for char in text):
        raise UsageError(f"{where}: the field '{field}' has half of a surrogate pair (\\uD800 …).")
    return text or ""


def read_parquet(path: Path, options: ReadOptions) -> Iterator[str]:
    """The values of the column `text_field`, a batch of rows at a time. Nulls are left out.

    Raises:
        MissingExtraError: pyarrow is not installed.
        UsageError: no Parquet file, or it has no such column of text.
    """
    parquet = _pyarrow_parquet()
    try:
        with parquet.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            if options.text_field not in columns:
                raise UsageError(_no_field(str(path), "column", options.text_field, columns))
            for batch in file.iter_batches(columns=[options.text_field]):
                for value in batch.column(0).to_pylist():
                    if value is not None and not isinstance(value, str):
                        raise UsageError(
                            f"{path}: the column '{options.text_field}' is no text but "
                            f"{type(value).__name__}."
                        )
                    yield value or ""
    except UsageError:
        raise
    except (ValueError, NotImplementedError) as error:
        # What pyarrow's errors about a file's content derive from.
        raise UsageError(f"{path} cannot be read as Parquet: {_first_line(error)}") from error


def _pyarrow_parquet() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise MissingExtraError("data", "Reading .parquet files") from None


def _no_field(where: str, kind: str, field: str, available: list[str]) -> str:
    return (
        f"{where} has no {kind} '{field}'. It has: {', '.join(available) or 'none'}. "
        "Choose one with --text-field."
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


_READERS: dict[str, Callable[[Path, ReadOptions], Iterator[str]]] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": read_parquet,
}
