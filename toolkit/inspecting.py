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

from toolkit.console import show_token
from toolkit.errors import RunError, UsageError
from toolkit.opening import OpenedModel, open_run
from toolkit.tokenizers import Tokenizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from toolkit.inspection import Analysis

REPORT_FOLDER = "report"
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
    result = {} if opened.run is None else opened.run.info.result
    step = result.get("best_step") or result.get("steps")
    analysis = analyse(
        inspector,
        lambda token: shown_token(tokenizer, token),
        name=Path(opened.name).name,
        step=step,
        probes=probes,
        token_classes=[token_class(tokenizer, token) for token in inspector.ids],
    )
    curves = _training_curves(opened)
    files = write_analysis(analysis, inspector, folder, every_head=every_head, curves=curves)
    return Inspected(analysis, folder, tuple(files))


def shown_token(tokenizer: Tokenizer, token: int) -> str:
    """A token so that it can be seen; a model may know more of them than its tokenizer."""
    if token >= tokenizer.vocab_size:
        return f"<{token}>"
    return show_token(tokenizer.token_bytes(token))[0]


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


def _training_curves(opened: OpenedModel) -> Figure | None:
    """The run's curves; None where nothing was measured, or there is no run."""
    if opened.run is None:
        return None
    from toolkit.reporting.run_curves import curves_figure
    from toolkit.run_plots import read_curves

    try:
        return curves_figure([read_curves(opened.run)])
    except RunError:
        return None
