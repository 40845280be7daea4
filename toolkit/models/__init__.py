"""Language models: ids in, logits and maybe a loss out.

    model = create_model("gpt", vocab_size=256, preset="modern", size="micro", seed=1)
    logits, loss = model(ids, targets)
    save_pretrained(model, "folder")
    model = load_pretrained("folder")

Every name is imported when it is first used: the names of models, presets and sizes need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.models.adapting import adapt_model as adapt_model
    from toolkit.models.averaging import AverageLoopModel as AverageLoopModel
    from toolkit.models.averaging import AverageMatmulModel as AverageMatmulModel
    from toolkit.models.averaging import AverageSoftmaxModel as AverageSoftmaxModel
    from toolkit.models.averaging import average_loop as average_loop
    from toolkit.models.averaging import average_matmul as average_matmul
    from toolkit.models.averaging import average_softmax as average_softmax
    from toolkit.models.base import LanguageModel as LanguageModel
    from toolkit.models.base import LMOutput as LMOutput
    from toolkit.models.bigram import BigramModel as BigramModel
    from toolkit.models.cache import KVCache as KVCache
    from toolkit.models.config import DEFAULT_PRESET as DEFAULT_PRESET
    from toolkit.models.config import DEFAULT_SIZE as DEFAULT_SIZE
    from toolkit.models.config import PRESETS as PRESETS
    from toolkit.models.config import SIZES as SIZES
    from toolkit.models.config import AverageLoopConfig as AverageLoopConfig
    from toolkit.models.config import AverageMatmulConfig as AverageMatmulConfig
    from toolkit.models.config import AverageSoftmaxConfig as AverageSoftmaxConfig
    from toolkit.models.config import BigramConfig as BigramConfig
    from toolkit.models.config import GPTConfig as GPTConfig
    from toolkit.models.config import ModelConfig as ModelConfig
    from toolkit.models.config import SingleHeadConfig as SingleHeadConfig
    from toolkit.models.encoder_decoder import EncoderDecoderModel as EncoderDecoderModel
    from toolkit.models.encoder_decoder_config import EncoderDecoderConfig as EncoderDecoderConfig
    from toolkit.models.gpt import GPTModel as GPTModel
    from toolkit.models.hf_configs import hf_config as hf_config
    from toolkit.models.interop import from_hf as from_hf
    from toolkit.models.interop import to_hf_state_dict as to_hf_state_dict
    from toolkit.models.pretrained import load_pretrained as load_pretrained
    from toolkit.models.pretrained import save_pretrained as save_pretrained
    from toolkit.models.registry import available_models as available_models
    from toolkit.models.registry import build_model as build_model
    from toolkit.models.registry import config_from_dict as config_from_dict
    from toolkit.models.registry import config_to_dict as config_to_dict
    from toolkit.models.registry import create_model as create_model
    from toolkit.models.registry import make_config as make_config
    from toolkit.models.row_cache import RowCache as RowCache
    from toolkit.models.single_head import SingleHeadModel as SingleHeadModel
    from toolkit.models.single_head import attention_weights as attention_weights
    from toolkit.models.single_head import scaled_scores as scaled_scores
    from toolkit.models.source_cache import SourceCache as SourceCache
    from toolkit.models.stored import WEIGHT_FORMATS as WEIGHT_FORMATS
    from toolkit.models.stored import WeightFormat as WeightFormat
    from toolkit.models.stored import store_weights as store_weights

_HOME = {
    "adapting": ("adapt_model",),
    "averaging": (
        "AverageLoopModel",
        "AverageMatmulModel",
        "AverageSoftmaxModel",
        "average_loop",
        "average_matmul",
        "average_softmax",
    ),
    "base": ("LanguageModel", "LMOutput"),
    "bigram": ("BigramModel",),
    "cache": ("KVCache",),
    "config": (
        "DEFAULT_PRESET",
        "DEFAULT_SIZE",
        "PRESETS",
        "SIZES",
        "AverageLoopConfig",
        "AverageMatmulConfig",
        "AverageSoftmaxConfig",
        "BigramConfig",
        "GPTConfig",
        "ModelConfig",
        "SingleHeadConfig",
    ),
    "encoder_decoder": ("EncoderDecoderModel",),
    "encoder_decoder_config": ("EncoderDecoderConfig",),
    "gpt": ("GPTModel",),
    "hf_configs": ("hf_config",),
    "interop": ("from_hf", "to_hf_state_dict"),
    "pretrained": ("load_pretrained", "save_pretrained"),
    "registry": (
        "available_models",
        "build_model",
        "config_from_dict",
        "config_to_dict",
        "create_model",
        "make_config",
    ),
    "row_cache": ("RowCache",),
    "single_head": ("SingleHeadModel", "attention_weights", "scaled_scores"),
    "source_cache": ("SourceCache",),
    "stored": ("WEIGHT_FORMATS", "WeightFormat", "store_weights"),
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'toolkit.models' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"toolkit.models.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
