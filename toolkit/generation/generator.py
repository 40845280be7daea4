"""Text from a model: prompts in, samples out, whole or as a stream.

`Generator` joins the parts: `decoding` runs the model, `samplers` choose tokens, `streaming` turns
them into text. A context longer than the model's `block_size` is handled by a window that slides
(see `CachedDecoder` and `RecomputingDecoder`), or refused.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

import torch

from toolkit.errors import UnknownNameError, UsageError, VocabularyError
from toolkit.generation.decoding import (
    Continuations,
    Engine,
    check_engine,
    make_decoder,
    numbers_per_row,
)
from toolkit.generation.samplers import Sampler, make_sampler
from toolkit.generation.seeds import fresh_seed, sample_seed, seeded_generator
from toolkit.generation.streaming import StopScanner
from toolkit.models import LanguageModel, WeightFormat, store_weights
from toolkit.tokenizers import Tokenizer
from toolkit.tokenizers.special import END_OF_TEXT

DEFAULT_NEW_TOKENS = 200
# Samples are made in batches whose caches (or logits, of models without one) hold at most so many
# numbers: 1 GiB in float32.
MAX_NUMBERS = 2**28

ContextPolicy = Literal["slide", "error"]
CONTEXT_POLICIES: tuple[ContextPolicy, ...] = ("slide", "error")

FinishReason = Literal["length", "stop", "eos"]


class SamplingOptions(TypedDict, total=False):
    """How tokens are drawn: the options of `make_sampler`, or a sampler made by hand."""

    strategy: str
    temperature: float | None
    top_k: int | None
    top_p: float | None
    sampler: Sampler | None


@dataclass(frozen=True)
class Completion:
    """One sample.

    Attributes:
        prompt: the text that it continues.
        text: the new text alone. It is what `ids` stand for, cut before a stop string.
        prompt_ids: the ids that the model started from.
        ids: the new ids, those of a stop string too; without the id that ended the text.
        finish_reason: "length" (max_new_tokens were drawn), "stop" (a stop string came) or "eos"
            (the model drew an id that ends a text, the tokenizer's `<|endoftext|>`).
        seed: given to `generate` with the same options, it repeats this sample.
    """

    prompt: str
    text: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    finish_reason: FinishReason
    seed: int


class Generator:
    """A model and its tokenizer, ready to continue prompts.

    The model is left as it was found: its mode, its weights, torch's global random state.

    >>> from toolkit.models import create_model
    >>> from toolkit.tokenizers import ByteTokenizer
    >>> generator = Generator(create_model("bigram", 256), ByteTokenizer())
    >>> first = generator.generate("ROMEO:", max_new_tokens=20, seed=1)
    >>> first == generator.generate("ROMEO:", max_new_tokens=20, seed=1)
    True
    >>> "".join(generator.stream("ROMEO:", max_new_tokens=20, seed=1)) == first.text
    True
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer | None = None,
        *,
        device: str | torch.device | None = None,
        end_ids: Iterable[int] | None = None,
        weights: WeightFormat = "float32",
        context_policy: ContextPolicy = "slide",
        cache: bool = True,
        engine: Engine = "auto",
    ) -> None:
        """Join a model and its tokenizer.

        Args:
            model: any model of the next token.
            tokenizer: the one that it was trained with; without it only `generate_ids` works.
            device: where to compute; the model is moved there. None: where it is.
            end_ids: the ids that end a text. None: the tokenizer's `<|endoftext|>`, if it has it.
            weights: "bfloat16" or "int8" computes with a copy of the model whose matrices are
                stored so (see `models.stored`): faster to read, a little less exact. "float32":
                with the model itself.
            context_policy: what happens past the model's `block_size`: "slide" (the model sees the
                last tokens), or "error", before anything is drawn.
            cache: whether keys and values are kept from token to token. Without, each step takes
                as long as the text is: for comparison.
            engine: "torch", "compiled" (one sample on a CPU), or "auto", which chooses.

        Raises:
            UsageError: the tokenizer has ids that the model does not know, there is no such
                device, or one of the other words is unknown.
        """
        if tokenizer is not None and tokenizer.vocab_size > model.config.vocab_size:
            raise UsageError(
                f"The tokenizer has {tokenizer.vocab_size:,} tokens and the model knows "
                f"{model.config.vocab_size:,}: they do not belong together."
            )
        if context_policy not in CONTEXT_POLICIES:
            raise UnknownNameError("context policy", str(context_policy), CONTEXT_POLICIES)
        check_engine(engine)
        model = model if device is None else _move(model, device)
        self.model = store_weights(model, weights)
        self._context_policy, self._cache, self._engine = context_policy, cache, engine
        self._tokenizer = tokenizer
        if end_ids is None:
            special = tokenizer.special_tokens if tokenizer is not None else {}
            end_ids = [special[END_OF_TEXT]] if END_OF_TEXT in special else []
        self._end_ids = frozenset(end_ids)

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
        stop: str | Sequence[str] = (),
        ignore_eos: bool = False,
        seed: int | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Iterator[str]:
        """Pieces of the new text as they are made; joined, they are `generate(...).text`.

        A piece is never half a character, and never the beginning of a stop string.

        Args:
            prompt: the text to continue; "" starts a new one (see `prompt_ids`).
            max_new_tokens: how many tokens to draw at most.
            stop: the text ends before the first of these strings.
            ignore_eos: go on after an id that ends a text, which is then shown as text.
            seed: the same seed gives the same text; None draws a fresh one.
            sampling: strategy, temperature, top_k and top_p as in `make_sampler`, or sampler.

        Raises:
            UsageError, VocabularyError: a wrong option, or a prompt that cannot be encoded; at
                once, not when the first piece is taken.
            ModelError: the model's logits are not numbers.
        """
        sample = self._sample(max_new_tokens, stop, ignore_eos, seed)
        prompt_ids = self.prompt_ids(prompt)
        self._check_context(prompt_ids, max_new_tokens)
        steps = self._steps(prompt_ids, [sample], _chosen_sampler(sampling))
        return (piece for piece in steps if piece)

    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = DEFAULT_NEW_TOKENS,
        stop: str | Sequence[str] = (),
        ignore_eos: bool = False,
        seed: int | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Completion:
        """One sample; arguments and errors are those of `stream`."""
        sample = self._sample(max_new_tokens, stop, ignore_eos, seed)
        return self._complete(prompt, [sample], _chosen_sampler(sampling))[0]

    def generate_samples(
        self,
        prompt: str,
        num_samples: int,
        *,
        max_new_tokens: int = DEFAULT_NEW_TOKENS,
        stop: str | Sequence[str] = (),
        ignore_eos: bool = False,
        seed: int | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> list[Completion]:
        """Several samples of one prompt, computed side by side.

        Sample i is what `generate` gives with the seed `sample_seed(seed, i)`, as far as the device
        rounds the logits of one row and of several alike. Other arguments and errors are those of
        `stream`.
        """
        _check_whole("--num-samples", num_samples)
        if num_samples < 1:
            raise UsageError(f"--num-samples {num_samples} must be at least 1")
        seed = fresh_seed() if seed is None else seed
        samples = [
            self._sample(max_new_tokens, stop, ignore_eos, sample_seed(seed, number))
            for number in range(num_samples)
        ]
        return self._complete(prompt, samples, _chosen_sampler(sampling))

    def generate_ids(
        self,
        ids: Iterable[int],
        *,
        max_new_tokens: int = DEFAULT_NEW_TOKENS,
        seed: int | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> list[int]:
        """The new ids after `ids`: always max_new_tokens, for no token ends a list of ids.

        Args:
            ids: a list, array or tensor of at least one id.
            max_new_tokens: how many ids to draw.
            seed, sampling: see `stream`.

        Raises:
            UsageError, VocabularyError: no ids, ids that the model does not know, or a wrong
                option.
            ModelError: the model's logits are not numbers.
        """
        _check_max_new_tokens(max_new_tokens)
        generator = seeded_generator(fresh_seed() if seed is None else seed)
        prompt_ids = self._checked_ids(ids)
        self._check_context(prompt_ids, max_new_tokens)
        sampler = _chosen_sampler(sampling)
        rows = self._continue(prompt_ids, [generator], sampler, max_new_tokens)
        return [rows.draw()[0] for _ in range(max_new_tokens)]

    def prompt_ids(self, prompt: str) -> list[int]:
        """The ids that a prompt starts from; special tokens in it are plain text.

        A model continues something. An empty prompt stands for the beginning of a text: the
        `<|endoftext|>` that ended the one before, where the tokenizer has it, else a line break,
        else (a vocabulary without one) the first id that is no special token.

        Raises:
            VocabularyError: a character that the tokenizer does not know.
        """
        if not isinstance(prompt, str):
            kind = type(prompt).__name__
            raise UsageError(f"A prompt must be text, not {kind}; for ids there is generate_ids.")
        ids = self.tokenizer.encode(prompt)
        return ids or self._first_ids()

    def _first_ids(self) -> list[int]:
        special = self.tokenizer.special_tokens
        if END_OF_TEXT in special:
            return [special[END_OF_TEXT]]
        try:
            line_break = self.tokenizer.encode("\n")
        except VocabularyError:
            line_break = []
        if line_break and self.tokenizer.unk_id not in line_break:
            return line_break
        plain = set(range(self.tokenizer.vocab_size)) - set(special.values())
        return [min(plain, default=0)]

    def _checked_ids(self, ids: Iterable[int]) -> list[int]:
        try:
            checked = [operator.index(token_id) for token_id in ids]  # of NumPy and torch too
        except TypeError as error:
            raise UsageError(f"generate_ids needs whole numbers: {error}.") from error
        if not checked:
            raise UsageError("generate_ids needs at least one id to start from.")
        size = self.model.config.vocab_size
        for token_id in checked:
            if not 0 <= token_id < size:
                raise VocabularyError(
                    f"Id {token_id} is no token: this model's are 0 to {size - 1}."
                )
        return checked

    def _sample(
        self,
        max_new_tokens: int,
        stop: str | Sequence[str],
        ignore_eos: bool,
        seed: int | None,
    ) -> _Sample:
        _check_max_new_tokens(max_new_tokens)
        seed = fresh_seed() if seed is None else seed
        stop = [stop] if isinstance(stop, str) else stop
        end_ids = frozenset[int]() if ignore_eos else self._end_ids
        return _Sample(self.tokenizer, max_new_tokens, stop, end_ids, seed)

    def _complete(self, prompt: str, samples: list[_Sample], sampler: Sampler) -> list[Completion]:
        """Finish samples of one prompt, as many at a time as the device should bear."""
        prompt_ids = self.prompt_ids(prompt)
        longest = len(prompt_ids) + samples[0].max_new_tokens
        self._check_context(prompt_ids, samples[0].max_new_tokens)
        rows = max(1, MAX_NUMBERS // numbers_per_row(self.model, longest))
        for start in range(0, len(samples), rows):
            for _ in self._steps(prompt_ids, samples[start : start + rows], sampler):
                pass
        return [sample.completion(prompt, prompt_ids) for sample in samples]

    def _steps(
        self, prompt_ids: list[int], samples: list[_Sample], sampler: Sampler
    ) -> Iterator[str]:
        """Add tokens to the samples until each is finished; yields the text that each token adds.

        A finished sample leaves the batch, so that the others do not pay for it.
        """
        active = [sample for sample in samples if sample.finish_reason is None]
        generators = [sample.generator for sample in active]
        rows = self._continue(prompt_ids, generators, sampler, samples[0].max_new_tokens)
        while active:
            for sample, token_id in zip(active, rows.draw(), strict=True):
                yield sample.add(token_id)
            still = [row for row, sample in enumerate(active) if sample.finish_reason is None]
            if len(still) < len(active):
                rows.keep(still)
                active = [active[row] for row in still]

    def _continue(
        self,
        prompt_ids: list[int],
        generators: list[torch.Generator],
        sampler: Sampler,
        max_new_tokens: int,
    ) -> Continuations:
        # A model's vocabulary may be padded to a round size: those ids have no text.
        vocab_size = self.model.config.vocab_size
        if self._tokenizer is not None:
            vocab_size = self._tokenizer.vocab_size
        decoder = make_decoder(
            self.model,
            cache=self._cache,
            engine=self._engine,
            num_tokens=len(prompt_ids) + max_new_tokens,
        )
        return Continuations(self.model, prompt_ids, sampler, generators, vocab_size, decoder)

    def _check_context(self, prompt_ids: list[int], max_new_tokens: int) -> None:
        # The last token is drawn, and the model never sees it.
        seen = len(prompt_ids) + max_new_tokens - 1
        if self._context_policy == "error" and max_new_tokens and seen > self.model.block_size:
            raise UsageError(
                f"{len(prompt_ids)} tokens of the prompt and --max-new-tokens {max_new_tokens} do "
                f"not fit into the model's --block-size {self.model.block_size}. Ask for fewer, or "
                "let the window slide with --context-policy slide."
            )


class _Sample:
    """A sample in the making: the ids drawn so far and the text that they made."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_new_tokens: int,
        stop: Sequence[str],
        end_ids: frozenset[int],
        seed: int,
    ) -> None:
        self.max_new_tokens = max_new_tokens
        self.generator = seeded_generator(seed)
        self.finish_reason: FinishReason | None = None if max_new_tokens else "length"
        self._seed = seed
        self._end_ids = end_ids
        self._ids: list[int] = []
        self._pieces: list[str] = []
        self._decoder = tokenizer.stream_decoder()
        self._scanner = StopScanner(stop)

    def add(self, token_id: int) -> str:
        """Take one more token; returns the text that can be shown now."""
        if token_id in self._end_ids:
            piece = self._finish("eos")
        else:
            self._ids.append(token_id)
            piece = self._scanner.push(self._decoder.push(token_id))
            if self._scanner.stopped:
                self.finish_reason = "stop"
            elif len(self._ids) == self.max_new_tokens:
                piece += self._finish("length")
        self._pieces.append(piece)
        return piece

    def _finish(self, reason: FinishReason) -> str:
        """The text that was held back. A stop string may still end with it."""
        self.finish_reason = reason
        piece = self._scanner.push(self._decoder.finish())
        if self._scanner.stopped:
            self.finish_reason = "stop"
        return piece + self._scanner.finish()

    def completion(self, prompt: str, prompt_ids: list[int]) -> Completion:
        """The finished sample."""
        assert self.finish_reason is not None
        return Completion(
            prompt=prompt,
            text="".join(self._pieces),
            prompt_ids=tuple(prompt_ids),
            ids=tuple(self._ids),
            finish_reason=self.finish_reason,
            seed=self._seed,
        )


def _chosen_sampler(sampling: SamplingOptions) -> Sampler:
    options = dict(sampling)
    sampler = options.pop("sampler", None)
    if sampler is None:
        return make_sampler(**options)  # type: ignore[arg-type]  # the names of SamplingOptions
    if not isinstance(sampler, Sampler):
        raise UsageError(f"sampler must be a Sampler, such as Sampler([TopK(5)]), not {sampler!r}")
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UsageError(f"sampler says how to draw: leave {', '.join(given)} out.")
    return sampler


def _check_max_new_tokens(value: int) -> None:
    _check_whole("--max-new-tokens", value)
    if value < 0:
        raise UsageError(f"--max-new-tokens {value} must not be negative")


def _check_whole(option: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"{option} {value} must be a whole number")


def _move(model: LanguageModel, device: str | torch.device) -> LanguageModel:
    try:
        return model.to(device)
    # What torch raises for a device that it was built without, and for one that is not there.
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        raise UsageError(f"--device {device} cannot be used here: try cpu.") from error
