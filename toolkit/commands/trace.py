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
    '[cyan]toolkit trace "Hello" --model openai-community/gpt2 --json[/cyan]'
)
def trace(
    text: Annotated[str, typer.Argument(help="The text that goes in.")],
    run: RunPath = None,
    model: ModelSource = None,
    tokenizer: ModelTokenizer = None,
    layer: Annotated[
        list[int] | None, typer.Option(help="Show only this layer, from 0; repeatable.")
    ] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Walk through one forward pass: every step with its equation, shapes and real numbers."""
    from toolkit import console, trace_view
    from toolkit.inspection import walk

    opened = open_chosen(run, model, tokenizer, device)
    steps = walk(opened.model, opened.tokenizer.encode(text))
    n_layer = max((step.layer + 1 for step in steps.steps if step.layer is not None), default=0)
    for number in layer or ():
        if not 0 <= number < n_layer:
            raise UsageError(f"--layer {number}: this model has {n_layer} layers, from 0.")
    if json:
        console.print_json(trace_view.walk_to_json(steps, opened.tokenizer, layer or ()))
    else:
        trace_view.print_walk(steps, opened.tokenizer, layers=layer or (), quiet=quiet)
