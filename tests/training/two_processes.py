"""What test_distributed.py runs under torchrun: some trainings, one after the other.

torchrun --nproc-per-node 2 two_processes.py jobs.json
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toolkit.data import PairDataset, TokenDataset
from toolkit.models import (
    EncoderDecoderConfig,
    EncoderDecoderModel,
    LanguageModel,
    save_pretrained,
)
from toolkit.models.config import make_gpt_config
from toolkit.models.gpt import GPTModel
from toolkit.tasks import load_task
from toolkit.tokenizers import CharTokenizer
from toolkit.training import CheckpointSaved, TrainConfig, Trainer, compiling
from toolkit.training.backends import trainer_class

V, T = 11, 8


def dataset() -> TokenDataset:
    random = np.random.default_rng(0)
    walk = np.cumsum(random.integers(0, 3, size=3000)) % V
    # More than two batches of an evaluation (8192 tokens each), and no even number of them.
    val = np.cumsum(random.integers(0, 3, size=2 * 8192 + 101)) % V
    return TokenDataset.from_ids(walk, val, V)


def gpt(dropout: float = 0.0) -> GPTModel:
    shape: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": T}
    # A tied head is what is hardest to divide.
    return GPTModel(make_gpt_config(V, **shape, dropout=dropout, tie_embeddings=True))


def pairs() -> PairDataset:
    """Rows of 2 to 7 tokens: no two processes, and no two batches, have as many targets."""
    letters = CharTokenizer("abcdefghijklmnopqrstuvwxyz")
    return PairDataset(load_task("reverse:6"), letters, block_size=T)


def encoder_decoder(dropout: float = 0.0) -> EncoderDecoderModel:
    shape: dict[str, Any] = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": T}
    return EncoderDecoderModel(EncoderDecoderConfig(29, **shape, dropout=dropout))


def trainer(
    folder: Path, dropout: float = 0.0, *, of_pairs: bool = False, **options: Any
) -> Trainer:
    base: dict[str, Any] = {
        "batch_size": 6,
        "grad_accumulation": 2,
        "max_steps": 12,
        "eval_every": 6,
        "checkpoint_every": 4,
        "warmup_steps": 2,
        "log_every": 1,
        "device": "cpu",
    }

    def save_best(model: LanguageModel) -> None:
        save_pretrained(model, folder)

    config = TrainConfig(**{**base, **options})
    if of_pairs:
        data = pairs()
        seen = data.batch(data.held_out[:3])

        def look(model: LanguageModel) -> float:
            with torch.no_grad():
                return float(model(*seen).logits.abs().sum())

        return trainer_class(config.backend)(
            encoder_decoder(dropout),
            data,
            config,
            folder=folder,
            save_best=save_best,
            score=lambda model: {"looked": look(model)},
            sample=lambda model: str(look(model)),
        )
    return trainer_class(config.backend)(
        gpt(dropout),
        dataset(),
        config,
        folder=folder,
        save_best=save_best,
        sample=lambda model: str(model(torch.zeros(1, 1, dtype=torch.int64)).logits.sum().item()),
    )


def train(folder: Path, *, killed_at: int | None = None, resume: bool = False, **kind: Any) -> None:
    """One training; `killed_at` leaves it after the checkpoint of that step."""
    training = trainer(folder, **kind)
    if resume:
        training.load_checkpoint()
    for event in training.run():
        if isinstance(event, CheckpointSaved) and event.step == killed_at:
            break
    rank = os.environ.get("RANK", "0")
    following = training.loader.next_batch()[0].tolist()
    (folder / f"batch-{rank}.json").write_text(json.dumps(following))


if __name__ == "__main__":
    compiling.BACKEND = (
        "eager"  # the graphs of torch.compile, without the code, which takes minutes
    )
    for job in json.loads(Path(sys.argv[1]).read_text()):
        train(Path(job.pop("folder")), **job)
