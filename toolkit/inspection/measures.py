"""What is measured of a model's numbers, whether it has one stack of layers or two.

Each function takes the tensors of one part, without the batch, and gives a finding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.inspection.findings import (
    Contribution,
    ParameterGradient,
    SparsityFinding,
    VectorStatistics,
)
from toolkit.inspection.modes import evaluating

NEAR_ZERO = 0.01
EXPLODING = 100.0


def vector_statistics(layer: int, which: str, vectors: Tensor) -> list[VectorStatistics]:
    """The queries, keys or values (`which`) of the heads of a layer, (H, T, D)."""
    return [
        VectorStatistics(
            layer,
            head,
            which,
            x.mean().item(),
            x.std(correction=0).item(),
            x.min().item(),
            x.max().item(),
            x.norm(dim=-1).mean().item(),
        )
        for head, x in enumerate(vectors.double())  # (T, D)
    ]


def contribution(layer: int, part: str, update: Tensor, stream: Tensor) -> Contribution:
    """What a part adds to the stream before it, (T, C) both."""
    update, stream = update.double(), stream.double()
    lengths, of_stream = update.norm(dim=-1), stream.norm(dim=-1)  # (T)
    return Contribution(
        layer,
        part,
        lengths.mean().item(),
        of_stream.mean().item(),
        (lengths / of_stream).mean().item(),
        F.cosine_similarity(update, stream, dim=-1).mean().item(),
    )


def sparsity(layer: int, hidden: Tensor) -> SparsityFinding:
    """How few of an MLP's hidden units, (T, I), are active."""
    hidden = hidden.double().abs()
    near = hidden <= NEAR_ZERO * hidden.amax(-1, keepdim=True)
    squares = hidden.square().sort(dim=-1, descending=True).values
    top = squares[:, : -(-squares.size(-1) // 10)].sum(-1)
    share = top / squares.sum(-1).clamp(min=1e-300)
    return SparsityFinding(
        layer,
        (hidden == 0).double().mean().item(),
        near.double().mean().item(),
        near.all(0).double().mean().item(),
        share.mean().item(),
    )


def parameter_gradients(
    model: nn.Module, loss: Callable[[], Tensor], learning_rate: float
) -> list[ParameterGradient]:
    """The gradient of a loss by each parameter of a model; those kept in the model stay.

    Args:
        loss: computes it with the model, which is in evaluation mode while this lasts.
        learning_rate: for the length of a plain gradient step, by the weights'.

    Raises:
        UsageError: no parameter takes a gradient.
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise UsageError("No parameter of this model takes a gradient.")
    with evaluating(model), torch.enable_grad():
        grads = torch.autograd.grad(
            loss(), [p for _, p in named], allow_unused=True, materialize_grads=True
        )
    norms = [grad.double().norm().item() for grad in grads]
    each = torch.tensor(
        [norm / grad.numel() ** 0.5 for norm, grad in zip(norms, grads, strict=True)]
    )
    usual = each[each > 0].nanmedian().item() if (each > 0).any() else 0.0
    found = []
    for number, (name, parameter) in enumerate(named):
        weight_norm = parameter.detach().double().norm().item()
        ratio = learning_rate * norms[number] / weight_norm if weight_norm else None
        flag = "dead" if norms[number] == 0 else ""
        if not each[number].isfinite() or each[number] > EXPLODING * usual > 0:
            flag = "exploding"
        found.append(
            ParameterGradient(name, tuple(parameter.shape), norms[number], weight_norm, ratio, flag)
        )
    return found
