"""`toolkit inspect`: figures, numbers and a page on what goes on inside a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.model_options import ModelSource, ModelTokenizer, open_chosen
from toolkit.commands.options import (
    Debug,
    Device,
    Json,
    Quiet,
    RunPath,
    split_names,
)
from toolkit.errors import UsageError

commands = typer.Typer()


@commands.command(
    epilog='Examples: [cyan]toolkit inspect "ROMEO: I am"[/cyan] · '
    '[cyan]toolkit inspect "ROMEO: I am" --run runs/first --out report[/cyan] · '
    '[cyan]toolkit inspect "Hello there" --model openai-community/gpt2 --probe position[/cyan] · '
    '[cyan]toolkit inspect "12 March 2024" --run runs/dates --target 2024-03-12[/cyan]'
)
def inspect(
    text: Annotated[
        str,
        typer.Argument(
            help="The text that goes in, 10 to 200 tokens; the source, of a run that translates."
        ),
    ],
    run: RunPath = None,
    model: ModelSource = None,
    tokenizer: ModelTokenizer = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Of a run that translates: the target. Default: what the model writes.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Default: report in the run.")
    ] = None,
    probe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME,…", help="Linear probes: position, token-class, next-token."
        ),
    ] = None,
    every_head: Annotated[
        bool, typer.Option("--every-head", help="A figure of each head too.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the random tokens that test for induction.")] = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Look inside a model: attention, layers, gradients, embeddings, as figures and one page.

    Of a run that translates: encoder, decoder, and what the decoder reads of the source.
    """
    from toolkit import console, inspect_view
    from toolkit.inspecting import inspect_text
    from toolkit.inspecting_pairs import inspect_translation

    probes = split_names(probe, "--probe", "names, as in position,next-token") if probe else []
    opened = open_chosen(run, model, tokenizer, device)
    if opened.model.takes_source:
        if probe is not None or every_head:
            option = "--every-head" if probe is None else "--probe"
            raise UsageError(f"{option} is for models that continue texts; this run translates.")
        pair = inspect_translation(text, opened, target=target, out=out)
        if json:
            console.print_json({"folder": pair.folder, **pair.to_json()})
        else:
            inspect_view.print_inspected_pair(pair, quiet=quiet)
        return
    if target is not None:
        raise UsageError("--target is for a run that translates; this model continues texts.")
    inspected = inspect_text(text, opened, out=out, probes=probes, every_head=every_head, seed=seed)
    if json:
        console.print_json({"folder": inspected.folder, **inspected.analysis.to_json()})
    else:
        inspect_view.print_inspected(inspected, quiet=quiet)
