"""One batch through a model and its twin, which have the same weights: number against number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from toolkit.comparing.result import Difference
from toolkit.inspection import Tracer
from toolkit.models.hf_twin import HuggingFaceTwin
from toolkit.training.devices import autocast

# Of each layer the stream and what was added to it, which is enough to see which part differs.
_POINTS = (
    "embed.sum",
    "blocks.*.attn.out",
    "blocks.*.resid_mid",
    "blocks.*.mlp.out",
    "blocks.*.resid_post",
    "norm.out",
)


def difference(name: str, ours: Tensor, theirs: Tensor) -> Difference:
    """The largest difference between two tensors of one shape.

    >>> difference("logits", torch.tensor([4.0, -8.0]), torch.tensor([4.5, -8.0]))
    Difference(name='logits', largest=0.5, scale=8.0)
    """
    ours, theirs = ours.detach().double(), theirs.detach().double()
    return Difference(name, float((ours - theirs).abs().max()), float(ours.abs().max()))


def forward_differences(
    twin: HuggingFaceTwin, ids: Tensor, dtype: torch.dtype
) -> tuple[tuple[Difference, ...], Difference]:
    """The hidden states (B, T, C) in the order in which they are computed, and the logits."""
    with _evaluating(twin), torch.no_grad(), autocast(ids.device, dtype):
        with Tracer(twin.model, *_POINTS, "logits") as ours:
            twin.model(ids)
        with Tracer(twin.hf, *_POINTS, "logits") as theirs:
            twin.hf(input_ids=ids)
    found = [difference(name, ours[name], theirs[name]) for name in ours]
    return tuple(found[:-1]), found[-1]


def gradient_differences(
    twin: HuggingFaceTwin, ids: Tensor, targets: Tensor, dtype: torch.dtype
) -> tuple[Difference, ...]:
    """The gradients of the mean loss, by the names that Hugging Face gives the parameters."""
    with _evaluating(twin):
        with autocast(ids.device, dtype):
            ours = twin.model(ids, targets).loss
            theirs = twin.hf(input_ids=ids, labels=targets, shift_labels=targets).loss
        try:
            for loss in (ours, theirs):
                assert loss is not None
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
    """A context in which neither model drops out, and neither keeps gradients of its caller."""
    models: tuple[Any, ...] = (twin.model, twin.hf)
    training = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model, was in zip(models, training, strict=True):
            model.train(was)
