"""`toolkit runs`: what was trained, and how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.options import Debug, Json

commands = typer.Typer()


@commands.command(epilog="Example: [cyan]toolkit runs[/cyan]")
def runs(
    folder: Annotated[Path, typer.Argument(help="Where the runs are.")] = Path("runs"),
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the runs and their results."""
    from toolkit import console
    from toolkit.run import LATEST, follow_latest, list_runs

    found = list_runs(folder)
    target = follow_latest(folder / LATEST)
    latest = target.name if target else None
    if json:
        rows = [
            {"name": run.name, "folder": str(run.folder), **run.info.to_json()} for run in found
        ]
        console.print_json({"latest": latest, "runs": rows})
    elif found:
        console.print_runs(found, latest)
    else:
        console.notice(f"No runs in {folder} yet. Make one with: toolkit train")
