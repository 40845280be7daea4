"""`toolkit serve`: a model as an HTTP server."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from toolkit.commands.model_options import (
    ContextPolicy,
    Dtype,
    ModelSource,
    ModelTokenizer,
    Quantize,
    open_chosen,
    weight_format,
)
from toolkit.commands.options import Config, Debug, Device, Quiet, panel_option, refuse_together
from toolkit.errors import UsageError

commands = typer.Typer()

_LIMITS = "Limits"


@commands.command(
    epilog="Examples: [cyan]toolkit serve[/cyan] · "
    "[cyan]toolkit serve runs/first --port 9000[/cyan] · "
    "[cyan]TOOLKIT_API_KEY=secret toolkit serve --host 0.0.0.0[/cyan] · "
    "[cyan]curl localhost:8000/v1/completions --json "
    """'{"prompt": "ROMEO:", "max_tokens": 50}'[/cyan]"""
)
def serve(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run; the newest by default.")
    ] = None,
    model: ModelSource = None,
    tokenizer: ModelTokenizer = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; anything but this machine needs an API key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes one that is free.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="TOOLKIT_API_KEY",
            help="What clients must send as a bearer token.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Another name of this machine, as behind a proxy; repeatable."
        ),
    ] = None,
    max_rows: Annotated[
        int, panel_option(_LIMITS, help="Texts that are written side by side.")
    ] = 32,
    max_queue: Annotated[
        int, panel_option(_LIMITS, help="Requests that wait; more get status 429.")
    ] = 64,
    max_new_tokens: Annotated[int, panel_option(_LIMITS, help="Tokens of one text.")] = 2048,
    max_prompt_tokens: Annotated[int, panel_option(_LIMITS, help="Tokens of one prompt.")] = 16384,
    timeout: Annotated[
        float, panel_option(_LIMITS, help="Seconds from a request's arrival to its end.")
    ] = 300.0,
    grace: Annotated[
        float, panel_option(_LIMITS, help="Seconds that texts have to end after Ctrl-C.")
    ] = 5.0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantize: Quantize = None,
    context_policy: ContextPolicy = "slide",
    config: Config = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Serve a model over HTTP: OpenAI's /v1/completions for many clients, and a page to try it."""
    from toolkit import console
    from toolkit.generation import Generator
    from toolkit.run import saved_tokenizers
    from toolkit.serving import (
        Limits,
        hosts_of,
        is_loopback,
        listen,
        make_app,
        run_server,
        url_of,
    )

    refuse_together({"RUN": run, "--model": model})
    if not is_loopback(host) and api_key is None:
        raise UsageError(
            f"--host {host} lets other machines ask: give a key by --api-key or TOOLKIT_API_KEY, "
            "or listen on 127.0.0.1."
        )
    limits = Limits(
        max_rows=max_rows,
        max_queue=max_queue,
        max_new_tokens=max_new_tokens,
        max_prompt_tokens=max_prompt_tokens,
        timeout=timeout,
        grace=grace,
    )
    weights = weight_format(dtype, quantize)
    with listen(host, port) as listening:
        opened = open_chosen(run, model, tokenizer, device)
        if opened.model.takes_source:
            raise UsageError(
                f"toolkit serve is for models that continue texts; {opened.folder} translates: "
                "use toolkit generate --prompts FILE."
            )
        generator = Generator(
            opened.model,
            opened.tokenizer,
            end_ids=opened.end_ids,
            weights=weights,
            context_policy=cast(Any, context_policy),
        )
        name = opened.folder.resolve().name
        app = make_app(
            generator,
            name=name,
            limits=limits,
            api_key=api_key,
            hosts=hosts_of(host, allow_host or []),
            saved_tokenizers=saved_tokenizers(),
        )

        def ready() -> None:
            if not quiet:
                console.print_address(name, url_of(listening))

        run_server(app, listening, on_ready=ready)
