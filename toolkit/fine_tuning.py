"""Starting a training from weights that are there: what `toolkit train --init` begins with.

The model's parts and numbers are in the weights, so options that contradict them are refused;
its context may be cropped and its dropout set. Fine-tuning wants a lower learning rate than
training from scratch: large steps would undo what the weights know before they learn anything new.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models import EncoderDecoderConfig, LanguageModel, adapt_model
from toolkit.models.adapting import ADAPTABLE
from toolkit.models.config import PRESETS, SIZES, flag
from toolkit.models.hf_configs import hf_layout
from toolkit.models.pretrained import weights_sha256
from toolkit.opening import OpenedModel, check_vocabulary, open_model
from toolkit.pair_recipes import pair_train_config
from toolkit.recipes import RECIPES, train_config
from toolkit.tokenizers import Tokenizer
from toolkit.training import TrainConfig

FINE_TUNING_STEPS = 500
FINE_TUNING_EVERY = 100  # steps between evaluations
FINE_TUNING_WARMUP = 50
LEARNING_RATE_SHARE = 0.1
"""Of the learning rate that a model of this width starts from scratch with. It comes to 6e-5 for
the width of GPT-2, where 2e-5 to 1e-4 is usual."""
_SHAPE = ("n_layer", "n_head", "n_embd")
_PARTS = ("norm", "position", "mlp")


@dataclass(frozen=True)
class Initial:
    """What a training starts from.

    Attributes:
        model: with the context and dropout that were asked for.
        preset: whose parts the model has, if one's.
        record: for run.json: name, path, sha256 of the weights, special ids.
    """

    opened: OpenedModel
    model: LanguageModel
    preset: str | None
    record: dict[str, Any]

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own; raises UsageError where it has none."""
        return self.opened.tokenizer

    @property
    def source_tokenizer(self) -> Tokenizer | None:
        """Of a model of pairs, that of the sources; None where both sides share one."""
        source = self.opened.source_tokenizer
        return None if source is self.opened.own_tokenizer else source

    def check(self, tokenizer: Tokenizer) -> None:
        """Raise UsageError for a tokenizer with more tokens than the model knows."""
        check_vocabulary(tokenizer, self.model, self.opened.name)

    def check_pairs(self, of_tokenizers: Mapping[str, Any]) -> None:
        """Raise UsageError unless a model of pairs has exactly the tokens of its tokenizers, after
        which its own three ids come."""
        config = self.model.config
        if self.model.takes_source and any(
            getattr(config, name) != value for name, value in of_tokenizers.items()
        ):
            raise UsageError(
                f"The tokenizers of {self.opened.name} have other numbers of tokens than its "
                "model: they do not belong together."
            )


def open_initial(
    source: str,
    *,
    tokenizer: Tokenizer | None,
    model: str | None,
    preset: str | None,
    size: str | None,
    options: Mapping[str, Any],
    of_pairs: bool = False,
) -> Initial:
    """Open what a training starts from, and hold the options against it.

    Args:
        source: as for `open_model`.
        tokenizer: instead of the model's own.
        model, preset, size: as given, None where they were not; they may only say what is there.
        options: fields of the model's configuration; all but `block_size` and `dropout` may only
            say what is there.
        of_pairs: whether pairs of texts are to be learned.

    Raises:
        ToolkitError: as `open_model`.
        UsageError: an option that contradicts what is there, or a model that learns pairs where
            there are none, or the other way round.
    """
    for kind, name, known in (("preset", preset, PRESETS), ("size", size, SIZES)):
        if name is not None and name not in known:
            raise UnknownNameError(kind, name, known)
    opened = open_model(source, tokenizer=tokenizer)
    found = opened.model
    if found.takes_source and not of_pairs:
        raise UsageError(
            f"--init {opened.name} holds a model {found.name}, which learns pairs of texts, not "
            "one text: give --task."
        )
    if of_pairs and not found.takes_source:
        raise UsageError(
            f"--init {opened.name} holds a model {found.name}, which continues a text, and --task "
            "is pairs of texts: start from a run of a task, or leave --init or --task out."
        )
    if model not in (None, found.name):
        _refuse(opened, f"--model {model}")
    if preset is not None and not _has_parts_of(found, preset):
        _refuse(opened, f"--preset {preset}")
    if size is not None and any(
        getattr(found.config, field, SIZES[size][field]) != SIZES[size][field] for field in _SHAPE
    ):
        _refuse(opened, f"--size {size}")
    changes = {}
    for name, value in options.items():
        if name in ADAPTABLE and hasattr(found.config, name):
            changes[name] = value
        elif getattr(found.config, name, None) != value:
            _refuse(opened, f"{flag(name)} {value}")
    record = {
        "name": source,
        "path": str(opened.folder),
        "sha256": weights_sha256(opened.folder),
        "special_ids": opened.special_ids,
    }
    adapted = adapt_model(found, **changes) if changes else found
    return Initial(opened, adapted, preset or _preset_of(found), record)


