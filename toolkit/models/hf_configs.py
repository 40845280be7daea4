"""Hugging Face's config.json in and out: GPT, GPT-2, Llama, Mistral, Qwen3, Marian and Pegasus.

A configuration whose parts are those of one of these models is written as that model's config.json;
what such a file says is read back into a `GPTConfig` (of the last two an `EncoderDecoderConfig`,
see `hf_marian`), or refused where our model lacks a part that it asks for. Fields as in
transformers 4.51 to 5.x. The weights are in `interop`.

Left out: scaled rotary positions (Llama 3.1's), layers that differ in their attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models.config import GPTConfig, ModelConfig, make_gpt_config
from toolkit.models.encoder_decoder_config import EncoderDecoderConfig
from toolkit.models.hf_fields import require, take
from toolkit.models.hf_marian import (
    MARIAN_ARCHITECTURES,
    config_from_marian,
    marian_config,
    marian_layout,
)

_ARCHITECTURES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "openai-gpt": "OpenAIGPTLMHeadModel",
    **MARIAN_ARCHITECTURES,
}
HF_MODEL_TYPES = tuple(_ARCHITECTURES)
# What transformers takes where a file does not name the field.
_KV_HEADS_LEFT_OUT = {"llama": 0, "mistral": 8, "qwen3": 32}
_WINDOW_LEFT_OUT = 4096
_FULL_LAYERS_LEFT_OUT = 28
_ACTIVATIONS = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "relu2": "relu2"}


def hf_layout(config: ModelConfig) -> str | None:
    """The `model_type` of the Hugging Face model that has the same parts, or None.

    >>> [hf_layout(make_gpt_config(9, preset=preset)) for preset in ("gpt2", "modern")]
    ['gpt2', 'qwen3']
    >>> parts = {"qk_norm": False}, {"qk_norm": False, "window": 8}, {"mlp": "gelu"}
    >>> [hf_layout(make_gpt_config(9, **part)) for part in parts]
    ['llama', 'mistral', None]
    """
    if isinstance(config, EncoderDecoderConfig):
        return marian_layout(config)
    if not isinstance(config, GPTConfig):
        return None
    match (config.norm, config.position, config.qk_norm):
        case ("layernorm", "learned", False):
            return _gpt_layout(config)
        case ("rmsnorm", "rotary", _):
            return _llama_layout(config)
    return None


def _gpt_layout(config: GPTConfig) -> str | None:
    """The second GPT, or the first: its norms come last, and its MLP has one width."""
    whole = config.n_head * config.head_dim == config.n_embd and config.n_kv_head == config.n_head
    if not whole or not config.bias or config.window or config.mlp == "swiglu":
        return None
    if config.norm_order == "pre":
        return "gpt2"
    usual = config.mlp == "gelu" and config.n_inner == 4 * config.n_embd
    return "openai-gpt" if usual else None


def _llama_layout(config: GPTConfig) -> str | None:
    if config.mlp != "swiglu" or config.norm_order != "pre":
        return None
    if config.qk_norm:
        return None if config.bias else "qwen3"
    # transformers refuses Llamas of other widths, though its code would take them.
    if not config.window and config.n_embd % config.n_head == 0:
        return "llama"
    return None if config.bias else "mistral"


def hf_config(
    config: ModelConfig,
    *,
    dtype: str = "float32",
    bos_token_id: int | None = None,
    eos_token_id: int | None = None,
) -> dict[str, Any] | None:
    """The config.json that `AutoModelForCausalLM` reads (of an encoder-decoder
    `AutoModelForSeq2SeqLM`), or None where no layout fits.

    `dtype` names what the weights are stored in. Our one dropout becomes the three of the GPTs;
    Llama and its kin know attention's alone. The ids that begin and end texts are those of an
    encoder-decoder itself, whatever is given.
    """
    layout = hf_layout(config)
    if layout is None:
        return None
    header: dict[str, Any] = {
        "architectures": [_ARCHITECTURES[layout]],
        "model_type": layout,
        # The name before transformers 4.56; later versions read both.
        "torch_dtype": dtype,
    }
    if isinstance(config, EncoderDecoderConfig):
        return header | marian_config(config)
    if not isinstance(config, GPTConfig):
        return None
    header |= {
        "bos_token_id": bos_token_id,
        "eos_token_id": eos_token_id,
        "tie_word_embeddings": config.tie_embeddings,
        "vocab_size": config.vocab_size,
        "initializer_range": 0.02,
    }
    if layout in ("gpt2", "openai-gpt"):
        gpt = {
            **header,
            "n_positions": config.block_size,
            "n_embd": config.n_embd,
            "n_layer": config.n_layer,
            "n_head": config.n_head,
            "resid_pdrop": config.dropout,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
            "layer_norm_epsilon": config.norm_eps,
        }
        if layout == "openai-gpt":
            return {**gpt, "afn": "gelu"}  # its own name for GPT-2's "gelu_new"
        activation = "relu2" if config.mlp == "relu2" else "gelu_new"
        return {**gpt, "n_inner": config.n_inner, "activation_function": activation}
    values = {
        **header,
        "max_position_embeddings": config.block_size,
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_inner,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "attention_dropout": config.dropout,
        "rms_norm_eps": config.norm_eps,
        # transformers 5 moves this into its new `rope_parameters` when it reads the file.
        "rope_theta": config.rope_theta,
    }
    if layout == "llama":
        return {**values, "attention_bias": config.bias, "mlp_bias": config.bias}
    if layout == "mistral":
        return {**values, "sliding_window": config.window or None}
    values = {**values, "attention_bias": False}
    if config.window:
        # None of the first layers sees everything.
        window = {"sliding_window": config.window, "max_window_layers": 0}
        return {**values, "use_sliding_window": True, **window}
    # Without the null, transformers 4.51 warns of a window that it does not use.
    return {**values, "use_sliding_window": False, "sliding_window": None}


def config_from_hf(values: Mapping[str, Any]) -> GPTConfig | EncoderDecoderConfig:
    """Our configuration of the model that a Hugging Face config.json describes.

    Fields that the file leaves out have the defaults of transformers' config classes.

    Raises:
        UsageError: another model_type, a missing field, or a feature that our model lacks; the
            message names the field.
    """
    layout = values.get("model_type")
    if not isinstance(layout, str) or layout not in HF_MODEL_TYPES:
        raise UnknownNameError("model_type", str(layout), HF_MODEL_TYPES)
    if values.get("quantization_config") is not None:
        raise UsageError(
            "quantization_config is not supported; use the weights that are not quantised."
        )
    if layout in MARIAN_ARCHITECTURES:
        return config_from_marian(values)
    if layout in ("gpt2", "openai-gpt"):
        return _config_from_gpt(values, layout)
    return _config_from_llama(values, layout)


def _config_from_gpt(values: Mapping[str, Any], layout: str) -> GPTConfig:
    activation = values.get("activation_function", "gelu_new")
    if layout == "openai-gpt":
        require(values, "afn", "gelu")
    elif activation not in _ACTIVATIONS:
        raise UsageError(
            f"activation_function = {activation!r} is not supported; toolkit reads 'gelu_new' and "
            "'relu2'."
        )
    require(values, "scale_attn_weights", True)
    require(values, "scale_attn_by_inverse_layer_idx", False)
    require(values, "add_cross_attention", False)
    return make_gpt_config(
        take(values, "vocab_size"),
        preset="gpt2",
        block_size=take(values, "n_positions"),
        n_layer=take(values, "n_layer"),
        n_head=take(values, "n_head"),
        n_embd=take(values, "n_embd"),
        n_inner=(values.get("n_inner") or 0) if layout == "gpt2" else 0,
        mlp=_ACTIVATIONS[activation] if layout == "gpt2" else "gelu",
        norm_order="pre" if layout == "gpt2" else "post",
        dropout=values.get("resid_pdrop", 0.1),
        norm_eps=values.get("layer_norm_epsilon", 1e-5),
        tie_embeddings=values.get("tie_word_embeddings", True),
    )


def _config_from_llama(values: Mapping[str, Any], layout: str) -> GPTConfig:
    require(values, "hidden_act", "silu")
    bias = values.get("attention_bias", False)
    if layout != "llama":
        require(values, "attention_bias", False)
        require(values, "mlp_bias", False)
    elif values.get("mlp_bias", False) != bias:
        raise UsageError("attention_bias and mlp_bias differ; GPTModel has biases or has none.")
    return make_gpt_config(
        take(values, "vocab_size"),
        preset="modern",
        block_size=take(values, "max_position_embeddings"),
        n_layer=take(values, "num_hidden_layers"),
        n_head=take(values, "num_attention_heads"),
        n_kv_head=values.get("num_key_value_heads", _KV_HEADS_LEFT_OUT[layout]) or 0,
        n_embd=take(values, "hidden_size"),
        head_dim=values.get("head_dim") or (128 if layout == "qwen3" else 0),
        n_inner=take(values, "intermediate_size"),
        qk_norm=layout == "qwen3",
        window=_window(values, layout),
        bias=bias,
        dropout=values.get("attention_dropout", 0.0),
        norm_eps=values.get("rms_norm_eps", 1e-6),
        rope_theta=_rope_theta(values),
        tie_embeddings=values.get("tie_word_embeddings", False),
    )


def _window(values: Mapping[str, Any], layout: str) -> int:
    """How far attention sees in every layer; 0 for all of it."""
    if layout == "qwen3":
        return _qwen3_window(values)
    require(values, "use_sliding_window", False)
    if layout == "llama":
        return 0
    require(values, "layer_types", None)
    return values.get("sliding_window", _WINDOW_LEFT_OUT) or 0


def _qwen3_window(values: Mapping[str, Any]) -> int:
    """A Qwen3 says for each layer whether it has the window: in words, or by how many have not."""
    window = 0
    if values.get("use_sliding_window", False):
        window = values.get("sliding_window", _WINDOW_LEFT_OUT) or 0
    kinds = values.get("layer_types")
    if kinds is None:
        full = values.get("max_window_layers", _FULL_LAYERS_LEFT_OUT)
        if not window or full == take(values, "num_hidden_layers"):
            return 0
        if full == 0:
            return window
    elif isinstance(kinds, list):
        distinct = {str(kind) for kind in kinds}
        if distinct == {"full_attention"}:
            return 0
        if distinct == {"sliding_attention"} and window:
            return window
    raise UsageError(
        "layer_types, sliding_window and max_window_layers ask for layers that differ, or for a "
        "window without a length; GPTModel has one window for all layers, or none."
    )


def _rope_theta(values: Mapping[str, Any]) -> float:
    """The base of the rotary frequencies, from where transformers 4 or 5 writes it."""
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise UsageError(f"rope_scaling = {rope!r} is not supported; expected a JSON object.")
    if any(isinstance(value, Mapping) for value in rope.values()):
        raise UsageError("rope_parameters for each kind of layer are not supported.")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise UsageError(f"rope_type = {kind!r} is not supported; toolkit reads 'default'.")
    require({**values, **rope}, "partial_rotary_factor", 1.0)
    theta: float = rope.get("rope_theta", values.get("rope_theta", 10000.0))
    return theta
