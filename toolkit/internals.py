"""What a model is like inside while it is trained: which text is followed, and what is drawn.

    run = toolkit.train(corpus, track_internals=50, track_text="ROMEO: I am", out="runs/first")
    toolkit.draw_evolution(run)  # which `train` has done already

The snapshots are in RUN/internals (`toolkit.inspection.snapshots`), the figures in RUN/report.
Nothing of this is imported by a training that is not followed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.data import TokenDataset
from toolkit.errors import MissingExtraError, RunError, UsageError
from toolkit.models import LanguageModel
from toolkit.run import REPORT_FOLDER, Run
from toolkit.shown import shown_token
from toolkit.tokenizers import Tokenizer
from toolkit.training import TrainConfig

if TYPE_CHECKING:
    from toolkit.inspection.snapshots import Snapshot, SnapshotFolder

INTERNALS_FOLDER = "internals"
MOST_TOKENS = 64  # the attention of a head is as many bytes squared
DEFAULT_TOKENS = 32


def tracked_ids(
    config: TrainConfig, tokenizer: Tokenizer, dataset: TokenDataset, block_size: int
) -> list[int]:
    """The tokens that are followed: those of `track_text`, or the first held-out ones.

    Raises:
        UsageError: a text with fewer than 2 tokens, or more than 64 or the model's context.
    """
    most = min(MOST_TOKENS, block_size)
    if not config.track_text:
        split = "val" if dataset.num_tokens("val") >= 2 else "train"
        return [int(token) for token in dataset.read(split, 0, min(DEFAULT_TOKENS, most))]
    ids = tokenizer.encode(config.track_text)
    if not 2 <= len(ids) <= most:
        raise UsageError(f"--track-text has {len(ids)} tokens; expected 2 to {most} to follow.")
    return ids


def observer(run: Run, ids: list[int], config: TrainConfig) -> Callable[[LanguageModel, int], None]:
    """What a Trainer shows its model to."""
    from toolkit.inspection.snapshots import take_snapshot

    folder = snapshots_of(run, config.track_internals)

    def observe(model: LanguageModel, step: int) -> None:
        rate = config.learning_rate
        folder.record(step, lambda: take_snapshot(model, ids, step=step, learning_rate=rate))

    return observe


def snapshots_of(run: Run, every: int = 1) -> SnapshotFolder:
    """The snapshots of a run, which need not have any."""
    from toolkit.inspection.snapshots import SnapshotFolder

    return SnapshotFolder(run.folder / INTERNALS_FOLDER, every)


def load_snapshots(run: Run) -> tuple[Snapshot, ...]:
    """The snapshots of a run, oldest first; none of one that was not followed.

    Raises:
        RunError: one is damaged.
    """
    if not (run.folder / INTERNALS_FOLDER).is_dir():
        return ()
    return snapshots_of(run).load()


def draw_evolution(run: Run) -> list[Path]:
    """Draw how attention, queries, entropy and gradients changed over the training of a run, as
    figures and as a GIF, into its report folder.

    Returns:
        The files.

    Raises:
        RunError: the run has no two snapshots, or a damaged one.
        MissingExtraError: matplotlib is not installed.
        ToolkitError: a file could not be written.
    """
    from toolkit.inspection.evolution import write_evolution

    snapshots = load_snapshots(run)
    if len(snapshots) < 2:
        raise RunError(
            f"{run.folder} has {len(snapshots)} snapshots of its inside, and nothing to compare. "
            "Train with: --track-internals N, at least N steps."
        )
    tokens = [shown_token(run.tokenizer, token) for token in snapshots[-1].ids]
    return write_evolution(snapshots, tokens, run.folder / REPORT_FOLDER)


def draw_if_tracked(run: Run) -> list[Path]:
    """`draw_evolution` at the end of a training; nothing without snapshots or matplotlib."""
    if not run.info.training.get("track_internals"):
        return []
    try:
        return draw_evolution(run)
    except (MissingExtraError, RunError):
        return []
