"""What a session asks of whatever it trains on, so that it need not know what that is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from toolkit.data import TrainingData
from toolkit.internals import PairIds
from toolkit.models import LanguageModel
from toolkit.tokenizers import Tokenizer
from toolkit.training import TrainConfig

if TYPE_CHECKING:
    from toolkit.inspection import Walk


@dataclass(frozen=True)
class Stage:
    """Something that was done before training, for a display: "tokenizer", "bpe:4096, 2.1 s"."""

    name: str
    detail: str


OnStage = Callable[[Stage], None]
OnProgress = Callable[[str, int, int | None], None]


class Materials(ABC):
    """Data, tokenizers, and what is measured and shown with them.

    Attributes:
        name: of the text or the task, for the run's folder.
        data: to train and to validate on.
        tokenizer: of what the model writes.
        tokenizer_spec: what run.json calls it.
        source_tokenizer: of what the model reads beside it; None where that has none of its own.
        record: what run.json says of the text or the task.
    """

    name: str
    data: TrainingData
    tokenizer: Tokenizer
    tokenizer_spec: str
    source_tokenizer: Tokenizer | None = None
    record: dict[str, Any]

    @property
    def model_options(self) -> dict[str, Any]:
        """Fields of a model's configuration that follow from the tokenizers, with `vocab_size`."""
        return {"vocab_size": self.data.vocab_size}

    @abstractmethod
    def require_length(self, block_size: int) -> None:
        """Raise UsageError where there is too little to train on."""

    @abstractmethod
    def sample(self, model: LanguageModel, seed: int) -> str:
        """What the model makes of something, to be shown while it trains."""

    @property
    def score(self) -> Callable[[LanguageModel], dict[str, float]] | None:
        """What is measured beside the loss at every evaluation; None: nothing is."""
        return None

    def final_scores(self, model: LanguageModel) -> dict[str, float]:
        """What is measured at the end, with the best weights."""
        return {}

    @abstractmethod
    def tracked_ids(self, config: TrainConfig, block_size: int) -> list[int] | PairIds:
        """The tokens whose inside is followed with `track_internals`.

        Raises:
            UsageError: a text that is too short or too long.
        """

    @abstractmethod
    def walk(self, model: LanguageModel, batch: tuple[Tensor, ...]) -> Walk:
        """The forward pass of the first sequence of a batch of `data`, step by step."""

    @abstractmethod
    def first_prompt(self) -> str:
        """Something to try the trained model with."""
