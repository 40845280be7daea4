"""The learning rate as a pure function of how far training is."""

from __future__ import annotations

import math


def warmup_cosine(
    step: int, progress: float, *, peak: float, warmup_steps: int, min_ratio: float
) -> float:
    """Linear warm-up, then half a cosine down to `min_ratio · peak` (Loshchilov and Hutter 2017).

    Args:
        step: steps done; the first step has 0.
        progress: the share of training that is done, 0 to 1, by steps or by time.

    >>> [round(warmup_cosine(s, s / 10, peak=1.0, warmup_steps=2, min_ratio=0.1), 3)
    ...  for s in (0, 1, 5, 10)]
    [0.5, 1.0, 0.55, 0.1]
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    lowest = min_ratio * peak
    return lowest + (peak - lowest) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
