"""What trains, by the name of `TrainConfig.backend`."""

from __future__ import annotations

import torch

from toolkit.errors import UsageError
from toolkit.models.config import ModelConfig
from toolkit.training.config import TrainConfig
from toolkit.training.devices import resolve_dtype
from toolkit.training.trainer import Trainer


def trainer_class(backend: str) -> type[Trainer]:
    """The trainer of a backend; transformers is imported when one of its own is made."""
    if backend == "huggingface":
        from toolkit.training.huggingface import HuggingFaceTrainer

        return HuggingFaceTrainer
    return Trainer


def require_backend(
    model: ModelConfig, config: TrainConfig, device: torch.device, *, alone: bool
) -> None:
    """Raise what speaks against training such a model by the backend, before work begins.

    Raises:
        UsageError: the backend has no such model, or not one of the options.
        MissingExtraError: its packages are not installed.
    """
    if config.backend == "huggingface":
        from toolkit.models.hf_twin import require_twin

        require_twin(model)
        refuse_options(config, device, alone=alone)


def refuse_options(config: TrainConfig, device: torch.device, *, alone: bool) -> None:
    """Raise UsageError for options that transformers' side does not have.

    Args:
        alone: whether one process trains.
    """
    float16 = resolve_dtype(config.dtype, device) == torch.float16
    wrong = {
        "--compile": bool(config.compile),
        "--parallel fsdp": config.parallel == "fsdp",
        "--dtype float16 on a CPU": float16 and device.type == "cpu",
        f"--device {device}": alone and bool(device.index),  # it takes the first one
    }
    for option, given in wrong.items():
        if given:
            raise UsageError(
                f"{option} is not for --backend huggingface or toolkit compare: leave it out."
            )
