"""Text from models: samplers, generation with and without a tokenizer, streaming.

    generator = Generator(model, tokenizer)
    generator.generate("ROMEO:", max_new_tokens=200, top_k=50, seed=1).text

Every name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.generation.generator import Completion as Completion
    from toolkit.generation.generator import Generator as Generator
    from toolkit.generation.generator import SamplingOptions as SamplingOptions
    from toolkit.generation.samplers import Greedy as Greedy
    from toolkit.generation.samplers import LogitsProcessor as LogitsProcessor
    from toolkit.generation.samplers import Sampler as Sampler
    from toolkit.generation.samplers import Temperature as Temperature
    from toolkit.generation.samplers import TopK as TopK
    from toolkit.generation.samplers import TopP as TopP
    from toolkit.generation.samplers import make_sampler as make_sampler
    from toolkit.generation.seeds import fresh_seed as fresh_seed
    from toolkit.generation.seeds import sample_seed as sample_seed
    from toolkit.generation.strategies import STRATEGIES as STRATEGIES
    from toolkit.generation.strategies import Step as Step
    from toolkit.generation.strategies import Strategy as Strategy
    from toolkit.generation.strategies import available_strategies as available_strategies
    from toolkit.generation.streaming import StopScanner as StopScanner

_HOME = {
    "generator": ("Completion", "Generator", "SamplingOptions"),
    "samplers": (
        "Greedy",
        "LogitsProcessor",
        "Sampler",
        "Temperature",
        "TopK",
        "TopP",
        "make_sampler",
    ),
    "seeds": ("fresh_seed", "sample_seed"),
    "strategies": ("STRATEGIES", "Step", "Strategy", "available_strategies"),
    "streaming": ("StopScanner",),
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'toolkit.generation' has no attribute '{name}'")
    return getattr(importlib.import_module(f"toolkit.generation.{_WHERE[name]}"), name)
