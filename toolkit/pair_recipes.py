"""Models and training options that suit a task of pairs; every one can be set alone.

A file of pairs trains as "Attention is all you need" did (section 5): AdamW with its betas, label
smoothing, dropout, a warm-up and then a rate that falls with the root of the steps. The tasks that
are made by a rule are small and never the same twice, so that nothing has to keep the model from
learning them by heart; they train with Muon, which needs a fraction of the steps
(`benchmarks/encoder_decoder.py` measures how long they take).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.training import TrainConfig

WARMUP_STEPS = 400


@dataclass(frozen=True)
class PairRecipe:
    """What suits a task, where neither a size nor a field says otherwise.

    Attributes:
        max_steps, eval_every: see `TrainConfig`.
        batch_size: pairs in a batch.
        n_layer, n_head, n_embd, block_size: of the model.
    """

    max_steps: int
    eval_every: int = 250
    batch_size: int = 64
    n_layer: int = 2
    n_head: int = 4
    n_embd: int = 64
    block_size: int = 64

    @property
    def shape(self) -> dict[str, int]:
        """The fields of the model."""
        names = ("n_layer", "n_head", "n_embd", "block_size")
        return {name: getattr(self, name) for name in names}


PAIR_RECIPES: dict[str, PairRecipe] = {
    "copy": PairRecipe(max_steps=1000),
    "reverse": PairRecipe(max_steps=1500),
    "sort": PairRecipe(max_steps=1500),
    "add": PairRecipe(max_steps=3000),
    "date": PairRecipe(max_steps=1000),
}
PROSE_RECIPE = PairRecipe(max_steps=3000, n_layer=3, n_embd=128, block_size=128, eval_every=500)
MUON_RATE, ADAM_RATE = 0.03, 0.006


def pair_model_options(task: str, size: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an encoder–decoder's configuration: what is given, and what suits the task.

    Args:
        task: its name; of a file any other.
        size: as given; its numbers are not replaced.
        given: single fields.
    """
    recipe = PAIR_RECIPES.get(task)
    fields: dict[str, Any] = {} if recipe is None else {"dropout": 0.0, "norm_order": "pre"}
    if size is None:
        fields |= (recipe or PROSE_RECIPE).shape
    return {**fields, **given}


def pair_train_config(task: str, n_embd: int, options: Mapping[str, Any]) -> TrainConfig:
    """What is given, and for the rest what suits the task.

    Raises:
        UsageError: a value that no training can have.
    """
    recipe = PAIR_RECIPES.get(task, PROSE_RECIPE)
    usual: dict[str, Any] = {
        "batch_size": recipe.batch_size,
        "max_steps": recipe.max_steps,
        "eval_every": recipe.eval_every,
        "sample_every": 2 * recipe.eval_every,
        "weight_decay": 0.0,
        "beta2": 0.98,
    }
    optimizer = options.get("optimizer", "muon" if task in PAIR_RECIPES else "adamw")
    usual["optimizer"] = optimizer
    if optimizer == "muon":
        usual |= {"schedule": "linear", "min_lr_ratio": 0.0, "warmup_steps": 0}
        usual |= {"learning_rate": MUON_RATE, "adam_learning_rate": ADAM_RATE}
    else:
        warmup = options.get("warmup_steps", WARMUP_STEPS)
        usual |= {"schedule": "inverse-sqrt", "warmup_steps": warmup}
        usual["learning_rate"] = (n_embd * max(warmup, 1)) ** -0.5
    if task not in PAIR_RECIPES:
        usual["label_smoothing"] = 0.1
    if options.get("max_time") is not None and "max_steps" not in options:
        usual["max_steps"] = None
    return TrainConfig(**{**usual, **options})
