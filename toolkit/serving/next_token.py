"""What may come next: a model's distribution before and after the sampling options.

This is what the page draws while sliders move. The model's logits of the last few contexts are
kept, so that moving a slider does not compute the model again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.generation import Context, Generator, Sampler
from toolkit.generation.decoding import evaluation_mode, make_decoder

_CONTEXTS_KEPT = 16


@dataclass(frozen=True)
class Candidate:
    """A token that may come next.

    Attributes:
        id: its id.
        token: its bytes.
        before: its probability as the model has it.
        after: the probability that it is drawn with.
        kept: False where a processor ruled it out.
        special: whether it is a special token.
    """

    id: int
    token: bytes
    before: float
    after: float
    kept: bool
    special: bool


@dataclass(frozen=True)
class Distribution:
    """The distribution of the next token.

    Attributes:
        candidates: the tokens that were asked for, in the order of `before`.
        rest_before, rest_after: the probability of all other tokens together.
        num_kept: how many tokens can be drawn, of `vocab_size`.
        vocab_size: V.
        entropy_before, entropy_after: in bits.
    """

    candidates: tuple[Candidate, ...]
    rest_before: float
    rest_after: float
    num_kept: int
    vocab_size: int
    entropy_before: float
    entropy_after: float


class NextTokens:
    """Distributions after contexts; may be asked by several threads at once.

    >>> from toolkit.models import create_model
    >>> from toolkit.tokenizers import ByteTokenizer
    >>> following = NextTokens(Generator(create_model("bigram", 256), ByteTokenizer()))
    >>> found = following.distribution([65], Sampler(), top=256)
    >>> len(found.candidates), round(sum(each.after for each in found.candidates), 6)
    (256, 1.0)
    """

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._kept: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()
        self._lock = threading.Lock()

    @torch.inference_mode()
    def distribution(
        self, ids: Sequence[int], sampler: Sampler, *, top: int, also: Sequence[int] = ()
    ) -> Distribution:
        """What comes after `ids`.

        Args:
            ids: at least one; past the model's context a window slides, as it does in generation.
            sampler: what changes the distribution.
            top: how many candidates to name.
            also: ids to name however unlikely they are.

        Raises:
            ModelError: the model's logits are not numbers, or nothing is left to draw.
        """
        logits = self._logits(ids)  # (1, V)
        context = [Context(ids)]
        before = logits.softmax(dim=-1)[0]  # (V)
        after = sampler.probabilities(logits, context)[0]  # (V)
        kept = sampler.process(logits, context)[0] > -torch.inf  # (V)
        # Likely before or after; equals by their ids, so that the answer never wavers.
        likeliest = torch.maximum(before, after).sort(descending=True, stable=True).indices[:top]
        named = torch.tensor(sorted({*likeliest.tolist(), *also}))
        order = named[before[named].sort(descending=True, stable=True).indices]
        tokenizer = self._generator.tokenizer
        special = set(tokenizer.special_tokens.values())
        candidates = [
            Candidate(
                id=token_id,
                token=tokenizer.token_bytes(token_id),
                before=float(before[token_id]),
                after=float(after[token_id]),
                kept=bool(kept[token_id]),
                special=token_id in special,
            )
            for token_id in order.tolist()
        ]
        return Distribution(
            candidates=tuple(candidates),
            rest_before=max(0.0, 1 - sum(each.before for each in candidates)),
            rest_after=max(0.0, 1 - sum(each.after for each in candidates)),
            num_kept=int(kept.sum()),
            vocab_size=len(before),
            entropy_before=_bits(before),
            entropy_after=_bits(after),
        )

    def _logits(self, ids: Sequence[int]) -> Tensor:
        """The model's logits (1, V) after `ids`, of the tokens that have text."""
        model = self._generator.model
        key = tuple(ids)
        # One at a time: many sliders moving must not be many models computing.
        with self._lock:
            found = self._kept.pop(key, None)
            if found is None:
                with evaluation_mode(model):
                    # One prefill and no step: nothing that compiling would help.
                    found = make_decoder(model, engine="torch", num_tokens=len(key)).prefill(key)
                found = found[:, : self._generator.tokenizer.vocab_size].float().cpu()
            self._kept[key] = found
            if len(self._kept) > _CONTEXTS_KEPT:
                self._kept.popitem(last=False)
            return found


def _bits(probabilities: Tensor) -> float:
    """The entropy of a distribution (V)."""
    surprise = torch.special.entr(probabilities.double()).sum()
    return float(surprise / torch.log(torch.tensor(2.0, dtype=torch.float64)))
