"""`toolkit perplexity`: how well a model predicts a text."""

from __future__ import annotations

from typing import Annotated

import typer

from toolkit.commands.model_options import ModelSource, ModelTokenizer, open_chosen
from toolkit.commands.options import Config, Debug, Device, Json, Quiet, RunPath, read_text

commands = typer.Typer()


@commands.command(
    epilog="Examples: [cyan]toolkit perplexity play.txt[/cyan] · "
    "[cyan]toolkit perplexity --run runs/first --stride 1 --tokens play.txt[/cyan] · "
    "[cyan]echo 'To be, or not to be' | toolkit perplexity - --json[/cyan]"
)
def perplexity(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A text; - reads standard input.")],
    run: RunPath = None,
    model: ModelSource = None,
    tokenizer: ModelTokenizer = None,
    context: Annotated[
        int | None, typer.Option(help="The window's length in tokens; the model's by default.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="How far windows are apart; half a window by default.")
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Each token with its numbers.")] = False,
    device: Device = "auto",
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Loss, perplexity and bits per byte of a text under a model."""
    from toolkit import console, generation_view
    from toolkit.generation import score_text

    text = read_text(file)
    opened = open_chosen(run, model, tokenizer, device)
    score = score_text(opened.model, opened.tokenizer, text, context=context, stride=stride)
    if json:
        rows = {"run" if model is None else "model": str(opened.folder)}
        console.print_json(rows | generation_view.score_to_json(score, with_tokens=tokens))
        return
    if tokens:
        generation_view.print_scored_tokens(score)
    generation_view.print_score(score)
    if not quiet:
        console.notice(
            f"{score.num_tokens:,} tokens, {score.num_bytes:,} bytes; windows of {score.context} "
            f"tokens, {score.stride} apart"
        )
