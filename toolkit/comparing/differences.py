"""One batch through a model and its twin, which have the same weights: number against number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from toolkit.comparing.compared import compared
from toolkit.comparing.result import Difference
from toolkit.inspection import Tracer
from toolkit.models import LMOutput
from toolkit.models.hf_twin import HuggingFaceTwin
from toolkit.training.devices import autocast
from toolkit.training.losses import training_losses
from toolkit.training.transformers_loss import loss_of_twin

if TYPE_CHECKING:
    from toolkit.data.training_data import Batch


def difference(name: str, ours: Tensor, theirs: Tensor) -> Difference:
    """The largest difference between two tensors of one shape.

    >>> difference("logits", torch.tensor([4.0, -8.0]), torch.tensor([4.5, -8.0]))
    Difference(name='logits', largest=0.5, scale=8.0)
    """
    ours, theirs = ours.detach().double(), theirs.detach().double()
    return Difference(name, float((ours - theirs).abs().max()), float(ours.abs().max()))


def forward_differences(
    twin: HuggingFaceTwin, batch: Batch, dtype: torch.dtype
) -> tuple[tuple[Difference, ...], Difference]:
    """The hidden states (B, T, C) in the order in which they are computed, and the logits; where a
    batch is filled up there is nothing to compare."""
    ids, _, *source = batch
    kind = compared(twin.model)
    forward: Callable[..., LMOutput] = twin.model  # one that takes a source has a place for it
    with _evaluating(twin), torch.no_grad(), autocast(ids.device, dtype):
        with Tracer(twin.model, *kind.points, "logits") as ours:
            forward(ids, None, *source)
        with Tracer(twin.hf, *kind.points, "logits") as theirs:
            twin.hf(**twin.read_inputs(ids, *source))
    found = []
    for name, tensor in ours.items():
        counts = kind.counts(name, batch)
        kept = ... if counts is None else counts
        other = twin.in_our_order(name, theirs[name])
        found.append(difference(name, tensor[kept], other[kept]))
    return tuple(found[:-1]), found[-1]


def gradient_differences(
    twin: HuggingFaceTwin, batch: Batch, dtype: torch.dtype, label_smoothing: float = 0.0
) -> tuple[Difference, ...]:
    """The gradients of the mean loss, by the names that Hugging Face gives the parameters."""
    ids, targets, *source = batch
    with _evaluating(twin):
        with autocast(ids.device, dtype):
            ours, _ = training_losses(twin.model, ids, targets, label_smoothing, *source)
            losses: list[Any] = [ours, loss_of_twin(twin, batch, label_smoothing)]
        try:
            for loss in losses:
                loss.backward()
            return tuple(difference(name, *pair) for name, pair in twin.gradients().items())
        finally:
            twin.model.zero_grad(set_to_none=True)
            twin.hf.zero_grad(set_to_none=True)


def weight_difference(twin: HuggingFaceTwin, other: HuggingFaceTwin) -> Difference:
    """Between the weights of two twins: over all parameters, the largest."""
    pairs = zip(twin.tensors().items(), other.tensors().values(), strict=True)
    found = [difference(name, ours, theirs) for (name, (_, ours)), (_, theirs) in pairs]
    return max(found, key=lambda each: each.largest)


@contextmanager
def _evaluating(twin: HuggingFaceTwin) -> Iterator[None]:
    """A context in which neither model drops out."""
    models: tuple[Any, ...] = (twin.model, twin.hf)
    training = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model, was in zip(models, training, strict=True):
            model.train(was)
