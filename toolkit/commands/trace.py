"""`toolkit trace`: one forward pass, step by step."""

from __future__ import annotations

from typing import Annotated

import typer

from toolkit.commands.options import Debug, Device, Json, Quiet, RunPath, refuse_together
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
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|HUB_NAME",
            help="A Hugging Face folder of GPT-2, Llama or Qwen3 instead of a run.",
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", "-t", metavar="SPEC", help="For a --model without its own."),
    ] = None,
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
    from toolkit.opening import open_model, open_run
    from toolkit.training import resolve_device

    refuse_together({"--run": run, "--model": model})
    if tokenizer is not None and model is None:
        raise UsageError("--tokenizer is for a --model; a run has its own. Leave it out.")
    where = str(resolve_device(device))
    if model is not None:
        opened = open_model(model, tokenizer=tokenizer, device=where)
    else:
        opened = open_run(run, device=where)
    steps = walk(opened.model, opened.tokenizer.encode(text))
    n_layer = max((step.layer + 1 for step in steps.steps if step.layer is not None), default=0)
    for number in layer or ():
        if not 0 <= number < n_layer:
            raise UsageError(f"--layer {number}: this model has {n_layer} layers, from 0.")
    if json:
        console.print_json(trace_view.walk_to_json(steps, opened.tokenizer, layer or ()))
    else:
        trace_view.print_walk(steps, opened.tokenizer, layers=layer or (), quiet=quiet)
