"""How fast tokens are generated on a CPU, beside other libraries and beside the memory's limit.

    python benchmarks/generation.py
    python benchmarks/generation.py --model characters --repeats 5 --threads 1

Random weights in GPT-2's shape (124M parameters), and a character model (6 layers of 384 channels,
10.7M), the same numbers for every library. One row, a prompt of 16 tokens, 128 new ones, greedy.
Each contestant generates in turn, so that a slow minute hits all alike; what is shown is the best
round, with the prompt's time in it. The limit is what reading all matrices once for each token
would allow: their bytes, over the bandwidth that the same machine shows in the same run when it
adds up a gigabyte. A model whose weights fit into the processor's cache can be above it.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from measuring import Task, Timing, machine, one_line, time_in_turns, version_of

from toolkit.generation import Generator, Greedy, Sampler
from toolkit.generation.decoding import Continuations, make_decoder
from toolkit.models import GPTModel, create_model, save_pretrained

PROMPT, NEW_TOKENS = 16, 128
OURS = "toolkit float32"
MODELS: dict[str, tuple[int, dict[str, Any]]] = {
    "gpt2": (50257, {"size": "small", "preset": "gpt2"}),
    "characters": (65, {"size": "mini", "preset": "gpt2"}),
}
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
Maker = Callable[[GPTModel, Path], Callable[[], object]]


def bandwidth() -> float:
    """Bytes a second that torch's threads read when they add up a gigabyte, in the best of some
    rounds."""
    numbers = torch.ones(2**28)
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        numbers.sum()
        seconds.append(time.perf_counter() - start)
    return numbers.numel() * 4 / min(seconds)


def bytes_per_token(model: GPTModel, weights: str) -> int:
    """What every token needs of the weights: all matrices but an embedding that is no head."""
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "emb" not in name]
    if model.head is None:
        matrices.append(model.tok_emb.weight)
    return sum(matrix.numel() for matrix in matrices) * BYTES[weights]


def prompt_of(model: GPTModel) -> list[int]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, model.config.vocab_size, (PROMPT,), generator=generator).tolist()


# -- contestants --------------------------------------------------------------------------------


def ours(**options: Any) -> Maker:
    def make(model: GPTModel, folder: Path) -> Callable[[], object]:
        generator, prompt = Generator(model, **options), prompt_of(model)

        def generate() -> object:
            new = generator.generate_ids(prompt, max_new_tokens=NEW_TOKENS, strategy="greedy")
            assert len(new) == NEW_TOKENS
            return new

        return generate

    return make


def ours_in_rows(rows: int) -> Maker:
    def make(model: GPTModel, folder: Path) -> Callable[[], object]:
        prompt, sampler = prompt_of(model), Sampler([Greedy()])

        def generate() -> object:
            decoder = make_decoder(model, num_tokens=PROMPT + NEW_TOKENS)
            generators = [torch.Generator() for _ in range(rows)]
            vocab_size = model.config.vocab_size
            texts = Continuations(model, prompt, sampler, generators, vocab_size, decoder=decoder)
            return [texts.draw() for _ in range(NEW_TOKENS)]

        return generate

    return make


def transformers(dtype: str) -> Maker:
    def make(model: GPTModel, folder: Path) -> Callable[[], object]:
        library = import_module("transformers")
        peer = library.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        prompt = torch.tensor([prompt_of(model)])
        options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 0}

        def generate() -> object:
            with torch.inference_mode():
                new = peer.eval().generate(prompt, eos_token_id=None, **options)
            assert new.shape == (1, PROMPT + NEW_TOKENS)
            return new

        return generate

    return make


def ctranslate2(compute_type: str, threads: int) -> Maker:
    def make(model: GPTModel, folder: Path) -> Callable[[], object]:
        library = import_module("ctranslate2")
        converters = import_module("ctranslate2.converters.transformers")
        transformers = import_module("transformers")
        peer = transformers.AutoModelForCausalLM.from_pretrained(folder)
        loader = converters._MODEL_LOADERS["GPT2Config"]
        spec = loader.get_model_spec(peer)
        spec.register_vocabulary([str(number) for number in range(model.config.vocab_size)])
        spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = "0"
        spec.validate()
        spec.optimize(quantization=compute_type)
        converted = folder / f"ctranslate2-{compute_type}"
        converted.mkdir()
        spec.save(str(converted))
        options = {"compute_type": compute_type, "intra_threads": threads}
        generator = library.Generator(str(converted), device="cpu", **options)
        prompt = [str(number) for number in prompt_of(model)]

        def generate() -> object:
            result = generator.generate_batch(
                [prompt],
                max_length=NEW_TOKENS,
                min_length=NEW_TOKENS,
                sampling_topk=1,
                include_prompt_in_result=False,
            )[0]
            assert len(result.sequences_ids[0]) == NEW_TOKENS
            return result

        return generate

    return make


def contestants(threads: int, rows: int) -> dict[str, tuple[Maker, str]]:
    """Name → what makes its task, and the format of its weights."""
    return {
        OURS: (ours(), "float32"),
        "toolkit bfloat16": (ours(weights="bfloat16"), "bfloat16"),
        "toolkit int8": (ours(weights="int8"), "int8"),
        "toolkit float32, torch's operations": (ours(engine="torch"), "float32"),
        "toolkit float32, no cache": (ours(cache=False, engine="torch"), "float32"),
        "transformers float32": (transformers("float32"), "float32"),
        "transformers bfloat16": (transformers("bfloat16"), "bfloat16"),
        "ctranslate2 float32": (ctranslate2("float32", threads), "float32"),
        "ctranslate2 int8": (ctranslate2("int8", threads), "int8"),
        f"toolkit float32, {rows} rows": (ours_in_rows(rows), "float32"),
    }


# -- the race ------------------------------------------------------------------------------------


def race(
    name: str, chosen: dict[str, tuple[Maker, str]], repeats: int
) -> tuple[GPTModel, dict[str, Timing]]:
    vocab_size, options = MODELS[name]
    model = create_model("gpt", vocab_size, seed=0, **options).eval()
    assert isinstance(model, GPTModel)
    with tempfile.TemporaryDirectory() as made:
        save_pretrained(model, Path(made))
        tasks: dict[str, Task] = {}
        failed: dict[str, str] = {}
        for contestant, (maker, _) in chosen.items():
            try:
                tasks[contestant] = maker(model, Path(made))
            except ImportError:
                failed[contestant] = "not installed"
            except Exception as error:
                failed[contestant] = one_line(error)
        slow = {name: 1 for name in tasks if name.endswith(("no cache", "rows"))}
        timings = time_in_turns(
            {contestant: (lambda task=task: task) for contestant, task in tasks.items()},
            repeats,
            fewer=slow,
        )
    return model, timings | {name: Timing(failure=why) for name, why in failed.items()}


def report(
    model: GPTModel, timings: dict[str, Timing], formats: dict[str, str], rate: float, rows: int
) -> list[dict[str, object]]:
    """A line for each contestant, the fastest first; returned as values too."""
    found = []
    for name, timing in timings.items():
        if timing.failure:
            found.append({"name": name, "failure": timing.failure})
            continue
        count = rows if name.endswith("rows") else 1
        tokens = count * NEW_TOKENS / timing.best
        limit = rate / bytes_per_token(model, formats[name])
        found.append({"name": name, "tokens_per_s": tokens, "limit": limit, "rows": count})
    single = next(row["tokens_per_s"] for row in found if row["name"] == OURS)
    print(f"  {'':38}{'tokens/s':>9}{'ratio':>8}{'limit':>8}{'of it':>7}")
    for row in sorted(found, key=lambda row: -row.get("tokens_per_s", 0)):
        if "failure" in row:
            print(f"  {row['name']:38}{row['failure']}")
            continue
        speed, limit = row["tokens_per_s"], row["limit"]
        line = f"  {row['name']:38}{speed:9.1f}{speed / single:7.2f}×"
        if row["rows"] == 1:
            line += f"{limit:8.0f}{speed / limit:7.0%}"
        print(line, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=[*MODELS, "all"], default="all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--only", default="", help="contestants whose names match this pattern")
    parser.add_argument("--json", action="store_true", help="one more line, for programs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chosen = contestants(options.threads, options.rows)
    kept = {n: c for n, c in chosen.items() if re.search(options.only, n) or n == OURS}
    versions = {name: version_of(name) for name in ("torch", "transformers", "ctranslate2")}
    print(json.dumps({**machine(), "threads": options.threads, **versions}))
    for name in MODELS if options.model == "all" else [options.model]:
        rate = bandwidth()
        model, timings = race(name, kept, options.repeats)
        rate = max(rate, bandwidth())
        print(f"\n{name}: {model.num_params():,} parameters, {rate / 1e9:.1f} GB/s")
        formats = {contestant: weights for contestant, (_, weights) in kept.items()}
        found = report(model, timings, formats, rate, options.rows)
        if options.json:
            print(json.dumps({"model": name, "bytes_per_s": rate, "results": found}))


if __name__ == "__main__":
    main()
