"""Which options belong to a text, and which to pairs of texts."""

from __future__ import annotations

from toolkit.corpora import DEFAULT_CORPUS, Corpus
from toolkit.errors import UsageError
from toolkit.models.registry import find_model
from toolkit.tasks import available_tasks
from toolkit.tokenizers import Tokenizer

PAIR_MODEL = "encoder-decoder"


def require_task(model: str | None, *tokenizers: str | Tokenizer | None) -> None:
    """Refuse what is for pairs where there are none.

    Raises:
        UsageError: such a model, or tokenizers of two sides.
    """
    if model is not None and find_model(model).takes_source:
        raise UsageError(
            f"The model {model} learns pairs of texts, not one text: give --task "
            f"{'|'.join(available_tasks())}|FILE.tsv."
        )
    if any(tokenizer is not None for tokenizer in tokenizers):
        raise UsageError("--src-tokenizer and --tgt-tokenizer are for a --task: use --tokenizer.")


def model_of_task(
    model: str | None,
    corpus: str | Corpus,
    preset: str | None,
    speedrun: float | None,
) -> str:
    """The model of a task.

    Raises:
        UsageError: one that takes no pairs, or an option of texts alone.
    """
    if model is not None and not find_model(model).takes_source:
        raise UsageError(
            f"The model {model} continues a text, and --task is pairs of texts: use --model "
            f"{PAIR_MODEL}, or --corpus."
        )
    given = {
        "--corpus": corpus != DEFAULT_CORPUS,
        "--preset": preset is not None,
        "--speedrun": speedrun is not None,
    }
    for option, is_given in given.items():
        if is_given:
            raise UsageError(f"{option} and --task exclude each other; leave one of them out.")
    return model or PAIR_MODEL
