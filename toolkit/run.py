"""A run folder: what was trained, on what, and the result, opened as one thing.

    runs/<name>/
      config.json, model.safetensors   the best weights, in Hugging Face's layout if it fits
      tokenizer/                       the saved tokenizer
      source_tokenizer/                that of the sources, where pairs have two
      tokenizer.json, tokenizer_config.json   for `AutoTokenizer`, where it can be
      run.json                         what was run and what came out
      metrics.jsonl, samples.txt       written while training
      checkpoint/                      all that resuming needs
      internals/                       with --track-internals: snapshots of the model's inside
      report/                          figures, and the page of `toolkit inspect`

The tokenizer's fingerprint is in run.json: a model and a tokenizer that do not belong together
refuse to open.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import toolkit
from toolkit.errors import RunError
from toolkit.files import replace_link, write_json
from toolkit.tokenizers import Tokenizer
from toolkit.tokenizers.special import END_OF_TEXT
from toolkit.tokenizers.translation_file import TRANSLATION_OPTIONS, make_translation_json
from toolkit.training.metrics import METRICS_FILE

if TYPE_CHECKING:
    from toolkit.models import LanguageModel

RUN_FORMAT = 1
RUNS_FOLDER = Path("runs")
LATEST = "latest"
TOKENIZER_FOLDER = "tokenizer"
SOURCE_TOKENIZER_FOLDER = "source_tokenizer"
DESCRIPTION_FILE = "run.json"
SAMPLES_FILE = "samples.txt"
REPORT_FOLDER = "report"


@dataclass(frozen=True)
class RunInfo:
    """The content of run.json.

    Attributes:
        status: "running", "interrupted", "failed" or "finished".
        corpus: name, spec, sha256 and sizes of the text; of pairs, with the `kind` "pairs".
        tokenizer: spec, name, vocab_size and fingerprint.
        source_tokenizer: the same of the sources' own, where pairs have two.
        model: name, preset, size, number of parameters and the whole configuration; `init` says
            what it was started from, if it was (name, path, sha256 of the weights, special ids).
        training: every training option, defaults filled in.
        result: steps, best validation loss, … as far as known.
        created: ISO 8601, UTC.
        versions: of toolkit, python, torch.
        tracking: what each tracker needs to go on, by its name (`toolkit.tracking`).
    """

    status: str
    corpus: dict[str, Any]
    tokenizer: dict[str, Any]
    model: dict[str, Any]
    training: dict[str, Any]
    device: str
    result: dict[str, Any] = dataclasses.field(default_factory=dict)
    created: str = ""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    tracking: dict[str, Any] = dataclasses.field(default_factory=dict)
    source_tokenizer: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As run.json holds it, with the format's version first."""
        return {"format": RUN_FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, value: Any, path: Path) -> RunInfo:
        """The inverse of `to_json`.

        Raises:
            RunError: another shape, or a newer format.
        """
        if not isinstance(value, dict) or not isinstance(value.get("format"), int):
            raise RunError(f"{path} does not describe a run: no field 'format'.")
        if value["format"] > RUN_FORMAT:
            raise RunError(
                f"{path} has format {value['format']}, written by a newer toolkit; this one "
                f"({toolkit.__version__}) reads up to {RUN_FORMAT}. Upgrade toolkit to open it."
            )
        fields = {field.name for field in dataclasses.fields(cls)}
        try:
            return cls(**{name: value[name] for name in fields if name in value})
        except TypeError as error:
            raise RunError(f"{path} is incomplete: {error}.") from error


