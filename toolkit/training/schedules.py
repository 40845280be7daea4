"""The learning rate as a pure function of how far training is."""

from __future__ import annotations

import math

from toolkit.training.config import TrainConfig

STABLE_SHARE = 0.8  # of "wsd": how long the learning rate stays


def scheduled_rate(config: TrainConfig, step: int, elapsed: float) -> float:
    """The learning rate of a training after so many steps and seconds."""
    return learning_rate(
        step,
        decay_share(step, config.max_steps, config.warmup_steps, elapsed, config.max_time),
        peak=config.learning_rate,
        warmup_steps=config.warmup_steps,
        min_ratio=config.min_lr_ratio,
        schedule=config.schedule,
    )


def learning_rate(
    step: int,
    decay: float,
    *,
    peak: float,
    warmup_steps: int,
    min_ratio: float,
    schedule: str = "cosine",
) -> float:
    """Linear warm-up times a fall from `peak` to `min_ratio · peak`.

    "cosine" falls as half a cosine (Loshchilov and Hutter 2017), "linear" as a line, "wsd" stays
    for the first 80% and then falls as a line (Hu et al. 2024, arXiv:2404.06395).

    "inverse-sqrt" falls as peak · sqrt(warmup_steps / step), whatever the end is, and knows no
    `min_ratio`: with a peak of (n_embd · warmup_steps)^−½ it is the schedule of Vaswani et al.
    2017, section 5.3, n_embd^−½ · min(step^−½, step · warmup_steps^−1.5).

    Args:
        step: steps done; the first step has 0.
        decay: how far along the fall training is, 0 to 1 (see `decay_share`).

    >>> [round(learning_rate(s, decay_share(s, 10, 2), peak=1.0, warmup_steps=2, min_ratio=0.1), 3)
    ...  for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.55, 0.1]
    """
    warm = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if schedule == "inverse-sqrt":
        return peak * warm * math.sqrt(min(1.0, max(warmup_steps, 1) / (step + 1)))
    share = min(decay, 1.0)
    if schedule == "linear":
        height = 1.0 - share
    elif schedule == "wsd":
        height = min(1.0, (1.0 - share) / (1.0 - STABLE_SHARE))
    else:
        height = 0.5 * (1.0 + math.cos(math.pi * share))
    return peak * warm * (min_ratio + (1.0 - min_ratio) * height)


def decay_share(
    step: int,
    max_steps: int | None,
    warmup_steps: int,
    elapsed: float = 0.0,
    max_time: float | None = None,
) -> float:
    """How far the learning rate has fallen: by steps after the warm-up, or by time, the further.

    By steps it begins where the warm-up ends, so that the learning rate does not jump there. By
    time it begins at once: when the warm-up will end is not known.
    """
    by_steps = by_time = 0.0
    if max_steps is not None and step > warmup_steps:
        by_steps = (step - warmup_steps) / max(max_steps - warmup_steps, 1)
    if max_time is not None:
        by_time = elapsed / max_time
    return min(1.0, max(by_steps, by_time))
