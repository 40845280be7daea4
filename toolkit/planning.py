"""What a training will be, decided before work begins: its model, its options, what it starts from.

    plan = plan_training(model="gpt", options={"n_layer": 2, "max_steps": 100}, device=device)
    plan.shape, plan.config
    plan.make_model({"vocab_size": 65})

A name, a shape or an option that cannot be is refused here, before a text is fetched or a tokenizer
trained. What is given is filled up with what suits the model (`recipes`), the task
(`pair_recipes`), or the weights that training starts from (`fine_tuning`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from toolkit.corpora import Corpus
from toolkit.errors import UsageError
from toolkit.fine_tuning import (
    Initial,
    fine_tuning_config,
    fine_tuning_pair_config,
    open_initial,
)
from toolkit.materials.choosing import model_of_task, require_task
from toolkit.models import EncoderDecoderConfig, LanguageModel, create_model, make_config
from toolkit.models.config import DEFAULT_PRESET, ModelConfig
from toolkit.models.encoder_decoder_config import NUM_SPECIAL
from toolkit.pair_recipes import pair_model_options, pair_train_config
from toolkit.recipes import default_size, model_options, train_config, with_speedrun
from toolkit.tasks import PairTask
from toolkit.tokenizers import Tokenizer
from toolkit.training import TrainConfig

DEFAULT_MODEL = "gpt"


@dataclass(frozen=True)
class Plan:
    """What is decided.

    Attributes:
        model: its name.
        preset, size: as given or decided; None where neither plays a part.
        config: of the training, defaults filled in.
        shape: the model's configuration, with any number of tokens.
        fields: those of it that are given or suit a task.
        initial: what training starts from; None: from random weights.
        task: the pairs to learn; None: a text.
        tokenizer: as given, or that of `initial`; None: what suits.
        src_tokenizer, tgt_tokenizer: of a task, instead.
    """

    model: str
    preset: str | None
    size: str | None
    config: TrainConfig
    shape: ModelConfig
    fields: Mapping[str, Any] = field(default_factory=dict)
    initial: Initial | None = None
    task: str | PairTask | None = None
    tokenizer: str | Tokenizer | None = None
    src_tokenizer: str | Tokenizer | None = None
    tgt_tokenizer: str | Tokenizer | None = None

    def make_model(self, of_tokenizers: Mapping[str, Any]) -> LanguageModel:
        """The model with its first weights.

        Args:
            of_tokenizers: fields of its configuration that follow from the tokenizers.

        Raises:
            UsageError: the weights that training starts from have others.
        """
        if self.initial is not None:
            self.initial.check_pairs(of_tokenizers)
            return self.initial.model
        return create_model(
            self.model,
            preset=self.preset,
            size=self.size,
            seed=self.config.seed,
            **{**self.fields, **of_tokenizers},
        )

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raise UsageError for a tokenizer with more tokens than the first weights know."""
        if self.initial is not None:
            self.initial.check(tokenizer)

    def describe(self, model: LanguageModel) -> dict[str, Any]:
        """What run.json says of the model."""
        return {
            "name": self.model,
            "preset": self.preset or (DEFAULT_PRESET if self.model == "gpt" else None),
            "size": self.size,
            "num_params": model.num_params(),
            "config": dataclasses.asdict(model.config),
            **({} if self.initial is None else {"init": self.initial.record}),
        }


def plan_training(
    *,
    options: Mapping[str, Any],
    device: torch.device,
    corpus: str | Corpus,
    tokenizer: str | Tokenizer | None = None,
    task: str | PairTask | None = None,
    src_tokenizer: str | Tokenizer | None = None,
    tgt_tokenizer: str | Tokenizer | None = None,
    model: str | None = None,
    init: str | Path | None = None,
    preset: str | None = None,
    size: str | None = None,
    speedrun: float | None = None,
) -> Plan:
    """Decide what a training will be; the arguments are those of `TrainingSession.start`.

    Args:
        device: where it will be, which the default size depends on.

    Raises:
        ToolkitError: options that cannot be, or that do not go together.
    """
    if task is None:
        require_task(model, src_tokenizer, tgt_tokenizer)
    else:
        model = model_of_task(model, corpus, preset, speedrun)
    if speedrun is not None:
        if init is not None:
            raise UsageError("A speedrun starts from scratch: leave --init or --speedrun out.")
        options = with_speedrun(speedrun, model or DEFAULT_MODEL, options)
    of_training, of_model = _divided(options)
    if init is not None:
        given = {
            "--tokenizer": tokenizer,
            "--src-tokenizer": src_tokenizer,
            "--tgt-tokenizer": tgt_tokenizer,
        }
        if task is not None:
            return _plan_pairs_from_weights(init, given, task, model, size, of_model, of_training)
        return _plan_from_weights(init, tokenizer, model, preset, size, of_model, of_training)
    if task is not None:
        assert model is not None
        shared = src_tokenizer is None and tgt_tokenizer is None
        plan = _plan_pairs(task, model, size, of_model, of_training, shared=shared)
        return dataclasses.replace(
            plan, tokenizer=tokenizer, src_tokenizer=src_tokenizer, tgt_tokenizer=tgt_tokenizer
        )
    model = model or DEFAULT_MODEL
    return _plan_text(tokenizer, model, preset, size, of_model, of_training, device)


