"""How low a validation loss a given time buys, beside a plain AdamW GPT-2.

    python benchmarks/time_to_loss.py                # 15 seconds, three seeds, and the baseline
    python benchmarks/time_to_loss.py --seconds 90
    python benchmarks/time_to_loss.py --ablation     # each ingredient taken away

Tiny Shakespeare by characters, 90/10 by position, the loss over the whole validation part. Every
run is a process of its own, and its time is counted from its start to its end: imports, reading,
training, evaluation, saving. The ablation makes the same number of steps in each run instead, so
that a machine that is now faster and now slower decides nothing. The baseline is nanoGPT's
configuration for CPUs (4 layers, 4 heads, 128 channels, context 64, batches of 12, AdamW with a
cosine, 2,000 steps), trained to its end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import machine

BASELINE: dict[str, Any] = {
    "preset": "gpt2",
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 128,
    "block_size": 64,
    "batch_size": 12,
    "max_steps": 2000,
    "learning_rate": 1e-3,
    "min_lr_ratio": 0.1,
    "warmup_steps": 100,
    "weight_decay": 0.1,
    "eval_every": 2000,
    "checkpoint_every": 0,
    "sample_every": 0,
}
ABLATIONS: dict[str, dict[str, Any]] = {
    "everything": {},
    "AdamW at 3e-3 instead of Muon": {"optimizer": "adamw", "learning_rate": 3e-3},
    "AdamW at 1e-2 instead of Muon": {"optimizer": "adamw", "learning_rate": 1e-2},
    "cosine to a tenth instead of linear to 0": {"schedule": "cosine", "min_lr_ratio": 0.1},
    "GPT-2's start instead of zeros": {"weight_init": "gpt2"},
    "tied head": {"tie_embeddings": True},
    "learned positions instead of rotary": {"position": "learned"},
    "no QK-norm": {"qk_norm": False},
    "GELU instead of SwiGLU": {"mlp": "gelu"},
    "LayerNorm instead of RMSNorm": {"norm": "layernorm"},
    "4 layers of 128 channels": {"n_layer": 4, "n_head": 4, "n_embd": 128},
    "batches of 32": {"batch_size": 32},
}
CHILD = """
import json, sys, time
import toolkit
from toolkit.speedrun import process_age
from toolkit.recipes import with_speedrun
options = json.loads(sys.argv[1])
if "options_of" in options:
    options = with_speedrun(options.pop("options_of"), "gpt", {"max_time": None, **options})
budget = options.pop("speedrun", None)
if budget is not None:
    options |= {"speedrun": budget, "spent": process_age()}
run = toolkit.train("tiny-shakespeare", "char", device="cpu", **options)
print(json.dumps(run.info.result))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--steps", type=int, default=400, help="of each run of the ablation")
    parser.add_argument("--no-baseline", action="store_true")
    options = parser.parse_args()
    print(json.dumps(machine()))
    races = {f"speedrun, {options.seconds:g} s": {"speedrun": options.seconds}}
    if options.ablation:
        same = {"options_of": options.seconds, "max_steps": options.steps}
        races = {name: {**same, **changes} for name, changes in ABLATIONS.items()}
    elif not options.no_baseline:
        races["AdamW and GPT-2, 2,000 steps"] = BASELINE
    width = max(map(len, races))
    print(f"{'':{width}}  val loss    seconds  steps   (medians; each seed's loss)")
    for name, changes in races.items():
        seeds = range(1, 2 if changes is BASELINE else options.seeds + 1)
        results = [train(changes, seed) for seed in seeds]
        losses = [result["best_val_loss"] for result in results]
        seconds = statistics.median(result["seconds"] for result in results)
        steps = statistics.median(result["steps"] for result in results)
        each = " ".join(f"{loss:.4f}" for loss in losses)
        median = statistics.median(losses)
        print(f"{name:{width}}  {median:8.4f}  {seconds:9.1f}  {steps:5.0f}   {each}", flush=True)


def train(options: dict[str, Any], seed: int) -> dict[str, Any]:
    """The result of a run in a process of its own, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = {**options, "seed": seed, "out": str(Path(folder) / "run")}
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", CHILD, json.dumps(arguments)], capture_output=True, text=True
        )
        seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stderr.strip().splitlines()[-1])
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds": seconds}


if __name__ == "__main__":
    main()
