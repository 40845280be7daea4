"""From a corpus to token files: the tokenizer that suits, and the ids on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.corpora import Corpus, load_corpus
from toolkit.data import TokenDataset
from toolkit.data.token_dataset import SHARD_TOKENS
from toolkit.errors import RunError, ToolkitError
from toolkit.run import TOKENIZER_FOLDER, Run
from toolkit.tokenizers import Tokenizer, load_tokenizer
from toolkit.tokenizers.registry import class_of_spec, needs_corpus, option_names
from toolkit.tokenizers.special import END_OF_TEXT


def make_tokenizer(
    spec: str,
    corpus: Corpus,
    held_out: float = 0.1,
    *,
    on_progress: Callable[[str, int, int | None], None] | None = None,
    **options: Any,
) -> Tokenizer:
    """The tokenizer that `spec` names, trained for `corpus` where it needs training.

    A tokenizer that can encode every text learns from the training part alone. One with a closed
    vocabulary (char, word) has to know the whole text, or the held-out part could not be encoded.
    `options` are those of the tokenizer's `train`; `on_progress` is told how far a bpe is.
    """
    kind = class_of_spec(spec)
    if kind is None or not needs_corpus(spec):
        return load_tokenizer(spec, **options)
    texts = corpus if kind.closed_vocabulary or not held_out else corpus.split(held_out)[0]
    taken = option_names(spec) or set()
    if "special_tokens" in taken and corpus.num_documents > 1:
        options.setdefault("special_tokens", (END_OF_TEXT,))
    if "on_progress" in taken and on_progress is not None:
        options["on_progress"] = on_progress
    return load_tokenizer(spec, texts, **options)


@dataclass(frozen=True)
class TokenizedCorpus:
    """Token files that were made, and how long encoding took.

    Attributes:
        folder: of the token files; `TokenDataset.open` opens it.
        vocab_size: of the tokenizer, which is saved in `folder/tokenizer`.
        train_tokens, val_tokens: ids to train on, and held out.
        num_bytes: of the text, in UTF-8.
        seconds: of encoding, without reading for the hash and without training the tokenizer.
    """

    folder: Path
    vocab_size: int
    train_tokens: int
    val_tokens: int
    num_bytes: int
    seconds: float


def tokenize_corpus(
    corpus: str | Corpus,
    tokenizer: str | Tokenizer,
    out: str | Path,
    *,
    held_out: float = 0.1,
    shard_tokens: int | None = None,
    tokenizer_options: Mapping[str, Any] | None = None,
    on_progress: Callable[[str, int, int | None], None] | None = None,
) -> TokenizedCorpus:
    """Encode a corpus into token files in the folder `out`, with the tokenizer beside them.

    The same call after a kill goes on after the last finished shard: training gives the same
    tokenizer for the same text, and is short beside encoding a text that takes long.

    Raises:
        ToolkitError: whatever is wrong with the corpus, the tokenizer or the folder.
    """
    report = on_progress or (lambda name, done, total: None)
    out = Path(out)
    if isinstance(corpus, str):
        corpus = load_corpus(corpus, on_progress=lambda d, t: report("reading", d, t))
    if isinstance(tokenizer, str):
        tokenizer = make_tokenizer(
            tokenizer, corpus, held_out, on_progress=report, **(tokenizer_options or {})
        )
    corpus.num_bytes  # noqa: B018  # reads it once, for its hash: not a part of encoding
    began = time.perf_counter()
    dataset = TokenDataset.build(
        corpus,
        tokenizer,
        out,
        held_out=held_out,
        shard_tokens=SHARD_TOKENS if shard_tokens is None else shard_tokens,
        on_progress=lambda done, total: report("tokens", done, total),
    )
    seconds = time.perf_counter() - began
    tokenizer.save(out / TOKENIZER_FOLDER)
    return TokenizedCorpus(
        out,
        tokenizer.vocab_size,
        dataset.num_tokens("train"),
        dataset.num_tokens("val"),
        corpus.num_bytes,
        seconds,
    )


def reopen_tokens(run: Run, tokenizer: Tokenizer) -> TokenDataset:
    """The token files that a run was trained on, built again if they are gone."""
    recorded = run.info.corpus
    folder = Path(recorded["tokens"])
    try:
        return TokenDataset.open(folder)
    except RunError:
        pass
    try:
        corpus = load_corpus(recorded["spec"])
    except ToolkitError as error:
        raise RunError(
            f"The token files of {run.folder} are gone ({folder}), and its corpus "
            f"'{recorded['spec']}' cannot be read again: {error}"
        ) from error
    if corpus.sha256 != recorded["sha256"]:
        raise RunError(
            f"The corpus '{recorded['spec']}' has changed since {run.folder} was started, so the "
            "run cannot go on as it began. Restore the text, or start a new run."
        )
    return TokenDataset.cached(corpus, tokenizer, folder.parent, held_out=recorded["held_out"])
