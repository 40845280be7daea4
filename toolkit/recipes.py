"""Training options that suit a model; every one can be set alone.

The modern preset trains by the recipe of the speedruns (`speedrun.py`, docs/recipe.md): Muon, and a
rate that falls in a line to 0. All else trains by AdamW with a cosine, as GPT-2 did.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.errors import UsageError
from toolkit.models.config import DEFAULT_PRESET
from toolkit.speedrun import speedrun_options
from toolkit.training import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """Numbers for a size.

    Those of "micro" were tried on 2 CPU cores. Those of the other sizes are usual starting points
    that have not been measured.

    Attributes:
        adamw_rate, muon_rate: the learning rate of each optimizer.
        adam_share: of Muon's rate, for embeddings, head and norms.
        vocab_size: of a `bpe` whose size is not given: the head costs as much as several layers.
    """

    batch_size: int
    adamw_rate: float
    muon_rate: float
    adam_share: float
    max_steps: int
    eval_every: int
    vocab_size: int


RECIPES: dict[str, Recipe] = {
    "nano": Recipe(16, 3e-3, 0.03, 0.4, max_steps=600, eval_every=100, vocab_size=1024),
    "micro": Recipe(8, 3e-3, 0.03, 0.4, max_steps=900, eval_every=300, vocab_size=1024),
    "mini": Recipe(64, 1e-3, 0.03, 0.2, max_steps=5000, eval_every=250, vocab_size=4096),
    "small": Recipe(12, 6e-4, 0.02, 0.2, max_steps=20000, eval_every=500, vocab_size=16384),
    "medium": Recipe(8, 3e-4, 0.02, 0.15, max_steps=50000, eval_every=1000, vocab_size=32768),
    "large": Recipe(4, 2.5e-4, 0.02, 0.15, max_steps=100000, eval_every=2000, vocab_size=32768),
    "xl": Recipe(2, 2e-4, 0.02, 0.1, max_steps=200000, eval_every=2000, vocab_size=32768),
}
MUON: dict[str, Any] = {
    "optimizer": "muon",
    "schedule": "linear",
    "min_lr_ratio": 0.0,
    "warmup_steps": 0,
    "weight_decay": 0.0,
}


def default_size(device: str) -> str:
    """The size to start with: what two CPU cores train in 90 s, or one step up on a GPU."""
    return "micro" if device == "cpu" else "mini"


def model_options(model: str, preset: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the model's configuration that are given, and how its weights start."""
    start = {"weight_init": "zeros"} if _is_modern(model, preset) else {}
    return {**start, **options}


def train_config(
    model: str, preset: str | None, size: str, options: Mapping[str, Any]
) -> TrainConfig:
    """What is given, and for the rest what suits the model and its size.

    >>> train_config("gpt", None, "micro", {}).optimizer
    'muon'
    >>> train_config("gpt", "gpt2", "micro", {"max_steps": 10}).optimizer
    'adamw'

    Raises:
        UsageError: a value that no training can have.
    """
    optimizer = options.get("optimizer", "muon" if _is_modern(model, preset) else "adamw")
    usual: dict[str, Any] = dict(MUON) if optimizer == "muon" else {}
    recipe = RECIPES.get(size)
    if recipe is not None:
        usual["learning_rate"] = recipe.muon_rate if optimizer == "muon" else recipe.adamw_rate
        usual["batch_size"] = recipe.batch_size
        usual["max_steps"] = recipe.max_steps
        usual["eval_every"] = recipe.eval_every
        usual["sample_every"] = 2 * recipe.eval_every
    if options.get("max_time") is not None and "max_steps" not in options:
        usual["max_steps"] = None
    config = TrainConfig(**{**usual, **options})
    if optimizer == "muon" and recipe is not None and config.adam_learning_rate is None:
        rate = recipe.adam_share * config.learning_rate
        config = dataclasses.replace(config, adam_learning_rate=rate)
    return config


def with_speedrun(budget: float, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a speedrun, and over them those that were given.

    Raises:
        UsageError: another model than gpt, or a budget that is not above 0.
    """
    if model != "gpt":
        raise UsageError(f"A speedrun is of the model gpt, not of {model}.")
    of_model, of_training = speedrun_options(budget)
    # Until it is known how long it may train: the budget is no shorter.
    return {**MUON, **of_model, **of_training, "max_time": budget, **options}


def _is_modern(model: str, preset: str | None) -> bool:
    return model == "gpt" and (preset or DEFAULT_PRESET) == "modern"
