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

from toolkit.comparing.compared import compared
from toolkit.comparing.differences import (
    forward_differences,
    gradient_differences,
    weight_difference,
)
from toolkit.comparing.measurements import Step, generation_speeds, step_memory, timed_step
from toolkit.comparing.result import SIDES, Comparison, Side
from toolkit.corpora import DEFAULT_CORPUS, Corpus
from toolkit.errors import UsageError
from toolkit.models import LanguageModel
from toolkit.models.config import flag
from toolkit.models.hf_twin import HuggingFaceTwin
from toolkit.pipeline import TrainingSession
from toolkit.tokenizers import Tokenizer
from toolkit.training import Trainer
from toolkit.training.distributed import launched
from toolkit.training.losses import training_losses
from toolkit.training.transformers_loss import loss_of_twin

STEPS = 50
_NOT_COMPARED = (
    "backend", "out", "speedrun", "max_steps", "max_time", "track", "track_internals", "track_text",
    "ema", "parallel", "init", "eval_every", "sample_every", "checkpoint_every", "early_stop",
    "log_every", "latest", "world",
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

    No run is left behind. In float32 unless a `dtype` is given, and pairs (`task`) without dropout
    unless it is: the two sides need not draw the same. Where losses differ, ours is trained once
    more with weights that are changed in their last bit, to see what rounding does alone.

    Args:
        steps: optimizer steps of each.
        on_step: told the step and its two losses.
        options: as for `toolkit.train`.

    Raises:
        UsageError: no step, several processes, an option that a comparison cannot have, or a model
            that transformers has not.
        MissingExtraError: transformers or accelerate is not installed.
        ToolkitError: as `TrainingSession.start` and `Trainer.train_step`.
    """
    if launched():
        raise UsageError("A comparison runs in one process: leave torchrun out.")
    if steps < 1:
        raise UsageError(f"--steps {steps} must be at least 1")
    for name in _NOT_COMPARED:
        if name in options:
            raise UsageError(f"A comparison takes no {name}: leave it out.")
    if options.get("task") is None and options.get("block_size") == 1:
        raise UsageError("--block-size 1 leaves no place to generate into: expected at least 2")
    usual: dict[str, Any] = {"dtype": "float32"}
    if options.get("task") is not None:
        for name in ("src_tokenizer", "tgt_tokenizer"):
            if options.get(name) is not None:
                raise UsageError(
                    f"{flag(name)}: transformers' encoder-decoders have one vocabulary for both "
                    "sides. Use --tokenizer."
                )
        usual["dropout"] = 0.0
    options = {**usual, **options, "max_steps": steps}
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
        ours = Trainer(copy.deepcopy(session.model), theirs.dataset, config)
        try:
            return _compare(session, ours, theirs, steps, on_step or _nobody)
        finally:
            theirs.close()


def _nobody(step: int, ours: float, theirs: float) -> None:
    pass


def _compare(
    session: TrainingSession, ours: Trainer, theirs: Trainer, steps: int, on_step: OnStep
) -> Comparison:
    info, smoothing = session.run.info, ours.config.label_smoothing
    batch = ours.loader.peek()
    ids, targets, *source = batch  # (B, T), (B, T), and of pairs (B, S)
    start = copy.deepcopy(ours.model)
    measured = _train_in_turn(ours, theirs, steps, on_step)
    trained = _twin_of(theirs)
    equal = HuggingFaceTwin(ours.model)  # with the weights that ours has learned
    hidden, logits = forward_differences(equal, batch, ours.dtype)
    ours.model.eval()
    equal.hf.eval()
    equal.hf.config.use_cache = True
    new_tokens, writers = compared(ours.model).writers(equal.hf, batch, session.materials)
    speeds, texts = generation_speeds(writers, new_tokens, ours.device)
    losses = {
        "toolkit": lambda: training_losses(ours.model, ids, targets, smoothing, *source)[0],
        "huggingface": lambda: loss_of_twin(trained, batch, smoothing),
    }
    sides = {
        side: _side(side, trainer, measured[side], losses[side], speeds[side])
        for side, trainer in zip(SIDES, (ours, theirs), strict=True)
    }
    found = Comparison(
        corpus=str(info.corpus["name"]),
        tokenizer=str(info.tokenizer["spec"]),
        model=info.model["name"],
        preset=info.model["preset"],
        device=str(ours.device),
        dtype=str(ours.dtype).removeprefix("torch."),
        seed=ours.config.seed,
        batch_size=ours.config.batch_size,
        label_smoothing=smoothing,
        config=info.model["config"],
        toolkit=sides["toolkit"],
        huggingface=sides["huggingface"],
        weights=weight_difference(equal, trained),
        logits=logits,
        hidden=hidden,
        gradients=gradient_differences(equal, batch, ours.dtype, smoothing),
        same_tokens=_same_at_first(*texts.values()),
        generated=new_tokens,
    )
    if found.first_step is None:
        return found
    return dataclasses.replace(found, own_losses=_losses_after_rounding(start, ours, steps))


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


def _losses_after_rounding(start: LanguageModel, ours: Trainer, steps: int) -> tuple[float, ...]:
    """What our losses would have been with each weight one float away before each step."""
    source = torch.Generator().manual_seed(ours.config.seed)
    trainer = Trainer(start, ours.dataset, ours.config)
    trainer.trained.train()
    losses = []
    for _ in range(steps):
        with torch.no_grad():
            for weight in start.parameters():
                up = torch.rand(weight.shape, generator=source) < 0.5
                ends = torch.where(up, torch.inf, -torch.inf)
                weight.copy_(torch.nextafter(weight.cpu(), ends))
        losses.append(trainer.train_step()[0])
    return tuple(losses)


def _side(
    name: str,
    trainer: Trainer,
    steps: list[Step],
    loss: Callable[[], Tensor],
    tokens_per_second: float,
) -> Side:
    trainer.trained.train()
    return Side(
        name=name,
        model_class=type(trainer.trained).__name__,
        num_params=sum(p.numel() for p in trainer.trained.parameters() if p.requires_grad),
        losses=tuple(step.loss for step in steps),
        grad_norms=tuple(step.grad_norm for step in steps),
        seconds=tuple(step.seconds for step in steps),
        memory=step_memory(trainer, loss, steps[-1].allocated),
        tokens_per_second=tokens_per_second,
    )


def _twin_of(trainer: Trainer) -> HuggingFaceTwin:
    from toolkit.training.huggingface import HuggingFaceTrainer

    assert isinstance(trainer, HuggingFaceTrainer)
    return trainer.twin


def _same_at_first(a: list[int], b: list[int]) -> int:
    """How many are the same before the first that is not.

    >>> _same_at_first([4, 5, 6], [4, 7, 6]), _same_at_first([4, 5], [4, 5])
    (1, 2)
    """
    for number, (one, other) in enumerate(zip(a, b, strict=True)):
        if one != other:
            return number
    return len(a)
