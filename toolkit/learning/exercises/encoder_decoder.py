"""Page 7: what a decoder reads, how it looks at a source, and a loss without padding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from toolkit.learning.exercise import Exercise, Mistake


def decoder_rows(target: list[int], begin_id: int, end_id: int) -> tuple[list[int], list[int]]:
    """What a decoder reads, and what it should say at each place: two lists of equal length.

    It starts from begin_id and knows nothing else; after the last token it should say end_id.
    """
    return [begin_id, *target], [*target, end_id]


def cross_attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Attention of a target to its source: q (T, D), k and v (S, D), seen (S,) to (T, D).

    `seen` is True where the source has a token and False where it is padding, which nobody reads.
    All of the source may be read: it is written already. Scores are divided by √D.
    """
    return _cross(q, k, v, seen)


def masked_loss(losses: Tensor, targets: Tensor) -> Tensor:
    """The mean of the losses (B, T) over the places that have a target: one number.

    A target of −100 is padding: its loss does not count, and neither does its place.
    """
    return losses[targets != -100].mean()


def _cross(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Tensor,
    *,
    scale: float | None = None,
    causal: bool = False,
    padding: float = -torch.inf,
    dim: int = -1,
) -> Tensor:
    """`cross_attend`, with each of its parts as a choice."""
    scores = q @ k.T * (1 / math.sqrt(q.size(-1)) if scale is None else scale)  # (T, S)
    scores = scores.masked_fill(~seen, padding)
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
    return scores.softmax(dim=dim) @ v


_Q = torch.tensor([[1.0, 0.0, 2.0, 1.0], [0.5, -1.0, 1.0, 0.0]])
_K = torch.tensor([[0.0, 1.0, 1.0, 2.0], [1.0, 1.0, -1.0, 0.5], [2.0, 0.0, 1.0, 1.0]])
_V = torch.tensor([[1.0, 0.0, 0.0, 4.0], [0.0, 2.0, 0.0, -4.0], [0.0, 0.0, 3.0, 8.0]])
_ALL = torch.tensor([True, True, True])
_TWO = torch.tensor([True, True, False])

