"""From a corpus to a run folder: what `toolkit train` and `toolkit.train` do, as one session.

The parts below (corpora, tokenizers, data, models, training) know nothing of run folders; this
module joins them. What is learned from, a text or pairs of texts, is for `materials` to know. It
prints nothing: `TrainingSession.events()` yields what happens.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.corpora import DEFAULT_CORPUS, Corpus
from toolkit.data import TokenDataset
from toolkit.errors import RunError, ToolkitError, UsageError
from toolkit.internals import draw_if_tracked, observer, snapshots_of
from toolkit.materials import Materials, Stage, TextMaterials
from toolkit.models import LanguageModel, build_model, load_pretrained, save_pretrained
from toolkit.models.config import flag
from toolkit.models.registry import find_model
from toolkit.planning import plan_training
from toolkit.preparing import Reading, make_run, prepare_materials
from toolkit.run import SAMPLES_FILE, Run, special_ids_of
from toolkit.speedrun import seconds_to_train
from toolkit.tasks import PairTask
from toolkit.tokenizers import Tokenizer
from toolkit.tracking import Tracker, open_tracker, tracker_names
from toolkit.training import Event, Finished, Sampled, TrainConfig, Trainer
from toolkit.training.backends import require_backend, trainer_class
from toolkit.training.checkpoint import CHECKPOINT_FOLDER
from toolkit.training.compiling import require_compilable
from toolkit.training.distributed import World, join_world, launched
from toolkit.training.layer_rates import require_layers

if TYPE_CHECKING:
    from toolkit.inspection import Walk


class TrainingSession:
    """A run that is being made or continued.

    `TrainingSession.start(...)` or `.resume(...)`, then iterate over `events()`; afterwards
    `run` is the finished (or interrupted) run.

    Of several processes (`toolkit.training.distributed`) the first one makes what is needed and
    writes the run folder; the others open what it made.
    """

    def __init__(self, run: Run, materials: Materials, trainer: Trainer, world: World) -> None:
        self.run = run
        self.materials = materials
        self.trainer = trainer
        self.trackers: list[Tracker] = []
        self._world = world

    @property
    def model(self) -> LanguageModel:
        return self.trainer.model

    @property
    def tokenizer(self) -> Tokenizer:
        return self.materials.tokenizer

    @classmethod
    def start(
        cls,
        corpus: str | Corpus = DEFAULT_CORPUS,
        tokenizer: str | Tokenizer | None = None,
        *,
        task: str | PairTask | None = None,
        src_tokenizer: str | Tokenizer | None = None,
        tgt_tokenizer: str | Tokenizer | None = None,
        model: str | None = None,
        init: str | Path | None = None,
        preset: str | None = None,
        size: str | None = None,
        out: str | Path | None = None,
        held_out: float = 0.1,
        speedrun: float | None = None,
        spent: float = 0.0,
        tokenizer_spec: str | None = None,
        latest: bool = True,
        track: str | Sequence[str] = (),
        tokenizer_options: Mapping[str, Any] | None = None,
        on_stage: Callable[[Stage], None] | None = None,
        on_progress: Callable[[str, int, int | None], None] | None = None,
        world: World | None = None,
        **options: Any,
    ) -> TrainingSession:
        """Load or train what is needed and make the run folder.

        `task` names pairs of texts to learn instead of a corpus (`toolkit.tasks`), by the model
        "encoder-decoder"; their two sides share a tokenizer, or have `src_tokenizer` and
        `tgt_tokenizer`. `options` are fields of `TrainConfig` (learning_rate, max_steps, seed,
        device, …) or of the model's configuration (n_layer, n_embd, dropout, …). `speedrun` is a
        budget of seconds until the weights are saved, of which `spent` are gone already: it sets
        what is not given (`toolkit.speedrun`). `init` names what to start from (see `open_model`):
        the model, and unless given the tokenizer, are those that are there (`toolkit.fine_tuning`).
        `tokenizer_spec` is what run.json calls a tokenizer that is given as an object.
        `latest=False` leaves runs/latest as it is. `track` names trackers (`toolkit.tracking`).
        `world` are the processes that train together, where they have met already.

        Raises:
            ToolkitError: whatever is wrong with any of the parts, before training starts.
        """
        began = time.monotonic() - spent
        trackers = tracker_names(track)
        if world is None:
            world = join_world(options.get("parallel", "auto"), options.get("device", "auto"))
        stage = on_stage or (lambda stage: None)
        report = on_progress or (lambda name, done, total: None)
        device = world.device(options.get("device", "auto"))
        plan = plan_training(
            options=options,
            device=device,
            corpus=corpus,
            tokenizer=tokenizer,
            task=task,
            src_tokenizer=src_tokenizer,
            tgt_tokenizer=tgt_tokenizer,
            model=model,
            init=init,
            preset=preset,
            size=size,
            speedrun=speedrun,
        )
        config = plan.config
        require_backend(plan.shape, config, device, alone=world.size == 1)
        require_compilable(config, world)
        world.rows(config.batch_size)  # refuses a batch that cannot be divided
        if not world.is_main:
            return cls._follow(world, plan.task, speedrun is not None)

        reading = Reading(corpus, held_out, tokenizer_spec, tokenizer_options or {})
        materials = prepare_materials(plan, reading, stage=stage, report=report)
        language_model = plan.make_model(materials.model_options)
        materials.require_length(language_model.block_size)
        require_layers(language_model, config)
        if config.track_internals:  # too long a text is refused before there is a folder
            materials.tracked_ids(config, language_model.block_size)
        if speedrun is not None:  # too short a time is refused before there is a folder
            seconds_to_train(speedrun, time.monotonic() - began)
        run = make_run(plan, materials, language_model, device, out=out, latest=latest)
        of_whom = "" if plan.initial is None else f" of {plan.initial.opened.name}"
        number = f"{language_model.num_params():,} parameters"
        stage(Stage("model", f"{plan.model}, {number}{of_whom}, on {device}"))
        world.tell(str(run.folder.absolute()))
        session = cls._with_trainer(run, materials, language_model, config, world)
        session._track(trackers, stage)
        if speedrun is not None:
            left = seconds_to_train(speedrun, time.monotonic() - began)
            session.trainer.config = dataclasses.replace(config, max_time=world.same(left))
            run.update(training=dataclasses.asdict(session.trainer.config))
        return session

    @classmethod
    def _follow(cls, world: World, task: str | PairTask | None, speedrun: bool) -> TrainingSession:
        """What the first process started, opened by another one."""
        run = Run.open(world.tell(""))
        config = TrainConfig(**run.info.training)
        materials: Materials
        if task is not None:
            from toolkit.materials.pairs import PairMaterials

            materials = PairMaterials.reopen(run, None if isinstance(task, str) else task)
        else:
            materials = TextMaterials.reopen(run, TokenDataset.open(run.info.corpus["tokens"]))
        session = cls._with_trainer(run, materials, _unset_model(run), config, world)
        if speedrun:
            session.trainer.config = dataclasses.replace(config, max_time=world.same(0.0))
        return session

    @classmethod
    def resume(
        cls,
        path: str | Path | None = None,
        *,
        track: str | Sequence[str] = (),
        on_stage: Callable[[Stage], None] | None = None,
        **changes: Any,
    ) -> TrainingSession:
        """Continue an interrupted run; `changes` may extend `max_steps` or `max_time`.

        What tracked the run goes on tracking it, and `track` joins in. It need not be continued by
        as many processes as it had.

        Raises:
            RunError: no such run, no checkpoint, or its token files are gone.
            UsageError: a change to something that is fixed once training has begun.
        """
        stage = on_stage or (lambda stage: None)
        run = Run.open(path)
        if not (run.folder / CHECKPOINT_FOLDER).exists():
            raise RunError(
                f"{run.folder} has no checkpoint to resume from. Start again with: toolkit train"
            )
        for name in changes:
            if name not in RESUMABLE:
                raise UsageError(
                    f"{flag(name)} cannot change when a run is resumed; only "
                    f"{', '.join(flag(field) for field in RESUMABLE)} can. Start a new run instead."
                )
        trackers = tracker_names([*run.info.tracking, *tracker_names(track)])
        recorded = run.info.training if launched() else {**run.info.training, "parallel": "auto"}
        config = TrainConfig(**{**recorded, **changes})
        world = join_world(config.parallel, config.device)
        world.rows(config.batch_size)
        materials: Materials
        if run.takes_pairs:
            from toolkit.materials.pairs import PairMaterials

            materials = PairMaterials.reopen(run)
        elif world.is_main:
            materials = TextMaterials.reopen(run)
            world.tell(str(materials.data.folder))
        else:
            materials = TextMaterials.reopen(run, TokenDataset.open(world.tell("")))
        session = cls._with_trainer(run, materials, _unset_model(run), config, world)
        session.trainer.load_checkpoint()
        if config.track_internals and world.is_main:
            snapshots_of(run).drop_later(session.trainer.step)
        session._update(status="running", training=dataclasses.asdict(config))
        stage(Stage("resume", f"{run.folder} at step {session.trainer.step:,}"))
        session._track(trackers, stage)
        return session

    @classmethod
    def _with_trainer(
        cls,
        run: Run,
        materials: Materials,
        model: LanguageModel,
        config: TrainConfig,
        world: World,
    ) -> TrainingSession:
        special_ids = special_ids_of(run.info, materials.tokenizer)

        def save_best(best: LanguageModel, *_: Any) -> None:
            save_pretrained(best, run.folder, **special_ids)

        observe = None
        if config.track_internals:
            observe = observer(run, materials.tracked_ids(config, model.block_size), config)
        trainer = trainer_class(config.backend)(
            model,
            materials.data,
            config,
            folder=run.folder,
            sample=lambda current: materials.sample(current, config.seed),
            score=materials.score,
            save_best=save_best,
            observe=observe,
            world=world,
        )
        return cls(run, materials, trainer, world)

    def _track(self, names: Sequence[str], stage: Callable[[Stage], None]) -> None:
        if not self._world.is_main:
            return
        for name in names:
            self.trackers.append(open_tracker(name, self.run, self.trainer.step))
            stage(Stage("tracking", self.trackers[-1].note))

    def events(self) -> Iterator[Event]:
        """Train; yields the trainer's events and keeps run.json and samples.txt up to date.

        Raises:
            TrainingError: the loss is not a number; the last good checkpoint is kept.
        """
        failed = True
        try:
            for event in self.trainer.run():
                for tracker in self.trackers:
                    tracker.tell(event)
                if isinstance(event, Sampled):
                    with (self.run.folder / SAMPLES_FILE).open("a", encoding="utf-8") as file:
                        file.write(f"--- step {event.step}\n{event.text}\n\n")
                elif isinstance(event, Finished):
                    event = self._scored(event)
                    status = "interrupted" if event.result.interrupted else "finished"
                    self._update(status=status, result=dataclasses.asdict(event.result))
                yield event
            failed = False
        except ToolkitError as error:
            self._update(status="failed", result={**self.run.info.result, "error": str(error)})
            raise
        finally:
            for tracker in self.trackers:
                tracker.close(failed=failed)

    def _scored(self, event: Finished) -> Finished:
        """The end of a training, with what is measured then."""
        measured = self.materials.score is not None and self._world.is_main
        if event.result.interrupted or not measured:
            return event
        best = load_pretrained(self.run.folder, device=self.trainer.device)
        scores = {**event.result.scores, **self.materials.final_scores(best)}
        return Finished(dataclasses.replace(event.result, scores=scores))

    def walk_next_step(self) -> Walk | None:
        """The forward pass of the step that comes next, told step by step
        (`toolkit.inspection.walk`), on the first tokens of its first sequence, or on its first
        pair.

        Training goes on as if nobody had looked. None in processes beside the main one.
        """
        batch = self.trainer.loader.peek()
        model = self._world.whole(self.model)
        return None if model is None else self.materials.walk(model, batch)

    def _update(self, **changes: Any) -> None:
        if self._world.is_main:
            self.run.update(**changes)
        else:
            self.run.info = dataclasses.replace(self.run.info, **changes)


RESUMABLE = ("max_steps", "max_time", "early_stop", "device", "compile", "parallel")


def train(
    corpus: str | Corpus = DEFAULT_CORPUS,
    tokenizer: str | Tokenizer | None = None,
    *,
    on_event: Callable[[Event], None] | None = None,
    **options: Any,
) -> Run:
    """Train a model and return its run; `options` as for `TrainingSession.start`.

    The finished run has training_curves.png, where matplotlib is installed; not after a speedrun,
    whose time is up.

    Raises:
        ToolkitError: see `TrainingSession.start` and `.events`.
    """
    draw = options.get("speedrun") is None
    return _finish(TrainingSession.start(corpus, tokenizer, **options), on_event, draw=draw)


def resume(
    path: str | Path | None = None,
    *,
    on_event: Callable[[Event], None] | None = None,
    **changes: Any,
) -> Run:
    """Continue an interrupted run to its end and return it."""
    return _finish(TrainingSession.resume(path, **changes), on_event, draw=True)


def _finish(
    session: TrainingSession, on_event: Callable[[Event], None] | None, *, draw: bool
) -> Run:
    for event in session.events():
        if on_event is not None:
            on_event(event)
    if draw and session.run.info.status == "finished":
        from toolkit.run_plots import write_training_curves

        write_training_curves(session.run)
    if session.run.info.status == "finished":
        draw_if_tracked(session.run)
    return session.run


def _unset_model(run: Run) -> LanguageModel:
    """The model of a run with weights that do not matter: others take their place."""
    config_class = find_model(run.info.model["name"]).config_class
    return build_model(config_class(**run.info.model["config"]))
