"""The formats by name, and `export`: open, write, read back, say how far off it is.

What every format shares. Each has a module of its own with a function `write(source, path, dtype)`,
which is imported when it is asked for: most of them need a package that is optional.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from toolkit.errors import UnknownNameError, UsageError
from toolkit.exporting.source import Checked, Source
from toolkit.models import LanguageModel
from toolkit.models.pretrained import SpecialIds
from toolkit.opening import OpenedModel, check_vocabulary, open_model, open_run
from toolkit.run import Run
from toolkit.tokenizers import Tokenizer, load_tokenizer
from toolkit.tokenizers.special import END_OF_TEXT


@dataclass(frozen=True)
class Format:
    """What is known of a format before anything heavy is imported.

    Attributes:
        home: the module with `write`.
        suffix: of its file; None where it is a folder.
        dtypes: what weights can be stored in, the first unless told otherwise.
        has_tokenizer: whether the tokenizer goes into it.
    """

    home: str
    suffix: str | None
    dtypes: tuple[str, ...]
    has_tokenizer: bool


FORMATS: dict[str, Format] = {
    "hf": Format("huggingface", None, ("float32", "float16", "bfloat16"), has_tokenizer=True),
    "gguf": Format(
        "gguf_file", ".gguf", ("float32", "float16", "bfloat16", "q8_0"), has_tokenizer=True
    ),
    "onnx": Format("onnx_file", ".onnx", ("float32",), has_tokenizer=False),
    "torchscript": Format("torchscript", ".pt", ("float32",), has_tokenizer=False),
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        format, dtype: as asked for.
        path: the file or folder.
        files: every file that was written.
        num_bytes: of all of them.
        has_tokenizer: whether a tokenizer is in it.
        largest_difference: between what was read back and the model; None where nothing here can
            read it.
        checked: what was compared.
    """

    format: str
    dtype: str
    path: Path
    files: tuple[Path, ...]
    num_bytes: int
    has_tokenizer: bool
    largest_difference: float | None
    checked: str


def export(
    model: str | Path | Run | OpenedModel | LanguageModel | None,
    format: str,
    out: str | Path,
    *,
    tokenizer: str | Tokenizer | None = None,
    dtype: str | None = None,
    with_tokenizer: bool = True,
) -> Exported:
    """Write a model in another format, then read it back and compare.

    Args:
        model: a run, what `open_model` takes, or a model that is open; None is the newest run.
        format: "hf", "gguf", "onnx" or "torchscript".
        out: the folder (hf: a new one, or empty) or file; in a folder that is there a file is
            named `model` with the format's suffix.
        tokenizer: instead of the model's own.
        dtype: what weights are stored in; None: float32.
        with_tokenizer: put the tokenizer in, where the format has a place for one.

    Raises:
        UnknownNameError: no such format or dtype.
        UsageError: the model or the tokenizer has no form in this format.
        MissingExtraError: the format needs a package that is not installed.
        ToolkitError: nothing to export, or it could not be written; what was there before stays.
    """
    if format not in FORMATS:
        raise UnknownNameError("export format", format, FORMATS)
    chosen = FORMATS[format]
    dtype = dtype or chosen.dtypes[0]
    if dtype not in chosen.dtypes:
        raise UnknownNameError(f"dtype of {format}", dtype, chosen.dtypes)
    path = _path(Path(out), chosen)
    source = _open(model, tokenizer)
    if not (chosen.has_tokenizer and with_tokenizer):
        source = Source(source.name, source.model, None, source.special_ids)
    elif source.tokenizer is None:
        raise UsageError(
            f"There is no tokenizer to put into the {format}: give one by --tokenizer, or write "
            "the weights alone with --no-tokenizer."
        )
    home = importlib.import_module(f"toolkit.exporting.{chosen.home}")
    write: Callable[[Source, Path, str], Checked] = home.write
    checked = write(source, path, dtype)
    return Exported(
        format=format,
        dtype=dtype,
        path=path,
        files=checked.files,
        num_bytes=sum(file.stat().st_size for file in checked.files),
        has_tokenizer=source.tokenizer is not None,
        largest_difference=checked.largest_difference,
        checked=checked.what,
    )


def _path(out: Path, chosen: Format) -> Path:
    if chosen.suffix is not None:
        return out / f"model{chosen.suffix}" if out.is_dir() else out
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"--out {out} is there already and not an empty folder: choose another.")
    return out


def _open(
    model: str | Path | Run | OpenedModel | LanguageModel | None, tokenizer: str | Tokenizer | None
) -> Source:
    if isinstance(model, LanguageModel):
        if isinstance(tokenizer, str):
            tokenizer = load_tokenizer(tokenizer)
        special_ids: SpecialIds = {}
        if tokenizer is not None:
            check_vocabulary(tokenizer, model, model.name)
            if END_OF_TEXT in tokenizer.special_tokens:
                special_ids["eos_token_id"] = tokenizer.special_tokens[END_OF_TEXT]
        return Source(model.name, _at_rest(model), tokenizer, special_ids)
    if isinstance(model, Run):
        model = open_run(model.folder, tokenizer=tokenizer)
    elif model is None:
        model = open_run(tokenizer=tokenizer)
    elif not isinstance(model, OpenedModel):
        model = open_model(model, tokenizer=tokenizer)
    name = model.folder.absolute().name
    return Source(name, _at_rest(model.model), model.own_tokenizer, model.special_ids)


def _at_rest(model: LanguageModel) -> LanguageModel:
    """The model in evaluation mode, in float32, on the CPU: itself, or a copy."""
    float32 = all(parameter.dtype == torch.float32 for parameter in model.parameters())
    if float32 and not model.training and model.device.type == "cpu":
        return model
    return copy.deepcopy(model).float().cpu().eval()
