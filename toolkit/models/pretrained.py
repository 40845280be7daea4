"""Saving a model to a folder and opening it again: config.json and model.safetensors.

Where the parts are those of a model in `hf_configs`, both files are in Hugging Face's own layout,
so that `transformers.AutoModelForCausalLM.from_pretrained(folder)` opens them too (an
encoder-decoder `AutoModelForSeq2SeqLM`), and folders from the Hugging Face Hub open here. Other
models are saved in toolkit's layout (`model_type: "toolkit-…"`). Nothing is ever unpickled:
safetensors and JSON only.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from toolkit.errors import MissingExtraError, RunError, UsageError
from toolkit.files import write_bytes, write_json
from toolkit.models.base import LanguageModel
from toolkit.models.config import ModelConfig
from toolkit.models.encoder_decoder_config import EncoderDecoderConfig
from toolkit.models.hf_configs import HF_MODEL_TYPES, config_from_hf, hf_config, hf_layout
from toolkit.models.hf_marian import marian_generation
from toolkit.models.interop import fill_model, fixed_tensors, stored_tensors
from toolkit.models.registry import (
    MODEL_TYPE_PREFIX,
    MODELS,
    build_model,
    config_from_dict,
    config_to_dict,
)

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
GENERATION_FILE = "generation_config.json"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# Weights, configurations and tokenizers; nothing that has to be run or unpickled.
_HUB_FILES = ["*.json", "*.safetensors", "merges.txt"]
_SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")

SpecialIds = dict[str, int | list[int]]
"""What a config.json calls `bos_token_id`, `eos_token_id` and `pad_token_id`, where it has them."""


def save_pretrained(
    model: LanguageModel,
    folder: str | Path,
    *,
    bos_token_id: int | list[int] | None = None,
    eos_token_id: int | list[int] | None = None,
    pad_token_id: int | list[int] | None = None,
) -> None:
    """Write config.json and model.safetensors, each in one step.

    The token ids tell Hugging Face's `generate` where texts begin and end; Llama 3 has several
    that end one. An encoder-decoder has its own; in a layout of Hugging Face's it also gets a
    generation_config.json, for their `generate` would write no more than 20 tokens.

    Raises:
        ToolkitError: a file could not be written; the one that was there before stays.
    """
    folder = Path(folder)
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    layout = hf_layout(model.config)
    config = hf_config(model.config, dtype=dtype) or config_to_dict(model.config)
    if not model.takes_source:
        config |= {"bos_token_id": bos_token_id, "eos_token_id": eos_token_id}
        if pad_token_id is not None:
            config["pad_token_id"] = pad_token_id
    stored = stored_tensors(model, layout)
    tensors = {name: tensor.read() for name, tensor in stored.items()}
    tensors |= fixed_tensors(model, layout)
    # The weights first: a new folder has a config.json only when the rest is there.
    write_bytes(folder / WEIGHTS_FILE, safetensors.torch.save(tensors, {"format": "pt"}))
    if layout is not None and isinstance(model.config, EncoderDecoderConfig):
        write_json(folder / GENERATION_FILE, marian_generation(model.config))
    write_json(folder / CONFIG_FILE, config)


def load_pretrained(folder: str | Path, *, device: str | torch.device = "cpu") -> LanguageModel:
    """Open what `save_pretrained` wrote, or a folder of Hugging Face's (see `hf_configs`).

    Args:
        folder: a folder with config.json and model.safetensors (or its shards), or the name of
            a model on the Hugging Face Hub, "owner/name", which is downloaded once.
        device: where the model goes.

    Returns:
        The model in evaluation mode, its weights in float32.

    Raises:
        RunError: nothing there, or files that are half written, damaged, too new or of a model
            that is not supported; the message names the file.
        MissingExtraError: a hub name, and huggingface_hub is not installed.
        UsageError: the device cannot be used.
    """
    path = find_model_folder(folder)
    config, layout = _read_config(path / CONFIG_FILE)
    tensors = _read_weights(path)
    model = build_model(config, init=False)
    try:
        fill_model(model, tensors, layout)
    except UsageError as error:
        weights = path / WEIGHTS_FILE
        if not weights.exists():
            weights = path / INDEX_FILE
        raise RunError(f"{weights} does not fit {CONFIG_FILE}: {error}") from error
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"The device {device} cannot be used: {reason}") from error


def find_model_folder(folder: str | Path) -> Path:
    """The folder itself, or where the model of that name on the Hugging Face Hub was put.

    Raises:
        RunError: there is neither.
        MissingExtraError: a hub name, and huggingface_hub is not installed.
    """
    path = Path(folder)
    if path.is_dir():
        return path
    # runs/x in a place with a folder runs is a mistyped path, not a model of an owner "runs".
    if isinstance(folder, str) and _HUB_NAME.fullmatch(folder) and not path.parent.is_dir():
        return _download(folder)
    if path.exists():
        raise RunError(f"{path} is a file; expected the folder that holds {CONFIG_FILE}.")
    raise RunError(f"No model folder at {path}.")


def read_special_ids(folder: Path) -> SpecialIds:
    """The ids that begin, end and fill up texts, from config.json; generation_config.json, where
    it is there, knows better where texts end.

    Raises:
        RunError: a file that cannot be read.
    """
    values: dict[str, Any] = {}
    for name in (CONFIG_FILE, GENERATION_FILE):
        if (folder / name).exists():
            found = _read_json(folder / name)
            values.update({key: found[key] for key in _SPECIAL_IDS if found.get(key) is not None})
    return values


def weights_sha256(folder: Path) -> str:
    """The sha256 in hex of the weights file; of several, in the order of their names, joined.

    Raises:
        RunError: there are none, or they cannot be read.
    """
    digest = hashlib.sha256()
    paths = [folder / WEIGHTS_FILE]
    if not paths[0].exists():
        paths = [folder / name for name in sorted(set(_weight_map(folder / INDEX_FILE).values()))]
    for path in paths:
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error}.") from error
    return digest.hexdigest()


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError(
            "hf", f"There is no folder {name}; fetching a model of that name"
        ) from None
    try:
        # Whatever the hub's client raises (no network, no such model, no permission), the user
        # can only read it: its error classes moved between versions.
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(
            f"There is no folder {name}, and the Hugging Face Hub did not give a model of that "
            f"name: {reason}"
        ) from error


def _read_config(path: Path) -> tuple[ModelConfig, str | None]:
    """The configuration, and the layout of the weights: None where it is ours."""
    if not path.exists():
        raise RunError(f"No model in {path.parent}: {CONFIG_FILE} is missing.")
    values = _read_json(path)
    model_type = values.get("model_type")
    ours = [MODEL_TYPE_PREFIX + name for name in MODELS]
    try:
        if model_type in HF_MODEL_TYPES:
            return config_from_hf(values), model_type
        if model_type in ours:
            return config_from_dict(values), None
        known = ", ".join([*HF_MODEL_TYPES, *ours])
        raise UsageError(f"model_type '{model_type}' is not one that toolkit reads: {known}.")
    except UsageError as error:
        raise RunError(f"{path} does not describe a model that can be opened: {error}") from error


def _read_weights(folder: Path) -> dict[str, Tensor]:
    if (folder / WEIGHTS_FILE).exists():
        return _read_safetensors(folder / WEIGHTS_FILE)
    if (folder / INDEX_FILE).exists():
        return _read_shards(folder / INDEX_FILE)
    # Many folders of the Hub still have pickles alone; opening one runs whatever code is in it.
    pickled = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
    hint = f" {pickled[0]} is a pickle, which is never opened; convert it first." if pickled else ""
    raise RunError(f"{folder} has no {WEIGHTS_FILE}: the model is not complete.{hint}")


def _read_shards(index: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(_weight_map(index).values())):
        tensors.update(_read_safetensors(index.parent / file))
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    """Which file beside the index holds each tensor."""
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(file, str) and Path(file).name == file for file in weight_map.values()
    ):
        raise RunError(f"{index} is damaged: 'weight_map' must name a file beside it per tensor.")
    return weight_map


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise RunError(f"{path.parent} has no {path.name}: the model is not complete.") from None
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged or half written: {error}.") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}.") from error
    if not isinstance(values, dict):
        raise RunError(f"{path} is damaged: expected a JSON object.")
    return values
