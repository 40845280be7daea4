"""Means of noisy curves, for displays, figures and the learning rate range test.

Like `terminal_plot`, this sits below everything that draws and imports nothing of toolkit's.
"""

from __future__ import annotations

from collections.abc import Sequence


def exponential_mean(values: Sequence[float], weight: float = 0.9) -> list[float]:
    """A running mean that forgets, corrected for its start (Kingma and Ba 2015, section 3).

    Args:
        weight: what is kept of the mean at each value; 0 gives the values themselves, and w
            averages over about 1 / (1 - w) of them.

    >>> exponential_mean([1.0, 1.0, 4.0], weight=0.5)[:2]
    [1.0, 1.0]
    """
    smoothed, mean = [], 0.0
    for count, value in enumerate(values, start=1):
        mean = weight * mean + (1 - weight) * value
        smoothed.append(mean / (1 - weight**count))
    return smoothed


def centred_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of the `window` values around each, of fewer at the ends: it does not lag behind.

    >>> centred_mean([1.0, 2.0, 6.0, 2.0, 1.0], window=3)
    [1.5, 3.0, 3.3333333333333335, 3.0, 1.5]
    """
    before, after = (window - 1) // 2, window // 2
    smoothed = []
    for place in range(len(values)):
        around = values[max(0, place - before) : place + after + 1]
        smoothed.append(sum(around) / len(around))
    return smoothed
