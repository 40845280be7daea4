"""A model without one of its heads or layers: what a part is worth is what is lost without it.

A part is taken out by hooks that live as long as a `with`: a head's output is set to zero before
the heads are mixed, a part of a layer adds nothing to the stream, a layer passes the stream on as
it came. Michel et al. 2019, arXiv:1905.10650, rank heads so. Left out: replacing a part by its
mean over many texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.models.anatomy import Anatomy, anatomy_of

Part = Literal["attn", "mlp", "layer"]


@contextmanager
def without_head(model: nn.Module, layer: int, head: int) -> Iterator[None]:
    """In here the head's output is zero.

    Raises:
        UsageError: there is no such head.
    """
    anatomy = anatomy_of(model)
    parts = _layer(anatomy, layer)
    if not 0 <= head < anatomy.n_head:
        raise UsageError(f"There is no head {head}: a layer has {anatomy.n_head}, from 0.")
    with silent_head(parts.proj, head, anatomy.head_dim):
        yield


@contextmanager
def without_part(model: nn.Module, layer: int, part: Part) -> Iterator[None]:
    """In here a layer's attention or MLP adds nothing, or the whole layer does nothing.

    Raises:
        UsageError: there is no such layer.
    """
    parts = _layer(anatomy_of(model), layer)

    if part == "layer":
        with passing_on(parts.block):
            yield
    else:
        with silent(parts.attn if part == "attn" else parts.mlp):
            yield


@contextmanager
def silent_head(proj: nn.Module, head: int, head_dim: int) -> Iterator[None]:
    """In here a head's output is zero, where `proj` mixes those of all heads, (B, T, H·D)."""

    def hook(module: nn.Module, inputs: Any) -> Any:
        heads = inputs[0].clone()  # (B, T, H·D)
        heads[..., head * head_dim : (head + 1) * head_dim] = 0.0
        return (heads, *inputs[1:])

    handle = proj.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def silent(module: nn.Module) -> Iterator[None]:
    """In here what a module gives is zero."""

    def nothing(module: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):  # Hugging Face's attention gives its weights too
            return (torch.zeros_like(output[0]), *output[1:])
        return torch.zeros_like(output)

    handle = module.register_forward_hook(nothing)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def passing_on(block: nn.Module) -> Iterator[None]:
    """In here a layer gives what it got."""

    def as_it_came(module: nn.Module, inputs: Any, output: Any) -> Any:
        return (inputs[0], *output[1:]) if isinstance(output, tuple) else inputs[0]

    handle = block.register_forward_hook(as_it_came)
    try:
        yield
    finally:
        handle.remove()


def _layer(anatomy: Anatomy, layer: int) -> Any:
    if not anatomy.layers:
        raise UsageError("Only transformers have parts that can be taken out; this is none.")
    if not 0 <= layer < len(anatomy.layers):
        raise UsageError(f"There is no layer {layer}: this model has {len(anatomy.layers)}.")
    return anatomy.layers[layer]


def logits_of(model: nn.Module, ids: Tensor) -> Tensor:
    """The logits (B, T, V) of ids (B, T), whichever class the model is of."""
    output: Any = model(ids)
    logits: Tensor = output.logits
    return logits
