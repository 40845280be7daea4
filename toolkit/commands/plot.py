"""`toolkit plot`: loss curves of one run or many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.options import Debug, Json, Quiet, split_names

commands = typer.Typer()


@commands.command(
    epilog="Examples: [cyan]toolkit plot[/cyan] · "
    "[cyan]toolkit plot runs/first runs/second --out both.svg[/cyan] · "
    "[cyan]toolkit plot --x seconds --y bits_per_byte,tokens_per_second[/cyan]"
)
def plot(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN…]", help="Run folders; the newest by default."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png|FILE.svg|FOLDER",
            help="Default: training_curves.png in the run, loss_curves.png here for several.",
        ),
    ] = None,
    x: Annotated[str, typer.Option(metavar="step|tokens|seconds", help="The axis.")] = "step",
    y: Annotated[
        str,
        typer.Option(
            metavar="NAME,NAME,…",
            help="Panels, of loss, bits_per_byte, lr, grad_norm and tokens_per_second.",
        ),
    ] = "loss,lr,grad_norm",
    smooth: Annotated[
        int, typer.Option(help="Logged steps that a point is the mean of; 1: none.")
    ] = 10,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw loss curves of runs, finished or still running, and compare them in a table."""
    from toolkit import console, run_view
    from toolkit.run_plots import plot_runs

    panels = split_names(y, "--y", "names, as in loss,lr")
    result = plot_runs(runs or None, out=out, x=x, y=panels, smooth=smooth)
    if json:
        console.print_json({"runs": result.runs, "files": result.files})
    else:
        run_view.print_plot(result, quiet=quiet)
