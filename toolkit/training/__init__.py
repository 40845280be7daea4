"""Training. Every name is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.training.config import TrainConfig as TrainConfig
    from toolkit.training.devices import resolve_device as resolve_device
    from toolkit.training.evaluation import validation_loss as validation_loss
    from toolkit.training.events import CheckpointSaved as CheckpointSaved
    from toolkit.training.events import Compiled as Compiled
    from toolkit.training.events import EarlyStopped as EarlyStopped
    from toolkit.training.events import Evaluated as Evaluated
    from toolkit.training.events import Event as Event
    from toolkit.training.events import Finished as Finished
    from toolkit.training.events import Interrupted as Interrupted
    from toolkit.training.events import Overfitting as Overfitting
    from toolkit.training.events import Sampled as Sampled
    from toolkit.training.events import StepDone as StepDone
    from toolkit.training.events import TrainResult as TrainResult
    from toolkit.training.trainer import Trainer as Trainer

_WHERE = {
    "TrainConfig": "config",
    "resolve_device": "devices",
    "CheckpointSaved": "events",
    "Compiled": "events",
    "EarlyStopped": "events",
    "Evaluated": "events",
    "Event": "events",
    "Finished": "events",
    "Interrupted": "events",
    "Overfitting": "events",
    "Sampled": "events",
    "StepDone": "events",
    "TrainResult": "events",
    "Trainer": "trainer",
    "validation_loss": "evaluation",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'toolkit.training' has no attribute '{name}'")
    return getattr(importlib.import_module(f"toolkit.training.{_WHERE[name]}"), name)
