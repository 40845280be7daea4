"""Models in folders: config.json and model.safetensors, in Hugging Face's layout where it fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from toolkit.errors import MissingExtraError, RunError, UsageError
from toolkit.files import write_bytes, write_json
from toolkit.models.base import LanguageModel
from toolkit.models.interop import (
    from_config_json,
    from_saved_weights,
    to_config_json,
    to_saved_weights,
)
from toolkit.models.registry import build_model

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


def save_pretrained(
    model: LanguageModel, folder: str | Path, *, eos_token_id: int | None = None
) -> None:
    """Write config.json and model.safetensors into `folder`, each whole or not at all.

    Raises:
        ToolkitError: a file could not be written.
    """
    folder = Path(folder)
    weights = safetensors.torch.save(to_saved_weights(model), metadata={"format": "pt"})
    write_json(folder / CONFIG_FILE, to_config_json(model.config, eos_token_id))
    write_bytes(folder / WEIGHTS_FILE, weights)


def load_pretrained(source: str | Path, *, device: str | torch.device = "cpu") -> LanguageModel:
    """Open a folder that `save_pretrained` or transformers wrote, or a name on the hub.

    Weights are float32 whatever the file has.

    Raises:
        RunError: no such folder, files that are missing, half written or damaged, or a kind of
            model that this toolkit does not have.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _fetch(str(source))
    path = folder / CONFIG_FILE
    values = _read_json(path)
    try:
        config = from_config_json(values)
    except (KeyError, TypeError, UsageError, RunError) as error:
        reason = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise RunError(f"{path} does not describe a model that can be opened: {reason}") from error
    saved = _read_weights(folder)
    try:
        state = from_saved_weights(config, saved, str(values.get("model_type")))
    except KeyError as error:
        raise RunError(f"{folder} has no tensor {error}; config.json asks for it.") from error
    model = build_model(config)
    _check_tensors(model, state, folder)
    model.load_state_dict(state)
    return model.to(device)


def _check_tensors(model: LanguageModel, state: dict[str, Tensor], folder: Path) -> None:
    expected = model.state_dict()
    for name, tensor in expected.items():
        if name not in state:
            raise RunError(f"{folder} has no tensor for '{name}'; config.json asks for it.")
        if state[name].shape != tensor.shape:
            raise RunError(
                f"{folder}: the tensor for '{name}' has shape {tuple(state[name].shape)}; "
                f"config.json asks for {tuple(tensor.shape)}."
            )
    unknown = sorted(set(state) - set(expected))
    if unknown:
        raise RunError(f"{folder} has tensors that the model does not: {', '.join(unknown[:3])}.")


def _read_weights(folder: Path) -> dict[str, Tensor]:
    names = [WEIGHTS_FILE]
    if not (folder / WEIGHTS_FILE).exists() and (folder / INDEX_FILE).exists():
        names = sorted(set(_read_json(folder / INDEX_FILE)["weight_map"].values()))
    state: dict[str, Tensor] = {}
    for name in names:
        path = folder / name
        if not path.exists():
            raise RunError(f"{folder} has no {name}: the model is not complete.")
        try:
            state.update(safetensors.torch.load_file(path))
        except (OSError, safetensors.SafetensorError) as error:
            raise RunError(f"{path} is damaged: {error}.") from error
    return state


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path.parent} holds no model: {path.name} is missing.") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise RunError(f"{path} does not describe a model: expected a JSON object.")
    return value


def _fetch(name: str) -> Path:
    """A model of Hugging Face's hub, from its cache or the network."""
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise RunError(f"No model folder at {name}.")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("hf", f"Fetching {name} from the hub") from error
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # the hub's client has dozens of kinds; all mean the same here
        raise RunError(
            f"No folder {name}, and the hub did not give a model of that name "
            f"({type(error).__name__}). Check the name and the network, or give a folder."
        ) from error
