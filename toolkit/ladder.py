"""The ladder of models, climbed: each one trained on the same text, batches and budget.

What `toolkit ladder` does, as a call:

    ladder = climb("tiny-shakespeare", max_steps=500)
    toolkit.reporting.write_ladder(ladder, ladder.folder)

Every model gets the same tokenizer, token files, seed (so the same batches in the same order) and
schedule; nothing is tuned for one of them. It prints nothing: listeners are told what happens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.corpora import DEFAULT_CORPUS, Corpus, load_corpus
from toolkit.errors import UsageError
from toolkit.generation import Generator
from toolkit.models import available_models, make_config
from toolkit.models.registry import find_model
from toolkit.pipeline import TrainingSession
from toolkit.reporting.ladder_report import Ladder, Rung
from toolkit.run import Run, new_run_folder
from toolkit.token_files import make_tokenizer
from toolkit.tokenizers import Tokenizer
from toolkit.training import Evaluated, Event, Finished, TrainConfig

DEFAULT_STEPS = 1000
SAMPLE_TOKENS = 200
SAMPLE_TEMPERATURE = 0.8  # a little below 1, where small models invent fewer words
EVALUATIONS = 10  # of each model: enough for a curve, and little beside the training


@dataclass(frozen=True)
class RungStarted:
    """A model is made and its training begins."""

    num_params: int
    folder: Path


@dataclass(frozen=True)
class RungFinished:
    """A model is trained."""

    rung: Rung


LadderEvent = RungStarted | Event | RungFinished


def climb(
    corpus: str | Corpus = DEFAULT_CORPUS,
    *,
    models: Sequence[str] | None = None,
    max_steps: int | None = None,
    max_time: float | None = None,
    n_embd: int = 64,
    block_size: int = 32,
    batch_size: int = 32,
    learning_rate: float = 1e-2,
    tokenizer: str | Tokenizer = "char",
    prompt: str = "",
    seed: int = 0,
    device: str = "auto",
    held_out: float = 0.1,
    out: str | Path | None = None,
    on_event: Callable[[str, LadderEvent], None] | None = None,
    on_progress: Callable[[str, int, int | None], None] | None = None,
) -> Ladder:
    """Train the models of the ladder, one after the other, and let each write a sample.

    Args:
        corpus: a name as `load_corpus` takes it, or the text itself.
        models: names, in any order; None: all. They are trained in the ladder's order.
        max_steps: optimizer steps of each model; None: 1000, or with `max_time` as many as fit.
        max_time: seconds of each model.
        n_embd, block_size: C and T of every model that has them; gpt gets the layers and heads of
            the size "nano".
        learning_rate: at its peak, for every model. 0.01 is high for a transformer and suits it
            at this size; lower, the smallest models would not come to their end.
        prompt: what every sample continues.
        seed: of weights, batches and samples.
        out: the folder, for a run of each model; None: the next free runs/ladder-N.
        on_event: told the model's name and what happens to it.
        on_progress: told how far the preparations are.

    Returns:
        The result; after Ctrl-C that of the models trained so far.

    Raises:
        ToolkitError: whatever is wrong with any of the parts, before training starts; and see
            `TrainingSession.events`.
    """
    tell = on_event or (lambda name, event: None)
    report = on_progress or (lambda name, done, total: None)
    names = models_to_climb(models)
    if max_steps is None and max_time is None:
        max_steps = DEFAULT_STEPS
    shape = {"n_embd": n_embd, "block_size": block_size}
    training: dict[str, Any] = {
        "batch_size": batch_size,
        "max_steps": max_steps,
        "max_time": max_time,
        "optimizer": "adamw",  # of all, though gpt alone would get another
        "learning_rate": learning_rate,
        "seed": seed,
        "device": device,
    }
    # What is wrong is refused before anything is fetched or made.
    TrainConfig(**training)
    for name in names:
        make_config(name, 1, size="nano", **_options_of(name, shape))
    if isinstance(corpus, str):
        corpus = load_corpus(corpus, on_progress=lambda d, t: report("reading", d, t))
    if isinstance(tokenizer, str):
        spec = tokenizer
        tokenizer = make_tokenizer(spec, corpus, held_out, on_progress=report)
    else:
        spec = tokenizer.name
    tokenizer.encode(prompt)  # a prompt that the models cannot read is refused before they train
    folder = new_run_folder("ladder", out)
    rungs: list[Rung] = []
    interrupted = False
    for name in names:
        session = TrainingSession.start(
            corpus,
            tokenizer,
            model=name,
            size="nano",
            out=folder / name,
            held_out=held_out,
            on_progress=report,
            eval_every=_eval_every(max_steps),
            sample_every=0,
            **training,
            **_options_of(name, shape),
        )
        tell(name, RungStarted(session.model.num_params(), session.run.folder))
        curve: list[tuple[int, float]] = []
        finished: Finished | None = None
        for event in session.events():
            if isinstance(event, Evaluated):
                curve.append((event.step, event.val_loss))
            elif isinstance(event, Finished):
                finished = event
            tell(name, event)
        assert finished is not None
        if finished.result.interrupted:
            interrupted = True
            break
        rung = _rung(name, session, curve, finished, prompt, seed)
        rungs.append(rung)
        tell(name, RungFinished(rung))
    done = {rung.name for rung in rungs}
    return Ladder(
        corpus=corpus.name,
        tokenizer=spec,
        vocab_size=tokenizer.vocab_size,
        budget=_budget(max_steps, max_time, batch_size, block_size),
        seed=seed,
        prompt=prompt,
        rungs=tuple(rungs),
        left_out=tuple(name for name in available_models() if name not in done),
        folder=folder,
        interrupted=interrupted,
    )


def models_to_climb(models: Sequence[str] | None = None) -> list[str]:
    """Names of models in the ladder's order; None: all.

    >>> models_to_climb(["gpt", "bigram"])
    ['bigram', 'gpt']

    Raises:
        UsageError: a name that no model has, or no names.
    """
    if models is None:
        return available_models()
    for name in models:
        find_model(name)  # an unknown name comes with a guess
    if not models:
        raise UsageError("No models to climb: name at least one, or give none for all of them.")
    return [name for name in available_models() if name in models]


def _options_of(name: str, shape: dict[str, int]) -> dict[str, Any]:
    """Those of the shape that this model has: a bigram has no channels."""
    fields = {field.name for field in dataclasses.fields(find_model(name).config_class)}
    return {option: value for option, value in shape.items() if option in fields}


def _eval_every(max_steps: int | None) -> int:
    return 100 if max_steps is None else max(1, max_steps // EVALUATIONS)


def _budget(max_steps: int | None, max_time: float | None, batch_size: int, block_size: int) -> str:
    limits = []
    if max_steps is not None:
        limits.append(f"{max_steps:,} steps")
    if max_time is not None:
        limits.append(f"{max_time:g} seconds")
    most = " or ".join(limits) + (", whichever is first," if len(limits) > 1 else "")
    return f"{most} of {batch_size} × {block_size} tokens"


def _rung(
    name: str,
    session: TrainingSession,
    curve: list[tuple[int, float]],
    finished: Finished,
    prompt: str,
    seed: int,
) -> Rung:
    result = finished.result
    assert result.best_val_loss is not None, "the last step is always evaluated"
    assert result.best_bits_per_byte is not None
    # The weights that are kept, not those of the last step.
    run = Run.open(session.run.folder.absolute())
    written = Generator(run.model, run.tokenizer).generate(
        prompt, max_new_tokens=SAMPLE_TOKENS, temperature=SAMPLE_TEMPERATURE, seed=seed
    )
    return Rung(
        name=name,
        num_params=session.model.num_params(),
        steps=result.steps,
        curve=tuple(curve),
        val_loss=result.best_val_loss,
        bits_per_byte=result.best_bits_per_byte,
        seconds=result.elapsed,
        sample=written.text,
        folder=session.run.folder,
    )
