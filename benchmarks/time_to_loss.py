"""How low a validation loss a given time buys, beside a plain AdamW GPT-2.

    python benchmarks/time_to_loss.py                # 15 seconds, three seeds, and the baseline
    python benchmarks/time_to_loss.py --seconds 90
    python benchmarks/time_to_loss.py --ablation     # each ingredient taken away
    python benchmarks/time_to_loss.py --texts        # the defaults on other texts

Tiny Shakespeare by characters, 90/10 by position, the loss over the whole validation part. Every
run is a process of its own; its time is counted from its start to the weights on disk (imports,
reading, training, saving), and to its end, with the evaluation. The ablation makes the same number
of steps in each run instead, so that a machine that is now faster and now slower decides nothing.
The baseline is nanoGPT's configuration for CPUs (4 layers, 4 heads, 128 channels, context 64,
batches of 12, AdamW with a cosine, 2,000 steps), trained to its end.

With --texts the defaults of `toolkit train` run beside AdamW and GPT-2 of the same size on texts
that the recipe was not tuned on: as many steps of as many tokens, and the better of two learning
rates for AdamW.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
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
TEXTS = {
    "python-help, bpe": ("python-help", "bpe:1024"),
    "Python source, bpe": (str(Path(sysconfig.get_path("stdlib"), "*.py")), "bpe:1024"),
    "shakespeare, bpe": ("shakespeare", "bpe:1024"),
    "python-help, char": ("python-help", "char"),
}
CHILD = """
import json, sys
from toolkit.pipeline import train
from toolkit.recipes import with_speedrun
from toolkit.speedrun import process_age
options = json.loads(sys.argv[1])
if "options_of" in options:
    options = with_speedrun(options.pop("options_of"), "gpt", {"max_time": None, **options})
budget = options.pop("speedrun", None)
if budget is not None:
    options |= {"speedrun": budget, "spent": process_age()}
corpus = options.pop("corpus", "tiny-shakespeare")
tokenizer = options.pop("tokenizer", "char")
run = train(corpus, tokenizer, device="cpu", **options)
print(json.dumps(run.info.result))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--texts", action="store_true")
    parser.add_argument("--steps", type=int, default=400, help="of the ablation and the texts")
    parser.add_argument("--no-baseline", action="store_true")
    options = parser.parse_args()
    print(json.dumps(machine()))
    if options.texts:
        compare_on_texts(options.steps, options.seeds)
        return
    races = {f"speedrun, {options.seconds:g} s": {"speedrun": options.seconds}}
    if options.ablation:
        same = {"options_of": options.seconds, "max_steps": options.steps}
        races = {name: {**same, **changes} for name, changes in ABLATIONS.items()}
    elif not options.no_baseline:
        races["AdamW and GPT-2, 2,000 steps"] = BASELINE
    width = max(map(len, races))
    print(f"{'':{width}}  val loss  to weights  to end  steps   (medians; each seed's loss)")
    for name, changes in races.items():
        seeds = range(1, 2 if changes is BASELINE else options.seeds + 1)
        results = [train(changes, seed) for seed in seeds]
        loss, saved, ended, steps = (
            statistics.median(result[key] for result in results)
            for key in ("best_val_loss", "seconds_to_weights", "seconds", "steps")
        )
        each = " ".join(f"{result['best_val_loss']:.4f}" for result in results)
        numbers = f"{loss:8.4f}  {saved:10.1f}  {ended:6.1f}  {steps:5.0f}"
        print(f"{name:{width}}  {numbers}   {each}", flush=True)


def compare_on_texts(steps: int, seeds: int) -> None:
    """One line for each text: the median loss of the defaults and of AdamW and GPT-2."""
    print(f"{steps} steps      ours: loss, bits/byte, seconds    AdamW and GPT-2, its rate")
    for name, (corpus, tokenizer) in TEXTS.items():
        same = {
            "corpus": corpus,
            "tokenizer": tokenizer,
            "size": "micro",
            "max_steps": steps,
            "eval_every": steps,
            "sample_every": 0,
            "checkpoint_every": 0,
        }
        ours = median_of(same, seeds)
        theirs = {
            rate: median_of({**same, "preset": "gpt2", "learning_rate": rate}, seeds)
            for rate in (1e-3, 3e-3)
        }
        rate = min(theirs, key=lambda rate: theirs[rate][0])
        cells = [f"{loss:.4f}  {bits:.4f}  {s:6.1f}" for loss, bits, s in (ours, theirs[rate])]
        print(f"{name:20} {cells[0]}    {cells[1]}  {rate:g}", flush=True)


def median_of(options: dict[str, Any], seeds: int) -> tuple[float, float, float]:
    """The median loss, bits per byte and seconds over some seeds."""
    results = [train(options, seed) for seed in range(1, seeds + 1)]
    loss, bits, seconds = (
        statistics.median(result[key] for result in results)
        for key in ("best_val_loss", "best_bits_per_byte", "elapsed")
    )
    return loss, bits, seconds


def train(options: dict[str, Any], seed: int) -> dict[str, Any]:
    """The result of a run in a process of its own, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = {**options, "seed": seed, "out": str(Path(folder) / "run")}
        began, clock = time.perf_counter(), time.time()
        done = subprocess.run(
            [sys.executable, "-c", CHILD, json.dumps(arguments)], capture_output=True, text=True
        )
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(done.stderr.strip().splitlines()[-1])
        saved = (Path(folder) / "run" / "model.safetensors").stat().st_mtime - clock
    result = json.loads(done.stdout.splitlines()[-1])
    return {**result, "seconds": seconds, "seconds_to_weights": saved}


if __name__ == "__main__":
    main()
