"""`toolkit corpora`: the named texts, and token files from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.options import (
    Config,
    CorpusSpec,
    Debug,
    Encoding,
    Errors,
    Json,
    MaxMemory,
    Quiet,
    TextField,
    TokenizerOption,
    TokenizerSpec,
    Unknown,
    Verbose,
)
from toolkit.tokenizer_options import tokenizer_options

commands = typer.Typer(
    epilog="Examples: [cyan]toolkit corpora[/cyan] · "
    "[cyan]toolkit corpora tokenize -t bpe:4096 --out tokens/[/cyan]"
)


@commands.callback(invoke_without_command=True)
def corpora(context: typer.Context, json: Json = False, debug: Debug = False) -> None:
    """The named corpora: size, licence, and whether they are on this machine."""
    if context.invoked_subcommand is not None:
        return
    from toolkit import console
    from toolkit.corpora import list_corpora

    found = list_corpora()
    if json:
        console.print_json(found)
    else:
        console.print_corpora(found)


@commands.command(
    "tokenize",
    epilog="Examples: [cyan]toolkit corpora tokenize -t bpe:4096 --out tokens/[/cyan] · "
    "[cyan]toolkit corpora tokenize -c 'texts/*.jsonl' -t tiktoken:cl100k_base --out ids/[/cyan]",
)
def corpora_tokenize(
    out: Annotated[Path, typer.Option(help="The folder for the token files.")],
    tokenizer: TokenizerSpec = "bpe",
    corpus: CorpusSpec = "shakespeare",
    held_out: Annotated[float, typer.Option(help="Share of the text to validate on.")] = 0.1,
    shard_tokens: Annotated[
        int | None, typer.Option(help="Ids in a file before the next one begins.")
    ] = None,
    max_memory: MaxMemory = None,
    option: TokenizerOption = None,
    unknown: Unknown = None,
    encoding: Encoding = "utf-8",
    errors: Errors = "strict",
    text_field: TextField = "text",
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Encode a corpus into token files, as training does; after a kill it goes on where it was.

    The tokenizer that was trained for it is kept in the folder, under tokenizer/.
    """
    from toolkit import console
    from toolkit.corpora import load_corpus
    from toolkit.token_files import tokenize_corpus

    with console.progress_bars(quiet) as show:
        text = load_corpus(
            corpus,
            encoding=encoding,
            errors=errors,
            text_field=text_field,
            on_progress=lambda done, total: show("reading", done, total),
        )
        result = tokenize_corpus(
            text,
            tokenizer,
            out,
            held_out=held_out,
            shard_tokens=shard_tokens,
            tokenizer_options=tokenizer_options(unknown, max_memory, option),
            on_progress=show,
        )
    if json:
        console.print_json(result)
    else:
        console.print_tokenized(result)
