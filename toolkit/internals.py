"""What a model is like inside while it is trained: which text is followed, and what is drawn.

    run = toolkit.train(corpus, track_internals=50, track_text="ROMEO: I am", out="runs/first")
    toolkit.draw_evolution(run)  # which `train` has done already

Of a task it is a pair that is followed. The snapshots are in RUN/internals
(`toolkit.inspection.snapshots`), the figures in RUN/report.
Nothing of this is imported by a training that is not followed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from toolkit.data import TokenDataset
from toolkit.errors import MissingExtraError, RunError, UsageError
from toolkit.models import LanguageModel
from toolkit.models.encoder_decoder_config import NUM_SPECIAL
from toolkit.run import REPORT_FOLDER, Run
from toolkit.shown import shown_token
from toolkit.tasks import Pair, PairTask
from toolkit.tokenizers import Tokenizer
from toolkit.training import TrainConfig

if TYPE_CHECKING:
    from toolkit.data import PairDataset
    from toolkit.inspection.pair_snapshots import PairSnapshot
    from toolkit.inspection.snapshots import Snapshot, SnapshotFolder

INTERNALS_FOLDER = "internals"
MOST_TOKENS = 64  # the attention of a head is as many bytes squared
DEFAULT_TOKENS = 32
ARROW = " => "
"""Between a source and its target, where `track_text` gives both."""


class PairIds(NamedTuple):
    """A pair that is followed: the source with its end, the target without."""

    source: list[int]
    target: list[int]


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


def tracked_pair(config: TrainConfig, data: PairDataset) -> PairIds:
    """The pair that is followed: that of `track_text`, or the first held-out one that is short
    enough.

    Raises:
        UsageError: a source or a target that is empty or has more than 64 tokens or the model's
            context, or a source whose target the task does not know.
        VocabularyError: a character that a tokenizer does not know.
    """
    most = min(MOST_TOKENS, data.block_size)
    if not config.track_text:
        for source_ids, target_ids in data.held_out:
            if max(len(source_ids), len(target_ids)) <= most:
                return PairIds(source_ids.tolist(), target_ids[:-1].tolist())
        raise UsageError(
            f"No held-out pair has at most {most} tokens on either side: name one that has by "
            f"--track-text 'SOURCE{ARROW}TARGET'."
        )
    pair = _named_pair(config.track_text, data.task)
    ids = PairIds(data.source_tokenizer.encode(pair.source), data.tokenizer.encode(pair.target))
    ids.source.append(data.source_vocab_size - NUM_SPECIAL)
    for side, count in (("source", len(ids.source)), ("target", len(ids.target) + 1)):
        if not 2 <= count <= most:
            raise UsageError(
                f"--track-text: the {side} has {count} tokens with its end; expected 2 to {most} "
                "to follow."
            )
    return ids


def _named_pair(text: str, task: PairTask) -> Pair:
    target = task.target_of(text)
    if target is not None:
        return Pair(text, target)
    source, arrow, target = text.partition(ARROW)
    if not arrow:
        raise UsageError(
            f"--track-text '{text}': the task {task.name} knows no target of it. Give both, as in "
            f"--track-text 'SOURCE{ARROW}TARGET'."
        )
    return Pair(source, target)


def observer(
    run: Run, followed: list[int] | PairIds, config: TrainConfig
) -> Callable[[LanguageModel, int], None]:
    """What a Trainer shows its model to."""
    from toolkit.inspection.pair_snapshots import take_pair_snapshot
    from toolkit.inspection.snapshots import take_snapshot

    folder = snapshots_of(run, config.track_internals)
    rate = config.learning_rate

    def take(model: LanguageModel, step: int) -> Snapshot | PairSnapshot:
        if isinstance(followed, PairIds):
            return take_pair_snapshot(model, *followed, step=step, learning_rate=rate)
        return take_snapshot(model, followed, step=step, learning_rate=rate)

    def observe(model: LanguageModel, step: int) -> None:
        folder.record(step, lambda: take(model, step))

    return observe


def snapshots_of(run: Run, every: int = 1) -> SnapshotFolder:
    """The snapshots of a run, which need not have any."""
    from toolkit.inspection.snapshots import SnapshotFolder

    return SnapshotFolder(run.folder / INTERNALS_FOLDER, every)


def load_snapshots(run: Run) -> tuple[Snapshot, ...] | tuple[PairSnapshot, ...]:
    """The snapshots of a run, oldest first, of a text or of a pair; none of one that was not
    followed.

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
    from toolkit.inspection.pair_evolution import write_pair_evolution
    from toolkit.inspection.pair_figures import pair_tokens
    from toolkit.inspection.pair_snapshots import PairSnapshot
    from toolkit.inspection.snapshots import Snapshot

    snapshots = load_snapshots(run)
    if len(snapshots) < 2:
        raise RunError(
            f"{run.folder} has {len(snapshots)} snapshots of its inside, and nothing to compare. "
            "Train with: --track-internals N, at least N steps."
        )
    folder, last = run.folder / REPORT_FOLDER, snapshots[-1]
    if isinstance(last, PairSnapshot):
        pairs = [snapshot for snapshot in snapshots if isinstance(snapshot, PairSnapshot)]
        axes = pair_tokens(run.source_tokenizer, run.tokenizer, last.source_ids, last.target_ids)
        return write_pair_evolution(pairs, axes, folder)
    texts = [snapshot for snapshot in snapshots if isinstance(snapshot, Snapshot)]
    tokens = [shown_token(run.tokenizer, token) for token in last.ids]
    return write_evolution(texts, tokens, folder)


def draw_if_tracked(run: Run) -> list[Path]:
    """`draw_evolution` at the end of a training; nothing without snapshots or matplotlib."""
    if not run.info.training.get("track_internals"):
        return []
    try:
        return draw_evolution(run)
    except (MissingExtraError, RunError):
        return []