def fine_tuning_config(model: LanguageModel, options: Mapping[str, Any]) -> TrainConfig:
    """What is given, and for the rest what suits a training that starts from weights: AdamW, which
    most weights were trained with, and a low rate.

    Raises:
        UsageError: a value that no training can have.
    """
    size = size_by_width(model)
    recipe = RECIPES[size]
    optimizer = options.get("optimizer", "adamw")
    rate = recipe.muon_rate if optimizer == "muon" else recipe.adamw_rate
    usual = {
        "optimizer": optimizer,
        "learning_rate": LEARNING_RATE_SHARE * rate,
        "max_steps": FINE_TUNING_STEPS,
        "eval_every": FINE_TUNING_EVERY,
        "sample_every": 2 * FINE_TUNING_EVERY,
    }
    if options.get("max_time") is not None:
        del usual["max_steps"]
    return train_config(model.name, None, size, {**usual, **options})


def fine_tuning_pair_config(
    task: str, model: LanguageModel, options: Mapping[str, Any]
) -> TrainConfig:
    """As `fine_tuning_config`, of a model of pairs.

    Args:
        task: the name of what is learned now.

    Raises:
        UsageError: a value that no training can have.
    """
    config = model.config
    assert isinstance(config, EncoderDecoderConfig), "open_initial asks for pairs"
    optimizer = options.get("optimizer", "adamw")
    from_scratch = pair_train_config(task, config.n_embd, {"optimizer": optimizer})
    usual: dict[str, Any] = {
        "optimizer": optimizer,
        "learning_rate": LEARNING_RATE_SHARE * from_scratch.learning_rate,
        "max_steps": FINE_TUNING_STEPS,
        "eval_every": FINE_TUNING_EVERY,
        "sample_every": 2 * FINE_TUNING_EVERY,
    }
    if from_scratch.adam_learning_rate is not None:
        usual["adam_learning_rate"] = LEARNING_RATE_SHARE * from_scratch.adam_learning_rate
    if optimizer == "adamw":  # not the long warm-up that random weights need
        usual |= {"schedule": "cosine", "warmup_steps": FINE_TUNING_WARMUP}
    if options.get("max_time") is not None:
        del usual["max_steps"]
    return pair_train_config(task, config.n_embd, {**usual, **options})


def size_by_width(model: LanguageModel) -> str:
    """The largest size that is no wider than the model; the smallest where it is narrower than all
    (a bigram has no width at all)."""
    width = getattr(model.config, "n_embd", 0)
    fitting = [name for name, numbers in SIZES.items() if numbers["n_embd"] <= width]
    return fitting[-1] if fitting else next(iter(SIZES))


def _preset_of(model: LanguageModel) -> str | None:
    return next((preset for preset in PRESETS if _has_parts_of(model, preset)), None)


def _has_parts_of(model: LanguageModel, preset: str) -> bool:
    """Whether a model is of a preset's family: Llama, which has no norms of queries and keys, goes
    by "modern" as Qwen3 does."""
    parts = PRESETS[preset]
    return all(getattr(model.config, part, None) == parts[part] for part in _PARTS)


def _refuse(opened: OpenedModel, option: str) -> NoReturn:
    config = opened.model.config
    name = opened.model.name
    known_as = name if opened.model.takes_source else hf_layout(config) or name
    fields = dataclasses.asdict(config)
    shown = [field for field in (*_SHAPE, "block_size") if field in fields]
    shape = ", ".join(f"{field} {fields[field]}" for field in shown)
    raise UsageError(
        f"{option} contradicts --init {opened.name}, which holds a model {known_as} ({shape}). "
        "Leave it out; only --block-size and --dropout can change."
    )
