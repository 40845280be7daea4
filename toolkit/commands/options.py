"""Options that several commands have, and how their values are read.

They mean the same everywhere, so they are declared once. Nothing heavy is imported here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.errors import UnknownNameError, UsageError


def _config_file(context: typer.Context, path: Path | None) -> Path | None:
    """Take options from a TOML file; what is on the command line wins."""
    if path is not None:
        context.default_map = {**(context.default_map or {}), **_read_options(context, path)}
    return path


def _read_options(context: typer.Context, path: Path) -> dict[str, Any]:
    import tomllib

    try:
        options = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path} cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"--config {path} is not valid TOML: {error}.") from error
    known = {parameter.name for parameter in context.command.params} - {"config", None}
    found = {}
    for key, value in options.items():
        name = key.replace("-", "_")
        if name not in known:
            raise UnknownNameError(
                f"option of {context.info_name} in {path}", name, map(str, known)
            )
        if isinstance(value, dict):
            raise UsageError(
                f"--config {path}: [{key}] is a table; write options at the top level."
            )
        found[name] = value
    return found


# The panels of --help that options of training fall into.
PARTS = "What"
MODEL = "Model"
TRAINING = "Training"


def panel_option(panel: str, *names: str, **settings: Any) -> Any:
    """An option under a heading of its own in --help."""
    return typer.Option(*names, rich_help_panel=panel, **settings)


# Options that mean the same in every command.
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more about what is done.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, for programs.")]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_config_file,
        is_eager=True,
        metavar="FILE.toml",
        help="Options from a TOML file; the command line wins.",
    ),
]
CorpusSpec = Annotated[
    str,
    typer.Option(
        "--corpus",
        "-c",
        metavar="NAME|FILE|FOLDER|GLOB|-",
        help="A named corpus (see: toolkit corpora), files, or - for standard input.",
    ),
]
TokenizerSpec = Annotated[
    str, typer.Option("--tokenizer", "-t", metavar="SPEC", help="char, word, byte, bpe, bpe:4096 …")
]
Unknown = Annotated[
    str | None,
    typer.Option(
        metavar="error|unk", help="char, word: what to do with text outside the vocabulary."
    ),
]
Encoding = Annotated[str, typer.Option(help="Of the corpus's files.")]
Errors = Annotated[str, typer.Option(help="Bytes that do not decode: strict, replace, ignore …")]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="bpe: memory to train with, such as 2GB; the rarest words are dropped if need be.",
    ),
]
TokenizerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tokenizer-option",
        "-O",
        metavar="NAME=VALUE",
        help="An option of the tokenizer, such as -O pattern=cl100k; repeatable.",
    ),
]
TextField = Annotated[str, typer.Option(help="Of .jsonl and .parquet corpora.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")]
RunPath = Annotated[
    str | None, typer.Option("--run", metavar="RUN", help="A run folder; the newest by default.")
]


def was_given(context: typer.Context, name: str) -> bool:
    """Whether an option was given, on the command line or in a file."""
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "DEFAULT_MAP")


def refuse_of_texts(context: typer.Context, task: str | None) -> None:
    """Check that no option of a corpus was given beside a task.

    Raises:
        UsageError: one was.
    """
    for name in ("corpus", "encoding", "errors", "text_field"):
        if task is not None and was_given(context, name):
            option_name = "--" + name.replace("_", "-")
            raise UsageError(f"{option_name} and --task exclude each other; give one of them.")


def refuse_together(given: dict[str, Any]) -> None:
    """Check that at most one of some options was given, by their names.

    Raises:
        UsageError: two were.
    """
    names = [name for name, value in given.items() if value not in (None, False, [])]
    if len(names) > 1:
        raise UsageError(f"{names[0]} and {names[1]} exclude each other; give one of them.")


def read_text(source: str) -> str:
    """The text of a file, or of standard input where it is -.

    Raises:
        UsageError: no such file, or one that is not UTF-8.
    """
    name = "Standard input" if source == "-" else source
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}."
        ) from error


def split_names(text: str, option: str, what: str) -> list[str]:
    """The names of a list such as `bigram,gpt`.

    Raises:
        UsageError: an empty one, or the same twice.
    """
    names = [name.strip() for name in text.split(",")]
    if "" in names or len(set(names)) < len(names):
        raise UsageError(f"{option} '{text}': expected different {what}.")
    return names


def given_fields(context: typer.Context) -> dict[str, Any]:
    """What was given of the model's and the training's fields: all under these two headings."""
    fields = [
        parameter.name
        for parameter in context.command.params
        if getattr(parameter, "rich_help_panel", None) in (MODEL, TRAINING)
    ]
    values = {str(name): context.params[str(name)] for name in fields}
    return {name: value for name, value in values.items() if value is not None}