class Run:
    """A run folder that is opened; model and tokenizer load when they are first used."""

    def __init__(self, folder: Path, info: RunInfo, device: str = "cpu") -> None:
        self.folder = folder
        self.info = info
        self.device = device

    @classmethod
    def open(cls, path: str | Path | None = None, *, device: str = "cpu") -> Run:
        """Open `path`, or a name under runs/, or the newest run where None.

        Raises:
            RunError: nothing there, half written, damaged, or written by a newer toolkit.
        """
        folder = find_run(path)
        description = folder / DESCRIPTION_FILE
        try:
            value = json.loads(description.read_bytes())
        except (OSError, ValueError) as error:
            raise RunError(f"{description} cannot be read: {error}.") from error
        return cls(folder, RunInfo.from_json(value, description), device)

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer.

        Raises:
            RunError: it is missing, damaged, or not the one that the model was trained with.
        """
        return self._load_tokenizer(TOKENIZER_FOLDER, self.info.tokenizer)

    @cached_property
    def source_tokenizer(self) -> Tokenizer:
        """Of pairs the tokenizer of their sources: the run's, where both sides share it.

        Raises:
            RunError: as `tokenizer`.
        """
        if not self.info.source_tokenizer:
            return self.tokenizer
        return self._load_tokenizer(SOURCE_TOKENIZER_FOLDER, self.info.source_tokenizer)

    @property
    def takes_pairs(self) -> bool:
        """Whether it learns pairs of texts instead of a text."""
        return self.info.corpus.get("kind") == "pairs"

    def _load_tokenizer(self, name: str, recorded: dict[str, Any]) -> Tokenizer:
        tokenizer = Tokenizer.load(self.folder / name)
        if tokenizer.fingerprint() != recorded.get("fingerprint"):
            raise RunError(
                f"The tokenizer in {self.folder / name} is not the one that this run "
                "was trained with (its fingerprint differs from run.json). Restore the folder, or "
                "train again."
            )
        return tokenizer

    @cached_property
    def model(self) -> LanguageModel:
        """The best weights of the run, in evaluation mode, on `device`.

        Raises:
            RunError: no weights yet, damaged files, or a vocabulary that is not the tokenizer's.
        """
        from toolkit.models import load_pretrained

        if not (self.folder / "config.json").exists():
            raise RunError(
                f"{self.folder} has no weights yet (config.json is missing): training was stopped "
                f"before its first evaluation. Continue it with: toolkit train --resume "
                f"--out {self.folder}"
            )
        model = load_pretrained(self.folder, device=self.device)
        vocab_size = self.tokenizer.vocab_size
        # A model that began as another's may know more tokens than there are (see `fine_tuning`).
        expected = self.info.model.get("config", {}).get("vocab_size", vocab_size)
        if model.config.vocab_size != expected or vocab_size > expected:
            raise RunError(
                f"The model in {self.folder} has {model.config.vocab_size} tokens and its "
                f"tokenizer {vocab_size}; they do not belong together. Restore the folder, or "
                "train again."
            )
        return model.eval()

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, oldest first; a torn last line is left out."""
        path = self.folder / METRICS_FILE
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                if number < len(lines):
                    raise RunError(f"{path}, line {number} is not JSON: {error}.") from error
        return rows

    def update(self, **changes: Any) -> None:
        """Change fields of `info`, on disk too."""
        self.info = dataclasses.replace(self.info, **changes)
        write_json(self.folder / DESCRIPTION_FILE, self.info.to_json())

    def __repr__(self) -> str:
        return f"<Run {self.folder} {self.info.status}>"


def find_run(path: str | Path | None = None) -> Path:
    """The folder that a user means: a path, a name under runs/, or None for runs/latest.

    Raises:
        RunError: there is no run; the message names the ones that exist.
    """
    if path is None:
        latest = RUNS_FOLDER / LATEST
        folder = follow_latest(latest)
        if folder is None or not folder.exists():
            raise RunError(
                f"No run yet: {latest} does not exist. Make one with: toolkit train "
                "(or name one with --run)."
            )
    else:
        folder = Path(path)
        candidates = [folder] if folder.is_absolute() else [folder, RUNS_FOLDER / folder]
        found = [follow_latest(candidate) or candidate for candidate in candidates]
        folder = next((candidate for candidate in found if candidate.is_dir()), folder)
        if not folder.is_dir():
            known = ", ".join(run.name for run in list_runs()[-5:]) or "none yet"
            raise RunError(f"No run at {path}. Runs under {RUNS_FOLDER}/: {known}.")
    if not (folder / DESCRIPTION_FILE).exists():
        raise RunError(
            f"{folder} is not a complete run: {DESCRIPTION_FILE} is missing. "
            "Expected a folder that toolkit train wrote."
        )
    return folder


def follow_latest(path: Path) -> Path | None:
    """Where `runs/latest` points: a link, or a text file where the OS refuses links."""
    if path.is_symlink():
        return path.parent / path.readlink()
    if path.is_file() and path.name == LATEST:
        return path.parent / path.read_text("utf-8").strip()
    return None


def list_runs(root: str | Path = RUNS_FOLDER) -> list[Run]:
    """The runs under `root`, oldest first; folders without a readable run.json are left out."""
    runs = []
    for description in Path(root).glob(f"*/{DESCRIPTION_FILE}"):
        if description.parent.is_symlink() or description.parent.name.startswith("."):
            continue
        try:
            runs.append(Run.open(description.parent.absolute()))
        except RunError:
            continue
    return sorted(runs, key=lambda run: (run.info.created, run.name))


