"""Models and their configurations. Every name is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.models.base import LanguageModel as LanguageModel
    from toolkit.models.base import LMOutput as LMOutput
    from toolkit.models.bigram import BigramModel as BigramModel
    from toolkit.models.config import PRESETS as PRESETS
    from toolkit.models.config import SIZES as SIZES
    from toolkit.models.config import BigramConfig as BigramConfig
    from toolkit.models.config import GPTConfig as GPTConfig
    from toolkit.models.config import ModelConfig as ModelConfig
    from toolkit.models.gpt import GPTModel as GPTModel
    from toolkit.models.pretrained import load_pretrained as load_pretrained
    from toolkit.models.pretrained import save_pretrained as save_pretrained
    from toolkit.models.registry import available_models as available_models
    from toolkit.models.registry import build_model as build_model
    from toolkit.models.registry import create_model as create_model
    from toolkit.models.registry import make_config as make_config

_WHERE = {
    "LMOutput": "base",
    "LanguageModel": "base",
    "BigramModel": "bigram",
    "PRESETS": "config",
    "SIZES": "config",
    "BigramConfig": "config",
    "GPTConfig": "config",
    "ModelConfig": "config",
    "GPTModel": "gpt",
    "load_pretrained": "pretrained",
    "save_pretrained": "pretrained",
    "available_models": "registry",
    "build_model": "registry",
    "create_model": "registry",
    "make_config": "registry",
}

__all__ = sorted(_WHERE)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'toolkit.models' has no attribute '{name}'")
    return getattr(importlib.import_module(f"toolkit.models.{_WHERE[name]}"), name)
