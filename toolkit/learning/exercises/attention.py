"""Page 5: scores, one head of attention, and several heads side by side."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from toolkit.learning.exercise import Exercise, Mistake


def scaled_scores(q: Tensor, k: Tensor) -> Tensor:
    """How well each query fits each key: q (T, D) and k (S, D) to scores (T, S).

    scores[t, s] = q[t] · k[s] / √D, a product of two vectors divided by the root of their width.
    """
    return q @ k.T / math.sqrt(q.size(-1))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One head of causal attention: q, k and v (T, D) to (T, D).

    Scaled scores; −∞ where s > t; a softmax over s; then the weighted sum of the values.
    """
    return _attention(q, k, v)


def split_heads(x: Tensor, n_head: int) -> Tensor:
    """Give each head its share of the channels: (B, T, C) to (B, H, T, D), with D = C / H.

    Head 0 has the first D channels of each position, head 1 the next D, and so on.
    """
    batch, time, channels = x.shape
    return x.view(batch, time, n_head, channels // n_head).transpose(1, 2)


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    diagonal: int = 1,
    fill: float = -torch.inf,
    dim: int = -1,
) -> Tensor:
    """`attend`, with each of its parts as a choice."""
    scores = q @ k.T * (1 / math.sqrt(q.size(-1)) if scale is None else scale)  # (T, T)
    future = torch.ones_like(scores).triu(diagonal).bool()
    return scores.masked_fill(future, fill).softmax(dim=dim) @ v


_Q = torch.tensor([[1.0, 0.0, 2.0, 1.0], [0.5, -1.0, 1.0, 0.0], [2.0, 1.0, 0.0, -1.0]])
_K = torch.tensor([[0.0, 1.0, 1.0, 2.0], [1.0, 1.0, -1.0, 0.5], [2.0, 0.0, 1.0, 1.0]])
_V = torch.tensor([[1.0, 0.0, 0.0, 4.0], [0.0, 2.0, 0.0, -4.0], [0.0, 0.0, 3.0, 8.0]])
_X = torch.arange(24.0).view(1, 3, 8)

EXERCISES = (
    Exercise(
        scaled_scores,
        inputs=(
            (_Q, _K),
            (torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 2.0], [0.0, 1.0], [4.0, 0.0]])),
        ),
        mistakes=(
            Mistake("Wrong scaling: nothing is divided by √D.", lambda q, k: q @ k.T),
            Mistake("Wrong scaling: divided by D, not by √D.", lambda q, k: q @ k.T / q.size(-1)),
            Mistake(
                "Wrong scaling: multiplied by √D instead of divided.",
                lambda q, k: q @ k.T * math.sqrt(q.size(-1)),
            ),
            Mistake(
                "Wrong scaling: the root of the number of positions; D is the width of a key.",
                lambda q, k: q @ k.T / math.sqrt(len(q)),
            ),
            Mistake(
                "Transposed: row t belongs to query t, so q comes first (q @ k.T).",
                lambda q, k: k @ q.T / math.sqrt(q.size(-1)),
            ),
        ),
    ),
    Exercise(
        attend,
        inputs=((_Q, _K, _V), (_K, _Q, _V), (_Q[:1], _K[:1], _V[:1])),
        mistakes=(
            Mistake(
                "Wrong scaling: the scores are not divided by √D.",
                lambda q, k, v: _attention(q, k, v, scale=1.0),
            ),
            Mistake(
                "Wrong scaling: divided by D, not by √D.",
                lambda q, k, v: _attention(q, k, v, scale=1 / q.size(-1)),
            ),
            Mistake(
                "No mask: each position reads the future.",
                lambda q, k, v: _attention(q, k, v, diagonal=len(q)),
            ),
            Mistake(
                "Masked with 0: exp(0) is 1, so the future still counts. Use −∞.",
                lambda q, k, v: _attention(q, k, v, fill=0.0),
            ),
            Mistake(
                "Wrong scaling: the root of the number of positions; D is the width of a key.",
                lambda q, k, v: _attention(q, k, v, scale=1 / math.sqrt(len(q))),
            ),
            Mistake(
                "Mask off by one: a position hides itself, and the first one sees nothing.",
                lambda q, k, v: _attention(q, k, v, diagonal=0),
            ),
            Mistake(
                "Mask off by one: each position sees the next one.",
                lambda q, k, v: _attention(q, k, v, diagonal=2),
            ),
            Mistake(
                "Softmax over the wrong axis: the weights of one query sum to 1 (dim=-1).",
                lambda q, k, v: _attention(q, k, v, dim=0),
            ),
            Mistake(
                "The weighted sum is of the values v, not of the keys.",
                lambda q, k, v: _attention(q, k, k),
            ),
            Mistake(
                "Queries and keys are swapped: row t belongs to query t.",
                lambda q, k, v: _attention(k, q, v),
            ),
            Mistake(
                "Masked after the softmax, and the rest does not sum to 1: mask the scores.",
                lambda q, k, v: scaled_scores(q, k).softmax(dim=-1).tril() @ v,
            ),
        ),
    ),
    Exercise(
        split_heads,
        inputs=((_X, 2), (_X, 4), (torch.arange(24.0).view(2, 2, 6), 3)),
        mistakes=(
            Mistake(
                "view(B, H, T, D) cuts through positions: view as (B, T, H, D), then swap T and H.",
                lambda x, n_head: x.reshape(x.size(0), n_head, x.size(1), -1),
            ),
            Mistake(
                "Every H-th channel goes to a head; it should have D neighbours: H before D.",
                lambda x, n_head: x.view(x.size(0), x.size(1), -1, n_head).permute(0, 3, 1, 2),
            ),
            Mistake(
                "The heads are still behind the positions, (B, T, H, D): swap T and H.",
                lambda x, n_head: x.view(x.size(0), x.size(1), n_head, -1),
            ),
        ),
    ),
)
