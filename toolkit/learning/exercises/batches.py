"""Page 2: windows of a text, and the targets that are one token further."""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.learning.exercise import Exercise, Mistake


def window(ids: Tensor, start: int, length: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of one window: two tensors of shape (length,).

    The inputs begin at `start`; the target of each input is the id that comes after it in `ids`.
    """
    return ids[start : start + length], ids[start + 1 : start + length + 1]


def make_batch(ids: Tensor, starts: list[int], length: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of several windows: two tensors of shape (B, T).

    B is the number of starts, T the length; row b is the window that begins at starts[b].
    """
    rows = [window(ids, start, length) for start in starts]
    return torch.stack([x for x, _ in rows]), torch.stack([y for _, y in rows])


def last_start(n_tokens: int, length: int) -> int:
    """The largest start for which a window has all its inputs and all its targets.

    A text of n_tokens ids has the positions 0 … n_tokens − 1.
    """
    return n_tokens - length - 1


def _not_shifted(ids: Tensor, start: int, length: int) -> tuple[Tensor, Tensor]:
    return ids[start : start + length], ids[start : start + length]


def _shifted_by_two(ids: Tensor, start: int, length: int) -> tuple[Tensor, Tensor]:
    return ids[start : start + length], ids[start + 2 : start + length + 2]


def _swapped(ids: Tensor, start: int, length: int) -> tuple[Tensor, Tensor]:
    x, y = window(ids, start, length)
    return y, x


def _short_targets(ids: Tensor, start: int, length: int) -> tuple[Tensor, Tensor]:
    return ids[start : start + length], ids[start + 1 : start + length]


def _stop_at_length(ids: Tensor, start: int, length: int) -> tuple[Tensor, Tensor]:
    return ids[start:length], ids[start + 1 : length + 1]


def _transposed(ids: Tensor, starts: list[int], length: int) -> tuple[Tensor, Tensor]:
    x, y = make_batch(ids, starts, length)
    return x.T, y.T


def _batch_not_shifted(ids: Tensor, starts: list[int], length: int) -> tuple[Tensor, Tensor]:
    x, _ = make_batch(ids, starts, length)
    return x, x


def _numbers_of_blocks(ids: Tensor, starts: list[int], length: int) -> tuple[Tensor, Tensor]:
    return make_batch(ids, [start * length for start in starts], length)


def _in_one_row(ids: Tensor, starts: list[int], length: int) -> tuple[Tensor, Tensor]:
    x, y = make_batch(ids, starts, length)
    return x.flatten(), y.flatten()


_IDS = torch.tensor([10, 13, 11, 19, 12, 17, 14, 18, 15, 16])

EXERCISES = (
    Exercise(
        window,
        inputs=((_IDS, 0, 4), (_IDS, 3, 2), (_IDS, 6, 3)),
        mistakes=(
            Mistake(
                "The targets are the inputs themselves: a model would learn to copy. Shift them "
                "by one.",
                _not_shifted,
            ),
            Mistake("The targets are two tokens ahead, not one.", _shifted_by_two),
            Mistake("Inputs and targets are swapped: the targets come later.", _swapped),
            Mistake(
                "The last target is missing: the targets end one position further than the inputs.",
                _short_targets,
            ),
            Mistake(
                "A slice ends at a position, not after a length: the end is start + length.",
                _stop_at_length,
            ),
            Mistake(
                "The targets are the tokens before the inputs: go one further, not one back.",
                lambda ids, start, length: (
                    ids[start : start + length],
                    ids[start - 1 : start + length - 1],
                ),
            ),
            Mistake(
                "The targets are the next window: they are the same tokens, one further.",
                lambda ids, start, length: (
                    ids[start : start + length],
                    ids[start + length :][:length],
                ),
            ),
            Mistake(
                "One target for the whole window: each input has its own.",
                lambda ids, start, length: (ids[start : start + length], ids[start + length]),
            ),
            Mistake(
                "The window begins at 0 instead of `start`.",
                lambda ids, start, length: window(ids, 0, length),
            ),
            Mistake(
                "The window begins one token too late.",
                lambda ids, start, length: window(ids[1:], start, length),
            ),
            Mistake(
                "One token too many: `length` inputs and `length` targets.",
                lambda ids, start, length: window(ids, start, length + 1),
            ),
            Mistake(
                "One token too few: take length + 1 tokens of the text before you shift.",
                lambda ids, start, length: window(ids, start, length - 1),
            ),
            Mistake(
                "The last target is the first input: roll goes round. It is the next token of "
                "the text.",
                lambda ids, start, length: (
                    ids[start : start + length],
                    ids[start : start + length].roll(-1),
                ),
            ),
            Mistake(
                "An id plus 1 is another token, not the next one: it is the position that "
                "goes one further.",
                lambda ids, start, length: (
                    ids[start : start + length],
                    ids[start : start + length] + 1,
                ),
            ),
            Mistake(
                "Two results: the inputs and the targets.",
                lambda ids, start, length: ids[start : start + length],
            ),
            Mistake(
                "One input too many: `length` inputs, from `start` to start + length.",
                lambda ids, start, length: (
                    ids[start : start + length + 1],
                    window(ids, start, length)[1],
                ),
            ),
        ),
    ),
    Exercise(
        make_batch,
        inputs=((_IDS, [0, 2], 3), (_IDS, [1, 0, 2], 3), (_IDS, [2], 4)),
        mistakes=(
            Mistake(
                "The batch is transposed, (T, B): stack the windows as rows (dim=0).", _transposed
            ),
            Mistake("The targets are the inputs: shift them by one.", _batch_not_shifted),
            Mistake(
                "A start is a position in the text, not the number of a block.", _numbers_of_blocks
            ),
            Mistake("All windows are in one row: torch.stack keeps them apart.", _in_one_row),
            Mistake(
                "Inputs and targets are swapped: the targets come later.",
                lambda ids, starts, length: make_batch(ids, starts, length)[::-1],
            ),
            Mistake(
                "The targets are the tokens before the inputs: go one further, not one back.",
                lambda ids, starts, length: (
                    make_batch(ids, starts, length)[0],
                    torch.stack([ids[start - 1 : start + length - 1] for start in starts]),
                ),
            ),
            Mistake(
                "These are pairs of rows, one for each start: stack all inputs, and all targets.",
                lambda ids, starts, length: [window(ids, start, length) for start in starts],
            ),
            Mistake(
                "The last target of a row is its first input: roll goes round. Take it from "
                "the text.",
                lambda ids, starts, length: (
                    make_batch(ids, starts, length)[0],
                    make_batch(ids, starts, length)[0].roll(-1, dims=1),
                ),
            ),
            Mistake(
                "One token too few in each row: take length + 1 tokens of the text before you "
                "shift.",
                lambda ids, starts, length: make_batch(ids, starts, length - 1),
            ),
            Mistake(
                "One target for each window: each of its inputs has one.",
                lambda ids, starts, length: (
                    make_batch(ids, starts, length)[0],
                    ids[torch.tensor(starts) + length],
                ),
            ),
            Mistake(
                "Only the first window: is there a return inside of the loop?",
                lambda ids, starts, length: window(ids, starts[0], length),
            ),
            Mistake(
                "Only the last window: keep all of them, and stack them after the loop.",
                lambda ids, starts, length: window(ids, starts[-1], length),
            ),
            Mistake(
                "The starts are sorted: row b begins at starts[b].",
                lambda ids, starts, length: make_batch(ids, sorted(starts), length),
            ),
            Mistake(
                "An id plus 1 is another token, not the next one: it is the position that "
                "goes one further.",
                lambda ids, starts, length: (
                    make_batch(ids, starts, length)[0],
                    make_batch(ids, starts, length)[0] + 1,
                ),
            ),
            Mistake(
                "The targets are the rows of the next window: shift along the text, inside of "
                "each row.",
                lambda ids, starts, length: (
                    make_batch(ids, starts, length)[0],
                    make_batch(ids, starts, length)[0].roll(-1, dims=0),
                ),
            ),
        ),
    ),
    Exercise(
        last_start,
        inputs=((10, 4), (5, 4), (1000, 64)),
        mistakes=(
            Mistake(
                "The last window has no target for its last token: a window takes length + 1 "
                "tokens.",
                lambda n_tokens, length: n_tokens - length,
            ),
            Mistake(
                "One start too few: a window that ends with the last token is whole.",
                lambda n_tokens, length: n_tokens - length - 2,
            ),
            Mistake(
                "That is the position of the last token. A window needs room after its start.",
                lambda n_tokens, length: n_tokens - 1,
            ),
            Mistake(
                "That is how many windows lie side by side: a window can begin at any position.",
                lambda n_tokens, length: n_tokens // length,
            ),
            Mistake(
                "That window would end behind the text: it takes length + 1 tokens from its "
                "start on.",
                lambda n_tokens, length: n_tokens - length + 1,
            ),
            Mistake(
                "A window needs room for all its tokens, not for one and its target.",
                lambda n_tokens, length: n_tokens - 2,
            ),
        ),
    ),
)
