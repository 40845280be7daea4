"""What trains, by the name of `TrainConfig.backend`."""

from __future__ import annotations

from toolkit.models.config import ModelConfig
from toolkit.training.config import TrainConfig
from toolkit.training.trainer import Trainer


def trainer_class(backend: str) -> type[Trainer]:
    """The trainer of a backend; transformers is imported when one of its own is made."""
    if backend == "huggingface":
        from toolkit.training.huggingface import HuggingFaceTrainer

        return HuggingFaceTrainer
    return Trainer


def require_backend(model: ModelConfig, config: TrainConfig) -> None:
    """Raise what speaks against training such a model by the backend, before work begins.

    Raises:
        UsageError: the backend has no such model.
        MissingExtraError: its packages are not installed.
    """
    if config.backend == "huggingface":
        from toolkit.models.hf_twin import require_twin

        require_twin(model)
