"""From an encoder–decoder and a source to pictures of its attention.

    toolkit.inspect_translation("12 March 2024", run="runs/dates", out="report")

The weights are `toolkit.inspection.pairs`'; here they get a run and its tokenizers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import UsageError
from toolkit.files import write_bytes, write_json
from toolkit.generation import Translator
from toolkit.opening import OpenedModel, open_run
from toolkit.run import REPORT_FOLDER
from toolkit.shown import shown_token

ATTENTION_FILE = "attention.json"
_BEGIN, _END = "begin", "end"
_DIGITS = 6


@dataclass(frozen=True)
class InspectedPair:
    """What came of it.

    Attributes:
        source, target: the texts.
        focus: of each point of attention, how far each head is from even attention, 0 to 1.
        folder, files: what was written.
    """

    source: str
    target: str
    focus: dict[str, list[float]]
    folder: Path
    files: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """As `toolkit inspect --json` prints it, without the files."""
        return {"source": self.source, "target": self.target, "focus": self.focus}


def inspect_translation(
    source: str,
    run: OpenedModel | str | Path | None = None,
    *,
    target: str | None = None,
    out: str | Path | None = None,
) -> InspectedPair:
    """Draw the encoder's, the decoder's and the cross-attention, with the tokens at the axes, and
    write the weights as JSON.

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
    from toolkit.inspection.pairs import ATTENTIONS, focus, pair_attention, pair_attention_figure
    from toolkit.reporting import require_plots
    from toolkit.reporting.figures import render

    require_plots()
    opened = run if isinstance(run, OpenedModel) else open_run(run)
    translator = Translator(opened.model, opened.tokenizer, opened.source_tokenizer)
    folder = opened.folder / REPORT_FOLDER if out is None else Path(out)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file; expected a folder.")
    source_ids = translator.prompt_ids(source)
    if target is None:
        target_ids = list(translator.generate(source, strategy="greedy").ids)
        # What was cut off has no room for an end.
        del target_ids[translator.model.block_size - 1 :]
    else:
        target_ids = opened.tokenizer.encode(target)
    weights = pair_attention(translator.translating, source_ids, target_ids)

    read = [shown_token(translator.source_tokenizer, token) for token in source_ids[:-1]] + [_END]
    written = [shown_token(opened.tokenizer, token) for token in target_ids] + [_END]
    so_far = [_BEGIN, *written[:-1]]
    axes = {
        "encoder": (read, read, ("the token that reads", "the source's token that is read")),
        "decoder": (written, so_far, ("what is written", "the target's token that is read")),
        "cross": (written, read, ("what is written", "the source's token that is read")),
    }
    files = [folder / ATTENTION_FILE]
    write_json(
        files[0],
        {
            "source": {"text": source, "ids": source_ids, "tokens": read},
            "target": {"ids": target_ids, "tokens": written},
            "weights": {name: _rounded(tensor.tolist()) for name, tensor in weights.items()},
        },
    )
    for kind, pattern in ATTENTIONS.items():
        first, last = pattern.split("*")
        chosen = {n: w for n, w in weights.items() if n.startswith(first) and n.endswith(last)}
        rows, columns, labels = axes[kind]
        figure = pair_attention_figure(chosen, rows, columns, labels)
        files.append(folder / f"{kind}_attention.png")
        write_bytes(files[-1], render(figure, "png"))
    return InspectedPair(
        source,
        opened.tokenizer.decode(target_ids),
        {name: focus(tensor) for name, tensor in weights.items()},
        folder,
        tuple(files),
    )


def _rounded(value: Any) -> Any:
    return [_rounded(each) for each in value] if isinstance(value, list) else round(value, _DIGITS)
