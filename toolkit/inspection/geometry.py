"""The geometry of an embedding table: which tokens point the same way, and where it is widest."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.inspection.findings import EmbeddingFinding, Neighbours

COMPONENTS = 10


def embedding_geometry(table: Tensor, ids: Iterable[int], nearest: int) -> EmbeddingFinding:
    """Neighbours of some tokens by cosine, and the principal components of all of the table.

    Args:
        table: (V, C).
        ids: whose neighbours and coordinates are asked for.
        nearest: how many neighbours.
    """
    weight = table.detach().double().cpu()  # (V, C)
    tokens = sorted(set(ids))
    unit = F.normalize(weight, dim=-1)  # (V, C)
    cosines = unit[tokens] @ unit.T  # (N, V)
    cosines[torch.arange(len(tokens)), tokens] = -torch.inf  # not its own neighbour
    best = cosines.topk(min(nearest, len(weight) - 1), dim=-1)
    found = zip(tokens, best.indices.tolist(), best.values.tolist(), strict=True)
    neighbours = [
        Neighbours(token, tuple(zip(near, values, strict=True))) for token, near, values in found
    ]
    centred = weight - weight.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred)  # rising
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    share = (values / values.sum().clamp(min=1e-300))[:COMPONENTS]
    # A direction has no sign; the largest number of each is made positive.
    axes = F.pad(vectors, (0, 1))[:, :2]  # of a single channel too
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    points = (centred[tokens] @ axes).tolist()
    return EmbeddingFinding(
        tuple(neighbours), tuple(tokens), tuple((x, y) for x, y in points), tuple(share.tolist())
    )
