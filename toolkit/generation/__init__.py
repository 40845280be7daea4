"""Text from models. Every name is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.generation.generator import Completion as Completion
    from toolkit.generation.generator import Generator as Generator
    from toolkit.generation.generator import fresh_seed as fresh_seed
    from toolkit.generation.generator import sample_seed as sample_seed
    from toolkit.generation.samplers import Greedy as Greedy
    from toolkit.generation.samplers import Processor as Processor
    from toolkit.generation.samplers import Sampler as Sampler
    from toolkit.generation.samplers import Temperature as Temperature
    from toolkit.generation.samplers import TopK as TopK
    from toolkit.generation.samplers import TopP as TopP
    from toolkit.generation.samplers import make_sampler as make_sampler
    from toolkit.generation.strategies import available_strategies as available_strategies
    from toolkit.generation.streaming import StreamDecoder as StreamDecoder

_WHERE = {
    "Completion": "generator",
    "Generator": "generator",
    "fresh_seed": "generator",
    "sample_seed": "generator",
    "Greedy": "samplers",
    "Processor": "samplers",
    "Sampler": "samplers",
    "Temperature": "samplers",
    "TopK": "samplers",
    "TopP": "samplers",
    "make_sampler": "samplers",
    "available_strategies": "strategies",
    "StreamDecoder": "streaming",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'toolkit.generation' has no attribute '{name}'")
    return getattr(importlib.import_module(f"toolkit.generation.{_WHERE[name]}"), name)
