"""Which learning rate to take: `toolkit train --find-lr`, as a call.

    found = toolkit.find_learning_rate("tiny-shakespeare", "char", size="nano")
    found.suggestion, found.learning_rates, found.smoothed

The test is in `training.range_test`; here it meets corpora, tokenizers and models, in the very way
in which a training would.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.corpora import DEFAULT_CORPUS, Corpus
from toolkit.errors import MissingExtraError, UsageError
from toolkit.files import write_bytes, write_json
from toolkit.pipeline import TrainingSession
from toolkit.reporting.figures import render
from toolkit.reporting.range_figure import range_figure
from toolkit.tokenizers import Tokenizer
from toolkit.training.range_test import (
    HIGHEST,
    LOWEST,
    STEPS,
    LearningRateRange,
    range_test,
    rising_rates,
)

_NOT_OF_A_TEST = (
    "out", "speedrun", "max_time", "track", "track_internals", "track_text", "backend",
)  # fmt: skip


def find_learning_rate(
    corpus: str | Corpus = DEFAULT_CORPUS,
    tokenizer: str | Tokenizer | None = None,
    *,
    low: float = LOWEST,
    high: float = HIGHEST,
    max_steps: int = STEPS,
    on_step: Callable[[int, float, float], None] | None = None,
    **options: Any,
) -> LearningRateRange:
    """Train with a rising learning rate for a moment, and see where the loss falls fastest.

    No run is left behind, and the newest run stays the newest.

    Args:
        tokenizer: None: the one that a training would have.
        low, high: the range of learning rates.
        max_steps: how many there are in it.
        on_step: told the step, its learning rate and its loss.
        options: as for `toolkit.train`.

    Raises:
        UsageError: a range that does not rise, too few steps, or an option that a test cannot
            have.
        ToolkitError: as `TrainingSession.start`.
    """
    for name in _NOT_OF_A_TEST:
        if name in options:
            raise UsageError(f"A range test of learning rates takes no {name}: leave it out.")
    rising_rates(low, high, max_steps)  # refused before a corpus is fetched
    with tempfile.TemporaryDirectory(prefix="toolkit-") as folder:
        session = TrainingSession.start(
            corpus, tokenizer, out=Path(folder) / "run", latest=False, **options
        )
        trainer = session.trainer
        return range_test(
            session.model,
            trainer.dataset,
            trainer.config,
            low=low,
            high=high,
            steps=max_steps,
            on_step=on_step,
        )


def range_to_json(found: LearningRateRange) -> dict[str, Any]:
    """The content of learning_rate.json."""
    return {
        "suggestion": found.suggestion,
        "lowest_loss_rate": found.lowest_loss_rate,
        "diverged": found.diverged,
        "interrupted": found.interrupted,
        "learning_rates": found.learning_rates.tolist(),
        "losses": found.losses.tolist(),
        "smoothed": found.smoothed.tolist(),
    }


def write_range(found: LearningRateRange, folder: Path) -> list[Path]:
    """Write learning_rate.json and, where matplotlib is installed, learning_rate.png.

    Returns:
        What was written.

    Raises:
        ToolkitError: a file could not be written.
    """
    paths = [folder / "learning_rate.json"]
    write_json(paths[0], range_to_json(found))
    try:
        figure = range_figure(
            found.learning_rates.tolist(),
            found.losses.tolist(),
            found.smoothed.tolist(),
            suggestion=found.suggestion,
            lowest=found.lowest_loss_rate,
        )
    except MissingExtraError:
        return paths
    paths.append(folder / "learning_rate.png")
    write_bytes(paths[1], render(figure, "png"))
    return paths
