"""Byte-level byte pair encoding, by hand.

    patterns.py           how a text is cut into pre-tokens
    reference.py          the algorithm at its plainest: start reading here
    trainer.py            the same, with counts that are updated instead of recounted
    vocabulary.py         tokens, merges, ranks; merging one word
    encoder.py            texts to ids
    alphabet.py           bytes as printable characters, for Hugging Face's files
    tiktoken_files.py     rank files in and out
    huggingface_files.py  tokenizer.json, vocab.json and merges.txt in and out
    tokenizer.py          BPETokenizer: all of it as one tokenizer

Three functions do the work that takes time, and everything else reaches it only through them:

    SplitPattern.split(text) -> pre-tokens
    iter_merges(word_counts, …) -> MergeSteps
    Encoder(vocabulary, pattern).encode(text) -> ids

What replaces one of them has to give the same values: the same pre-tokens, the same steps in the
same order with the same counts, the same ids. `reference.py`, tiktoken and Hugging Face's
`tokenizers` are what the tests hold each of them against.
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
