"""`toolkit generate`: a trained model continues a prompt."""

from __future__ import annotations

import sys
from typing import Annotated, Any, cast

import typer

from toolkit.commands.options import (
    Config,
    Debug,
    Device,
    Json,
    Quiet,
    RunPath,
    Verbose,
    refuse_together,
)
from toolkit.errors import UnknownNameError, UsageError

commands = typer.Typer()

# Small models are unsure of much: drawn as they are, their texts have more invented words.
DEFAULT_TEMPERATURE = 0.7
_DTYPES = ("auto", "float32", "bfloat16")
_QUANTIZATIONS = ("int8",)


@commands.command(
    epilog='Examples: [cyan]toolkit generate "ROMEO:"[/cyan] · '
    "[cyan]toolkit generate --strategy top-k --top-k 50 --seed 1 JULIET:[/cyan] · "
    "[cyan]toolkit generate --model openai-community/gpt2 Hello[/cyan] · "
    "[cyan]echo -n ROMEO: | toolkit generate - --json[/cyan]"
)
def generate(
    prompt: Annotated[str, typer.Argument(help="The beginning; - reads standard input.")] = "",
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
    max_new_tokens: Annotated[int, typer.Option(help="How much to write.")] = 200,
    strategy: Annotated[
        str,
        typer.Option(metavar="multinomial|greedy|top-k|top-p", help="How the next token is drawn."),
    ] = "multinomial",
    temperature: Annotated[
        float | None,
        typer.Option(help="Below 1 is safer, above wilder; 0.7 if no option says otherwise."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Only the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Only the likeliest with p together.")] = None,
    num_samples: Annotated[int, typer.Option(help="How many texts.")] = 1,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this text; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same text.")] = None,
    device: Device = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            metavar="auto|float32|bfloat16",
            help="What the weights are read in; bfloat16 is faster, auto as exact as they are.",
        ),
    ] = "auto",
    quantize: Annotated[
        str | None,
        typer.Option(metavar="int8", help="Weights in 8 bits: faster still, a little less exact."),
    ] = None,
    context_policy: Annotated[
        str,
        typer.Option(
            metavar="slide|error",
            help="Past the model's context: go on with the last tokens, or do not begin.",
        ),
    ] = "slide",
    engine: Annotated[
        str,
        typer.Option(
            metavar="auto|torch|compiled", help="What computes tokens one by one on a CPU."
        ),
    ] = "auto",
    config: Config = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Continue a prompt with a trained model, a run or a folder of Hugging Face's; it streams."""
    from toolkit import console
    from toolkit.generation import Generator, fresh_seed, sample_seed
    from toolkit.opening import open_model, open_run
    from toolkit.training import resolve_device

    refuse_together({"--run": run, "--model": model})
    if tokenizer is not None and model is None:
        raise UsageError("--tokenizer is for a --model; a run has its own. Leave it out.")
    weights = _weight_format(dtype, quantize)
    if prompt == "-":
        prompt = _read_stdin()
    where = str(resolve_device(device))
    if model is not None:
        opened = open_model(model, tokenizer=tokenizer, device=where)
    else:
        opened = open_run(run, device=where)
    generator = Generator(
        opened.model,
        opened.tokenizer,
        end_ids=opened.end_ids,
        weights=weights,
        context_policy=cast(Any, context_policy),
        engine=cast(Any, engine),
    )
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "strategy": strategy,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "stop": tuple(stop or ()),
    }
    if strategy == "multinomial" and temperature is None and top_k is None and top_p is None:
        options["temperature"] = DEFAULT_TEMPERATURE
    if num_samples < 1:
        raise UsageError(f"--num-samples {num_samples} must be at least 1")
    if verbose:
        console.notice(f"{opened.folder}, {opened.model.num_params():,} parameters")
    if json:
        samples = generator.generate_samples(prompt, num_samples, seed=seed, **options)
        rows = [console.completion_to_json(sample) for sample in samples]
        kind = "run" if model is None else "model"
        console.print_json({kind: str(opened.folder), "samples": rows})
        return
    if seed is None:
        seed = fresh_seed()
    for number in range(num_samples):
        pieces = generator.stream(prompt, seed=sample_seed(seed, number), **options)
        if number:
            console.print_rule()
        console.print_prompt(prompt)
        console.print_pieces(pieces)
    if verbose:
        console.notice(f"seed {seed}")


def _weight_format(dtype: str, quantize: str | None) -> Any:
    """How weights are stored, by its name in the library."""
    if dtype not in _DTYPES:
        raise UnknownNameError("dtype", dtype, _DTYPES)
    if quantize is None:
        return "float32" if dtype == "auto" else dtype
    if quantize not in _QUANTIZATIONS:
        raise UnknownNameError("quantization", quantize, _QUANTIZATIONS)
    if dtype != "auto":
        raise UsageError("--dtype and --quantize exclude each other; give one of them.")
    return quantize


def _read_stdin() -> str:
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"Standard input is not UTF-8: byte {data[error.start]:#04x} at offset {error.start}."
        ) from error
