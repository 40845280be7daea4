"""Pairs to translate: a task, and the tokenizers of its two sides."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from toolkit.data import PairDataset
from toolkit.errors import RunError, ToolkitError, UsageError
from toolkit.generation import Translator
from toolkit.generation.translation_scores import pair_scores, prose_scores
from toolkit.internals import PairIds, tracked_pair
from toolkit.materials.base import Materials, OnProgress, OnStage, Stage
from toolkit.models import LanguageModel
from toolkit.run import Run
from toolkit.tasks import PairTask, load_task
from toolkit.tokenizers import Tokenizer, load_tokenizer
from toolkit.tokenizers.registry import class_of_spec, needs_corpus, option_names
from toolkit.training import TrainConfig

if TYPE_CHECKING:
    from toolkit.inspection import Walk

PROSE_VOCAB_SIZE = 4096
"""Of a `bpe` for a file of pairs whose size is not given."""
SCORED = 250
"""Pairs that are translated at every evaluation; at the end it is all that are held out."""
SHOWN = 4


@dataclasses.dataclass(frozen=True)
class TokenizerChoice:
    """Which tokenizers pairs are to have: specs, tokenizers, or None for what suits.

    Attributes:
        shared: of both sides.
        source, target: of one, instead.
        options: of those that are trained.

    Raises:
        UsageError: one for a side beside one for both.
    """

    shared: str | Tokenizer | None = None
    source: str | Tokenizer | None = None
    target: str | Tokenizer | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.shared is not None and (self.source is not None or self.target is not None):
            raise UsageError(
                "--tokenizer is of both sides; give it alone, or --src-tokenizer and "
                "--tgt-tokenizer."
            )


class PairMaterials(Materials):
    """The pairs of a task as ids."""

    data: PairDataset

    def __init__(self, task: PairTask, data: PairDataset, tokenizer_spec: str) -> None:
        self.name, self.task, self.data = task.name, task, data
        self.tokenizer, self.tokenizer_spec = data.tokenizer, tokenizer_spec
        if data.source_tokenizer is not data.tokenizer:
            self.source_tokenizer = data.source_tokenizer
        self.record: dict[str, Any] = {}

    @classmethod
    def prepare(
        cls,
        task: str | PairTask,
        choice: TokenizerChoice,
        *,
        block_size: int,
        held_out: float,
        stage: OnStage,
        report: OnProgress,
    ) -> PairMaterials:
        """Read the pairs, and train the tokenizers if need be.

        Raises:
            ToolkitError: whatever is wrong with one of them.
        """
        if isinstance(task, str):
            task = load_task(task, held_out=held_out)
        stage(Stage("task", task.summary))
        if choice.source is None and choice.target is None:
            tokenizer, spec = _make(choice.shared, task, choice.options, report, "both")
            source_tokenizer = None
            stage(Stage("tokenizer", f"{spec}, {tokenizer.vocab_size:,} tokens for both sides"))
        else:
            source_tokenizer, of = _make(choice.source, task, choice.options, report, "source")
            tokenizer, spec = _make(choice.target, task, choice.options, report, "target")
            stage(Stage("source", f"{of}, {source_tokenizer.vocab_size:,} tokens"))
            stage(Stage("target", f"{spec}, {tokenizer.vocab_size:,} tokens"))
        data = PairDataset(task, tokenizer, source_tokenizer, block_size=block_size)
        if data.left_out:
            stage(
                Stage(
                    "left out",
                    f"{data.left_out:,} pairs with more than {block_size} tokens (--block-size)",
                )
            )
        made = cls(task, data, spec)
        made.record = {
            "kind": "pairs",
            "name": task.name,
            "spec": task.spec,
            "sha256": task.sha256,
            "held_out": held_out,
            "num_held_out": len(task.held_out),
        }
        return made

    @classmethod
    def reopen(cls, run: Run, task: PairTask | None = None) -> PairMaterials:
        """What a run was started with.

        Args:
            task: the task, where it is at hand; None: what run.json names.

        Raises:
            RunError: the file of its pairs is gone, or has changed.
        """
        recorded = run.info.corpus
        try:
            task = task or load_task(recorded["spec"], held_out=recorded["held_out"])
        except ToolkitError as error:
            raise RunError(f"The pairs of {run.folder} cannot be read again: {error}") from error
        if task.sha256 != recorded["sha256"]:
            raise RunError(
                f"The pairs '{recorded['spec']}' have changed since {run.folder} was started, so "
                "the run cannot go on as it began. Restore them, or start a new run."
            )
        source = run.source_tokenizer
        data = PairDataset(
            task,
            run.tokenizer,
            None if source is run.tokenizer else source,
            block_size=run.info.model["config"]["block_size"],
        )
        reopened = cls(task, data, run.info.tokenizer["spec"])
        reopened.record = recorded
        return reopened

    @property
    def model_options(self) -> dict[str, Any]:
        own = self.source_tokenizer is not None
        size = self.data.source_vocab_size if own else 0
        return {"vocab_size": self.data.vocab_size, "source_vocab_size": size}

    def require_length(self, block_size: int) -> None:
        """Those that are too long are out already; one has to be left."""
        self.task.pool(0, 1, seed=0)

    def sample(self, model: LanguageModel, seed: int) -> str:
        pairs = self.task.held_out[:SHOWN]
        written = self._translator(model).translate(pair.source for pair in pairs)
        return "\n".join(
            f"{pair.source} → {text}" + ("" if text == pair.target else f"  (not {pair.target})")
            for pair, text in zip(pairs, written, strict=True)
        )

    @property
    def score(self) -> Callable[[LanguageModel], dict[str, float]]:
        return lambda model: pair_scores(self._translator(model), self.data, SCORED).as_dict()

    def final_scores(self, model: LanguageModel) -> dict[str, float]:
        translator = self._translator(model)
        measured = pair_scores(translator, self.data)
        scores = measured.as_dict()
        if self.task.is_prose:
            scores |= prose_scores(measured.written, [pair.target for pair in self.task.held_out])
        return scores

    def tracked_ids(self, config: TrainConfig, block_size: int) -> PairIds:
        return tracked_pair(config, self.data)

    def walk(self, model: LanguageModel, batch: tuple[Tensor, ...]) -> Walk:
        from toolkit.inspection import walk_pair

        _, targets, sources = (part[0] for part in batch)  # (T), (T), (S)
        source = sources[sources != self.data.source_vocab_size - 1]
        # The end, and what is padding, are no part of a target.
        target = targets[(targets >= 0) & (targets < self.tokenizer.vocab_size)]
        return walk_pair(model, source.tolist(), target.tolist())

    def first_prompt(self) -> str:
        return self.task.held_out[0].source

    def _translator(self, model: LanguageModel) -> Translator:
        return Translator(model, self.tokenizer, self.source_tokenizer)


def _make(
    chosen: str | Tokenizer | None,
    task: PairTask,
    options: Mapping[str, Any],
    report: OnProgress,
    side: str,
) -> tuple[Tokenizer, str]:
    """A tokenizer of one side or both, and what run.json calls it."""
    if isinstance(chosen, Tokenizer):
        return chosen, chosen.name
    usual = "bpe" if task.alphabet is None else "char"
    spec = usual if chosen is None else chosen
    kind = class_of_spec(spec)
    if kind is None or not needs_corpus(spec):
        return load_tokenizer(spec, **options), spec
    if spec == "char" and task.alphabet is not None:
        return load_tokenizer(spec, [task.alphabet], **options), spec
    # One that knows what it has seen alone has to see the held-out pairs too.
    pairs = [*task.examples(), *(task.held_out if kind.closed_vocabulary else ())]
    texts = [pair.source for pair in pairs] if side != "target" else []
    texts += [pair.target for pair in pairs] if side != "source" else []
    given = dict(options)
    if spec == "bpe":
        given.setdefault("vocab_size", PROSE_VOCAB_SIZE)
    if "on_progress" in (option_names(spec) or set()):
        given["on_progress"] = report
    return load_tokenizer(spec, texts, **given), spec
