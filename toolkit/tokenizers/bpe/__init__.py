"""Byte-level byte pair encoding, by hand.

    patterns.py           how a text is cut into pre-tokens
    reference.py          the algorithm at its plainest: start reading here
    trainer.py            the same, with counts that are updated instead of recounted
    vocabulary.py         tokens, merges, ranks; merging one word
    encoder.py            texts to ids
    explain.py            the merges of each word, for people
    fast/                 the trainer and the encoder once more, compiled
    learning.py           learning merges, by whichever of the two trainers suits
    alphabet.py           bytes as printable characters, for Hugging Face's files
    tiktoken_files.py     rank files in and out
    huggingface_files.py  tokenizer.json, vocab.json and merges.txt in and out
    tokenizer.py          BPETokenizer: all of it as one tokenizer

Each way to do something is held by the tests against a plainer one: `fast/` against `trainer.py`,
`encoder.py` and the `regex` module, these against `reference.py`, and all of them against tiktoken
and Hugging Face's `tokenizers`. They give the same values: the same pre-tokens, the same steps in
the same order with the same counts, the same ids. docs/bpe.md explains why they are fast.
"""

from toolkit.tokenizers.bpe.encoder import Encoder
from toolkit.tokenizers.bpe.patterns import PATTERNS, SplitPattern, split_pattern
from toolkit.tokenizers.bpe.tokenizer import BPETokenizer
from toolkit.tokenizers.bpe.trainer import (
    MergeStep,
    MergeTrainer,
    PairCount,
    count_pretokens,
    iter_merges,
)
from toolkit.tokenizers.bpe.vocabulary import Vocabulary

__all__ = [
    "PATTERNS",
    "BPETokenizer",
    "Encoder",
    "MergeStep",
    "MergeTrainer",
    "PairCount",
    "SplitPattern",
    "Vocabulary",
    "count_pretokens",
    "iter_merges",
    "split_pattern",
]
