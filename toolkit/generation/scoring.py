"""How well a model predicts a text: loss, perplexity, bits per byte, and each token by itself.

A text longer than the model's context is read in windows that overlap. Each token is predicted
once, in the first window that reaches it: from `stride` on, every token is predicted from at least
`block_size − stride` tokens before it. A small stride gives each token more context, and takes
longer. Perplexity depends on the tokenizer; bits per byte can be compared between tokenizers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.data import bits_per_byte
from toolkit.errors import ModelError, UsageError
from toolkit.generation.decoding import evaluation_mode
from toolkit.generation.samplers import require_count
from toolkit.generation.samples import Alternative, TokenLogprob
from toolkit.models import LanguageModel
from toolkit.tokenizers import Tokenizer
from toolkit.tokenizers.special import END_OF_TEXT

# Windows are computed together as long as their logits (B, T, V) hold at most so many numbers.
MAX_LOGITS = 2**25


@dataclass(frozen=True)
class ScoredToken:
    """A token of the text and how well it was predicted.

    Attributes:
        id: its id.
        token: its bytes.
        logprob: the natural logarithm of its probability; None for a first token that nothing
            stands before.
    """

    id: int
    token: bytes
    logprob: float | None


@dataclass(frozen=True)
class Score:
    """How well a model predicts a text.

    Attributes:
        tokens: all tokens of the text.
        context: the longest context that a token was predicted from.
        stride: how far the windows are apart.
    """

    tokens: tuple[ScoredToken, ...]
    context: int
    stride: int

    @property
    def num_tokens(self) -> int:
        """How many tokens were predicted."""
        return sum(token.logprob is not None for token in self.tokens)

    @property
    def num_bytes(self) -> int:
        """How many bytes of text the predicted tokens stand for."""
        return sum(len(token.token) for token in self.tokens if token.logprob is not None)

    @property
    def loss(self) -> float:
        """The mean of −logprob, in nats per token."""
        total = math.fsum(token.logprob for token in self.tokens if token.logprob is not None)
        return -total / self.num_tokens

    @property
    def perplexity(self) -> float:
        """e to the loss: the model is as unsure as between so many equally likely tokens."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf

    @property
    def bits_per_byte(self) -> float:
        """The loss in bits per byte of text."""
        return bits_per_byte(self.loss, self.num_tokens, self.num_bytes)


