"""`toolkit ladder`: every model from bigram to gpt on the same text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.options import (
    MODEL,
    PARTS,
    TRAINING,
    Config,
    CorpusSpec,
    Debug,
    Device,
    Encoding,
    Errors,
    Json,
    Quiet,
    TextField,
    TokenizerSpec,
    Verbose,
    panel_option,
    split_names,
)

commands = typer.Typer()


@commands.command(
    epilog="Examples: [cyan]toolkit ladder[/cyan] · "
    "[cyan]toolkit ladder -c tiny-shakespeare --max-steps 500 --prompt ROMEO:[/cyan] · "
    "[cyan]toolkit ladder --models bigram,single-head,gpt --max-time 20 --out ladder/[/cyan]"
)
def ladder(
    corpus: CorpusSpec = "shakespeare",
    tokenizer: TokenizerSpec = "char",
    models: Annotated[
        str | None, panel_option(PARTS, metavar="NAME,NAME,…", help="Some of them; default all.")
    ] = None,
    out: Annotated[
        Path | None, panel_option(PARTS, help="A folder; default runs/ladder-N.")
    ] = None,
    config: Config = None,
    n_embd: Annotated[int, panel_option(MODEL, help="Channels.")] = 64,
    block_size: Annotated[int, panel_option(MODEL, help="Context in tokens.")] = 32,
    batch_size: Annotated[int, panel_option(TRAINING, help="Sequences a step.")] = 32,
    max_steps: Annotated[
        int | None, panel_option(TRAINING, help="Of each model; 1000 unless --max-time is given.")
    ] = None,
    max_time: Annotated[float | None, panel_option(TRAINING, help="Seconds of each model.")] = None,
    learning_rate: Annotated[
        float, panel_option(TRAINING, help="At its peak, the same for all.")
    ] = 1e-2,
    held_out: Annotated[
        float, panel_option(TRAINING, help="Share of the text to validate on.")
    ] = 0.1,
    prompt: Annotated[str, panel_option(PARTS, help="What every sample continues.")] = "",
    seed: Annotated[int, panel_option(TRAINING, help="Same seed, same result.")] = 0,
    device: Device = "auto",
    encoding: Encoding = "utf-8",
    errors: Errors = "strict",
    text_field: TextField = "text",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Train every model from bigram to gpt on the same text and budget, and compare them.

    Writes a run of each, one figure (ladder.png, .svg), a page that says what each step added
    (ladder.html) and the numbers (ladder.json).
    """
    from toolkit import console, ladder_view
    from toolkit.corpora import load_corpus
    from toolkit.ladder import climb, models_to_climb
    from toolkit.reporting import require_plots, write_ladder
    from toolkit.tokenizers.registry import class_of_spec

    require_plots()
    class_of_spec(tokenizer)  # a misspelt name is refused before a corpus is fetched
    names = models_to_climb(
        None if models is None else split_names(models, "--models", "models, as in bigram,gpt")
    )
    with console.progress_bars(quiet or json) as show:
        text = load_corpus(
            corpus,
            encoding=encoding,
            errors=errors,
            text_field=text_field,
            on_progress=lambda done, total: show("reading", done, total),
        )
    with ladder_view.showing(names, as_json=json, quiet=quiet, verbose=verbose) as on_event:
        result = climb(
            text,
            models=names,
            max_steps=max_steps,
            max_time=max_time,
            n_embd=n_embd,
            block_size=block_size,
            batch_size=batch_size,
            learning_rate=learning_rate,
            tokenizer=tokenizer,
            prompt=prompt,
            seed=seed,
            device=device,
            held_out=held_out,
            out=out,
            on_event=on_event,
        )
    files = write_ladder(result, result.folder) if result.rungs else []
    if json:
        console.print_json(result)
    else:
        ladder_view.print_result(result, files, quiet=quiet)
    if result.interrupted:
        raise typer.Exit(130)
