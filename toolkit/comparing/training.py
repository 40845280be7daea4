"""The two trainings, step by step in turn, from the same weights on the same batches."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.comparing.differences import (
    forward_differences,
    gradient_differences,
    weight_difference,
)
from toolkit.comparing.measurements import Step, generation_speeds, step_memory, timed_step
from toolkit.comparing.result import SIDES, Comparison, Side
from toolkit.corpora import DEFAULT_CORPUS, Corpus
from toolkit.errors import UsageError
from toolkit.generation import Generator
from toolkit.models import LanguageModel
from toolkit.models.hf_twin import HuggingFaceTwin
from toolkit.pipeline import TrainingSession
from toolkit.run import RunInfo
from toolkit.tokenizers import Tokenizer
from toolkit.training import Trainer
from toolkit.training.backends import trainer_class

STEPS = 50
PROMPT_TOKENS = 8
NEW_TOKENS = 64
_NOT_COMPARED = (
    "backend", "out", "speedrun", "max_steps", "max_time", "track", "track_internals", "track_text",
    "ema", "parallel", "init", "task",
)  # fmt: skip

OnStep = Callable[[int, float, float], None]


def compare_backends(
    corpus: str | Corpus = DEFAULT_CORPUS,
    tokenizer: str | Tokenizer | None = None,
    *,
    steps: int = STEPS,
    on_step: OnStep | None = None,
    **options: Any,
) -> Comparison:
    """Train a model by us and by transformers' Trainer, and compare all that can be.

    No run is left behind. In float32 unless a `dtype` is given.

    Args:
        steps: optimizer steps of each.
        on_step: told the step and its two losses.
        options: as for `toolkit.train`.

    Raises:
        UsageError: no step, an option that a comparison cannot have, or a model that transformers
            has not.
        MissingExtraError: transformers or accelerate is not installed.
        ToolkitError: as `TrainingSession.start` and `Trainer.train_step`.
    """
    if steps < 1:
        raise UsageError(f"--steps {steps} must be at least 1")
    for name in _NOT_COMPARED:
        if name in options:
            raise UsageError(f"A comparison takes no {name}: leave it out.")
    options = {"dtype": "float32", **options, "max_steps": steps}
    with tempfile.TemporaryDirectory(prefix="toolkit-") as folder:
        session = TrainingSession.start(
            corpus,
            tokenizer,
            out=Path(folder) / "run",
            latest=False,
            backend="huggingface",
            **options,
        )
        theirs = session.trainer
        config = dataclasses.replace(theirs.config, backend="toolkit", compile=False)
        ours = trainer_class("toolkit")(copy.deepcopy(session.model), theirs.dataset, config)
        try:
            return _compare(ours, theirs, steps, on_step or _nobody, session.run.info)
        finally:
            theirs.close()


def _nobody(step: int, ours: float, theirs: float) -> None:
    pass


def _compare(
    ours: Trainer,
    theirs: Trainer,
    steps: int,
    on_step: OnStep,
    info: RunInfo,
) -> Comparison:
    batch = ours.loader.peek()
    ids, targets, *_ = batch  # (B, T)
    measured = _train_in_turn(ours, theirs, steps, on_step)
    trained = _twin_of(theirs)
    equal = HuggingFaceTwin(ours.model)  # with the weights that ours has learned
    hidden, logits = forward_differences(equal, ids, ours.dtype)
    prompt = ids[0, : min(PROMPT_TOKENS, ours.model.block_size // 2)].tolist()
    new_tokens = min(NEW_TOKENS, ours.model.block_size - len(prompt))
    writers = {
        "toolkit": _our_writer(ours.model.eval(), prompt),
        "huggingface": _their_writer(equal.hf, prompt),
    }
    speeds, texts = generation_speeds(writers, new_tokens, ours.device)

    def our_loss() -> Tensor:
        loss = ours.model(ids, targets).loss
        assert loss is not None
        return loss

    return Comparison(
        corpus=str(info.corpus["name"]),
        tokenizer=str(info.tokenizer["spec"]),
        model=info.model["name"],
        preset=info.model["preset"],
        device=str(ours.device),
        dtype=str(ours.dtype).removeprefix("torch."),
        seed=ours.config.seed,
        batch_size=ours.config.batch_size,
        block_size=ours.model.block_size,
        toolkit=_side("toolkit", ours, measured, our_loss, speeds),
        huggingface=_side(
            "huggingface", theirs, measured, lambda: trained.loss(ids, targets), speeds
        ),
        weights=weight_difference(equal, trained),
        logits=logits,
        hidden=hidden,
        gradients=gradient_differences(equal, ids, targets, ours.dtype),
        same_tokens=_same_at_first(texts["toolkit"], texts["huggingface"]),
        generated=new_tokens,
    )


def _train_in_turn(
    ours: Trainer, theirs: Trainer, steps: int, on_step: OnStep
) -> dict[str, list[Step]]:
    trainers = dict(zip(SIDES, (ours, theirs), strict=True))
    measured: dict[str, list[Step]] = {side: [] for side in SIDES}
    for trainer in trainers.values():
        trainer.trained.train()
    for step in range(1, steps + 1):
        # Who goes first changes, so that neither always finds the other's numbers in the cache.
        for side in SIDES if step % 2 else reversed(SIDES):
            measured[side].append(timed_step(trainers[side]))
        on_step(step, *(measured[side][-1].loss for side in SIDES))
    return measured


def _side(
    name: str,
    trainer: Trainer,
    measured: dict[str, list[Step]],
    loss: Callable[[], Tensor],
    speeds: dict[str, float],
) -> Side:
    trainer.trained.train()
    return Side(
        name=name,
        model_class=type(trainer.trained).__name__,
        num_params=sum(p.numel() for p in trainer.trained.parameters()),
        losses=tuple(step.loss for step in measured[name]),
        grad_norms=tuple(step.grad_norm for step in measured[name]),
        seconds=tuple(step.seconds for step in measured[name]),
        memory=step_memory(trainer, loss, measured[name][-1].allocated),
        tokens_per_second=speeds[name],
    )


def _twin_of(trainer: Trainer) -> HuggingFaceTwin:
    from toolkit.training.huggingface import HuggingFaceTrainer

    assert isinstance(trainer, HuggingFaceTrainer)
    return trainer.twin


def _our_writer(model: LanguageModel, prompt: list[int]) -> Callable[[int], list[int]]:
    generator = Generator(model)
    return lambda count: generator.generate_ids(prompt, max_new_tokens=count, strategy="greedy")


def _their_writer(hf: Any, prompt: list[int]) -> Callable[[int], list[int]]:
    hf.eval()
    hf.config.use_cache = True
    ids = torch.tensor([prompt], device=hf.device)  # (1, T)

    def write(count: int) -> list[int]:
        with torch.no_grad():
            written: Tensor = hf.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=False,
                use_cache=True,
                pad_token_id=0,
            )
        return [int(token) for token in written[0, len(prompt) :]]

    return write


def _same_at_first(a: list[int], b: list[int]) -> int:
    for number, (one, other) in enumerate(zip(a, b, strict=True)):
        if one != other:
            return number
    return len(a)
