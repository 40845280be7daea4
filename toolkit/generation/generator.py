"""Text from a model: prompts in, samples out, whole or as a stream.

`Generator` joins the parts: `options` says what is asked for, `decoding` runs the model, `samplers`
choose tokens, `samples` and `streaming` turn them into text. A context longer than the model's
`block_size` is handled by a window that slides (see `CachedDecoder` and `RecomputingDecoder`), or
refused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal, Unpack

import torch

from toolkit.errors import UnknownNameError, UsageError
from toolkit.generation.batching import Batch, Text
from toolkit.generation.contexts import Context
from toolkit.generation.decoding import (
    Continuations,
    Decoder,
    Engine,
    check_engine,
    compiles,
    make_decoder,
    numbers_per_row,
)
from toolkit.generation.options import (
    DEFAULT_NEW_TOKENS,
    Plan,
    SamplingOptions,
    TextOptions,
    check_ids_options,
    check_num_samples,
    make_plan,
)
from toolkit.generation.prompts import check_ids, first_ids
from toolkit.generation.requests import Request, Rows
from toolkit.generation.samples import Completion, Sample
from toolkit.generation.seeds import sample_seed, seeded_generator
from toolkit.models import LanguageModel, WeightFormat, store_weights
from toolkit.tokenizers import Tokenizer
from toolkit.tokenizers.special import END_OF_TEXT

# Samples are made in batches whose caches (or logits, of models without one) hold at most so many
# numbers: 1 GiB in float32.
MAX_NUMBERS = 2**28
# More prompts side by side would hardly be quicker, and the first would be done later.
MAX_ROWS = 64

ContextPolicy = Literal["slide", "error"]
CONTEXT_POLICIES: tuple[ContextPolicy, ...] = ("slide", "error")


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
            engine: "torch", "compiled" (on a CPU), or "auto", which chooses.

        Raises:
            UsageError: the tokenizer has ids that the model does not know, there is no such
                device, the engine cannot do the model's steps, or a word is unknown.
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
        if engine == "compiled":
            compiles(self.model, engine, cache=cache)  # or says why not
        self.cache = cache
        self._context_policy, self.engine = context_policy, engine
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

    @property
    def vocab_size(self) -> int:
        """Only ids below it are drawn. A model's vocabulary may be padded to a round size: those
        ids have no text."""
        if self._tokenizer is None:
            return self.model.config.vocab_size
        return self._tokenizer.vocab_size

    def stream(self, prompt: str, **options: Unpack[TextOptions]) -> Iterator[str]:
        """Pieces of the new text as they are made; joined, they are `generate(...).text`.

        A piece is never half a character, and never the beginning of a stop string. A search over
        whole sequences gives its text when it is done.

        Args:
            prompt: the text to continue; "" starts a new one (see `prompt_ids`).
            options: max_new_tokens (how many tokens to draw at most, 200); stop (the text ends
                before the first of these strings); ignore_eos (go on after an id that ends a text,
                which is then shown as text); seed (the same seed gives the same text; None draws a
                fresh one); max_time (seconds after which no further token is drawn; the first
                always is); regex or json_schema (the text matches, see `constraints`); logprobs
                (note each token's logprob and so many alternatives, in `Completion.logprobs`);
                strategy and its options (see `STRATEGIES`), or sampler; draft (see `Speculation`).

        Raises:
            UsageError, VocabularyError: a wrong option, or a prompt that cannot be encoded; at
                once, not when the first piece is taken.
            ModelError: the model's logits are not numbers.
        """
        plan = self.plan(options)
        steps = self._steps(self.samples(prompt, self.prompt_ids(prompt), 1, plan), plan)
        return (piece for piece in steps if piece)

    def stream_async(self, prompt: str, **options: Unpack[TextOptions]) -> AsyncIterator[str]:
        """`stream` for an event loop: each token is computed in a thread, so the loop goes on.

        Arguments and errors are those of `stream`; wrong ones are refused at once.
        """
        return _in_thread(self.stream(prompt, **options))

    def generate(self, prompt: str, **options: Unpack[TextOptions]) -> Completion:
        """One sample; arguments and errors are those of `stream`."""
        return self.generate_samples(prompt, 1, **options)[0]

    def generate_samples(
        self, prompt: str, num_samples: int, **options: Unpack[TextOptions]
    ) -> list[Completion]:
        """Several samples of one prompt, computed side by side.

        Sample i is what `generate` gives with the seed `sample_seed(seed, i)`, as far as the device
        rounds the logits of one row and of several alike. (Of a beam search the samples are its
        best sequences, the best first.) Other arguments and errors are those of `stream`.
        """
        plan = self.plan(options)
        samples = self.samples(prompt, self.prompt_ids(prompt), num_samples, plan)
        return self._complete(samples, plan)

    def generate_many(
        self, prompts: Iterable[str], num_samples: int = 1, **options: Unpack[TextOptions]
    ) -> Iterator[Completion]:
        """The samples of each prompt in turn, each as soon as it and those before it are done.

        As many are computed side by side (see `Batch`) as the device should bear; searches one
        prompt after the other. Each prompt has the samples that `generate_samples` gives for it
        alone with the same seed; max_time is for one prompt. Arguments and errors are those of
        `generate_samples`; a prompt that cannot be continued is refused before anything is
        computed.
        """
        check_num_samples(num_samples)
        plan = self.plan(options)
        encoded = [(prompt, self.prompt_ids(prompt)) for prompt in prompts]
        for _, ids in encoded:
            self._check_context(ids, plan.max_new_tokens)
        together = plan.search is None and not self.model.takes_source
        if together and len(encoded) * num_samples > 1:
            return self._complete_together(encoded, num_samples, plan)
        return (
            sample
            for prompt, ids in encoded
            for sample in self._complete(self.samples(prompt, ids, num_samples, plan), plan)
        )

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
        check_ids_options(sampling)
        plan = make_plan({"max_new_tokens": max_new_tokens, "seed": seed, **sampling})
        context = Context(check_ids(ids, self.model.config.vocab_size))
        self._check_context(context.prompt_ids, max_new_tokens)
        rows = self._start(plan, [seeded_generator(plan.seed)], [context], frozenset())
        for _ in range(max_new_tokens):
            context.new_ids += rows.draw()
        return context.new_ids

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
        return ids or first_ids(self.tokenizer)

    def plan(self, options: Mapping[str, object]) -> Plan:
        """What options of text ask for; errors are those of `stream`."""
        return make_plan(options, self.tokenizer, self._end_ids)

    def samples(
        self, prompt: str, prompt_ids: Sequence[int], num_samples: int, plan: Plan
    ) -> list[Sample]:
        """The samples of a prompt before anything is drawn; errors are those of `stream`."""
        check_num_samples(num_samples)
        self._check_context(prompt_ids, plan.max_new_tokens)
        return [
            Sample(
                self.tokenizer,
                prompt,
                self._new_context(prompt_ids),
                max_new_tokens=plan.max_new_tokens,
                max_time=plan.max_time,
                stop=plan.stop,
                end_ids=self._ends(plan),
                seed=sample_seed(plan.seed, number),
                is_complete=plan.sampler.is_complete,
                recorder=plan.recorder,
                num_logprobs=plan.num_logprobs or 0,
            )
            for number in range(num_samples)
        ]

    def _ends(self, plan: Plan) -> frozenset[int]:
        return frozenset() if plan.ignore_eos else self._end_ids

    def _complete(self, samples: list[Sample], plan: Plan) -> list[Completion]:
        """Finish samples of one prompt, as many at a time as the device should bear."""
        rows = self._max_rows(samples[0].context.length + plan.max_new_tokens)
        if plan.search is not None:
            rows = len(samples)  # it sees to its memory itself
        for start in range(0, len(samples), rows):
            for _ in self._steps(samples[start : start + rows], plan):
                pass
        return [sample.completion() for sample in samples]

    def _complete_together(
        self, prompts: Sequence[tuple[str, list[int]]], num_samples: int, plan: Plan
    ) -> Iterator[Completion]:
        """Finish samples of several prompts, as many at a time as the device should bear."""
        longest = max(len(ids) for _, ids in prompts) + plan.max_new_tokens
        rows = min(MAX_ROWS, self._max_rows(longest), len(prompts) * num_samples)
        batch = Batch(self, max_rows=rows, max_tokens=longest)
        waiting = (
            sample
            for prompt, ids in prompts
            for sample in self.samples(prompt, ids, num_samples, plan)
        )
        texts: deque[Text] = deque()
        while True:
            texts += (batch.add(sample, plan.sampler) for sample in islice(waiting, batch.free))
            while texts and texts[0].finish_reason is not None:
                yield texts.popleft().completion()
            if not batch.rows:
                return
            for progress in batch.step():
                if progress.error is not None:
                    raise progress.error

    def _max_rows(self, num_tokens: int) -> int:
        return max(1, MAX_NUMBERS // numbers_per_row(self.model, num_tokens))

    def _steps(self, samples: list[Sample], plan: Plan) -> Iterator[str]:
        """Add tokens to the samples until each is finished; yields the text that each token adds.

        A finished sample leaves the batch, so that the others do not pay for it.
        """
        active = [sample for sample in samples if sample.finish_reason is None]
        if not active:
            return
        generators = [sample.generator for sample in active]
        contexts = [sample.context for sample in active]
        rows = self._start(plan, generators, contexts, self._ends(plan))
        while active:
            for sample, token_id in zip(active, rows.draw(), strict=True):
                yield sample.add(token_id)
            still = [row for row, sample in enumerate(active) if sample.finish_reason is None]
            if len(still) < len(active):
                rows.keep(still)
                active = [active[row] for row in still]

    def _start(
        self,
        plan: Plan,
        generators: list[torch.Generator],
        contexts: list[Context],
        end_ids: frozenset[int],
    ) -> Rows:
        vocab_size = self._num_drawn(plan)
        prompt_ids = contexts[0].prompt_ids
        decoder = self._new_decoder(contexts[0], plan)
        if plan.search is None:
            return Continuations(
                self.model, prompt_ids, plan.sampler, generators, vocab_size, contexts, decoder
            )
        return plan.search.start(
            Request(
                model=self.model,
                decoder=decoder,
                cache=self.cache,
                prompt_ids=prompt_ids,
                sampler=plan.sampler,
                generators=generators,
                contexts=contexts,
                vocab_size=vocab_size,
                max_new_tokens=plan.max_new_tokens,
                end_ids=end_ids,
            )
        )

    def _new_context(self, prompt_ids: Sequence[int]) -> Context:
        """What a sample starts from."""
        return Context(tuple(prompt_ids))

    def _new_decoder(self, context: Context, plan: Plan) -> Decoder:
        """A decoder that nothing was given to yet, for rows that start from this context."""
        num_tokens = len(context.prompt_ids) + plan.max_new_tokens
        return make_decoder(self.model, cache=self.cache, engine=self.engine, num_tokens=num_tokens)

    def _num_drawn(self, plan: Plan) -> int:
        """Only ids below it are drawn."""
        return self.vocab_size

    def _check_context(self, prompt_ids: Sequence[int], max_new_tokens: int) -> None:
        # The last token is drawn, and the model never sees it.
        seen = len(prompt_ids) + max_new_tokens - 1
        if self._context_policy == "error" and max_new_tokens and seen > self.model.block_size:
            raise UsageError(
                f"{len(prompt_ids)} tokens of the prompt and --max-new-tokens {max_new_tokens} do "
                f"not fit into the model's --block-size {self.model.block_size}. Ask for fewer, or "
                "let the window slide with --context-policy slide."
            )


async def _in_thread(pieces: Iterator[str]) -> AsyncIterator[str]:
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


def _move(model: LanguageModel, device: str | torch.device) -> LanguageModel:
    try:
        return model.to(device)
    # What torch raises for a device that it was built without, and for one that is not there.
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        raise UsageError(f"--device {device} cannot be used here: try cpu.") from error
