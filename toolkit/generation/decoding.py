"""Next tokens after a prompt, below text: a decoder's logits, a sampler's draws.

A decoder gives the logits of the next token while sequences grow. `CachedDecoder` computes each
token once; `RecomputingDecoder` is for models that keep nothing, and computes the whole window at
every step. `make_decoder` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

from toolkit.errors import UnknownNameError, UsageError
from toolkit.generation.contexts import Context
from toolkit.generation.samplers import Sampler
from toolkit.models import KVCache, LanguageModel

if TYPE_CHECKING:
    from toolkit.generation.engine import CompiledModel

Engine = Literal["auto", "torch", "compiled"]
ENGINES: tuple[Engine, ...] = ("auto", "torch", "compiled")
# Loading Numba and the compiled step takes most of a second: as long as torch's steps for some
# hundred tokens of a model with this many parameters.
WORTH_COMPILING = 2_000_000


class Decoder(Protocol):
    """The logits of what comes after sequences that grow side by side.

    It computes in evaluation mode, and leaves the model in the mode it was in. Its logits are to be
    read before it is called again: it may write over them.
    """

    def prefill(self, ids: Sequence[int]) -> Tensor:
        """Start one row with `ids`, at least one: logits (1, V) of the token after them."""

    def step(self, tokens: Tensor) -> Tensor:
        """Add one token (B,) to each row: logits (B, V) of the tokens after them."""

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order; a row may be taken more than once."""


class RecomputingDecoder:
    """A `Decoder` that keeps nothing but the tokens, and computes them anew at every step.

    It is what `CachedDecoder` must agree with, and what it becomes past the context where positions
    end with it: every position has changed then. A sequence longer than `block_size` loses its
    beginning, as in training, unless the model's window slides.
    """

    def __init__(self, model: LanguageModel, ids: Tensor | None = None) -> None:
        """Take a model and, to go on, the tokens of each row (B, T)."""
        self._model, self._slides = model, slides(model)
        self._evaluating = _evaluating(model)
        self._ids = torch.empty(1, 0, dtype=torch.long) if ids is None else ids

    def prefill(self, ids: Sequence[int]) -> Tensor:
        return self._grow(torch.tensor([list(ids)], device=self._model.device))

    def step(self, tokens: Tensor) -> Tensor:
        added = tokens.to(self._ids.device)[:, None]  # (B, 1)
        return self._grow(torch.cat([self._ids, added], dim=1))

    def select(self, rows: Sequence[int]) -> None:
        self._ids = self._ids[list(rows)]

    def _grow(self, ids: Tensor) -> Tensor:
        self._ids = ids if self._slides else ids[:, -self._model.block_size :]  # (B, T)
        with self._evaluating():
            return last_logits(self._model, self._ids)


def slides(model: LanguageModel) -> bool:
    """Whether all tokens of a text count, however long it is: in a window that slides."""
    cache = model.new_cache(0)
    return cache is not None and cache.limit is None


def last_logits(model: LanguageModel, ids: Tensor) -> Tensor:
    """Logits (B, V) after ids (B, T), with nothing kept; only models that slide take more than
    `block_size`."""
    cache = model.new_cache(len(ids), ids.size(1))
    if cache is None:
        return model(ids).logits[:, -1]
    return model.extend(ids, cache, last_only=True)[:, -1]


