"""`toolkit export`: a model in the files of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.options import Config, Debug, Json, Quiet, Verbose

commands = typer.Typer()


@commands.command(
    epilog="Examples: [cyan]toolkit export --format hf --out my-model[/cyan] · "
    "[cyan]toolkit export runs/first --format gguf --out first.gguf --dtype q8_0[/cyan] · "
    "[cyan]toolkit export openai-community/gpt2 --format onnx --out gpt2.onnx[/cyan]"
)
def export(
    out: Annotated[Path, typer.Option(help="The file or folder to write.")],
    format: Annotated[
        str, typer.Option("--format", metavar="hf|gguf|onnx|torchscript", help="What to write.")
    ],
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|PATH|HUB_NAME]",
            help="A run (the newest by default), or a folder of Hugging Face's.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="float32|float16|bfloat16|q8_0",
            help="Of the weights, for hf and gguf (q8_0: gguf alone); default float32.",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", "-t", metavar="SPEC", help="Instead of the model's own."),
    ] = None,
    no_tokenizer: Annotated[
        bool, typer.Option("--no-tokenizer", help="hf, gguf: write the weights alone.")
    ] = False,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Write a model for other programs, read it back and say how far off it is."""
    from toolkit import console, exporting

    exported = exporting.export(
        run, format, out, tokenizer=tokenizer, dtype=dtype, with_tokenizer=not no_tokenizer
    )
    if json:
        console.print_json(exported)
    elif not quiet:
        console.print_exported(exported, verbose=verbose)
