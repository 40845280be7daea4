"""Text from a model: prompts in, samples out, as a whole or as a stream.

A context longer than the model's `block_size` is handled by a sliding window: the model sees the
last `block_size` tokens, and positions count from the window's start, as in training.

Left out: a key/value cache; every step computes the whole window (see `WindowDecoder`).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import UsageError, VocabularyError
from toolkit.generation.samplers import Sampler, make_sampler
from toolkit.generation.streaming import StopScanner, StreamDecoder
from toolkit.models import LanguageModel
from toolkit.tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
DEFAULT_NEW_TOKENS = 200


@dataclass(frozen=True)
class Completion:
    """One sample.

    Attributes:
        prompt: the text that it continues.
        text: the new text, without the prompt and without the stop string.
        prompt_ids, ids: the same as ids; `ids` are all that were drawn, those of a stop string too.
        finish_reason: "length" (max_new_tokens reached), "stop" (a stop string) or "eos" (the
            model ended the text).
        seed: repeats this sample.
    """

    prompt: str
    text: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    finish_reason: str
    seed: int


class WindowDecoder:
    """Next-token logits of growing sequences, one row each, all of the same length."""

    def __init__(self, model: LanguageModel, ids: Sequence[int], rows: int) -> None:
        self._model = model
        device = next(model.parameters()).device
        self._ids = torch.tensor([list(ids)] * rows, dtype=torch.long, device=device)  # (B, T)

    def next_logits(self) -> Tensor:
        """Logits (B, V) of the token that comes next."""
        window = self._ids[:, -self._model.block_size :]
        return self._model(window).logits[:, -1]

    def append(self, tokens: Tensor) -> None:
        """Add one token (B,) to each row."""
        tokens = tokens.to(self._ids.device)
        self._ids = torch.cat([self._ids, tokens[:, None]], dim=1)[:, -self._model.block_size :]


class Generator:
    """A model and its tokenizer, ready to continue prompts.

    Without a tokenizer only `generate_ids` works. The model is left as it was found: its mode, its
    weights, torch's global random state.

    Raises:
        UsageError: the tokenizer has ids that the model does not know.
    """

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer | None = None) -> None:
        if tokenizer is not None and tokenizer.vocab_size > model.config.vocab_size:
            raise UsageError(
                f"The tokenizer has {tokenizer.vocab_size} tokens and the model "
                f"{model.config.vocab_size}: they do not belong together."
            )
        self.model = model
        self._tokenizer = tokenizer

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            UsageError: there is none.
        """
        if self._tokenizer is None:
            raise UsageError("This Generator has no tokenizer: use generate_ids, or give it one.")
        return self._tokenizer

    def stream(
        self,
        prompt: str,
        *,
        max_new_tokens: int = DEFAULT_NEW_TOKENS,
        stop: Sequence[str] = (),
        seed: int | None = None,
        **sampling: Any,
    ) -> Iterator[str]:
        """Pieces of the new text as they are made; joined, they are `generate(...).text`.

        Args:
            prompt: the text to continue; "" starts a new one.
            max_new_tokens: how many tokens to draw at most.
            stop: the text ends before the first of these strings.
            seed: the same seed gives the same text; None draws a fresh one.
            sampling: strategy, temperature, top_k, top_p (see `make_sampler`), or sampler=.

        Raises:
            UsageError: a wrong option. VocabularyError: a prompt that cannot be encoded. Both are
            raised at once, not when the first piece is taken.
        """
        sample = self._sample(prompt, max_new_tokens, stop, seed, sampling)
        return (piece for piece in sample if piece)

    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = DEFAULT_NEW_TOKENS,
        stop: Sequence[str] = (),
        seed: int | None = None,
        **sampling: Any,
    ) -> Completion:
        """One sample; the arguments and errors are those of `stream`."""
        seed = fresh_seed() if seed is None else seed
        sample = self._sample(prompt, max_new_tokens, stop, seed, sampling)
        text = "".join(sample)
        return Completion(
            prompt, text, tuple(sample.prompt_ids), tuple(sample.ids), sample.finish_reason, seed
        )

    def generate_samples(
        self, prompt: str, num_samples: int, *, seed: int | None = None, **options: Any
    ) -> list[Completion]:
        """Several samples; sample i is `generate` with `sample_seed(seed, i)`.

        Raises:
            UsageError: fewer than one sample; else as `stream`.
        """
        if num_samples < 1:
            raise UsageError(f"--num-samples {num_samples} must be at least 1")
        seed = fresh_seed() if seed is None else seed
        seeds = (sample_seed(seed, number) for number in range(num_samples))
        return [self.generate(prompt, seed=each, **options) for each in seeds]

    @torch.inference_mode()
    def generate_ids(
        self,
        ids: Sequence[int],
        *,
        max_new_tokens: int = DEFAULT_NEW_TOKENS,
        seed: int | None = None,
        **sampling: Any,
    ) -> list[int]:
        """The new ids after `ids`; no tokenizer is needed and no token ends the text.

        Raises:
            UsageError: no ids, ids that the model does not know, or a wrong option.
        """
        check_count(max_new_tokens)
        sampler = _sampler(sampling)
        if not ids:
            raise UsageError("generate_ids needs at least one id to start from.")
        vocab_size = self.model.config.vocab_size
        for token_id in ids:
            if not 0 <= token_id < vocab_size:
                raise VocabularyError(f"Id {token_id} is not one of the model's {vocab_size}.")
        source = _generator(fresh_seed() if seed is None else seed)
        new: list[int] = []
        with _evaluating(self.model):
            decoder = WindowDecoder(self.model, ids, rows=1)
            for _ in range(max_new_tokens):
                drawn = sampler.draw(decoder.next_logits(), [source])
                decoder.append(drawn)
                new.append(int(drawn))
        return new

    def _sample(
        self,
        prompt: str,
        max_new_tokens: int,
        stop: Sequence[str],
        seed: int | None,
        sampling: dict[str, Any],
    ) -> _Sample:
        check_count(max_new_tokens)
        seed = fresh_seed() if seed is None else seed
        ids = self.prompt_ids(prompt)
        stop = [stop] if isinstance(stop, str) else stop
        return _Sample(self, ids, max_new_tokens, stop, _sampler(sampling), _generator(seed))

    def prompt_ids(self, prompt: str) -> list[int]:
        """The ids that a prompt starts from.

        An empty prompt starts a new text: from `<|endoftext|>` where the tokenizer has it, else
        from a line break, else from the first id.

        Raises:
            VocabularyError: a character that the tokenizer does not know.
        """
        ids = self.tokenizer.encode(prompt)
        if ids:
            return ids
        special = self.tokenizer.special_tokens
        if END_OF_TEXT in special:
            return [special[END_OF_TEXT]]
        try:
            return self.tokenizer.encode("\n")[:1] or [0]
        except VocabularyError:
            return [0]


