"""What a training has to keep to go on as if it had never stopped: the content of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from toolkit.errors import RunError
from toolkit.models import LanguageModel
from toolkit.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
)
from toolkit.training.distributed import World, place
from toolkit.training.ema import AveragedWeights
from toolkit.training.metrics import MetricsFile
from toolkit.training.optimizers import Optimizer
from toolkit.training.progress import Progress
from toolkit.training.randomness import OwnRandom

if TYPE_CHECKING:
    from toolkit.data.training_data import Loader


@dataclass(frozen=True)
class TrainingState:
    """All parts of a training that change with its steps, beside how far it is.

    Attributes:
        model: its weights.
        trained: whose parameters the optimizer changes.
        optimizer, scaler, loader, random: see `Trainer`.
        average: None without --ema.
        metrics: the file; None where this process writes none.
    """

    model: LanguageModel
    trained: nn.Module
    optimizer: Optimizer
    scaler: torch.GradScaler
    loader: Loader
    random: OwnRandom
    average: AveragedWeights | None
    metrics: MetricsFile | None

    def gather(self, progress: Progress, world: World) -> Checkpoint:
        """A checkpoint; all processes have to ask for it, and the first one's is whole."""
        weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        return Checkpoint(
            world.gather(weights),
            world.gather(optimizer_tensors(self.trained, self.optimizer)),
            world.gather_random(self.random.state),
            {
                "progress": vars(progress).copy(),
                "loader": self.loader.state_dict(),
                "scaler": self.scaler.state_dict(),
                "metrics_bytes": self.metrics.size if self.metrics is not None else 0,
            },
            average={} if self.average is None else world.gather(self.average.state_dict()),
        )

    def restore(self, folder: Path, world: World) -> Progress:
        """Take over what the checkpoint in `folder` holds; returns how far it is.

        Raises:
            RunError: no checkpoint, or one that is damaged, newer, or of another model.
        """
        checkpoint = load_checkpoint(folder)
        try:
            own = self.model.state_dict()
            self.model.load_state_dict(
                {
                    name: place(tensor, own[name]) if name in own else tensor
                    for name, tensor in checkpoint.model.items()
                }
            )
            progress = Progress(**checkpoint.state["progress"])
            self.loader.load_state_dict(checkpoint.state["loader"])
            self.scaler.load_state_dict(checkpoint.state["scaler"])
            if self.metrics is not None:
                self.metrics.size = checkpoint.state["metrics_bytes"]
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(
                f"The checkpoint in {folder.parent} does not fit this model: {reason}"
            ) from error
        restore_optimizer(self.trained, self.optimizer, checkpoint.optimizer)
        if self.average is not None:
            self.average.load_state_dict(checkpoint.average)
        # A process or a device that the checkpoint does not know begins with its state of the seed.
        self.random.state = {**self.random.state, **world.own_random(checkpoint.random)}
        return progress
