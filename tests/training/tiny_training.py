"""A text, models and options so small that training takes a moment, for the tests beside it."""

from typing import Any

import numpy as np
from torch import Tensor, nn

from toolkit.data import TokenDataset
from toolkit.models.bigram import BigramModel
from toolkit.models.config import BigramConfig, GPTConfig
from toolkit.models.gpt import GPTModel
from toolkit.training import Event, TrainConfig, Trainer

V, T = 11, 8


def dataset(train: int = 600, val: int = 77) -> TokenDataset:
    """A walk on a circle of 11 that moves by 0, 1 or 2: ln 3 nats a token is the best there is."""
    random = np.random.default_rng(0)
    walk = np.cumsum(random.integers(0, 3, size=train + val)) % V
    return TokenDataset.from_ids(walk[:train], walk[train:], V)


def gpt(dropout: float = 0.0, **options: Any) -> GPTModel:
    shape: dict[str, Any] = {"block_size": T, "n_layer": 2, "n_head": 2, "n_embd": 16}
    return GPTModel(GPTConfig(V, dropout=dropout, **{**shape, **options}))


def bigram() -> BigramModel:
    return BigramModel(BigramConfig(V, block_size=T))


def config(**options: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "batch_size": 4,
        "max_steps": 12,
        "eval_every": 4,
        "checkpoint_every": 4,
        "warmup_steps": 2,
        "log_every": 1,
        "device": "cpu",
    }
    return TrainConfig(**{**base, **options})


def train(model: Any, options: TrainConfig, data: TokenDataset | None = None) -> list[Event]:
    return list(Trainer(model, data or dataset(), options).run())


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].equal(b[name]), name
