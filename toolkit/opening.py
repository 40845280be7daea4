"""A model and its tokenizer from wherever they are: a run, a Hugging Face folder, or the Hub.

What `toolkit train --init`, `toolkit generate` and `toolkit export` take. A run's weights and
tokenizer are checked against run.json; of any other folder the `tokenizer.json` (or `vocab.json`
with `merges.txt`) is opened as the spec `hf:FOLDER` does. Left out: chat templates, and ids that a
tokenizer's post-processor would put in front of a text.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import RunError, UsageError
from toolkit.models import LanguageModel, load_pretrained
from toolkit.models.pretrained import SpecialIds, find_model_folder, read_special_ids
from toolkit.run import Run, find_run, special_ids_of
from toolkit.tokenizers import Tokenizer, load_tokenizer

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")


@dataclass(frozen=True)
class OpenedModel:
    """A model that is open, and what belongs to it.

    Attributes:
        name: what it was opened by.
        folder: where its files are.
        model: in evaluation mode.
        own_tokenizer: the one that was given or found; None if there is none.
        special_ids: which ids begin and end texts, as config.json names them.
        run: the run that it is of, if it is.
        source_tokenizer: of what a model of pairs reads; None of any other.
    """

    name: str
    folder: Path
    model: LanguageModel
    own_tokenizer: Tokenizer | None
    special_ids: SpecialIds
    run: Run | None = None
    source_tokenizer: Tokenizer | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            UsageError: there is none.
        """
        if self.own_tokenizer is None:
            raise UsageError(
                f"{self.folder} has no tokenizer (no tokenizer.json, and no vocab.json with "
                "merges.txt): give the one that the model was trained with by --tokenizer."
            )
        return self.own_tokenizer

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids that end a text."""
        ends = self.special_ids.get("eos_token_id", [])
        return tuple(ends) if isinstance(ends, list) else (ends,)


def open_model(
    source: str | Path,
    *,
    tokenizer: str | Tokenizer | None = None,
    device: str = "cpu",
) -> OpenedModel:
    """Open a run (its folder, or its name under runs/), a Hugging Face folder, or a hub name.

    Args:
        source: which model.
        tokenizer: instead of the model's own: one that is open, or the spec of one that need not
            be trained.
        device: where the model goes.

    Raises:
        RunError: nothing there, or damaged files; the message names the file.
        UsageError: a tokenizer with more tokens than the model knows.
        MissingExtraError: a hub name or a tokenizer that needs the extra `hf`.
    """
    try:
        folder = find_run(source)
    except RunError:
        folder = find_model_folder(source)
        model = load_pretrained(folder, device=device)
        found = _find_tokenizer(folder) if tokenizer is None else _as_tokenizer(tokenizer)
        opened = OpenedModel(str(source), folder, model, found, read_special_ids(folder))
    else:
        opened = open_run(folder, tokenizer=tokenizer, device=device)
    if opened.own_tokenizer is not None:
        check_vocabulary(opened.own_tokenizer, opened.model, opened.name)
    return opened


def open_run(
    path: str | Path | None = None,
    *,
    tokenizer: str | Tokenizer | None = None,
    device: str = "cpu",
) -> OpenedModel:
    """Open a run by its folder or name, or the newest where None; see `Run.open`.

    Raises:
        RunError: there is none, or it is not whole.
    """
    run = Run.open(path, device=device)
    model = run.model  # which checks its tokenizer
    found = run.tokenizer if tokenizer is None else _as_tokenizer(tokenizer)
    return OpenedModel(
        run.name,
        run.folder,
        model,
        found,
        special_ids_of(run.info, run.tokenizer),
        run,
        run.source_tokenizer if run.takes_pairs else None,
    )


def check_vocabulary(tokenizer: Tokenizer, model: LanguageModel, name: str) -> None:
    """A model may know more tokens than there are (some pad theirs to a round number), not fewer.

    Raises:
        UsageError: the tokenizer has ids that the model does not know.
    """
    if tokenizer.vocab_size > model.config.vocab_size:
        raise UsageError(
            f"The tokenizer has {tokenizer.vocab_size:,} tokens and the model {name} knows "
            f"{model.config.vocab_size:,}: give --tokenizer the one that it was trained with."
        )


def _find_tokenizer(folder: Path) -> Tokenizer | None:
    if not any((folder / name).exists() for name in _TOKENIZER_FILES):
        return None
    return load_tokenizer(f"hf:{folder}")


def _as_tokenizer(tokenizer: str | Tokenizer) -> Tokenizer:
    return load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