def score_text(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: str,
    *,
    context: int | None = None,
    stride: int | None = None,
) -> Score:
    """How well the model predicts a text.

    With a tokenizer that has `<|endoftext|>` that token stands before the text, as in training, and
    the first token counts too. Otherwise nothing stands before the first token, and it does not.

    Args:
        model: in any mode; it is left as it was.
        tokenizer: the one that it was trained with.
        text: at least one token that can be predicted.
        context: the length of a window; None: the model's block_size.
        stride: how far the windows are apart, at most `context`; None: half of it.

    Raises:
        UsageError: a text that is too short, a context or stride that cannot be, or a model that
            translates.
        VocabularyError: a character that the tokenizer does not know.
        ModelError: the model's logits are not numbers.
    """
    if model.takes_source:
        raise UsageError(
            f"Perplexity is for models that continue texts; one of kind {model.name} translates. "
            "What it scored in training is in its run.json."
        )
    context = model.block_size if context is None else context
    require_count("--context", context)
    if context > model.block_size:
        raise UsageError(
            f"--context {context} is longer than the model's block size {model.block_size}."
        )
    stride = max(1, context // 2) if stride is None else stride
    require_count("--stride", stride)
    if stride > context:
        raise UsageError(f"--stride {stride} must be at most the context {context}.")
    ids = tokenizer.encode(text)
    first = tokenizer.special_tokens.get(END_OF_TEXT)
    sequence = ids if first is None else [first, *ids]
    if len(sequence) < 2:
        raise UsageError(
            "There is nothing to predict: the text needs at least "
            f"{'one token' if first is not None else 'two tokens'}."
        )
    found: list[float | None] = _logprobs(model, sequence, context, stride).tolist()
    if first is None:
        found.insert(0, None)
    tokens = (
        ScoredToken(token_id, tokenizer.token_bytes(token_id), logprob)
        for token_id, logprob in zip(ids, found, strict=True)
    )
    return Score(tuple(tokens), context, stride)


@torch.inference_mode()
def score_ids(
    model: LanguageModel, tokenizer: Tokenizer, ids: Sequence[int], num_alternatives: int = 0
) -> tuple[TokenLogprob | None, ...]:
    """How likely the model holds each of some ids, and so many of the likeliest in its place.

    Nothing is put before them, so the first is None. Ids longer than the context are read in
    windows half a context apart.

    >>> from toolkit.models import create_model
    >>> from toolkit.tokenizers import ByteTokenizer
    >>> first, second = score_ids(create_model("bigram", 256), ByteTokenizer(), [72, 105], 2)
    >>> first, second.token, len(second.top)
    (None, b'i', 2)

    Raises:
        ModelError: the model's logits are not numbers.
    """
    found: list[TokenLogprob | None] = [None] * len(ids)
    context, stride = model.block_size, max(1, model.block_size // 2)
    size = tokenizer.vocab_size  # a model's vocabulary may be padded: those ids have no text
    with evaluation_mode(model):
        for starts, log_p, targets in _predictions(model, ids, context, stride, size):
            if log_p.isnan().any():
                raise ModelError("The model's logits are not numbers (NaN or infinity).")
            values = log_p.gather(-1, targets[..., None]).squeeze(-1).tolist()
            likeliest = log_p.topk(min(num_alternatives, size), dim=-1)
            top_ids, top_values = likeliest.indices.tolist(), likeliest.values.tolist()
            for row, start in enumerate(starts):
                for place in range(_num_known(start, context, stride), targets.size(1)):
                    token_id = ids[start + place + 1]
                    top = zip(top_ids[row][place], top_values[row][place], strict=True)
                    found[start + place + 1] = TokenLogprob(
                        token_id,
                        tokenizer.token_bytes(token_id),
                        values[row][place],
                        tuple(Alternative(i, tokenizer.token_bytes(i), value) for i, value in top),
                    )
    return tuple(found)


@torch.inference_mode()
def _logprobs(model: LanguageModel, ids: list[int], context: int, stride: int) -> Tensor:
    """The logprob of every id but the first: float64 (len(ids) − 1)."""
    found = torch.empty(len(ids) - 1, dtype=torch.float64)
    size = model.config.vocab_size
    with evaluation_mode(model):
        for starts, every_log_p, targets in _predictions(model, ids, context, stride, size):
            log_p = every_log_p.gather(-1, targets[..., None]).squeeze(-1).cpu()  # (B, T)
            if not log_p.isfinite().all():
                raise ModelError(
                    "The model's logits are not numbers (NaN or infinity), or it rules a token of "
                    "the text out altogether: there is no loss."
                )
            for start, row in zip(starts, log_p.double(), strict=True):
                known = _num_known(start, context, stride)
                found[start + known : start + len(row)] = row[known:]
    return found


def _predictions(
    model: LanguageModel, ids: Sequence[int], context: int, stride: int, vocab_size: int
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Windows of `ids`: their starts, the log-probabilities after each of their tokens (B, T, V),
    and the ids that come there (B, T). For a model in evaluation mode."""
    everything = torch.tensor(ids, dtype=torch.long)
    inputs, targets = everything[:-1], everything[1:]
    for starts, length in _batches(len(inputs), context, stride, model.config.vocab_size):
        windows = torch.stack([inputs[start : start + length] for start in starts])  # (B, T)
        wanted = torch.stack([targets[start : start + length] for start in starts])
        logits = model(windows.to(model.device)).logits[..., :vocab_size].float()  # (B, T, V)
        yield starts, logits.log_softmax(dim=-1), wanted.to(logits.device)


def _num_known(start: int, context: int, stride: int) -> int:
    """How many places of a window an earlier one has predicted: what it said stays as it is."""
    return 0 if start == 0 else context - stride


def _batches(
    num_inputs: int, context: int, stride: int, vocab_size: int
) -> Iterator[tuple[list[int], int]]:
    """Windows as their starts and their length: many whole ones at a time, then a shorter one."""
    rows = max(1, MAX_LOGITS // (context * vocab_size))
    whole = list(range(0, num_inputs - context + 1, stride))
    for first in range(0, len(whole), rows):
        yield whole[first : first + rows], context
    covered = whole[-1] + context if whole else 0
    if covered < num_inputs:
        start = whole[-1] + stride if whole else 0
        yield [start], num_inputs - start
