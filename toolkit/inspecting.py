"""From a trained model and a text to a report on what goes on inside.

    toolkit.inspect_text("ROMEO: I am", run="runs/first", out="report")

The analysis is `toolkit.inspection`'s; here it gets a run, its tokenizer and its training curves.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import RunError, UsageError
from toolkit.internals import load_snapshots
from toolkit.opening import OpenedModel, open_run
from toolkit.run import REPORT_FOLDER, Run
from toolkit.shown import shown_token
from toolkit.tokenizers import Tokenizer
from toolkit.training import TrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from toolkit.inspection import Analysis
    from toolkit.inspection.pictures import Training

CLASSES = ("lower case", "upper case", "digit", "space", "punctuation", "other")


@dataclass(frozen=True)
class Inspected:
    """What came of it: the findings, and the files that were written."""

    analysis: Analysis
    folder: Path
    files: tuple[Path, ...]


def inspect_text(
    text: str,
    model: OpenedModel | str | Path | None = None,
    *,
    out: str | Path | None = None,
    probes: Sequence[str] = (),
    every_head: bool = False,
    seed: int = 0,
) -> Inspected:
    """Analyse a model on a text, and write figures, analysis_report.json and report.html.

    Args:
        text: at least two tokens, and no more than the model's context.
        model: opened (`toolkit.open_model`), or a run; None: the newest run.
        out: the folder; None: `report` in the model's folder.
        probes: linear probes to fit, of "position", "token-class" and "next-token".
        every_head: a figure of each head too.
        seed: of the random tokens on which induction is measured.

    Raises:
        RunError: there is no such run.
        UsageError: a text that is too short or too long, or an unknown probe.
        MissingExtraError: matplotlib is not installed; nothing is computed.
        ToolkitError: a file could not be written.
    """
    from toolkit.inspection import Inspector, analyse, write_analysis
    from toolkit.reporting import require_plots

    require_plots()
    opened = model if isinstance(model, OpenedModel) else open_run(model)
    folder = opened.folder / REPORT_FOLDER if out is None else Path(out)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file; expected a folder.")
    tokenizer = opened.tokenizer
    inspector = Inspector(opened.model, tokenizer.encode(text), seed=seed)
    analysis = analyse(
        inspector,
        lambda token: shown_token(tokenizer, token),
        name=Path(opened.name).name,
        step=steps_of(opened),
        probes=probes,
        learning_rate=learning_rate_of(opened),
        token_classes=[token_class(tokenizer, token) for token in inspector.ids],
    )
    training = _training(opened)
    files = write_analysis(analysis, inspector, folder, every_head=every_head, training=training)
    return Inspected(analysis, folder, tuple(files))


def token_class(tokenizer: Tokenizer, token: int) -> int:
    """Of which kind a token is, by its first character that is no space: an index of `CLASSES`."""
    if token >= tokenizer.vocab_size:
        return CLASSES.index("other")
    text = tokenizer.token_bytes(token).decode("utf-8", "replace")
    if text and not text.strip():
        return CLASSES.index("space")
    first = text.strip()[:1]
    if first.islower():
        return CLASSES.index("lower case")
    if first.isupper():
        return CLASSES.index("upper case")
    if first.isdigit():
        return CLASSES.index("digit")
    if first and unicodedata.category(first).startswith("P"):
        return CLASSES.index("punctuation")
    return CLASSES.index("other")


def steps_of(opened: OpenedModel) -> int | None:
    """For how many steps the weights of a run were trained, if they are known."""
    result = {} if opened.run is None else opened.run.info.result
    steps: int | None = result.get("best_step") or result.get("steps")
    return steps


def learning_rate_of(opened: OpenedModel) -> float:
    """The highest of the run's training; of another model a usual one."""
    options = {} if opened.run is None else opened.run.info.training
    return float(options.get("learning_rate", TrainConfig.learning_rate))


def _training(opened: OpenedModel) -> Training:
    """The run's curves and snapshots, as far as it has any."""
    from toolkit.inspection.pictures import Training
    from toolkit.inspection.snapshots import Snapshot

    if opened.run is None:
        return Training()
    found = [one for one in load_snapshots(opened.run) if isinstance(one, Snapshot)]
    ids = found[-1].ids if found else ()
    tokens = tuple(shown_token(opened.tokenizer, i) for i in ids)
    return Training(curves_of(opened.run), tuple(found), tokens)


def curves_of(run: Run) -> Figure | None:
    """A run's losses, drawn; None where nothing was measured."""
    from toolkit.reporting.run_curves import curves_figure
    from toolkit.run_plots import read_curves

    try:
        return curves_figure([read_curves(run)])
    except RunError:
        return None
