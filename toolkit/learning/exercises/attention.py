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
            Mistake(
                "These are weights already: the scores come before the softmax.",
                lambda q, k: scaled_scores(q, k).softmax(dim=-1),
            ),
            Mistake(
                "There is no mask here: these are the scores of all pairs.",
                lambda q, k: scaled_scores(q, k).masked_fill(
                    torch.ones(len(q), len(k)).triu(1).bool(), -torch.inf
                ),
            ),
            Mistake(
                "q * k multiplies number by number: a score sums over the channels, q @ k.T.",
                lambda q, k: q * k / math.sqrt(q.size(-1)),
            ),
            Mistake(
                "Transpose k: q (T, D) times k.T (D, S).",
                lambda q, k: q @ k / math.sqrt(q.size(-1)),
            ),
            Mistake(
                "q.T @ k sums over the positions: sum over the channels, q @ k.T.",
                lambda q, k: q.T @ k / math.sqrt(q.size(-1)),
            ),
            Mistake(
                "The vectors are brought to length 1: divide by √D alone.",
                lambda q, k: (
                    (q / q.norm(dim=1, keepdim=True)) @ (k / k.norm(dim=1, keepdim=True)).T
                ),
            ),
            Mistake(
                "The queries are compared with themselves: q @ k.T.",
                lambda q, k: q @ q.T / math.sqrt(q.size(-1)),
            ),
            Mistake(
                "Wrong scaling: divided by D², not by √D.",
                lambda q, k: q @ k.T / q.size(-1) ** 2,
            ),
            Mistake(
                "Wrong scaling: the root of all numbers in q; D is the width of one key.",
                lambda q, k: q @ k.T / math.sqrt(q.numel()),
            ),
            Mistake(
                "Wrong scaling: divided by √2, which is right for D = 2 alone.",
                lambda q, k: q @ k.T / math.sqrt(2),
            ),
            Mistake(
                "Whole numbers: `//` cuts the rest off. Divide with `/`.",
                lambda q, k: q @ k.T // math.sqrt(q.size(-1)),
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
            Mistake(
                "No scale and no mask: divide by √D, and put −∞ where s > t.",
                lambda q, k, v: _attention(q, k, v, scale=1.0, diagonal=len(q)),
            ),
            Mistake(
                "Wrong scaling: multiplied by √D instead of divided.",
                lambda q, k, v: _attention(q, k, v, scale=math.sqrt(q.size(-1))),
            ),
            Mistake(
                "The scores are divided by √D, before the softmax; not the result.",
                lambda q, k, v: _attention(q, k, v, scale=1.0) / math.sqrt(q.size(-1)),
            ),
            Mistake(
                "The past is masked instead of the future: triu is what lies after t.",
                lambda q, k, v: (
                    scaled_scores(q, k)
                    .masked_fill(torch.ones(len(q), len(q)).tril(-1).bool(), -torch.inf)
                    .softmax(dim=-1)
                    @ v
                ),
            ),
            Mistake(
                "The mask is the wrong way round: torch's attn_mask is True where one may look.",
                lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(
                    q, k, v, attn_mask=torch.ones(len(q), len(q)).triu(1).bool()
                ),
            ),
            Mistake(
                "The softmax is missing between the scores and the values.",
                lambda q, k, v: scaled_scores(q, k).tril() @ v,
            ),
            Mistake(
                "These are the weights: multiply them with v.",
                lambda q, k, v: _attention(q, k, torch.eye(len(q))),
            ),
            Mistake(
                "The weights are transposed: row t times v is what t takes.",
                lambda q, k, v: _attention(q, k, torch.eye(len(q))).T @ v,
            ),
            Mistake(
                "No mask, and the softmax over the wrong axis: −∞ where s > t, then dim=-1.",
                lambda q, k, v: _attention(q, k, v, diagonal=len(q), dim=0),
            ),
            Mistake(
                "Something is added to the result: one head gives the weighted sum alone.",
                lambda q, k, v: q + attend(q, k, v),
            ),
            Mistake(
                "This is the mean of the past: the weights come from q and k.",
                lambda q, k, v: _attention(q * 0, k, v),
            ),
            Mistake(
                "Only the result is asked for, without the weights.",
                lambda q, k, v: (attend(q, k, v), _attention(q, k, torch.eye(len(q)))),
            ),
            Mistake(
                "A single value for each query: take the sum of all, each with its weight.",
                lambda q, k, v: v[_attention(q, k, torch.eye(len(q))).argmax(dim=-1)],
            ),
            Mistake(
                "Masked with −1: the future still counts. Use −∞.",
                lambda q, k, v: _attention(q, k, v, fill=-1.0),
            ),
            Mistake(
                "Transpose k: q (T, D) times k.T (D, T).",
                lambda q, k, v: (q @ k / math.sqrt(q.size(-1))).softmax(dim=-1) @ v,
            ),
            Mistake(
                "A product of matrices is @; * multiplies number by number.",
                lambda q, k, v: _attention(q, k, torch.eye(len(q))) * v,
            ),
            Mistake(
                "The past and the position itself are masked: the future is triu(diagonal=1).",
                lambda q, k, v: (
                    scaled_scores(q, k)
                    .masked_fill(torch.ones(len(q), len(q)).tril().bool(), -torch.inf)
                    .softmax(dim=-1)
                    @ v
                ),
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
            Mistake(
                "C / H is a float: a shape takes whole numbers, C // H.",
                lambda x, n_head: x.view(x.size(0), x.size(1), n_head, x.size(2) / n_head),
            ),
            Mistake(
                "T and D are swapped: after view as (B, T, H, D) swap 1 and 2, not 1 and 3.",
                lambda x, n_head: split_heads(x, n_head).permute(0, 3, 1, 2),
            ),
            Mistake(
                "The heads come before the batch, (H, B, T, D): stack them with dim=1.",
                lambda x, n_head: split_heads(x, n_head).transpose(0, 1),
            ),
            Mistake(
                "The heads are last, (B, T, D, H): view as (B, T, H, D) and swap T and H, or "
                "stack with dim=1.",
                lambda x, n_head: split_heads(x, n_head).permute(0, 2, 3, 1),
            ),
            Mistake(
                "Number and width of the heads are swapped: view as (B, T, H, D); split takes the "
                "width D, chunk the number H.",
                lambda x, n_head: torch.stack(x.split(n_head, dim=2), dim=1),
            ),
            Mistake(
                "The positions are divided among the heads: divide the channels, the last axis.",
                lambda x, n_head: torch.stack(x.chunk(n_head, dim=1), dim=1),
            ),
            Mistake(
                "Cut after a transpose, so that channels and positions are mixed: view as (B, "
                "T, H, D) first.",
                lambda x, n_head: x.transpose(1, 2).reshape(x.size(0), n_head, x.size(1), -1),
            ),
            Mistake(
                "Each head has all channels: it gets its share, D = C / H of them.",
                lambda x, n_head: x[:, None].expand(-1, n_head, -1, -1),
            ),
            Mistake(
                "The heads are in reverse: head 0 has the first channels.",
                lambda x, n_head: split_heads(x, n_head).flip(1),
            ),
        ),
    ),
)
