"""`toolkit trace`: one forward pass, step by step."""

from __future__ import annotations

from typing import Annotated

import typer

from toolkit.commands.model_options import ModelSource, ModelTokenizer, open_chosen
from toolkit.commands.options import Debug, Device, Json, Quiet, RunPath
from toolkit.errors import UsageError

commands = typer.Typer()


@commands.command(
    epilog='Examples: [cyan]toolkit trace "ROMEO:"[/cyan] · '
    '[cyan]toolkit trace "ROMEO:" --run runs/first --layer 0[/cyan] · '
    '[cyan]toolkit trace "Hello" --model openai-community/gpt2 --json[/cyan] · '
    '[cyan]toolkit trace "12 March 2024" --run runs/dates --target 2024[/cyan]'
)
def trace(
    text: Annotated[
        str, typer.Argument(help="The text that goes in; the source, of a run that translates.")
    ],
    run: RunPath = None,
    model: ModelSource = None,
    tokenizer: ModelTokenizer = None,
    layer: Annotated[
        list[int] | None, typer.Option(help="Show only this layer, from 0; repeatable.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Of a run that translates: what is written already. Default: what it writes.",
        ),
    ] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Walk through one forward pass: every step with its equation, shapes and real numbers.

    Of a run that translates: the encoder reads the source, the decoder the target so far.
    """
    from toolkit import console, trace_view
    from toolkit.inspecting_pairs import pair_to_inspect
    from toolkit.inspection import walk, walk_pair

    opened = open_chosen(run, model, tokenizer, device)
    if opened.model.takes_source:
        steps = walk_pair(opened.model, *pair_to_inspect(opened, text, target))
    elif target is not None:
        raise UsageError("--target is for a run that translates; this model continues texts.")
    else:
        steps = walk(opened.model, opened.tokenizer.encode(text))
    n_layer = max((step.layer + 1 for step in steps.steps if step.layer is not None), default=0)
    for number in layer or ():
        if not 0 <= number < n_layer:
            raise UsageError(f"--layer {number}: this model has {n_layer} in all, from 0.")
    if json:
        console.print_json(
            trace_view.walk_to_json(
                steps, opened.tokenizer, layer or (), source_tokenizer=opened.source_tokenizer
            )
        )
    else:
        trace_view.print_walk(
            steps,
            opened.tokenizer,
            source_tokenizer=opened.source_tokenizer,
            layers=layer or (),
            quiet=quiet,
        )
