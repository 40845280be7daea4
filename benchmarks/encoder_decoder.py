"""How long an encoder–decoder needs for the tasks that are made by a rule.

    python benchmarks/encoder_decoder.py                    # reverse and date
    python benchmarks/encoder_decoder.py copy sort add
    python benchmarks/encoder_decoder.py reverse --threads 1 --seeds 3

Each run is `toolkit train --task TASK --device cpu` in a process of its own, with the defaults of
the task. The time is that of the whole command: imports, training, evaluations, and the final
measurement of all 1,000 held-out pairs. Beside the time on the clock, which other work on the
machine makes longer, stands the time of the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import machine


def run(task: str, seed: int, threads: int | None, folder: Path) -> dict[str, Any]:
    """Train once; seconds, and what run.json and metrics.jsonl say."""
    out = folder / f"{task.replace(':', '-')}-{seed}"
    command = [sys.executable, "-m", "toolkit", "train", "--task", task, "--device", "cpu"]
    command += ["--seed", str(seed), "--out", str(out), "--quiet"]
    environment = dict(os.environ)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    evaluations = [row for row in rows if row["kind"] == "evaluation"]
    result = json.loads((out / "run.json").read_text("utf-8"))["result"]
    return {
        "seconds": seconds,
        "processor": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "steps": result["steps"],
        "exact_match": result["scores"]["exact_match"],
        "first": next((row["step"] for row in evaluations if row["exact_match"] >= 0.99), None),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tasks", nargs="*", default=["reverse", "date"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of torch; default: all cores")
    options = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(
        f"{'task':<10} {'seed':>4} {'exact match':>11} {'steps':>6} {'99% at':>6} "
        f"{'seconds':>8} {'processor':>9}"
    )
    with tempfile.TemporaryDirectory(prefix="toolkit-") as name:
        for task in options.tasks:
            for seed in range(options.seeds):
                found = run(task, seed, options.threads, Path(name))
                first = "–" if found["first"] is None else f"{found['first']:,}"
                print(
                    f"{task:<10} {seed:>4} {found['exact_match']:>11.1%} {found['steps']:>6,} "
                    f"{first:>6} {found['seconds']:>8.1f} {found['processor']:>9.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
