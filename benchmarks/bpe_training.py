"""How fast byte-level BPE is trained, and in how much memory, beside other libraries.

    python benchmarks/bpe_training.py --corpus tiny_shakespeare.txt
    python benchmarks/bpe_training.py --mixed --vocab-size 32768

All train on the same documents in memory with GPT-2's split pattern, in turns. First the merges
are checked against those of Hugging Face's trainer. `pip install 'toolkit[bench]'` installs the
libraries to compare with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from measuring import (
    OURS,
    Task,
    Timing,
    forget_peak_memory,
    machine,
    one_line,
    peak_memory,
    ratio_table,
    time_in_turns,
)
from peers import (
    NUM_BYTES,
    Lesson,
    Trainer,
    find_trainer,
    find_trainers,
    huggingface_merges,
    use_threads,
)
from texts import Texts, cut_file, mixture, one_corpus

from toolkit import ToolkitError
from toolkit.tokenizers.bpe import count_pretokens, iter_merges
from toolkit.tokenizers.bpe.alphabet import CHARACTER_ORDER
from toolkit.tokenizers.bpe.learning import LearnOptions, learn_merges

MIXED_SIZE = 40_000_000
DOCUMENT_SIZE = 64 * 1024
LARGE = 10_000_000  # from here on, slow libraries train once
CHECKED_SIZE = 2_000_000  # the Python trainer takes part in the check
WARM_UP = ["The compiler has to have been here before the clock starts.\n" * 2000]


def main() -> int:
    options = parse_options()
    use_threads(options.threads)
    if options.memory_of:
        print(json.dumps(memory_of_training(options)))
        return 0
    try:
        if options.mixed:
            texts = mixture(options.mixed_size, DOCUMENT_SIZE, multilingual=False)
            texts = texts.joined(DOCUMENT_SIZE)  # some libraries read them as one file
        else:
            texts = one_corpus(options.corpus, DOCUMENT_SIZE)
    except ToolkitError as error:
        print(f"{error}\nName a file with --corpus FILE, or take --mixed.", file=sys.stderr)
        return error.exit_code
    print(f"{texts.describe()}\n")
    print(f"V = {options.vocab_size:,}, {options.threads} threads where there is a choice\n")

    trainers, skipped = find_trainers()
    for trainer in trainers.values():
        if trainer.note:
            print(f"{trainer.label}: {trainer.note}")
    for name, reason in skipped.items():
        print(f"{name}: left out, {reason}")

    checks = check_merges(texts, options)
    if not all(checks.values()):
        print("\nThe merges are not right, so their speed is of no interest.", file=sys.stderr)
        return 1

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "corpus.txt")
        path.write_text("".join(texts.documents), encoding="utf-8", newline="")
        lesson = make_lesson(texts.documents, path, options)
        timings, learned = time_training(trainers, lesson, options.repeats, texts.num_bytes)
        labels = {name: trainer.label for name, trainer in trainers.items()}
        print()
        print(ratio_table("Training, warm", timings, "s", float, labels))
        agreement = compare_tokens(learned, labels)
        memory = {name: measure_memory(name, path, options) for name in trainers}
    print_memory(memory, labels)

    if options.json:
        results = {
            "machine": machine(),
            "texts": texts.summary(),
            "vocab_size": options.vocab_size,
            "threads": options.threads,
            "versions": {name: trainer.version for name, trainer in trainers.items()},
            "skipped": skipped,
            "checks": checks,
            "training": {name: timing.summary() for name, timing in timings.items()},
            "agreement": agreement,
            "memory": memory,
        }
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Time BPE training beside other libraries.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--corpus", default="tiny-shakespeare", help="a file or a named corpus")
    what.add_argument(
        "--mixed", action="store_true", help="prose, documentation and code of this machine"
    )
    parser.add_argument(
        "--mixed-size", type=int, default=MIXED_SIZE, help="bytes of the mixed text"
    )
    parser.add_argument("--vocab-size", type=int, default=4096, help="V, with the 256 bytes")
    parser.add_argument("--threads", type=int, default=2, help="threads, where there is a choice")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that are counted")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    parser.add_argument("--memory-of", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_lesson(documents: Iterable[str], path: Path, options: argparse.Namespace) -> Lesson:
    alphabet: set[int] = set()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            alphabet.update(block)
    return Lesson(documents, path, options.vocab_size, options.threads, len(alphabet))


# -- correctness --------------------------------------------------------------------------------


def check_merges(texts: Texts, options: argparse.Namespace) -> dict[str, bool]:
    """Compare our merges with those of the readable trainer and of Hugging Face's.

    Pairs that are equally frequent are merged in the order of their ids, and Hugging Face numbers
    the bytes in another order, which ours can be given.
    """
    documents: list[str] = []
    size = 0
    for document in texts.documents:
        if size + len(document) > CHECKED_SIZE:
            break
        documents.append(document)
        size += len(document)
    num_merges = options.vocab_size - NUM_BYTES
    word_counts = count_pretokens(documents)
    lesson = Lesson(documents, Path(), options.vocab_size, options.threads)

    print(f"\nChecked on {size:,} characters:")
    checks: dict[str, bool] = {}
    ours = find_trainer(OURS).train(lesson).merges
    readable = [step.pair for step in islice(iter_merges(word_counts), num_merges)]
    title = "BPETokenizer.train gives the merges of the readable trainer"
    checks[title] = report(title, ours == readable, len(ours))
    try:
        huggingface = find_trainer("tokenizers")
    except ImportError:
        print("  not compared with Hugging Face: tokenizers is not installed")
        return checks
    theirs = huggingface_merges(huggingface.train(lesson))
    in_their_order: list[tuple[bytes, bytes]] = []
    learn_merges(
        documents,
        "gpt2",
        LearnOptions(num_merges, byte_order=CHARACTER_ORDER),
        on_merge=lambda step: in_their_order.append(step.pair),
    )
    title = "with Hugging Face's order of bytes, those are the merges of its BpeTrainer"
    checks[title] = report(title, in_their_order == theirs, len(theirs))
    return checks


def report(title: str, holds: bool, num_merges: int) -> bool:
    print(f"  {'yes' if holds else 'NO'}: {title} ({num_merges:,} merges)")
    return holds


def compare_tokens(
    learned: dict[str, list[bytes]], labels: dict[str, str]
) -> dict[str, dict[str, int]]:
    """Say how far the others learned the same tokens."""
    print("\nWhat they learned (some break ties in another way, or cut at every line)")
    ours = set(learned[OURS])
    agreement = {}
    for name, tokens in learned.items():
        if not tokens:
            continue
        shared = len(ours.intersection(tokens))
        agreement[name] = {"tokens": len(tokens), "shared": shared}
        print(f"  {labels[name]}: {len(tokens):,} tokens, {shared:,} of them those of {OURS}")
    return agreement


# -- time ---------------------------------------------------------------------------------------


def time_training(
    trainers: dict[str, Trainer], lesson: Lesson, repeats: int, num_bytes: int
) -> tuple[dict[str, Timing], dict[str, list[bytes]]]:
    """The times of all trainers, and the tokens that each of them learned."""
    trained: dict[str, Any] = {}

    def prepare(trainer: Trainer) -> Callable[[], Task]:
        def train() -> object:
            result = trainer.train(lesson)
            trained.setdefault(trainer.name, result)
            return result

        return lambda: train

    contestants = {name: prepare(trainer) for name, trainer in trainers.items()}
    fewer = {name: 1 for name, trainer in trainers.items() if trainer.slow and num_bytes >= LARGE}
    timings = time_in_turns(contestants, repeats, fewer=fewer)
    learned = {name: trainers[name].tokens(result) for name, result in trained.items()}
    return timings, learned


# -- memory -------------------------------------------------------------------------------------


def measure_memory(name: str, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Let a fresh process train once and say what it held."""
    command = [sys.executable, __file__, "--memory-of", name, "--corpus", str(path)]
    command += ["--vocab-size", str(options.vocab_size), "--threads", str(options.threads)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode != 0:
        last = child.stderr.strip().splitlines()[-1:] or [f"exit status {child.returncode}"]
        return {"failure": last[0]}
    answer: dict[str, Any] = json.loads(child.stdout)
    return answer


def memory_of_training(options: argparse.Namespace) -> dict[str, Any]:
    """In the child: the peak before and after one training, in bytes.

    The documents are read from the file one after the other: what a trainer holds of them is its
    own affair. Imports and compilation come before.
    """
    trainer = find_trainer(options.memory_of)
    path = Path(options.corpus)
    try:
        with tempfile.TemporaryDirectory() as folder:
            small = Path(folder, "small.txt")
            small.write_text("".join(WARM_UP), encoding="utf-8")
            trainer.train(Lesson(WARM_UP, small, NUM_BYTES + 100, options.threads))
        lesson = make_lesson(cut_file(path, DOCUMENT_SIZE), path, options)
        forget_peak_memory()
        before = peak_memory()
        trained = trainer.train(lesson)
        after = peak_memory()
        del trained
    except Exception as error:
        return {"failure": one_line(error)}
    return {"before": before, "after": after}


def print_memory(memory: dict[str, dict[str, Any]], labels: dict[str, str]) -> None:
    print("\nPeak memory of one training in a process of its own, in MB, the text read from a file")
    width = max(map(len, labels.values()))
    print(f"  {'':{width}}  {'ratio':>6}  {'training':>9}  {'before':>7}  {'with it':>7}")
    ours = memory[OURS]
    for name, measured in memory.items():
        if "failure" in measured:
            print(f"  {labels[name]:{width}}  {measured['failure']}")
            continue
        before, after = measured["before"], measured["after"]
        ratio = ""
        if "failure" not in ours and ours["after"] > ours["before"]:
            ratio = f"{(after - before) / (ours['after'] - ours['before']):.2f}×"
        print(
            f"  {labels[name]:{width}}  {ratio:>6}  {(after - before) / 1e6:9.0f}"
            f"  {before / 1e6:7.0f}  {after / 1e6:7.0f}"
        )


if __name__ == "__main__":
    sys.exit(main())
