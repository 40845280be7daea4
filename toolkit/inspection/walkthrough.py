"""A forward pass in words, equations and numbers: one step after the other, as it is computed.

`walk(model, ids)` traces one pass and orders what it saw into steps; each has its equation, the
tensors that go in and come out, and of each tensor its shape, its statistics and a corner of its
numbers. `walk_pair` does so for an encoder–decoder. Left out: which step follows which, which is
`walk_plans`, and printing, which is `toolkit.trace_view`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.inspection.modes import evaluating
from toolkit.inspection.pairs import pair_batch
from toolkit.inspection.tracer import DEFAULT_MAX_BYTES, Tracer
from toolkit.inspection.walk_plans import Plan, pair_plans_of, plans_of
from toolkit.models import EncoderDecoderModel
from toolkit.models.anatomy import anatomy_of, stacks_of
from toolkit.models.taps import tap_of

EXCERPT_ROWS, EXCERPT_COLUMNS = 4, 6
_LETTERS = {"ids": "B, T", "source": "B, S", "probabilities": "B, T, V"}


@dataclass(frozen=True)
class Numbers:
    """A tensor, for reading.

    Attributes:
        name: of the point (`toolkit.models.taps`), or "source", "ids" and "probabilities".
        letters: the shape in letters, as "B, T, C".
        shape: in numbers.
        mean, std, min, max: over all that are finite; the deviation is that of the population.
        excerpt: the first rows and columns of the last two dimensions, of the first sequence and
            head; −inf where a score is masked.
    """

    name: str
    letters: str
    shape: tuple[int, ...]
    mean: float
    std: float
    min: float
    max: float
    excerpt: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Step:
    """One operation of the forward pass; `layer` is None outside of the layers, and `stack`
    "encoder" or "decoder" where a model has two."""

    title: str
    equation: str
    layer: int | None
    inputs: tuple[Numbers, ...]
    outputs: tuple[Numbers, ...]
    stack: str | None = None


@dataclass(frozen=True)
class Walk:
    """All steps for one text, or for a pair.

    Attributes:
        ids: the tokens; of a pair what the decoder reads, which is its beginning and the target.
        steps: in the order of the computation.
        next_tokens: the likeliest next ones after the last, with their probabilities.
        source_ids: of a pair what the encoder reads, with its end.
    """

    ids: tuple[int, ...]
    steps: tuple[Step, ...]
    next_tokens: tuple[tuple[int, float], ...]
    source_ids: tuple[int, ...] = ()


def walk(
    model: nn.Module,
    ids: Sequence[int],
    *,
    top: int = 5,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Walk:
    """Trace one forward pass over `ids` and tell it in steps.

    The model is left as it was; it is in evaluation mode while this lasts.

    >>> from toolkit.models import create_model
    >>> steps = walk(create_model("bigram", 9), [1, 2, 3]).steps
    >>> [(step.title, step.equation) for step in steps]
    [('Row of the table', 'logits_t = W[i_t]'), ('Probabilities', 'p = softmax(logits)')]

    Raises:
        UsageError: no ids, ids that the model refuses, a class of models that is not known, or a
            trace that takes more than `max_bytes`.
    """
    if not ids:
        raise UsageError("There is nothing to trace: the text has no tokens.")
    anatomy = anatomy_of(model)
    batch = torch.tensor([list(ids)], device=next(model.parameters()).device)  # (1, T)
    with evaluating(model), torch.no_grad(), Tracer(model, max_bytes=max_bytes) as trace:
        model(batch)
    return _told(trace, plans_of(anatomy), {"ids": batch}, top)


def walk_pair(
    model: nn.Module,
    source_ids: Sequence[int],
    target_ids: Sequence[int],
    *,
    top: int = 5,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Walk:
    """Trace one forward pass of an encoder–decoder over a pair and tell it in steps: the encoder's,
    and then the decoder's, which reads the source at every layer.

    Args:
        source_ids: with their end.
        target_ids: what is written already, without an end.

    >>> from toolkit.models import create_model
    >>> steps = walk_pair(create_model("encoder-decoder", 9, size="nano"), [1, 2, 6], [3]).steps
    >>> next(step.title for step in steps if "decoder.blocks.0.cross.k" == step.inputs[-1].name)
    'Scores'

    Raises:
        UsageError: another model, ids that it refuses, or a trace that takes more than `max_bytes`.
    """
    if not isinstance(model, EncoderDecoderModel):
        raise UsageError("Pairs are for an encoder-decoder; this model reads one text.")
    stacks = stacks_of(model)
    ids, _, source = pair_batch(model, source_ids, target_ids)  # (1, T), (1, S)
    with evaluating(model), torch.no_grad(), Tracer(model, max_bytes=max_bytes) as trace:
        model(ids, None, source)
    plans = pair_plans_of(stacks["encoder."], stacks["decoder."])
    return _told(trace, plans, {"source": source, "ids": ids}, top)


def _told(trace: Tracer, plans: Iterable[Plan], read: dict[str, Tensor], top: int) -> Walk:
    """The numbers of a trace in the order of plans; `read` are the ids that went in, (1, T)."""
    probabilities = trace["logits"].float().softmax(dim=-1)  # (1, T, V)
    tensors = {**read, **trace, "probabilities": probabilities}
    described = {name: _describe(name, tensor) for name, tensor in tensors.items()}
    steps = tuple(
        Step(
            plan.title,
            plan.equation,
            plan.layer,
            tuple(described[name] for name in plan.inputs),
            tuple(described[name] for name in plan.outputs),
            plan.stack,
        )
        for plan in plans
    )
    likeliest = probabilities[0, -1].topk(min(top, probabilities.size(-1)))
    found = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
    source = tuple(read["source"][0].tolist()) if "source" in read else ()
    return Walk(tuple(read["ids"][0].tolist()), steps, tuple(found), source)


def _describe(name: str, tensor: Tensor) -> Numbers:
    letters = _LETTERS.get(name) or tap_of(name).shape
    numbers = tensor.double()
    finite = numbers[numbers.isfinite()]
    corner = numbers
    while corner.dim() > 2:
        corner = corner[0]
    rows = corner[:EXCERPT_ROWS, :EXCERPT_COLUMNS].tolist()
    return Numbers(
        name,
        letters,
        tuple(tensor.shape),
        finite.mean().item(),
        finite.std(correction=0).item(),
        finite.min().item(),
        finite.max().item(),
        tuple(tuple(row) for row in rows),
    )
