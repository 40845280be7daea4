"""What climbing the ladder of models gave: the numbers, and the files made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.files import write_json, write_text
from toolkit.jsonable import to_jsonable


@dataclass(frozen=True)
class Rung:
    """One model of the ladder, trained.

    Attributes:
        name: of the model.
        num_params: numbers learned.
        steps: optimizer steps done.
        curve: (step, validation loss in nats a token) at each evaluation.
        val_loss: the lowest of them, which is that of the weights in `folder`.
        bits_per_byte: the same per byte of text.
        seconds: of training, evaluations included.
        sample: text that the model wrote, after the prompt.
        folder: the run.
    """

    name: str
    num_params: int
    steps: int
    curve: tuple[tuple[int, float], ...]
    val_loss: float
    bits_per_byte: float
    seconds: float
    sample: str
    folder: Path


@dataclass(frozen=True)
class Ladder:
    """Models trained on the same text, batches and budget, in the order of the ladder.

    Attributes:
        corpus: the name of the text.
        tokenizer: its spec.
        vocab_size: V.
        budget: in words, as "1,000 steps of 32 × 32 tokens".
        seed: of weights, batches and samples.
        prompt: what every sample continues.
        rungs: the models that were trained.
        left_out: the models of the ladder that were not.
        folder: where the runs are.
        interrupted: whether Ctrl-C ended it early.
    """

    corpus: str
    tokenizer: str
    vocab_size: int
    budget: str
    seed: int
    prompt: str
    rungs: tuple[Rung, ...]
    left_out: tuple[str, ...]
    folder: Path
    interrupted: bool = False


def write_ladder(ladder: Ladder, folder: Path) -> list[Path]:
    """Write ladder.png, ladder.svg, ladder.html and ladder.json.

    Returns:
        What was written.

    Raises:
        UsageError: the ladder has no rungs.
        MissingExtraError: matplotlib is not installed; nothing is written.
        ToolkitError: a file could not be written.
    """
    from toolkit.reporting.figures import save_figure
    from toolkit.reporting.ladder_page import ladder_figure, ladder_page

    paths = save_figure(ladder_figure(ladder), folder, "ladder")
    write_text(folder / "ladder.html", ladder_page(ladder))
    write_json(folder / "ladder.json", to_jsonable(ladder))
    return [*paths, folder / "ladder.html", folder / "ladder.json"]