class _Sample(Iterator[str]):
    """One sample in the making: an iterator over its pieces, with what is known so far."""

    def __init__(
        self,
        owner: Generator,
        prompt_ids: list[int],
        max_new_tokens: int,
        stop: Sequence[str],
        sampler: Sampler,
        source: torch.Generator,
    ) -> None:
        self.prompt_ids = prompt_ids
        self.ids: list[int] = []
        self.finish_reason = "length"
        self._model = owner.model
        self._tokenizer = owner.tokenizer
        self._stop = stop
        self._left = max_new_tokens
        self._sampler = sampler
        self._source = source
        self._pieces = self._run()

    def __next__(self) -> str:
        return next(self._pieces)

    def _run(self) -> Iterator[str]:
        decoder = WindowDecoder(self._model, self.prompt_ids, rows=1)
        text = StreamDecoder(self._tokenizer)
        scanner = StopScanner(self._stop)
        end = self._tokenizer.special_tokens.get(END_OF_TEXT)
        while self._left > 0:
            self._left -= 1
            token_id = self._step(decoder)
            if token_id == end:
                self.finish_reason = "eos"
                break
            self.ids.append(token_id)
            yield scanner.push(text.push(token_id))
            if scanner.stopped:
                self.finish_reason = "stop"
                return
        yield scanner.push(text.finish())
        if scanner.stopped:
            self.finish_reason = "stop"
        yield scanner.finish()

    @torch.inference_mode()
    def _step(self, decoder: WindowDecoder) -> int:
        # The mode is set for each step alone: between two, the model is the caller's.
        with _evaluating(self._model):
            drawn = self._sampler.draw(decoder.next_logits(), [self._source])
            decoder.append(drawn)
        return int(drawn)


class _evaluating:  # noqa: N801  # used like a function
    """Put a model into evaluation mode for a while."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    def __enter__(self) -> None:
        self._was_training = self._model.training
        self._model.eval()

    def __exit__(self, *_: object) -> None:
        self._model.train(self._was_training)


def fresh_seed() -> int:
    """A seed that nobody has chosen, small enough to type again."""
    return secrets.randbelow(2**31)


def sample_seed(seed: int, number: int) -> int:
    """The seed of sample `number`: the first is `seed` itself, the others follow from it.

    >>> sample_seed(7, 0), sample_seed(7, 1) != sample_seed(8, 0)
    (7, True)
    """
    if number == 0:
        return seed
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def check_count(max_new_tokens: int) -> None:
    """Raise UsageError for a negative number of tokens."""
    if max_new_tokens < 0:
        raise UsageError(f"--max-new-tokens {max_new_tokens} must not be negative")


def _sampler(sampling: dict[str, Any]) -> Sampler:
    sampler = sampling.pop("sampler", None)
    if sampler is not None and sampling:
        raise UsageError(f"Give either sampler= or its options ({', '.join(sampling)}), not both.")
    return sampler if isinstance(sampler, Sampler) else make_sampler(**sampling)


def _generator(seed: int) -> torch.Generator:
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed {seed} must be at least 0 and below 2^63")
    return torch.Generator().manual_seed(seed)
