"""The command line: each command parses, calls the library, prints.

Nothing heavy is imported here: torch and the rest come in when a command that needs them runs.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

import toolkit
from toolkit.commands import (
    compare,
    corpora,
    export,
    fixtures,
    generate,
    inspect,
    ladder,
    learn,
    perplexity,
    plot,
    runs,
    serve,
    sweep,
    tokenize,
    trace,
    train,
    vocab_stats,
)
from toolkit.errors import ToolkitError

app = typer.Typer(
    name="toolkit",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train small language models on your own text, generate from them, and look inside.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"toolkit {toolkit.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that stand before the command."""


# In the order in which --help lists them.
for module in (
    train,
    compare,
    sweep,
    ladder,
    generate,
    serve,
    perplexity,
    trace,
    inspect,
    export,
    plot,
    vocab_stats,
    tokenize,
    runs,
):
    app.add_typer(module.commands)
app.add_typer(corpora.commands, name="corpora")
app.add_typer(fixtures.commands, name="fixtures")
app.add_typer(learn.commands, name="learn")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failure, 2 misuse, 130 stopped by Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--debug" in arguments:
        code = _run(arguments)
    else:
        try:
            code = _run(arguments)
        except Exception as error:
            code = _explain(error)
        except KeyboardInterrupt:
            code = 130
    sys.exit(code)


def _warnings_printer() -> Callable[..., None]:
    """What prints a warning, each once: figures miss the same letter again and again."""
    printed: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        from toolkit import console
        from toolkit.training.distributed import is_main

        if is_main() and str(message) not in printed:
            printed.add(str(message))
            console.print_warning(str(message))

    return show


def _run(arguments: list[str]) -> int:
    warnings.showwarning = _warnings_printer()
    result = app(args=arguments, prog_name="toolkit", standalone_mode=False)
    return result if isinstance(result, int) else 0


def _explain(error: Exception) -> int:
    from toolkit import console
    from toolkit.training.distributed import first_to_fail

    if isinstance(error, BrokenPipeError):
        # The reader went away (`toolkit … | head`): nobody is left to tell.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        sys.stdout = None
        return 1
    if not first_to_fail():
        return error.exit_code if isinstance(error, ToolkitError) else 1
    if isinstance(error, ToolkitError):
        console.print_error(str(error))
        return error.exit_code
    if isinstance(error, typer.Abort):
        return 130
    if isinstance(error, typer.BadParameter.__mro__[2]):  # click's family of usage errors
        message = error.format_message()  # type: ignore[attr-defined]  # no name to give
        console.print_error(f"{message.rstrip('.')}. See: toolkit --help")
        return 2
    console.print_error(
        f"Unexpected {type(error).__name__}: {error}. This is a fault of toolkit's; "
        "run again with --debug and report the traceback."
    )
    return 1


if __name__ == "__main__":
    main()