def _divided(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the training, and those of the model."""
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    of_training = {name: value for name, value in options.items() if name in names}
    return of_training, {name: value for name, value in options.items() if name not in names}


def _plan_from_weights(
    init: str | Path,
    tokenizer: str | Tokenizer | None,
    model: str | None,
    preset: str | None,
    size: str | None,
    of_model: dict[str, Any],
    of_training: dict[str, Any],
) -> Plan:
    initial = open_initial(
        str(init),
        tokenizer=tokenizer if isinstance(tokenizer, Tokenizer) else None,
        model=model,
        preset=preset,
        size=size,
        options=of_model,
    )
    return Plan(
        model=initial.model.name,
        preset=initial.preset,
        size=size,
        config=fine_tuning_config(initial.model, of_training),
        shape=initial.model.config,
        initial=initial,
        tokenizer=initial.tokenizer if tokenizer is None else tokenizer,
    )


def _plan_pairs_from_weights(
    init: str | Path,
    tokenizers: Mapping[str, str | Tokenizer | None],
    task: str | PairTask,
    model: str | None,
    size: str | None,
    of_model: dict[str, Any],
    of_training: dict[str, Any],
) -> Plan:
    for option, given in tokenizers.items():
        if given is not None:
            raise UsageError(
                f"{option} contradicts --init {init}: its weights know the tokens of its own "
                "tokenizers alone. Leave it out."
            )
    initial = open_initial(
        str(init),
        tokenizer=None,
        model=model,
        preset=None,
        size=size,
        options=of_model,
        of_pairs=True,
    )
    own = initial.source_tokenizer
    return Plan(
        model=initial.model.name,
        preset=None,
        size=size,
        config=fine_tuning_pair_config(_name_of(task), initial.model, of_training),
        shape=initial.model.config,
        initial=initial,
        task=task,
        tokenizer=initial.tokenizer if own is None else None,
        src_tokenizer=own,
        tgt_tokenizer=None if own is None else initial.tokenizer,
    )


def _name_of(task: str | PairTask) -> str:
    """Its name, without a length; of a file any other."""
    return (task if isinstance(task, str) else task.name).partition(":")[0]


def _plan_pairs(
    task: str | PairTask,
    model: str,
    size: str | None,
    of_model: dict[str, Any],
    of_training: dict[str, Any],
    *,
    shared: bool,
) -> Plan:
    name = _name_of(task)
    fields = pair_model_options(name, size, of_model)
    # As in `_plan_text`: with any number of tokens, of both sides or of each.
    sources = 0 if shared else NUM_SPECIAL + 1
    shape = make_config(
        model, NUM_SPECIAL + 1, size=size, **{**fields, "source_vocab_size": sources}
    )
    assert isinstance(shape, EncoderDecoderConfig), "find_model says so"
    config = pair_train_config(name, shape.n_embd, of_training)
    return Plan(model, None, size, config, shape, fields, task=task)


def _plan_text(
    tokenizer: str | Tokenizer | None,
    model: str,
    preset: str | None,
    size: str | None,
    of_model: dict[str, Any],
    of_training: dict[str, Any],
    device: torch.device,
) -> Plan:
    size = size or default_size(device.type)
    fields = model_options(model, preset, of_model)
    config = train_config(model, preset, size, of_training)
    # With any number of tokens: a wrong name or shape is refused before work begins.
    shape = make_config(model, 1, preset=preset, size=size, **fields)
    return Plan(model, preset, size, config, shape, fields, tokenizer=tokenizer)