EXERCISES = (
    Exercise(
        decoder_rows,
        inputs=(([5, 6, 7], 0, 1), ([4], 8, 9), ([], 0, 1)),
        mistakes=(
            Mistake(
                "Off by one: the decoder reads at each place the token that it should say there.",
                lambda target, begin_id, end_id: ([*target, end_id], [*target, end_id]),
            ),
            Mistake(
                "The end is missing: a decoder that never learned to stop goes on for ever.",
                lambda target, begin_id, end_id: ([begin_id, *target], list(target)),
            ),
            Mistake(
                "The last token is not read, so the end is not learned after it.",
                lambda target, begin_id, end_id: ([begin_id, *target[:-1]], list(target)),
            ),
            Mistake(
                "Both lists have both ends: they are shifted by one, and each has one of them.",
                lambda target, begin_id, end_id: (
                    [begin_id, *target, end_id],
                    [begin_id, *target, end_id],
                ),
            ),
            Mistake(
                "The two lists are swapped.",
                lambda target, begin_id, end_id: ([*target, end_id], [begin_id, *target]),
            ),
            Mistake(
                "The begin is missing: before the first token the decoder reads begin_id.",
                lambda target, begin_id, end_id: (list(target), [*target, end_id]),
            ),
            Mistake(
                "The decoder reads what it should say: put begin_id before what it reads, "
                "end_id after what it says.",
                lambda target, begin_id, end_id: (list(target), list(target)),
            ),
            Mistake(
                "It should not say the begin: what it says is the target and end_id.",
                lambda target, begin_id, end_id: ([begin_id, *target], [begin_id, *target]),
            ),
            Mistake(
                "It should not say the begin: it says the target and end_id, one token "
                "further than it reads.",
                lambda target, begin_id, end_id: ([begin_id, *target], [begin_id, *target, end_id]),
            ),
            Mistake(
                "The end is not read: after it there is nothing to say.",
                lambda target, begin_id, end_id: ([begin_id, *target, end_id], [*target, end_id]),
            ),
            Mistake(
                "The end is not read: after it there is nothing to say, and no padding is needed.",
                lambda target, begin_id, end_id: (
                    [begin_id, *target, end_id],
                    [*target, end_id, -100],
                ),
            ),
            Mistake(
                "begin_id and end_id are swapped.",
                lambda target, begin_id, end_id: ([end_id, *target], [*target, begin_id]),
            ),
            Mistake(
                "It reads end_id at the beginning: that is begin_id.",
                lambda target, begin_id, end_id: ([end_id, *target], [*target, end_id]),
            ),
            Mistake(
                "It should say end_id at the end, not begin_id.",
                lambda target, begin_id, end_id: ([begin_id, *target], [*target, begin_id]),
            ),
            Mistake(
                "append and insert change a list and return None: [begin_id, *target] is a "
                "new list.",
                lambda target, begin_id, end_id: (None, None),
            ),
            Mistake(
                "The target is a list inside of the list: unpack it, [begin_id, *target].",
                lambda target, begin_id, end_id: ([begin_id, target], [target, end_id]),
            ),
            Mistake(
                "Two lists: what it reads, and what it should say.",
                lambda target, begin_id, end_id: [begin_id, *target, end_id],
            ),
            Mistake(
                "The target is in reverse: turning words round is the model's task.",
                lambda target, begin_id, end_id: (
                    [begin_id, *target[::-1]],
                    [*target[::-1], end_id],
                ),
            ),
        ),
    ),
    Exercise(
        cross_attend,
        inputs=((_Q, _K, _V, _ALL), (_Q, _K, _V, _TWO), (_Q[:1], _K, _V, _TWO)),
        mistakes=(
            Mistake(
                "A causal mask: the source is there already, and each place may read all of it.",
                lambda q, k, v, seen: _cross(q, k, v, seen, causal=True),
            ),
            Mistake(
                "Padding is read: its scores must be −∞ before the softmax.",
                lambda q, k, v, seen: _cross(q, k, v, torch.ones_like(seen)),
            ),
            Mistake(
                "The mask is the wrong way round: `seen` is True where there is a token.",
                lambda q, k, v, seen: _cross(q, k, v, ~seen),
            ),
            Mistake(
                "Padding is masked with 0: exp(0) is 1, so it still counts. Use −∞.",
                lambda q, k, v, seen: _cross(q, k, v, seen, padding=0.0),
            ),
            Mistake(
                "Wrong scaling: the scores are not divided by √D.",
                lambda q, k, v, seen: _cross(q, k, v, seen, scale=1.0),
            ),
            Mistake(
                "Wrong scaling: divided by D, not by √D.",
                lambda q, k, v, seen: _cross(q, k, v, seen, scale=1 / q.size(-1)),
            ),
            Mistake(
                "Wrong scaling: the root of the number of positions; D is the width of a key.",
                lambda q, k, v, seen: _cross(q, k, v, seen, scale=1 / math.sqrt(len(k))),
            ),
            Mistake(
                "Softmax over the wrong axis: over the source (dim=-1), not over the target.",
                lambda q, k, v, seen: _cross(q, k, v, seen, dim=0),
            ),
            Mistake(
                "Not normalised: padding was zeroed after the softmax; mask the scores first.",
                lambda q, k, v, seen: (
                    (q @ k.T / math.sqrt(q.size(-1))).softmax(dim=-1).masked_fill(~seen, 0.0) @ v
                ),
            ),
            Mistake(
                "Wrong scaling: multiplied by √D instead of divided.",
                lambda q, k, v, seen: _cross(q, k, v, seen, scale=math.sqrt(q.size(-1))),
            ),
            Mistake(
                "Padding is masked with −1: it still counts. Use −∞.",
                lambda q, k, v, seen: _cross(q, k, v, seen, padding=-1.0),
            ),
            Mistake(
                "The weighted sum is of the values v, not of the keys.",
                lambda q, k, v, seen: _cross(q, k, k, seen),
            ),
            Mistake(
                "These are the weights: multiply them with v.",
                lambda q, k, v, seen: _cross(q, k, torch.eye(len(k)), seen),
            ),
            Mistake(
                "The softmax is missing between the scores and the values.",
                lambda q, k, v, seen: (q @ k.T / math.sqrt(q.size(-1))).masked_fill(~seen, 0.0) @ v,
            ),
            Mistake(
                "Keys and values of padding are set to 0, but a score of 0 still counts: its "
                "scores must be −∞.",
                lambda q, k, v, seen: _cross(q, k, v * seen[:, None], seen, padding=0.0),
            ),
            Mistake(
                "The mask hides rows: padding is in the columns (S), so mask with ~seen, "
                "without a new axis.",
                lambda q, k, v, seen: (
                    (q @ k.T / math.sqrt(q.size(-1)))
                    .masked_fill(~seen[:, None], -torch.inf)
                    .softmax(dim=-1)
                    @ v
                ),
            ),
            Mistake(
                "`seen` is added to the scores: put −∞ where it is False.",
                lambda q, k, v, seen: (q @ k.T / math.sqrt(q.size(-1)) + seen).softmax(dim=-1) @ v,
            ),
            Mistake(
                "This is the mean of the source: the weights come from q and k.",
                lambda q, k, v, seen: _cross(q * 0, k, v, seen),
            ),
        ),
    ),
    Exercise(
        masked_loss,
        inputs=(
            (
                torch.tensor([[1.0, 2.0, 6.0], [4.0, 9.0, 7.0]]),
                torch.tensor([[5, 6, 7], [8, -100, -100]]),
            ),
            (torch.tensor([[2.0, 1.0]]), torch.tensor([[0, -100]])),
            (torch.tensor([[1.0], [2.0]]), torch.tensor([[3], [4]])),
        ),
        mistakes=(
            Mistake(
                "The loss over padding counts too: leave out the places with −100.",
                lambda losses, targets: losses.mean(),
            ),
            Mistake(
                "Divided by all places: the sum leaves padding out, and so must the count.",
                lambda losses, targets: losses[targets != -100].sum() / losses.numel(),
            ),
            Mistake(
                "The sum instead of the mean.",
                lambda losses, targets: losses[targets != -100].sum(),
            ),
            Mistake(
                "A mean of the rows' means: short rows would count more. Take one mean over all "
                "tokens.",
                lambda losses, targets: torch.stack(
                    [row[ids != -100].mean() for row, ids in zip(losses, targets, strict=True)]
                ).mean(),
            ),
            Mistake(
                "The mask is the wrong way round: that is the mean over the padding.",
                lambda losses, targets: losses[targets == -100].mean(),
            ),
            Mistake(
                "One loss for each place that counts: take the mean of them.",
                lambda losses, targets: losses[targets != -100],
            ),
            Mistake(
                "One mean for each row: take one over all tokens.",
                lambda losses, targets: torch.stack(
                    [row[ids != -100].mean() for row, ids in zip(losses, targets, strict=True)]
                ),
            ),
            Mistake(
                "0 is an id like any other: only −100 is padding.",
                lambda losses, targets: losses[targets > 0].mean(),
            ),
            Mistake(
                "Divided by the number of rows: count the places that have a target.",
                lambda losses, targets: losses[targets != -100].sum() / len(losses),
            ),
            Mistake(
                "Divided by the length of a row: count the places that have a target.",
                lambda losses, targets: losses[targets != -100].sum() / losses.size(1),
            ),
            Mistake(
                "Rows with padding are left out as a whole: leave out the places alone.",
                lambda losses, targets: losses[(targets != -100).all(dim=1)].mean(),
            ),
            Mistake(
                "Columns with padding are left out as a whole: leave out the places alone.",
                lambda losses, targets: losses[:, (targets != -100).all(dim=0)].mean(),
            ),
            Mistake(
                "Only the first row: is there a return inside of the loop?",
                lambda losses, targets: losses[0][targets[0] != -100].mean(),
            ),
            Mistake(
                "The losses are losses already: no sign changes.",
                lambda losses, targets: -losses[targets != -100].mean(),
            ),
        ),
    ),
)
