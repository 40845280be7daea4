"""`toolkit sweep`: a training for each set of options in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.options import Debug, Json, Quiet

commands = typer.Typer()


@commands.command(
    epilog="Examples: [cyan]toolkit sweep lr.toml[/cyan] · "
    "[cyan]toolkit sweep lr.toml --out runs/lr --max-time 3600[/cyan]"
)
def sweep(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.toml",
            help="Options of train, and [grid] or [random] with [sweep] trials and seed.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The folder; default runs/sweep-NAME of NAME.toml.")
    ] = None,
    max_time: Annotated[
        float | None, typer.Option(help="Seconds after which no further trial begins.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train with every set of options in a file, and rank them.

    The same command goes on where it was stopped: finished trials are kept, an interrupted one
    continues to the bit.
    """
    from toolkit import console, sweep_view
    from toolkit.sweeping import sweep as run_sweep

    with sweep_view.showing(quiet=quiet or json) as on_event:
        result = run_sweep(file, out=out, max_time=max_time, on_event=on_event)
    if json:
        console.print_json(result)
    else:
        sweep_view.print_result(result, quiet=quiet)
    if result.interrupted:
        raise typer.Exit(130)
