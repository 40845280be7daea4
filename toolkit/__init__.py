"""A tokenizer and text-generation toolkit, readable to the last number.

    import toolkit
    corpus = toolkit.load_corpus("tiny-shakespeare")
    tokenizer = toolkit.load_tokenizer("bpe:4096", corpus)
    run = toolkit.train(corpus, tokenizer, max_steps=500, out="runs/first")
    generator = toolkit.Generator(run.model, run.tokenizer)
    for piece in generator.stream("ROMEO:", max_new_tokens=200, top_k=50, seed=1):
        print(piece, end="")

Every name is imported when it is first used: `import toolkit` itself is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from toolkit import errors as errors
    from toolkit import fixtures as fixtures
    from toolkit import learning as learning
    from toolkit import models as models
    from toolkit import tokenizers as tokenizers
    from toolkit.comparing.training import compare_backends as compare_backends
    from toolkit.corpora import Corpus as Corpus
    from toolkit.corpora import list_corpora as list_corpora
    from toolkit.corpora import load_corpus as load_corpus
    from toolkit.data import BatchLoader as BatchLoader
    from toolkit.data import TokenDataset as TokenDataset
    from toolkit.errors import ToolkitError as ToolkitError
    from toolkit.exporting import export as export
    from toolkit.generation import Completion as Completion
    from toolkit.generation import Generator as Generator
    from toolkit.generation import Sampler as Sampler
    from toolkit.generation import Translator as Translator
    from toolkit.generation import score_text as score_text
    from toolkit.inspecting import inspect_text as inspect_text
    from toolkit.inspecting_pairs import inspect_translation as inspect_translation
    from toolkit.inspection import Inspector as Inspector
    from toolkit.inspection import PairInspector as PairInspector
    from toolkit.inspection import Tracer as Tracer
    from toolkit.internals import draw_evolution as draw_evolution
    from toolkit.internals import load_snapshots as load_snapshots
    from toolkit.ladder import climb as climb
    from toolkit.learning_rate import find_learning_rate as find_learning_rate
    from toolkit.models import LanguageModel as LanguageModel
    from toolkit.models import LMOutput as LMOutput
    from toolkit.models import create_model as create_model
    from toolkit.opening import open_model as open_model
    from toolkit.pipeline import resume as resume
    from toolkit.pipeline import train as train
    from toolkit.run import Run as Run
    from toolkit.run import list_runs as list_runs
    from toolkit.run_plots import plot_runs as plot_runs
    from toolkit.sweeping import sweep as sweep
    from toolkit.tasks import load_task as load_task
    from toolkit.tokenizers import BPETokenizer as BPETokenizer
    from toolkit.tokenizers import ByteTokenizer as ByteTokenizer
    from toolkit.tokenizers import CharTokenizer as CharTokenizer
    from toolkit.tokenizers import TokenBatch as TokenBatch
    from toolkit.tokenizers import Tokenizer as Tokenizer
    from toolkit.tokenizers import WordTokenizer as WordTokenizer
    from toolkit.tokenizers import load_tokenizer as load_tokenizer
    from toolkit.tokenizers import vocab_growth as vocab_growth
    from toolkit.tokenizers import vocab_stats as vocab_stats
    from toolkit.training import TrainConfig as TrainConfig
    from toolkit.training import Trainer as Trainer

_HOME = {
    "corpora": ("Corpus", "list_corpora", "load_corpus"),
    "data": ("BatchLoader", "TokenDataset"),
    "errors": ("ToolkitError",),
    "exporting": ("export",),
    "generation": ("Completion", "Generator", "Sampler", "Translator", "score_text"),
    "inspecting": ("inspect_text",),
    "inspecting_pairs": ("inspect_translation",),
    "inspection": ("Inspector", "PairInspector", "Tracer"),
    "internals": ("draw_evolution", "load_snapshots"),
    "comparing.training": ("compare_backends",),
    "ladder": ("climb",),
    "models": ("LanguageModel", "LMOutput", "create_model"),
    "learning_rate": ("find_learning_rate",),
    "opening": ("open_model",),
    "pipeline": ("resume", "train"),
    "run": ("Run", "list_runs"),
    "run_plots": ("plot_runs",),
    "sweeping": ("sweep",),
    "tasks": ("load_task",),
    "tokenizers": (
        "BPETokenizer",
        "ByteTokenizer",
        "CharTokenizer",
        "TokenBatch",
        "Tokenizer",
        "WordTokenizer",
        "load_tokenizer",
        "vocab_growth",
        "vocab_stats",
    ),
    "training": ("TrainConfig", "Trainer"),
}
_MODULES = ("errors", "fixtures", "learning", "models", "tokenizers")
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["__version__", *sorted(_WHERE), *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"toolkit.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module 'toolkit' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"toolkit.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
