"""Checkpoints: all that resuming needs, in safetensors and JSON. Nothing is ever unpickled.

    checkpoint/model.safetensors       the weights, under the model's own names
    checkpoint/optimizer.safetensors   AdamW's moments, by parameter name
    checkpoint/random.safetensors      torch's random states
    checkpoint/average.safetensors     with --ema: the averaged weights
    checkpoint/state.json              step, best loss, loader position, clock …

The folder is written aside and renamed: there is always one whole checkpoint, the old or the new.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from toolkit.errors import RunError
from toolkit.files import recover_folder, replace_folder
from toolkit.training.distributed import place
from toolkit.training.optimizers import Optimizer

FORMAT = 1
CHECKPOINT_FOLDER = "checkpoint"
STATE_FILE = "state.json"
_TENSOR_FILES = ("model", "optimizer", "random")
_AVERAGE_FILE = "average"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        model, optimizer, random: tensors by name.
        state: everything else, as JSON values.
        average: tensors by name, too; empty without one.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    random: dict[str, Tensor]
    state: dict[str, Any]
    average: dict[str, Tensor] = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in `folder` by this one.

    Raises:
        ToolkitError: it could not be written; the old one is still there.
    """
    with replace_folder(folder) as new:
        names = (*_TENSOR_FILES, _AVERAGE_FILE) if checkpoint.average else _TENSOR_FILES
        for name in names:
            tensors = {k: t.detach().cpu().contiguous() for k, t in vars(checkpoint)[name].items()}
            # Whole in memory first: a full disk then fails as an OSError, not inside Rust.
            (new / f"{name}.safetensors").write_bytes(safetensors.torch.save(tensors))
        text = json.dumps({"format": FORMAT, **checkpoint.state})
        (new / STATE_FILE).write_text(text, encoding="utf-8")


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote.

    Raises:
        RunError: no checkpoint, a damaged one, or one of a newer toolkit.
    """
    recover_folder(folder)
    try:
        state = json.loads((folder / STATE_FILE).read_bytes())
        version = state["format"]
        if version > FORMAT:
            raise RunError(
                f"The checkpoint {folder} has format {version}, written by a newer toolkit; this "
                f"one reads up to {FORMAT}. Upgrade toolkit to resume."
            )
        tensors = {name: _read(folder, name) for name in _TENSOR_FILES}
        if (folder / f"{_AVERAGE_FILE}.safetensors").exists():
            tensors[_AVERAGE_FILE] = _read(folder, _AVERAGE_FILE)
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name
        raise RunError(f"No whole checkpoint in {folder}: {name} is missing.") from error
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise RunError(f"The checkpoint {folder} is damaged: {error}.") from error
    return Checkpoint(**tensors, state=state)


def _read(folder: Path, name: str) -> dict[str, Tensor]:
    return safetensors.torch.load((folder / f"{name}.safetensors").read_bytes())


def optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as tensors named `<parameter>/<moment>`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{names[id(parameter)]}/{key}": value if value.dim() else value.reshape(1)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def restore_optimizer(model: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`.

    Raises:
        RunError: moments for a parameter that the model does not have.
    """
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        parameter_name, _, key = name.rpartition("/")
        if parameter_name not in parameters:
            raise RunError(f"The checkpoint has {key} of '{parameter_name}'; the model has not.")
        parameter = parameters[parameter_name]
        value = tensor.reshape(()) if key == "step" else tensor
        if key != "step" and value.shape != parameter.shape:
            raise RunError(
                f"The checkpoint's {key} of '{parameter_name}' has shape {tuple(value.shape)}; "
                f"the model's is {tuple(parameter.shape)}."
            )
        optimizer.state[parameter][key] = (
            value.to(parameter.device) if key == "step" else place(value, parameter)
        )
