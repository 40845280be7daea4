"""Text from models: samplers, searches, patterns, streaming; and how well models predict texts.

    generator = Generator(model, tokenizer)
    generator.generate("ROMEO:", max_new_tokens=200, top_k=50, seed=1).text

Every name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.generation.batching import Batch as Batch
    from toolkit.generation.batching import Progress as Progress
    from toolkit.generation.batching import Text as Text
    from toolkit.generation.beams import BeamSearch as BeamSearch
    from toolkit.generation.beams import Hypothesis as Hypothesis
    from toolkit.generation.beams import parse_early_stopping as parse_early_stopping
    from toolkit.generation.constraints import Constraint as Constraint
    from toolkit.generation.constraints import matching_json_schema as matching_json_schema
    from toolkit.generation.constraints import matching_regex as matching_regex
    from toolkit.generation.contexts import Context as Context
    from toolkit.generation.contrastive import ContrastiveSearch as ContrastiveSearch
    from toolkit.generation.cutoffs import EpsilonCutoff as EpsilonCutoff
    from toolkit.generation.cutoffs import EtaCutoff as EtaCutoff
    from toolkit.generation.cutoffs import MinP as MinP
    from toolkit.generation.cutoffs import Typical as Typical
    from toolkit.generation.generator import Generator as Generator
    from toolkit.generation.options import SamplingOptions as SamplingOptions
    from toolkit.generation.options import TextOptions as TextOptions
    from toolkit.generation.options import with_default_temperature as with_default_temperature
    from toolkit.generation.penalties import Forbidden as Forbidden
    from toolkit.generation.penalties import Forced as Forced
    from toolkit.generation.penalties import FrequencyPenalty as FrequencyPenalty
    from toolkit.generation.penalties import LogitBias as LogitBias
    from toolkit.generation.penalties import NoRepeatNgram as NoRepeatNgram
    from toolkit.generation.penalties import PresencePenalty as PresencePenalty
    from toolkit.generation.penalties import RepetitionPenalty as RepetitionPenalty
    from toolkit.generation.prompts import read_prompts as read_prompts
    from toolkit.generation.requests import Request as Request
    from toolkit.generation.samplers import ContextProcessor as ContextProcessor
    from toolkit.generation.samplers import Greedy as Greedy
    from toolkit.generation.samplers import LogitsProcessor as LogitsProcessor
    from toolkit.generation.samplers import Sampler as Sampler
    from toolkit.generation.samplers import Temperature as Temperature
    from toolkit.generation.samplers import TopK as TopK
    from toolkit.generation.samplers import TopP as TopP
    from toolkit.generation.samplers import make_sampler as make_sampler
    from toolkit.generation.samplers import parse_sampler as parse_sampler
    from toolkit.generation.samples import Completion as Completion
    from toolkit.generation.samples import TokenLogprob as TokenLogprob
    from toolkit.generation.scoring import Score as Score
    from toolkit.generation.scoring import ScoredToken as ScoredToken
    from toolkit.generation.scoring import score_ids as score_ids
    from toolkit.generation.scoring import score_text as score_text
    from toolkit.generation.seeds import fresh_seed as fresh_seed
    from toolkit.generation.seeds import sample_seed as sample_seed
    from toolkit.generation.speculation import Speculation as Speculation
    from toolkit.generation.strategies import PROCESSORS as PROCESSORS
    from toolkit.generation.strategies import STRATEGIES as STRATEGIES
    from toolkit.generation.strategies import Step as Step
    from toolkit.generation.strategies import Strategy as Strategy
    from toolkit.generation.strategies import available_strategies as available_strategies
    from toolkit.generation.streaming import StopScanner as StopScanner
    from toolkit.generation.translation import Translator as Translator

_HOME = {
    "batching": (
        "Batch",
        "Progress",
        "Text",
    ),
    "beams": (
        "BeamSearch",
        "Hypothesis",
        "parse_early_stopping",
    ),
    "constraints": (
        "Constraint",
        "matching_json_schema",
        "matching_regex",
    ),
    "contexts": ("Context",),
    "contrastive": ("ContrastiveSearch",),
    "cutoffs": (
        "EpsilonCutoff",
        "EtaCutoff",
        "MinP",
        "Typical",
    ),
    "generator": ("Generator",),
    "options": (
        "SamplingOptions",
        "TextOptions",
        "with_default_temperature",
    ),
    "penalties": (
        "Forbidden",
        "Forced",
        "FrequencyPenalty",
        "LogitBias",
        "NoRepeatNgram",
        "PresencePenalty",
        "RepetitionPenalty",
    ),
    "prompts": ("read_prompts",),
    "requests": ("Request",),
    "samplers": (
        "ContextProcessor",
        "Greedy",
        "LogitsProcessor",
        "Sampler",
        "Temperature",
        "TopK",
        "TopP",
        "make_sampler",
        "parse_sampler",
    ),
    "samples": (
        "Completion",
        "TokenLogprob",
    ),
    "seeds": (
        "fresh_seed",
        "sample_seed",
    ),
    "scoring": (
        "Score",
        "ScoredToken",
        "score_ids",
        "score_text",
    ),
    "speculation": ("Speculation",),
    "strategies": (
        "PROCESSORS",
        "STRATEGIES",
        "Step",
        "Strategy",
        "available_strategies",
    ),
    "streaming": ("StopScanner",),
    "translation": ("Translator",),
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'toolkit.generation' has no attribute '{name}'")
    return getattr(importlib.import_module(f"toolkit.generation.{_WHERE[name]}"), name)
