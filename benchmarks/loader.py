"""What share of a training step the loader takes: at most 2% is the aim.

    python benchmarks/loader.py
    python benchmarks/loader.py --tokens 100_000_000 --steps 100

Token files of random ids are written, in shards as `TokenDataset.build` would make them, and
memory-mapped. For each configuration a `Trainer` makes its steps; then the loader alone draws as
many batches. One JSON object a line: the medians in microseconds, and the share of the step that
the loader is. The files have just been written and are in the page cache: what is measured is the
loader's own work, not a disk's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine

from toolkit.data import BatchLoader, TokenDataset
from toolkit.data.building import FORMAT, INDEX_FILE
from toolkit.data.token_dataset import SHARD_TOKENS
from toolkit.files import write_json
from toolkit.models import create_model
from toolkit.recipes import default_size, model_options, train_config
from toolkit.speedrun import DEFAULT_BUDGET, speedrun_options
from toolkit.training import StepDone, TrainConfig, Trainer, resolve_device

WARM_UP = 5


def write_tokens(folder: Path, num_tokens: int, vocab_size: int) -> TokenDataset:
    """Token files with `num_tokens` random ids to train on."""
    random = np.random.default_rng(0)
    shards = []
    for begin in range(0, num_tokens, SHARD_TOKENS):
        size = min(SHARD_TOKENS, num_tokens - begin)
        ids = random.integers(vocab_size, size=size, dtype=np.uint16)
        name = f"train-{len(shards):05d}.bin"
        ids.tofile(folder / name)
        shards.append({"name": name, "num_tokens": size, "crc32": zlib.crc32(ids.tobytes())})
    splits = {
        "train": {"shards": shards, "num_bytes": num_tokens},
        "val": {"shards": [], "num_bytes": 0},
    }
    index = {"format": FORMAT, "dtype": "<u2", "vocab_size": vocab_size, "splits": splits}
    write_json(folder / INDEX_FILE, index)
    return TokenDataset.open(folder)


def configurations(device: str) -> dict[str, tuple[str, int, dict[str, Any], TrainConfig]]:
    """Name → size, vocabulary, the model's options and the training's."""
    of_model, of_training = speedrun_options(DEFAULT_BUDGET)
    size = default_size(resolve_device(device).type)
    given = {"device": device, "checkpoint_every": 0}
    return {
        "speedrun": (
            size,
            65,
            model_options("gpt", None, of_model),
            train_config("gpt", None, size, {**of_training, **given, "max_steps": 1}),
        ),
        f"default ({size})": (
            size,
            1024,
            model_options("gpt", None, {}),
            train_config("gpt", None, size, given),
        ),
    }


def seconds_of_steps(
    model: Any, dataset: TokenDataset, config: dict[str, Any], steps: int
) -> list[float]:
    """The time from one step's end to the next one's."""
    trainer = Trainer(model, dataset, TrainConfig(**config))
    times = [time.perf_counter() for event in trainer.run() if isinstance(event, StepDone)]
    return [b - a for a, b in zip(times[WARM_UP:], times[WARM_UP + 1 :], strict=False)][:steps]


def seconds_of(task: Callable[[], object], times: int) -> list[float]:
    """How long each call takes."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        task()
        found.append(time.perf_counter() - began)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=100_000_000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    print(json.dumps(machine()))
    for name, (size, vocab_size, shape, config) in configurations(options.device).items():
        with tempfile.TemporaryDirectory() as folder:
            dataset = write_tokens(Path(folder), options.tokens, vocab_size)
            model = create_model("gpt", vocab_size, size=size, seed=0, **shape)
            every_step = {"log_every": 1, "max_steps": options.steps + WARM_UP + 1}
            settings = {**vars(config), **every_step, "eval_every": 10**9, "sample_every": 0}
            step = statistics.median(seconds_of_steps(model, dataset, settings, options.steps))
            loader = BatchLoader(
                dataset,
                batch_size=config.batch_size,
                block_size=model.block_size,
                seed=0,
                device=resolve_device(options.device),
            )
            batch = statistics.median(seconds_of(loader.next_batch, max(options.steps, 200)))
        result = {
            "configuration": name,
            "tokens": options.tokens,
            "shards": len(dataset.shards("train")),
            "batch": [config.batch_size, model.block_size],
            "step_us": round(step * 1e6, 1),
            "loader_us": round(batch * config.grad_accumulation * 1e6, 1),
            "share": round(batch * config.grad_accumulation / step, 5),
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
