"""From an encoder–decoder and a source to a report on what goes on inside.

    toolkit.inspect_translation("12 March 2024", run="runs/dates", out="report")

The analysis is `toolkit.inspection`'s; here it gets a run, its tokenizers and its training curves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import UsageError
from toolkit.files import write_json
from toolkit.generation import Translator
from toolkit.inspecting import curves_of, learning_rate_of, steps_of
from toolkit.internals import load_snapshots
from toolkit.opening import OpenedModel, open_run
from toolkit.run import REPORT_FOLDER
from toolkit.shown import shown_in_pair

if TYPE_CHECKING:
    from toolkit.inspection.pair_figures import PairTokens
    from toolkit.inspection.pair_pictures import PairTraining
    from toolkit.inspection.pair_report import PairAnalysis

ATTENTION_FILE = "attention.json"
_DIGITS = 6


@dataclass(frozen=True)
class InspectedPair:
    """What came of it.

    Attributes:
        source, target: the texts.
        focus: of each point of attention, how far each head is from even attention, 0 to 1.
        analysis: everything that was found.
        folder, files: what was written.
    """

    source: str
    target: str
    focus: dict[str, list[float]]
    analysis: PairAnalysis
    folder: Path
    files: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """As `toolkit inspect --json` prints it, without the files."""
        found = {"source": self.source, "target": self.target, "focus": self.focus}
        return {**found, **self.analysis.to_json()}


def inspect_translation(
    source: str,
    run: OpenedModel | str | Path | None = None,
    *,
    target: str | None = None,
    out: str | Path | None = None,
) -> InspectedPair:
    """Analyse an encoder–decoder on a pair, and write figures (among them its three kinds of
    attention, with the source's and the target's tokens at the axes), analysis_report.json,
    attention.json with all weights, and report.html.

    Args:
        run: opened, or a run of pairs; None: the newest.
        target: what is written; None: what the model writes by itself, greedily.
        out: the folder; None: `report` in the run's folder.

    Raises:
        RunError: there is no such run.
        UsageError: a run that continues texts, or a source or target that is too long.
        MissingExtraError: matplotlib is not installed; nothing is computed.
        ToolkitError: a file could not be written.
    """
    from toolkit.inspection.pair_figures import pair_tokens
    from toolkit.inspection.pair_report import analyse_pair, write_pair_analysis
    from toolkit.inspection.pairs import PairInspector, focus
    from toolkit.reporting import require_plots

    require_plots()
    opened = run if isinstance(run, OpenedModel) else open_run(run)
    source_ids, target_ids = pair_to_inspect(opened, source, target)
    folder = opened.folder / REPORT_FOLDER if out is None else Path(out)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file; expected a folder.")
    tokenizer = opened.tokenizer
    source_tokenizer = opened.source_tokenizer or tokenizer
    tokens = pair_tokens(source_tokenizer, tokenizer, source_ids, target_ids)
    inspector = PairInspector(opened.model, source_ids, target_ids)
    analysis = analyse_pair(
        inspector,
        tokens,
        partial(shown_in_pair, tokenizer),
        name=Path(opened.name).name,
        step=steps_of(opened),
        learning_rate=learning_rate_of(opened),
    )
    files = write_pair_analysis(analysis, inspector, tokens, folder, _training(opened, tokens))
    weights = inspector.weights()
    files.append(folder / ATTENTION_FILE)
    write_json(
        files[-1],
        {
            "source": {"text": source, "ids": source_ids, "tokens": tokens.source},
            "target": {"ids": target_ids, "tokens": tokens.target},
            "weights": {name: _rounded(tensor.tolist()) for name, tensor in weights.items()},
        },
    )
    return InspectedPair(
        source,
        tokenizer.decode(target_ids),
        {name: focus(tensor) for name, tensor in weights.items()},
        analysis,
        folder,
        tuple(files),
    )


def pair_to_inspect(
    opened: OpenedModel, source: str, target: str | None
) -> tuple[list[int], list[int]]:
    """The ids of a source, with its end, and of a target, without: the one that is given, or what
    the model writes by itself, greedily.

    Raises:
        UsageError: a run that continues texts, or a source or target that is too long.
        VocabularyError: a character that a tokenizer does not know.
    """
    translator = Translator(opened.model, opened.tokenizer, opened.source_tokenizer)
    source_ids = translator.prompt_ids(source)
    longest = translator.model.block_size - 1  # the end needs room, too
    if target is None:
        return source_ids, list(translator.generate(source, strategy="greedy").ids)[:longest]
    target_ids = opened.tokenizer.encode(target)
    if len(target_ids) > longest:
        raise UsageError(
            f"A target of {len(target_ids) + 1} tokens (with its end) is longer than the model's "
            f"--block-size {longest + 1}. Give a shorter one."
        )
    return source_ids, target_ids


def _training(opened: OpenedModel, tokens: PairTokens) -> PairTraining:
    """The run's curves and snapshots, as far as it has any."""
    from toolkit.inspection.pair_figures import pair_tokens
    from toolkit.inspection.pair_pictures import PairTraining
    from toolkit.inspection.pair_snapshots import PairSnapshot

    if opened.run is None:
        return PairTraining(tokens)
    found = [one for one in load_snapshots(opened.run) if isinstance(one, PairSnapshot)]
    if found:
        followed = found[-1].source_ids, found[-1].target_ids
        source_tokenizer = opened.source_tokenizer or opened.tokenizer
        tokens = pair_tokens(source_tokenizer, opened.tokenizer, *followed)
    return PairTraining(tokens, curves_of(opened.run), tuple(found))


def _rounded(value: Any) -> Any:
    return [_rounded(each) for each in value] if isinstance(value, list) else round(value, _DIGITS)
