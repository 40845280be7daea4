"""`toolkit fixtures`: inputs and outputs of every layer, for a port to check itself with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.options import Config, Debug, Json, Quiet, Verbose
from toolkit.errors import UsageError

commands = typer.Typer(
    epilog="Examples: [cyan]toolkit fixtures make --out fixtures --compact[/cyan] · "
    "[cyan]toolkit fixtures check fixtures --against results[/cyan]"
)

Cases = Annotated[
    list[str] | None,
    typer.Option(
        "--case", metavar="NAME", help="Only this one; repeatable. See: toolkit fixtures."
    ),
]
OfDevice = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="torch: where to compute.")
]


@commands.callback(invoke_without_command=True)
def fixtures(context: typer.Context, json: Json = False, debug: Debug = False) -> None:
    """The cases that there are fixtures of, and their sizes."""
    if context.invoked_subcommand is not None:
        return
    from toolkit import console, fixtures_view
    from toolkit.fixtures import available_cases

    cases = available_cases()
    if json:
        console.print_json(
            [
                {"name": case.name, "summary": case.summary, "sizes": dict(case.sizes)}
                for case in cases.values()
            ]
        )
    else:
        fixtures_view.print_cases(cases)


@commands.command(
    "make",
    epilog="Examples: [cyan]toolkit fixtures make --out fixtures --all --compact[/cyan] · "
    "[cyan]toolkit fixtures make --out fixtures --case attention --set d_model=64 "
    "--set num_heads=4[/cyan] · "
    "[cyan]toolkit fixtures make --out fixtures --format bin --grad[/cyan]",
)
def fixtures_make(
    out: Annotated[Path, typer.Option(help="The folder for the files.")],
    case: Cases = None,
    all: Annotated[bool, typer.Option("--all", help="All cases, not the layers alone.")] = False,
    set: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="[CASE.]NAME=VALUE",
            help="A size, such as d_model=64 or linear.d_out=10; repeatable.",
        ),
    ] = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="Small sizes: all cases in under 5 MB of JSON.")
    ] = False,
    grad: Annotated[
        bool, typer.Option("--grad", help="Gradients of input and parameters as well.")
    ] = False,
    format: Annotated[
        list[str] | None,
        typer.Option(
            "--format", metavar="json|safetensors|npz|bin", help="Repeatable; json by default."
        ),
    ] = None,
    backend: Annotated[
        str, typer.Option(metavar="numpy|torch", help="What computes the outputs.")
    ] = "numpy",
    device: OfDevice = "cpu",
    dtype: Annotated[
        str, typer.Option(metavar="float32|float64|float16|bfloat16", help="Of all floats.")
    ] = "float32",
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a file for each case: input, parameters and the output that a port should compute."""
    from toolkit import console, fixtures_view
    from toolkit.fixtures import MakeOptions, available_cases, make_fixtures

    if all and case:
        raise UsageError("--all and --case exclude each other; give one of them.")
    made = make_fixtures(
        out,
        list(available_cases()) if all else case or None,
        options=MakeOptions(
            seed=seed,
            backend=backend,
            device=device,
            dtype=dtype,
            sizes=dict(_size(text) for text in set or []),
            compact=compact,
            grad=grad,
        ),
        formats=format or ["json"],
        on_plan=None if quiet else fixtures_view.say_sizes,
    )
    if json:
        console.print_json(made)
    else:
        fixtures_view.print_made(made, quiet=quiet)


@commands.command(
    "check",
    epilog="Examples: [cyan]toolkit fixtures check fixtures --against results[/cyan] · "
    "[cyan]toolkit fixtures check fixtures --against results --html errors.html[/cyan] · "
    "[cyan]toolkit fixtures check fixtures --backend torch --device cuda[/cyan]",
)
def fixtures_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Fixtures, as make wrote them.")],
    against: Annotated[
        Path | None,
        typer.Option(metavar="RESULTS", help="The folder of what a port computed from them."),
    ] = None,
    backend: Annotated[
        str | None, typer.Option(metavar="torch|numpy", help="Or compute it here, with this.")
    ] = None,
    device: OfDevice = "cpu",
    case: Cases = None,
    atol: Annotated[
        float | None,
        typer.Option(help="What an element may be off. Default: 1e-4 in float32, see the docs."),
    ] = None,
    rtol: Annotated[
        float | None, typer.Option(help="And for each unit of its size; default: as recorded.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Allow only what rounding explains, as recorded.")
    ] = False,
    forward_only: Annotated[
        bool, typer.Option("--forward-only", help="Do not ask for gradients.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="A heat map of where the errors are.")
    ] = None,
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Compare a port's results, or this machine's own, with fixtures. Exits with 1 if one fails."""
    from toolkit import console, fixtures_view
    from toolkit.fixtures.checking import CheckOptions, check_fixtures

    report = check_fixtures(
        folder,
        against=against,
        backend=backend,
        device=device,
        cases=case,
        options=CheckOptions(atol=atol, rtol=rtol, strict=strict, forward_only=forward_only),
    )
    if html is not None:
        from toolkit.fixtures.heat_map import write_heat_maps

        write_heat_maps(report, html)
    if json:
        console.print_json(report.without_errors())
    else:
        fixtures_view.print_check(report, quiet=quiet, verbose=verbose)
    if not report.passed:
        raise typer.Exit(1)


def _size(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if not name or not value.isdecimal():
        raise UsageError(f"--set {text}: expected NAME=VALUE, a whole number, as in d_model=64.")
    return name, int(value)
