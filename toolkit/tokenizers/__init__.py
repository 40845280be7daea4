"""Tokenizers: text to ids and back.

    from toolkit.tokenizers import load_tokenizer
    tokenizer = load_tokenizer("bpe:4k", ["one document", "another"])
    tokenizer.decode(tokenizer.encode("one"))

Every name is imported when it is first used, so that a command that needs one tokenizer does not
pay for all of them. A tokenizer of your own is a subclass of `Tokenizer`; `testing.check_tokenizer`
says whether it keeps the contract.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.tokenizers.base import TokenBatch as TokenBatch
    from toolkit.tokenizers.base import Tokenizer as Tokenizer
    from toolkit.tokenizers.bpe import BPETokenizer as BPETokenizer
    from toolkit.tokenizers.byte import ByteTokenizer as ByteTokenizer
    from toolkit.tokenizers.char import CharTokenizer as CharTokenizer
    from toolkit.tokenizers.comparison import compare_tokenizers as compare_tokenizers
    from toolkit.tokenizers.growth import heaps_curve as heaps_curve
    from toolkit.tokenizers.growth import suggest_vocab_size as suggest_vocab_size
    from toolkit.tokenizers.growth import vocab_growth as vocab_growth
    from toolkit.tokenizers.huggingface_backend import HuggingFaceTokenizer as HuggingFaceTokenizer
    from toolkit.tokenizers.registry import available_tokenizers as available_tokenizers
    from toolkit.tokenizers.registry import load_tokenizer as load_tokenizer
    from toolkit.tokenizers.sentencepiece_backend import (
        SentencePieceTokenizer as SentencePieceTokenizer,
    )
    from toolkit.tokenizers.stats import vocab_stats as vocab_stats
    from toolkit.tokenizers.streaming import StreamDecoder as StreamDecoder
    from toolkit.tokenizers.word import WordTokenizer as WordTokenizer

_HOME = {
    "BPETokenizer": "bpe",
    "ByteTokenizer": "byte",
    "CharTokenizer": "char",
    "HuggingFaceTokenizer": "huggingface_backend",
    "SentencePieceTokenizer": "sentencepiece_backend",
    "StreamDecoder": "streaming",
    "TokenBatch": "base",
    "Tokenizer": "base",
    "WordTokenizer": "word",
    "available_tokenizers": "registry",
    "compare_tokenizers": "comparison",
    "heaps_curve": "growth",
    "load_tokenizer": "registry",
    "suggest_vocab_size": "growth",
    "vocab_growth": "growth",
    "vocab_stats": "stats",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'toolkit.tokenizers' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"toolkit.tokenizers.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
