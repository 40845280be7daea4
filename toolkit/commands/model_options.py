"""Which model a command works with: a run, or `--model`; and in what form its weights are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.options import refuse_together
from toolkit.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from toolkit.opening import OpenedModel

_DTYPES = ("auto", "float32", "bfloat16")
_QUANTIZATIONS = ("int8",)

ModelSource = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="PATH|HUB_NAME",
        help="A Hugging Face folder of GPT-2, Llama or Qwen3 instead of a run.",
    ),
]
ModelTokenizer = Annotated[
    str | None,
    typer.Option("--tokenizer", "-t", metavar="SPEC", help="For a --model without its own."),
]
Dtype = Annotated[
    str,
    typer.Option(
        metavar="auto|float32|bfloat16",
        help="What the weights are read in; bfloat16 is faster, auto as exact as they are.",
    ),
]
Quantize = Annotated[
    str | None,
    typer.Option(metavar="int8", help="Weights in 8 bits: faster still, a little less exact."),
]
ContextPolicy = Annotated[
    str,
    typer.Option(
        metavar="slide|error",
        help="Past the model's context: go on with the last tokens, or do not begin.",
    ),
]


def open_chosen(
    run: str | None, model: str | None, tokenizer: str | None, device: str
) -> OpenedModel:
    """What `--run`, `--model`, `--tokenizer` and `--device` say; the newest run by default.

    Raises:
        UsageError: options that exclude each other, or an unknown device.
        RunError: nothing there, or damaged files.
    """
    from toolkit.opening import open_model, open_run
    from toolkit.training import resolve_device

    refuse_together({"--run": run, "--model": model})
    if tokenizer is not None and model is None:
        raise UsageError("--tokenizer is for a --model; a run has its own. Leave it out.")
    where = str(resolve_device(device))
    if model is not None:
        return open_model(model, tokenizer=tokenizer, device=where)
    return open_run(run, device=where)


def weight_format(dtype: str, quantize: str | None) -> Any:
    """How weights are stored, by its name in the library.

    Raises:
        UsageError: an unknown name, or two that exclude each other.
    """
    if dtype not in _DTYPES:
        raise UnknownNameError("dtype", dtype, _DTYPES)
    if quantize is None:
        return "float32" if dtype == "auto" else dtype
    if quantize not in _QUANTIZATIONS:
        raise UnknownNameError("quantization", quantize, _QUANTIZATIONS)
    if dtype != "auto":
        raise UsageError("--dtype and --quantize exclude each other; give one of them.")
    return quantize
