"""What a training needs before its first step: materials, and a run folder that says what it is."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import toolkit
from toolkit.corpora import Corpus
from toolkit.errors import UsageError
from toolkit.materials import Materials, TextMaterials
from toolkit.materials.base import OnProgress, OnStage
from toolkit.models import LanguageModel
from toolkit.planning import Plan
from toolkit.run import Run, RunInfo, create_run, describe_tokenizer, new_run_folder

DEFAULT_TOKENIZER = "bpe"


@dataclass(frozen=True)
class Reading:
    """How what is learned from is read.

    Attributes:
        corpus: of a training without a task.
        held_out: the share to validate on.
        tokenizer_spec: what run.json calls a tokenizer that is given as an object.
        tokenizer_options: of a tokenizer that is trained.
    """

    corpus: str | Corpus
    held_out: float
    tokenizer_spec: str | None
    tokenizer_options: Mapping[str, Any]


def prepare_materials(
    plan: Plan, reading: Reading, *, stage: OnStage, report: OnProgress
) -> Materials:
    """Fetch the text or make the pairs, and train the tokenizers if need be.

    Raises:
        ToolkitError: whatever is wrong with one of them.
    """
    if plan.initial is not None and not isinstance(plan.tokenizer, str):
        for name in reading.tokenizer_options:
            raise UsageError(
                f"The tokenizer option {name} is for a tokenizer that is made now; --init "
                f"{plan.initial.opened.name} brings its own. Leave it out."
            )
    if plan.task is not None:
        from toolkit.materials.pairs import PairMaterials, TokenizerChoice

        return PairMaterials.prepare(
            plan.task,
            TokenizerChoice(
                plan.tokenizer, plan.src_tokenizer, plan.tgt_tokenizer, reading.tokenizer_options
            ),
            block_size=plan.shape.block_size,
            held_out=reading.held_out,
            stage=stage,
            report=report,
        )
    return TextMaterials.prepare(
        reading.corpus,
        plan.tokenizer or DEFAULT_TOKENIZER,
        tokenizer_spec=reading.tokenizer_spec,
        tokenizer_options=reading.tokenizer_options,
        size=plan.size,
        held_out=reading.held_out,
        accept=plan.check_tokenizer,
        stage=stage,
        report=report,
    )


def make_run(
    plan: Plan,
    materials: Materials,
    model: LanguageModel,
    device: torch.device,
    *,
    out: str | Path | None,
    latest: bool,
) -> Run:
    """The folder of a run that begins.

    Raises:
        RunError: `out` holds a run already, or other files.
    """
    spec = materials.tokenizer_spec
    folder = new_run_folder(f"{materials.name}-{spec.replace(':', '')}-{plan.model}", out)
    info = RunInfo(
        status="running",
        corpus=materials.record,
        tokenizer=describe_tokenizer(materials.tokenizer, spec),
        source_tokenizer=describe_tokenizer(materials.source_tokenizer),
        model=plan.describe(model),
        training=dataclasses.asdict(plan.config),
        device=str(device),
        versions={
            "toolkit": toolkit.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    )
    return create_run(
        folder,
        info,
        materials.tokenizer,
        model.block_size,
        source_tokenizer=materials.source_tokenizer,
        latest=latest,
    )
