"""A text to continue: a corpus as token files, and its tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from toolkit.corpora import Corpus, load_corpus
from toolkit.data import TokenDataset, require_length
from toolkit.generation import Generator
from toolkit.home import toolkit_home
from toolkit.internals import tracked_ids
from toolkit.materials.base import Materials, OnProgress, OnStage, Stage
from toolkit.models import LanguageModel
from toolkit.recipes import RECIPES
from toolkit.run import Run
from toolkit.token_files import make_tokenizer, reopen_tokens
from toolkit.tokenizers import Tokenizer
from toolkit.training import TrainConfig

if TYPE_CHECKING:
    from toolkit.inspection import Walk

SAMPLE_TOKENS = 100
WALKED_TOKENS = 16  # of a sequence: a page shows a corner of each matrix


class TextMaterials(Materials):
    """The token files of a corpus."""

    data: TokenDataset

    def __init__(
        self,
        name: str,
        data: TokenDataset,
        tokenizer: Tokenizer,
        tokenizer_spec: str,
        record: dict[str, Any],
    ) -> None:
        self.name, self.data, self.record = name, data, record
        self.tokenizer, self.tokenizer_spec = tokenizer, tokenizer_spec

    @classmethod
    def prepare(
        cls,
        corpus: str | Corpus,
        tokenizer: str | Tokenizer,
        *,
        tokenizer_spec: str | None,
        tokenizer_options: Mapping[str, Any],
        size: str | None,
        held_out: float,
        accept: Callable[[Tokenizer], None],
        stage: OnStage,
        report: OnProgress,
    ) -> TextMaterials:
        """Load the corpus, train the tokenizer if need be, and make the token files.

        Args:
            tokenizer_spec: what run.json calls a tokenizer that is given as an object.
            size: of the model; a `bpe` whose size is not given has the one that suits it.
            accept: told the tokenizer; raises where it is none for the model.

        Raises:
            ToolkitError: whatever is wrong with one of them.
        """
        spec_of_corpus = corpus if isinstance(corpus, str) else corpus.name
        if isinstance(corpus, str):
            corpus = load_corpus(corpus, on_progress=lambda d, t: report("corpus", d, t))
        stage(Stage("corpus", f"{corpus.name}, {corpus.num_chars:,} characters"))
        spec = tokenizer if isinstance(tokenizer, str) else tokenizer_spec or tokenizer.name
        if isinstance(tokenizer, str):
            of_tokenizer = dict(tokenizer_options)
            if tokenizer == "bpe" and size in RECIPES:
                of_tokenizer.setdefault("vocab_size", RECIPES[size].vocab_size)
            tokenizer = make_tokenizer(
                tokenizer, corpus, held_out, on_progress=report, **of_tokenizer
            )
        accept(tokenizer)
        stage(Stage("tokenizer", f"{spec}, {tokenizer.vocab_size:,} tokens"))
        dataset = TokenDataset.cached(
            corpus,
            tokenizer,
            toolkit_home() / "tokens",
            held_out=held_out,
            on_progress=lambda done, total: report("tokens", done, total),
        )
        stage(
            Stage(
                "tokens",
                f"{dataset.num_tokens('train'):,} to train on, "
                f"{dataset.num_tokens('val'):,} held out",
            )
        )
        record = {
            "name": corpus.name,
            "spec": spec_of_corpus,
            "sha256": corpus.sha256,
            "num_chars": corpus.num_chars,
            "num_bytes": corpus.num_bytes,
            "held_out": held_out,
            "tokens": str(dataset.folder),
        }
        return cls(corpus.name, dataset, tokenizer, spec, record)

    @classmethod
    def reopen(cls, run: Run, dataset: TokenDataset | None = None) -> TextMaterials:
        """What a run was started with.

        Args:
            dataset: its token files, where they are open already.

        Raises:
            RunError: the files are gone, and cannot be made again.
        """
        tokenizer = run.tokenizer
        found = reopen_tokens(run, tokenizer) if dataset is None else dataset
        return cls(
            run.info.corpus["name"], found, tokenizer, run.info.tokenizer["spec"], run.info.corpus
        )

    def require_length(self, block_size: int) -> None:
        require_length(self.data, "train", block_size)

    def sample(self, model: LanguageModel, seed: int) -> str:
        # Loading the compiled engine would take longer than the sample.
        generator = Generator(model, self.tokenizer, engine="torch")
        # Prompted by nothing, with a fixed seed: samples of different steps are comparable.
        return generator.generate("", max_new_tokens=SAMPLE_TOKENS, seed=seed).text

    def tracked_ids(self, config: TrainConfig, block_size: int) -> list[int]:
        return tracked_ids(config, self.tokenizer, self.data, block_size)

    def walk(self, model: LanguageModel, batch: tuple[Tensor, ...]) -> Walk:
        from toolkit.inspection import walk

        return walk(model, batch[0][0, :WALKED_TOKENS].tolist())

    def first_prompt(self) -> str:
        """The held-out text's own first words."""
        ids = self.data.read("val", 0, 200).tolist()
        lines = self.tokenizer.decode(ids).splitlines()
        speakers = [line for line in lines[1:] if line.endswith(":") and len(line) < 30]
        words = " ".join(lines).split()
        return speakers[0] if speakers else (words[1] if len(words) > 1 else "")
