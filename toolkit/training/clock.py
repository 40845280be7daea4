"""How far a training is between its start and its limits, in steps and in seconds."""

from __future__ import annotations

import time

from toolkit.training.config import TrainConfig
from toolkit.training.distributed import World
from toolkit.training.progress import Progress


class Clock:
    """The time of a training, which runs from when this is made."""

    def __init__(self, config: TrainConfig, world: World, progress: Progress) -> None:
        """
        Args:
            progress: of the training, with the seconds of its earlier parts; it is only read.
        """
        self._config, self._world, self._progress = config, world, progress
        self._started = time.monotonic() - progress.elapsed

    def elapsed(self) -> float:
        """Seconds since training began; where they decide something, by one clock for all."""
        seconds = time.monotonic() - self._started
        return seconds if self._config.max_time is None else self._world.same(seconds)

    def is_over(self) -> bool:
        """Whether one of the limits is reached."""
        config = self._config
        if config.max_steps is not None and self._progress.step >= config.max_steps:
            return True
        return config.max_time is not None and self.elapsed() >= config.max_time

    def eta(self) -> float | None:
        """Seconds until the nearer limit, as it looks; None at the start and at the end."""
        config, progress = self._config, self._progress
        by_steps = progress.step / config.max_steps if config.max_steps else 0.0
        by_time = progress.elapsed / config.max_time if config.max_time else 0.0
        share = max(by_steps, by_time)
        return progress.elapsed * (1 / share - 1) if 0 < share < 1 else None
