"""`toolkit vocab-stats`: what a vocabulary does to a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.commands.options import (
    Config,
    Debug,
    Encoding,
    Errors,
    Json,
    Quiet,
    TextField,
    TokenizerOption,
    TokenizerSpec,
    Unknown,
    Verbose,
    split_names,
    was_given,
)
from toolkit.errors import UnknownNameError, UsageError
from toolkit.tokenizer_options import tokenizer_options

if TYPE_CHECKING:
    from toolkit.corpora import Corpus

commands = typer.Typer()


@commands.command(
    "vocab-stats",
    epilog="Examples: [cyan]toolkit vocab-stats[/cyan] · "
    "[cyan]toolkit vocab-stats --compare char,word,bpe:1k,bpe:4k,tiktoken:cl100k_base[/cyan] · "
    "[cyan]toolkit vocab-stats --suggest[/cyan] · "
    "[cyan]toolkit vocab-stats -t bpe:4k --out figures/ --html report.html[/cyan]",
)
def vocab_stats(
    context: typer.Context,
    tokenizer: TokenizerSpec = "bpe",
    compare: Annotated[
        str | None,
        typer.Option(metavar="SPEC,SPEC,…", help="Several tokenizers side by side."),
    ] = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            "--corpus",
            "-c",
            metavar="NAME|FILE|FOLDER|GLOB|-",
            help="The text, by default shakespeare; repeat it to compare texts.",
        ),
    ] = None,
    train_on: Annotated[
        str | None,
        typer.Option(metavar="CORPUS", help="Train on this text instead of each text itself."),
    ] = None,
    split_by: Annotated[
        str | None, typer.Option(metavar="script", help="Count words by script, too.")
    ] = None,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="bpe: the vocabulary size at the knee, and why.")
    ] = False,
    every: Annotated[
        int | None, typer.Option(help="bpe: merges between rows of the growth table.")
    ] = None,
    top: Annotated[int, typer.Option(help="How many tokens the lists show.")] = 10,
    n_embd: Annotated[int, typer.Option(help="Channels, for the size of an embedding.")] = 768,
    held_out: Annotated[float, typer.Option(help="Share of the text kept for unknowns.")] = 0.1,
    out: Annotated[
        Path | None, typer.Option(help="A folder for figures (PNG, SVG), CSV and JSON.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="A file for all of it on one page.")] = None,
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
    """What a vocabulary does to a text, how it grows, and which tokenizer suits.

    One tokenizer alone: statistics, the laws of Heaps and Zipf, and for a bpe each merge. Several
    (--compare, or several --corpus): a table with the best value of each column marked.
    """
    from toolkit import console, vocab_view
    from toolkit.corpora import load_corpus
    from toolkit.tokenizers.registry import class_of_spec
    from toolkit.vocabularies import measure_vocabularies

    if compare is not None and was_given(context, "tokenizer"):
        raise UsageError("--compare and --tokenizer exclude each other; give one of them.")
    if split_by not in (None, "script"):
        raise UnknownNameError("way for --split-by", str(split_by), ["script"])
    if every is not None and every < 1:
        raise UsageError(f"--every {every} must be at least 1")
    specs = (
        split_names(compare, "--compare", "tokenizers, as in char,bpe:4k")
        if compare is not None
        else [tokenizer]
    )
    for spec in specs:
        class_of_spec(spec)  # a misspelt name is refused before a corpus is fetched
    if out is not None or html is not None:
        from toolkit.reporting import require_plots
        from toolkit.reporting.vocab_pictures import MOST_SERIES

        require_plots()
        if len(specs) > MOST_SERIES:
            raise UsageError(f"Figures have room for {MOST_SERIES} tokenizers, not {len(specs)}.")
    with console.progress("reading", quiet) as show:

        def load(spec: str) -> Corpus:
            return load_corpus(
                spec, encoding=encoding, errors=errors, text_field=text_field, on_progress=show
            )

        texts = [load(spec) for spec in corpus or ["shakespeare"]]
        source = load(train_on) if train_on is not None else None
    report = measure_vocabularies(
        specs,
        texts,
        train_on=source,
        held_out=held_out,
        options=tokenizer_options(unknown, None, option),
        top=top,
        n_embd=n_embd,
        by_script=split_by == "script",
        suggest=suggest,
        on_stage=console.notice if verbose and not quiet else None,
    )
    written: list[str] = []
    if out is not None:
        from toolkit.reporting import write_report

        written.append(f"{len(write_report(report, out))} files in {out}")
    if html is not None:
        from toolkit.reporting import write_page

        write_page(report, html)
        written.append(str(html))
    if json:
        console.print_json(vocab_view.report_to_json(report, every=every))
    else:
        vocab_view.print_report(report, every=every)
    if written and not quiet:
        console.notice(f"written: {', '.join(written)}")
