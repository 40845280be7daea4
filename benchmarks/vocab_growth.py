"""How fast the growth of a vocabulary is replayed: every merge, with exact statistics after each.

    python benchmarks/vocab_growth.py
    python benchmarks/vocab_growth.py --mixed --vocab-size 32768

The peer is the plain Python replay that the tests take for the oracle; training, whose own
statistics must be the same, is beside them for scale. All in turns, in one process.
"""

from __future__ import annotations

import argparse

from measuring import OURS, machine, ratio_table, time_in_turns
from texts import mixture, one_corpus

from toolkit.tokenizers import BPETokenizer, vocab_growth
from toolkit.tokenizers.bpe.learning import count_words_of
from toolkit.tokenizers.bpe.replay import count_merges, count_merges_plainly
from toolkit.tokenizers.bpe.trainer import MergeStep

MIXED_SIZE = 40_000_000
DOCUMENT_SIZE = 64 * 1024
LABELS = {
    OURS: "vocab_growth, every merge",
    "counting": "  of which: counting the words",
    "replay": "  of which: replaying, compiled",
    "plain": "replaying in plain Python",
    "training": "training, for scale",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", default="tiny-shakespeare", help="a corpus or a file")
    parser.add_argument("--mixed", action="store_true", help="40 MB of prose, code and more")
    parser.add_argument("--vocab-size", type=int, default=32_768)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.mixed:
        texts = mixture(MIXED_SIZE, DOCUMENT_SIZE, multilingual=True)
    else:
        texts = one_corpus(options.corpus, DOCUMENT_SIZE)
    documents = texts.documents
    print(machine())
    print(texts.describe())

    steps: list[MergeStep] = []
    tokenizer = BPETokenizer.train(documents, vocab_size=options.vocab_size, on_merge=steps.append)
    growth = vocab_growth(documents, tokenizer, every=1)
    for step, before, after in zip(steps, growth.rows[:-1], growth.rows[1:], strict=True):
        assert before.next_count == step.count
        assert after.num_tokens == step.num_tokens
        assert after.symbols_in_use == step.symbols_in_use
    print(f"{len(steps):,} merges; the statistics of every step equal those of the training")

    words = count_words_of(documents, tokenizer.pattern)
    merges = tokenizer.word_merges
    timings = time_in_turns(
        {
            OURS: lambda: lambda: vocab_growth(documents, tokenizer, every=1),
            "counting": lambda: lambda: count_words_of(documents, tokenizer.pattern),
            "replay": lambda: lambda: count_merges(words, merges),
            "plain": lambda: lambda: count_merges_plainly(words, merges),
            "training": lambda: (
                lambda: BPETokenizer.train(documents, vocab_size=options.vocab_size)
            ),
        },
        options.repeats,
        fewer={"plain": 1} if options.mixed else None,
    )
    print(ratio_table("growth of a vocabulary", timings, "s", float, LABELS))


if __name__ == "__main__":
    main()
