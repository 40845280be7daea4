"""`toolkit tokenize`: how a text falls into tokens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.options import (
    CorpusSpec,
    Debug,
    Errors,
    Json,
    Quiet,
    RunPath,
    TokenizerOption,
    Unknown,
    Verbose,
    refuse_together,
)
from toolkit.errors import UsageError
from toolkit.tokenizer_options import tokenizer_options

commands = typer.Typer()


@commands.command(
    epilog='Examples: [cyan]toolkit tokenize "hello world"[/cyan] · '
    '[cyan]toolkit tokenize --explain "lower newest"[/cyan] · '
    '[cyan]toolkit tokenize "hello" -t bpe:512 -c tiny-shakespeare --json[/cyan] · '
    "[cyan]toolkit tokenize --count -f a.txt -f b.txt[/cyan] · "
    '[cyan]toolkit tokenize --diff bpe:512 bpe:4k "hello world"[/cyan]'
)
def tokenize(
    text: Annotated[str | None, typer.Argument(help="The text; - reads standard input.")] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", help="Read the text from a file; repeatable."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", "-t", metavar="SPEC", help="Default: the newest run's."),
    ] = None,
    run: RunPath = None,
    corpus: CorpusSpec = "shakespeare",
    ids: Annotated[
        bool, typer.Option("--ids", help="Only the ids, one line for each text.")
    ] = False,
    as_bytes: Annotated[
        bool, typer.Option("--bytes", help="One line a token: id, bytes in hex, how it looks.")
    ] = False,
    count: Annotated[
        bool, typer.Option("--count", help="Only how many tokens; several files as wc does.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="bpe: the merges of each word, step by step.")
    ] = False,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option("--diff", metavar="SPEC SPEC", help="Where two tokenizers cut differently."),
    ] = None,
    option: TokenizerOption = None,
    unknown: Unknown = None,
    encoding: Annotated[
        str, typer.Option(help="Of --file, of standard input and of the corpus's files.")
    ] = "utf-8",
    errors: Errors = "strict",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Show how a text falls into tokens, with ids and bytes; --explain shows why."""
    from toolkit import console, token_view
    from toolkit.corpora import load_corpus
    from toolkit.run import Run
    from toolkit.tokenizers import load_tokenizer
    from toolkit.tokenizers.registry import needs_corpus

    refuse_together({"--tokenizer": tokenizer, "--run": run, "--diff": diff})
    forms = {"--ids": ids, "--bytes": as_bytes, "--count": count, "--explain": explain}
    refuse_together({**forms, "--diff": diff})
    texts = _texts_to_show(text, file, encoding, errors)
    if diff is None and tokenizer is None and (run is not None or _has_run()):
        opened = Run.open(run)
        if not quiet:
            console.notice(f"the tokenizer of {opened.folder}")
        made = [opened.tokenizer]
    else:
        specs = diff or (tokenizer or "bpe",)
        options = tokenizer_options(unknown, None, option)
        source = None
        learning = [spec for spec in specs if needs_corpus(spec)]
        if learning:
            source = load_corpus(corpus, encoding=encoding, errors=errors)
            if not quiet:
                console.notice(f"{' and '.join(learning)}, trained on {source.name}")
        made = [load_tokenizer(spec, source, **options) for spec in specs]
    if diff is not None:
        view = token_view.comparison_view(diff, made[0], made[1], verbose=verbose, quiet=quiet)
    else:
        form = next((name for name, given in forms.items() if given), "--tokens")
        view = token_view.view_of(form, made[0], verbose=verbose, quiet=quiet)
    if json:
        console.print_json(view.document(texts, by_file=bool(file)))
    else:
        view.show(texts)


def _texts_to_show(
    text: str | None, files: list[Path] | None, encoding: str, errors: str
) -> list[tuple[str, str]]:
    """Names and texts: of the files, or of the one text, which has no name."""
    from toolkit.corpora.local import ReadOptions, read_text

    options = ReadOptions(encoding, errors)
    refuse_together({"TEXT": text, "--file": files})
    if files:
        return [(str(path), read_text(path, options)) for path in files]
    if text == "-" or (text is None and not sys.stdin.isatty()):
        return [("", options.decode(sys.stdin.buffer.read(), "Standard input"))]
    if text is None:
        raise UsageError(
            "No text: give it as an argument, with --file PATH, or through a pipe (- reads "
            "standard input)."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # Python hides bytes of the command line that are not UTF-8 in lone surrogates.
        raise UsageError(
            f"The text is not valid UTF-8 at position {error.start}. Give it as a file and name "
            "its encoding: --file PATH --encoding latin-1."
        ) from None
    return [("", text)]


def _has_run() -> bool:
    from toolkit.errors import RunError
    from toolkit.run import find_run

    try:
        find_run()
    except RunError:
        return False
    return True
