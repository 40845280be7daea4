"""`toolkit learn`: the exercises of the tutorial, and whether they are solved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.options import Debug, Json, Quiet

commands = typer.Typer(
    help="The pages of docs/tutorial and their exercises: show, start, check.",
    epilog="Examples: [cyan]toolkit learn show 4[/cyan] · [cyan]toolkit learn start 4[/cyan] · "
    "[cyan]toolkit learn check 4[/cyan]",
)

PageName = Annotated[
    str, typer.Argument(metavar="N", help="A page, by number or name. See: toolkit learn.")
]


@commands.callback(invoke_without_command=True)
def learn(context: typer.Context, json: Json = False, debug: Debug = False) -> None:
    """The pages of the tutorial (docs/tutorial) and their exercises."""
    if context.invoked_subcommand is not None:
        return
    from toolkit import console, learning_view
    from toolkit.learning import PAGES

    if json:
        console.print_json(PAGES)
    else:
        learning_view.print_pages(PAGES)


@commands.command("show", epilog="Example: [cyan]toolkit learn show 4[/cyan]")
def learn_show(page: PageName, json: Json = False, debug: Debug = False) -> None:
    """The exercises of a page."""
    from toolkit import console, learning_view
    from toolkit.learning import exercises_of, find_page

    found, exercises = find_page(page), exercises_of(page)
    if json:
        console.print_json(
            [{"name": e.name, "signature": e.signature, "task": e.task} for e in exercises]
        )
    else:
        learning_view.print_exercises(found, exercises)


@commands.command(
    "start",
    epilog="Examples: [cyan]toolkit learn start 4[/cyan] · "
    "[cyan]toolkit learn start attention --out mine.py[/cyan]",
)
def learn_start(
    page: PageName,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: page_N.py, here.")
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a file with the functions to fill in. One that is there stays as it is."""
    import shlex

    from toolkit import console
    from toolkit.learning import find_page, write_stubs

    path = write_stubs(page, out)
    if not quiet:
        option = f" {shlex.quote(str(path))}" if out else ""
        console.notice(
            f"Wrote {path}. Fill it in, then: toolkit learn check {find_page(page).number}{option}"
        )


@commands.command(
    "check",
    epilog="Examples: [cyan]toolkit learn check 4[/cyan] · "
    "[cyan]toolkit learn check attention mine.py[/cyan]",
)
def learn_check(
    page: PageName,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Default: page_N.py, here.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run your functions against values. Exits with 1 if one is wrong."""
    from toolkit import console, learning_view
    from toolkit.learning import check, default_file, exercises_of, load_answers

    exercises_of(page)  # a page that there is not is refused before a file is run
    with learning_view.prints_on_standard_error():
        results = check(page, load_answers(file or default_file(page)))
    if json:
        console.print_json(results)
    else:
        learning_view.print_results(results, quiet=quiet)
    if not all(result.passed for result in results):
        raise typer.Exit(1)