def saved_tokenizers(limit: int = 20) -> dict[str, Path]:
    """The folders of the tokenizers of the newest runs under runs/, by a name to show."""
    newest = list_runs()[: -limit - 1 : -1]
    return {
        f"{run.name}: {run.info.tokenizer['name']}, {run.info.tokenizer['vocab_size']:,} tokens": (
            run.folder / TOKENIZER_FOLDER
        )
        for run in newest
    }


def new_run_folder(stem: str, out: str | Path | None = None) -> Path:
    """Make the folder of a new run: `out`, or the next free `runs/<stem>-<number>`.

    Raises:
        RunError: `out` holds a run already, or other files.
    """
    if out is not None:
        folder = Path(out)
        try:
            if folder.is_dir() and any(folder.iterdir()):
                if (folder / DESCRIPTION_FILE).exists():
                    raise RunError(
                        f"{folder} holds a run already. Continue it with --resume, or choose "
                        "another --out."
                    )
                raise RunError(f"{folder} is not empty and not a run. Choose another --out.")
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"Cannot make the run folder {folder}: {error.strerror}.") from error
        return folder
    stem = re.sub(r"[^A-Za-z0-9._]+", "-", stem).strip("-.") or "run"
    number = 1
    while True:
        folder = RUNS_FOLDER / f"{stem}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise RunError(f"Cannot make the run folder {folder}: {error.strerror}.") from error
        else:
            return folder


def create_run(
    folder: Path,
    info: RunInfo,
    tokenizer: Tokenizer,
    block_size: int,
    *,
    source_tokenizer: Tokenizer | None = None,
    latest: bool = True,
) -> Run:
    """Write what is known before training: run.json, the tokenizers, and `runs/latest`.

    With `latest=False` the newest run stays the newest.
    """
    tokenizer.save(folder / TOKENIZER_FOLDER)
    if source_tokenizer is not None:
        source_tokenizer.save(folder / SOURCE_TOKENIZER_FOLDER)
    run = Run(folder, info)
    write_huggingface_tokenizer(
        tokenizer,
        folder,
        block_size,
        special_ids_of(info, tokenizer),
        translates=run.takes_pairs and source_tokenizer is None,
    )
    run.update(created=datetime.now(UTC).isoformat(timespec="seconds"))
    if latest:
        replace_link(RUNS_FOLDER / LATEST, Path(os.path.relpath(folder, RUNS_FOLDER)))
    return run


def describe_tokenizer(tokenizer: Tokenizer | None, spec: str | None = None) -> dict[str, Any]:
    """What run.json says of a tokenizer; nothing where there is none."""
    if tokenizer is None:
        return {}
    return {
        "spec": spec or tokenizer.name,
        "name": tokenizer.name,
        "vocab_size": tokenizer.vocab_size,
        "fingerprint": tokenizer.fingerprint(),
    }


def special_ids_of(info: RunInfo, tokenizer: Tokenizer) -> dict[str, int | list[int]]:
    """The ids that begin and end a run's texts, as config.json names them: those of the model that
    it was started from, or the tokenizer's `<|endoftext|>`."""
    started_from = info.model.get("init")
    if started_from is not None:
        return dict(started_from["special_ids"])
    end = tokenizer.special_tokens.get(END_OF_TEXT)
    return {} if end is None else {"eos_token_id": end}


def write_huggingface_tokenizer(
    tokenizer: Tokenizer,
    folder: Path,
    block_size: int,
    special_ids: Mapping[str, int | list[int]],
    *,
    translates: bool = False,
) -> bool:
    """Write the files that `AutoTokenizer.from_pretrained(folder)` reads; `translates` says that
    they are for a model with three ids more, which end, begin and fill up texts.

    Returns:
        False where this tokenizer has no such form; then nothing is written.
    """
    content = tokenizer.to_huggingface()
    if content is not None and translates:
        content = make_translation_json(content, tokenizer.vocab_size)
    if content is None:
        return False
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": block_size,
        # Hugging Face's default would remove the space in "word ." when decoding.
        "clean_up_tokenization_spaces": False,
        # The default of transformers 4 has types of tokens too, which these models do not take.
        "model_input_names": ["input_ids", "attention_mask"],
    }
    names = {token_id: name for name, token_id in tokenizer.special_tokens.items()}
    for key, value in special_ids.items():
        first = value[0] if isinstance(value, list) else value
        if first in names:
            config[key.removesuffix("_id")] = names[first]
    if translates:
        config |= TRANSLATION_OPTIONS
    write_json(folder / "tokenizer.json", content)
    write_json(folder / "tokenizer_config.json", config)
    return True
