"""Next tokens after a prompt, below text: a decoder's logits, a sampler's draws.

A decoder gives the logits of the next token while sequences grow. `WindowDecoder` computes the
whole window at every step. Left out: keeping keys and values from step to step; a decoder that
does so has the same three methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from toolkit.generation.contexts import Context
from toolkit.generation.samplers import Sampler
from toolkit.models import LanguageModel


class WindowDecoder:
    """Next-token logits by computing the last `block_size` tokens anew at every step.

    A longer sequence loses its beginning: the model sees a window that slides, and positions count
    from the window's start, as in training.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._window = torch.empty(0, 0, dtype=torch.long)

    def prefill(self, ids: Sequence[int]) -> Tensor:
        """Start one row with `ids`, at least one: logits (1, V) of the token after them."""
        window = list(ids[-self._model.block_size :])
        self._window = torch.tensor([window], device=self._model.device)  # (1, T)
        return self._last_logits()

    def step(self, tokens: Tensor) -> Tensor:
        """Add one token (B,) to each row: logits (B, V) of the tokens after them."""
        grown = torch.cat([self._window, tokens.to(self._window.device)[:, None]], dim=1)
        self._window = grown[:, -self._model.block_size :]  # (B, T)
        return self._last_logits()

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order; a row may be taken more than once."""
        self._window = self._window[list(rows)]

    def _last_logits(self) -> Tensor:
        return self._model(self._window).logits[:, -1]  # (B, V)


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
        """
        self._model = model
        self._prompt_ids = prompt_ids
        self._sampler = sampler
        self._generators = list(generators)
        self._vocab_size = vocab_size
        self._contexts = None if contexts is None else list(contexts)
        self._decoder = WindowDecoder(model)
        self._drawn: Tensor | None = None  # (B)

    @torch.inference_mode()
    def draw(self) -> list[int]:
        """The next token of each row.

        Raises:
            ModelError: the model's logits are not numbers.
        """
        with evaluation_mode(self._model):
            if self._drawn is None:
                # The prompt is the same for all rows, so it is computed once.
                rows = len(self._generators)
                logits = self._decoder.prefill(self._prompt_ids).expand(rows, -1)  # (B, V)
                self._decoder.select([0] * rows)
            else:
                logits = self._decoder.step(self._drawn)  # (B, V)
        logits = logits[:, : self._vocab_size]
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
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """No dropout within the block; after it every part is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