class CachedDecoder:
    """A `Decoder` that computes each token once and keeps its keys and values.

    Past `block_size` tokens a cache without a limit goes on as a window that slides: attention sees
    the last `block_size` positions of each layer. Where there is a limit see `RecomputingDecoder`.
    """

    def __init__(self, model: LanguageModel, cache: KVCache, *, compiled: bool = False) -> None:
        """Take an empty cache with one row.

        Args:
            compiled: let `CompiledModel` compute it.
        """
        self._model, self._cache, self._evaluating = model, cache, _evaluating(model)
        self._compiled = compile_model(model) if compiled else None
        # With a limit, what there was: it is computed anew when the limit is reached.
        self._device, size = model.device, (1, cache.limit or 0)
        self._seen = torch.zeros(size, dtype=torch.long, device=self._device)  # (B, limit)
        self._beyond: RecomputingDecoder | None = None

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code does the steps."""
        return self._compiled is not None

    def prefill(self, ids: Sequence[int]) -> Tensor:
        if self._cache.limit is not None:
            ids = ids[-self._cache.limit :]
        prompt = torch.tensor([list(ids)], device=self._device)  # (1, T)
        self._remember(prompt)
        if self._compiled is not None and len(ids) <= self._cache.span:
            with one_thread():
                return self._compiled.extend(ids, self._cache)  # (1, V)
        with self._evaluating():
            return self._model.extend(prompt, self._cache, last_only=True)[:, -1]  # (1, V)

    def step(self, tokens: Tensor) -> Tensor:
        if self._beyond is None and not self._cache.has_room(1):
            self._beyond = RecomputingDecoder(self._model, self._seen)
        if self._beyond is not None:
            return self._beyond.step(tokens)
        column = tokens.to(self._device)[:, None]  # (B, 1)
        self._remember(column)
        if self._compiled is not None:
            return self._compiled.step(tokens.tolist(), self._cache)  # (B, V)
        with self._evaluating():
            return self._model.extend(column, self._cache)[:, -1]  # (B, V)

    def select(self, rows: Sequence[int]) -> None:
        self._cache.select(rows)
        self._seen = self._seen[list(rows)]
        if self._beyond is not None:
            self._beyond.select(rows)

    def _remember(self, ids: Tensor) -> None:
        if self._cache.limit is not None:
            self._seen[:, self._cache.length : self._cache.length + ids.size(1)] = ids


def make_decoder(
    model: LanguageModel,
    *,
    cache: bool = True,
    engine: Engine = "auto",
    num_tokens: int | None = None,
) -> Decoder:
    """The decoder for a model.

    Args:
        cache: whether keys and values are kept, by a model that can.
        engine: what computes: "torch", "compiled", or "auto": compiled where that is possible and
            worth it.
        num_tokens: how many tokens there will be in a row; None: unknown.

    Raises:
        UsageError: an engine that cannot do this model's steps.
    """
    kept = model.new_cache(1, num_tokens)
    compiled = compiles(model, engine, cache=cache)
    if kept is None or not cache:
        return RecomputingDecoder(model)
    return CachedDecoder(model, kept, compiled=compiled)


def _evaluating(model: LanguageModel) -> Callable[[], AbstractContextManager[None]]:
    """`evaluation_mode` of a model whose modules are looked for once: that takes 0.1 ms."""
    return partial(_in_evaluation_mode, list(model.modules()))


def compile_model(model: LanguageModel) -> CompiledModel:
    """What computes a model, where `compiles` says so."""
    from toolkit.generation.engine import CompiledModel
    from toolkit.models import GPTModel

    assert isinstance(model, GPTModel), "can_compile asks"
    return CompiledModel(model)


def compiles(model: LanguageModel, engine: Engine, *, cache: bool) -> bool:
    """Whether compiled code computes the model.

    Raises:
        UsageError: they are asked for and cannot be.
    """
    if engine == "torch" or (engine == "auto" and model.num_params() < WORTH_COMPILING):
        return False
    from toolkit.generation.engine import can_compile
    from toolkit.jit import COMPILED

    possible = cache and can_compile(model)
    # Without Numba's compiler torch does the same.
    if engine == "compiled" and COMPILED and not possible:
        raise UsageError(
            "--engine compiled is for gpt models in float32, bfloat16 or int8 weights on the CPU, "
            "with their cache and without hooks. Use --engine auto."
        )
    return possible


def check_engine(engine: str) -> None:
    """Raise UnknownNameError unless there is such an engine."""
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ENGINES)


def numbers_per_row(model: LanguageModel, num_tokens: int) -> int:
    """How many numbers a decoder holds at once for each row of so many tokens, the most of it."""
    kept = model.new_cache(0, num_tokens)
    vocab_size = model.config.vocab_size
    if kept is None:
        return min(num_tokens, model.block_size) * vocab_size
    return kept.numbers_per_row + vocab_size


class Continuations:
    """Continuations of one prompt, drawn side by side: row i takes its chances from generator i.

    What a row draws depends on its own generator alone. (In a batch of another size a device may
    round the logits differently in the last digit; where two tokens are that close, it matters.)
    """

    def __init__(
        self,
        model: LanguageModel,
        prompt_ids: Sequence[int],
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        vocab_size: int,
        contexts: Sequence[Context] | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        """Nothing is computed before the first `draw`.

        Args:
            model: in any mode; it computes in evaluation mode and is left as it was.
            prompt_ids: at least one.
            sampler: draws the tokens.
            generators: one for each row.
            vocab_size: only ids below it are drawn; a model may have more than its tokenizer.
            contexts: one for each row, for processors that look at the tokens before; whoever draws
                adds the new ids to them. None: no processor needs them.
            decoder: a new one of the model; None: `make_decoder`'s.
        """
        self._prompt_ids = prompt_ids
        self._sampler = sampler
        self._generators = list(generators)
        self._vocab_size = vocab_size
        self._contexts = None if contexts is None else list(contexts)
        self._decoder = make_decoder(model) if decoder is None else decoder
        self._drawn: Tensor | None = None  # (B)
        self._in_one_thread = isinstance(self._decoder, CachedDecoder) and self._decoder.is_compiled

    @torch.inference_mode()
    def draw(self) -> list[int]:
        """The next token of each row.

        Raises:
            ModelError: the model's logits are not numbers.
        """
        if self._drawn is None:
            # The prompt is the same for all rows, so it is computed once.
            rows = len(self._generators)
            logits = self._decoder.prefill(self._prompt_ids).expand(rows, -1)  # (B, V)
            self._decoder.select([0] * rows)
        else:
            logits = self._decoder.step(self._drawn)  # (B, V)
        logits = logits[:, : self._vocab_size]
        with one_thread() if self._in_one_thread else nullcontext():
            self._drawn = self._sampler.draw(logits, self._generators, self._contexts)
        tokens: list[int] = self._drawn.tolist()
        return tokens

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        self._decoder.select(rows)
        self._generators = [self._generators[row] for row in rows]
        if self._contexts is not None:
            self._contexts = [self._contexts[row] for row in rows]
        if self._drawn is not None:
            self._drawn = self._drawn[list(rows)]


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes in this thread alone within the block: for what comes between compiled steps.

    After an operation on several threads the others look for more work, for milliseconds: on the
    processors that the next step needs.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def evaluation_mode(model: torch.nn.Module) -> AbstractContextManager[None]:
    """No dropout within the block; after it every part is in the mode it was in."""
    return _in_evaluation_mode(model.modules())


@contextmanager
def _in_evaluation_mode(modules: Iterable[torch.nn.Module]) -> Iterator[None]:
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
