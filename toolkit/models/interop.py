"""Hugging Face's layouts in and out: what config.json says and what the weights are called.

A `gpt` whose parts are those of GPT-2, Qwen3 or Llama is saved as one, so that transformers, vLLM
and llama.cpp open it with no code of ours. Every other configuration is saved under our own names,
with `model_type` "toolkit-gpt" or "toolkit-bigram".

GPT-2 keeps its linear weights as (in, out), transposed to everyone else's (out, in).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import RunError
from toolkit.models.base import LanguageModel
from toolkit.models.config import GPTConfig, ModelConfig
from toolkit.models.gpt import GPTModel
from toolkit.models.registry import MODELS

OWN_PREFIX = "toolkit-"
StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """One of Hugging Face's model types.

    Attributes:
        architecture: the class that `AutoModelForCausalLM` makes.
        fits: whether a configuration has exactly these parts.
        write_config, read_config: our configuration ↔ the fields of config.json.
        write_weights, read_weights: our state dict ↔ theirs, without a tied head.
    """

    architecture: str
    fits: Callable[[GPTConfig], bool]
    write_config: Callable[[GPTConfig], dict[str, Any]]
    read_config: Callable[[Mapping[str, Any]], GPTConfig]
    write_weights: Callable[[GPTConfig, StateDict], StateDict]
    read_weights: Callable[[GPTConfig, StateDict], StateDict]


def layout_of(config: ModelConfig) -> str | None:
    """The `model_type` of the Hugging Face layout that a configuration fits, or None."""
    if not isinstance(config, GPTConfig):
        return None
    return next((name for name, layout in LAYOUTS.items() if layout.fits(config)), None)


def to_config_json(config: ModelConfig, eos_token_id: int | None = None) -> dict[str, Any]:
    """What config.json holds for a configuration."""
    name = layout_of(config)
    if name is None or not isinstance(config, GPTConfig):
        own = next(name for name, entry in MODELS.items() if entry.config_class is type(config))
        return {"model_type": OWN_PREFIX + own, **dataclasses.asdict(config)}
    layout = LAYOUTS[name]
    return {
        "architectures": [layout.architecture],
        "model_type": name,
        "torch_dtype": "float32",  # transformers 5 reads it too, as `dtype`
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": None,
        "eos_token_id": eos_token_id,
        **layout.write_config(config),
    }


def from_config_json(values: Mapping[str, Any]) -> ModelConfig:
    """The inverse of `to_config_json`, for any config.json of a layout that we know.

    Raises:
        RunError: another kind of model, or a setting that this toolkit does not have.
        KeyError, TypeError, UsageError: fields that are missing or do not fit together.
    """
    kind = str(values.get("model_type"))
    if kind.startswith(OWN_PREFIX) and kind.removeprefix(OWN_PREFIX) in MODELS:
        config_class = MODELS[kind.removeprefix(OWN_PREFIX)].config_class
        return config_class(**{k: v for k, v in values.items() if k != "model_type"})
    if kind in LAYOUTS:
        return LAYOUTS[kind].read_config(values)
    known = [*LAYOUTS, *(OWN_PREFIX + name for name in MODELS)]
    raise RunError(f"model_type '{kind}' is not one that toolkit reads: {', '.join(known)}.")


def to_saved_weights(model: LanguageModel) -> StateDict:
    """The weights under the names that they are saved by; a tied head is left out."""
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    if isinstance(model, GPTModel):
        if model.config.tie_embeddings:
            del state["head.weight"]
        name = layout_of(model.config)
        if name is not None:
            state = LAYOUTS[name].write_weights(model.config, state)
    return {name: tensor.cpu().contiguous() for name, tensor in state.items()}


def from_saved_weights(config: ModelConfig, state: StateDict, kind: str) -> StateDict:
    """The inverse of `to_saved_weights`: our names, the tied head in its place."""
    if isinstance(config, GPTConfig):
        if kind in LAYOUTS:
            state = LAYOUTS[kind].read_weights(config, state)
        if config.tie_embeddings:
            state = {**state, "head.weight": state["tok_emb.weight"]}
    return state


# -- GPT-2 ------------------------------------------------------------------------------------

# Ours and theirs, inside a block; True where theirs is transposed.
_GPT2_BLOCK = (
    ("norm1", "ln_1", False),
    ("attn.qkv", "attn.c_attn", True),
    ("attn.proj", "attn.c_proj", True),
    ("norm2", "ln_2", False),
    ("mlp.up", "mlp.c_fc", True),
    ("mlp.down", "mlp.c_proj", True),
)


def _fits_gpt2(config: GPTConfig) -> bool:
    return (
        (config.norm, config.position, config.mlp) == ("layernorm", "learned", "gelu")
        and config.bias
        and not config.qk_norm
        and config.n_kv_head == config.n_head
        and config.head_dim * config.n_head == config.n_embd
    )


def _write_gpt2_config(config: GPTConfig) -> dict[str, Any]:
    return {
        "n_positions": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": config.n_inner,
        "activation_function": "gelu_new",
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "layer_norm_epsilon": config.norm_eps,
    }


def _read_gpt2_config(values: Mapping[str, Any]) -> GPTConfig:
    _require(values, "activation_function", ("gelu_new", "gelu_pytorch_tanh"), "gelu_new")
    _require(values, "scale_attn_by_inverse_layer_idx", (False,), False)
    return GPTConfig(
        vocab_size=values["vocab_size"],
        block_size=values["n_positions"],
        n_layer=values["n_layer"],
        n_head=values["n_head"],
        n_embd=values["n_embd"],
        n_inner=values.get("n_inner") or 0,
        norm="layernorm",
        position="learned",
        qk_norm=False,
        mlp="gelu",
        bias=True,
        tie_embeddings=values.get("tie_word_embeddings", True),
        dropout=values.get("resid_pdrop", 0.0),
        norm_eps=values.get("layer_norm_epsilon", 1e-5),
    )


def _gpt2_names(config: GPTConfig) -> list[tuple[str, str, bool]]:
    names = [
        ("tok_emb.weight", "transformer.wte.weight", False),
        ("pos_emb.weight", "transformer.wpe.weight", False),
        ("norm.weight", "transformer.ln_f.weight", False),
        ("norm.bias", "transformer.ln_f.bias", False),
    ]
    for layer in range(config.n_layer):
        for ours, theirs, transposed in _GPT2_BLOCK:
            own, other = f"blocks.{layer}.{ours}", f"transformer.h.{layer}.{theirs}"
            names.append((f"{own}.weight", f"{other}.weight", transposed))
            names.append((f"{own}.bias", f"{other}.bias", False))
    if not config.tie_embeddings:
        names.append(("head.weight", "lm_head.weight", False))
    return names


def _write_gpt2_weights(config: GPTConfig, state: StateDict) -> StateDict:
    return {
        theirs: state[ours].t() if transposed else state[ours]
        for ours, theirs, transposed in _gpt2_names(config)
    }


def _read_gpt2_weights(config: GPTConfig, state: StateDict) -> StateDict:
    # The published GPT-2 files have no prefix.
    prefix = "" if "wte.weight" in state else "transformer."
    found = {}
    for ours, theirs, transposed in _gpt2_names(config):
        tensor = state[theirs if prefix else theirs.removeprefix("transformer.")]
        found[ours] = tensor.t() if transposed else tensor
    return found


# -- Qwen3 and Llama --------------------------------------------------------------------------

_LLAMA_BLOCK = (
    ("norm1.weight", "input_layernorm.weight"),
    ("attn.proj.weight", "self_attn.o_proj.weight"),
    ("norm2.weight", "post_attention_layernorm.weight"),
    ("mlp.down.weight", "mlp.down_proj.weight"),
)
_QK_NORMS = (
    ("attn.q_norm.weight", "self_attn.q_norm.weight"),
    ("attn.k_norm.weight", "self_attn.k_norm.weight"),
)


def _fits_llama(config: GPTConfig) -> bool:
    parts = (config.norm, config.position, config.mlp)
    return parts == ("rmsnorm", "rotary", "swiglu") and not config.bias


def _write_llama_config(config: GPTConfig) -> dict[str, Any]:
    return {
        "max_position_embeddings": config.block_size,
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_inner,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "attention_bias": False,
        "attention_dropout": config.dropout,
        "initializer_range": 0.02,
        **({"use_sliding_window": False} if config.qk_norm else {"mlp_bias": False}),
    }


def _read_llama_config(values: Mapping[str, Any], *, qk_norm: bool) -> GPTConfig:
    _require(values, "hidden_act", ("silu",), "silu")
    _require(values, "attention_bias", (False,), False)
    _require(values, "mlp_bias", (False,), False)
    _require(values, "use_sliding_window", (False,), False)
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    _require(rope, "rope_type", ("default",), "default")
    return GPTConfig(
        vocab_size=values["vocab_size"],
        block_size=values["max_position_embeddings"],
        n_layer=values["num_hidden_layers"],
        n_head=values["num_attention_heads"],
        n_kv_head=values.get("num_key_value_heads") or 0,
        n_embd=values["hidden_size"],
        head_dim=values.get("head_dim") or 0,
        n_inner=values["intermediate_size"],
        norm="rmsnorm",
        position="rotary",
        qk_norm=qk_norm,
        mlp="swiglu",
        bias=False,
        tie_embeddings=values.get("tie_word_embeddings", False),
        dropout=values.get("attention_dropout", 0.0),
        norm_eps=values.get("rms_norm_eps", 1e-6),
        rope_theta=values.get("rope_theta", rope.get("rope_theta", 10000.0)),
    )


def _llama_names(config: GPTConfig) -> list[tuple[str, str]]:
    names = [
        ("tok_emb.weight", "model.embed_tokens.weight"),
        ("norm.weight", "model.norm.weight"),
    ]
    block = _LLAMA_BLOCK + (_QK_NORMS if config.qk_norm else ())
    for layer in range(config.n_layer):
        for ours, theirs in block:
            names.append((f"blocks.{layer}.{ours}", f"model.layers.{layer}.{theirs}"))
    if not config.tie_embeddings:
        names.append(("head.weight", "lm_head.weight"))
    return names


def _fused_names(layer: int) -> tuple[tuple[str, tuple[str, ...]], ...]:
    attention, mlp = f"model.layers.{layer}.self_attn.", f"model.layers.{layer}.mlp."
    return (
        (f"blocks.{layer}.attn.qkv.weight", tuple(f"{attention}{x}_proj.weight" for x in "qkv")),
        (f"blocks.{layer}.mlp.gate_up.weight", (f"{mlp}gate_proj.weight", f"{mlp}up_proj.weight")),
    )


def _write_llama_weights(config: GPTConfig, state: StateDict) -> StateDict:
    found = {theirs: state[ours] for ours, theirs in _llama_names(config)}
    query, key = config.n_head * config.head_dim, config.n_kv_head * config.head_dim
    for layer in range(config.n_layer):
        (qkv, qkv_parts), (gate_up, gate_up_parts) = _fused_names(layer)
        found.update(zip(qkv_parts, state[qkv].split([query, key, key]), strict=True))
        found.update(zip(gate_up_parts, state[gate_up].chunk(2), strict=True))
    return found


def _read_llama_weights(config: GPTConfig, state: StateDict) -> StateDict:
    found = {ours: state[theirs] for ours, theirs in _llama_names(config)}
    for layer in range(config.n_layer):
        for ours, parts in _fused_names(layer):
            found[ours] = torch.cat([state[part] for part in parts])
    return found


def _require(values: Mapping[str, Any], field: str, allowed: tuple[Any, ...], default: Any) -> None:
    value = values.get(field, default)
    if value is not None and value not in allowed:
        raise RunError(f"{field} = {value!r} is not supported; toolkit reads {allowed[0]!r}.")


LAYOUTS: dict[str, Layout] = {
    "gpt2": Layout(
        "GPT2LMHeadModel",
        _fits_gpt2,
        _write_gpt2_config,
        _read_gpt2_config,
        _write_gpt2_weights,
        _read_gpt2_weights,
    ),
    "qwen3": Layout(
        "Qwen3ForCausalLM",
        lambda config: _fits_llama(config) and config.qk_norm,
        _write_llama_config,
        lambda values: _read_llama_config(values, qk_norm=True),
        _write_llama_weights,
        _read_llama_weights,
    ),
    "llama": Layout(
        "LlamaForCausalLM",
        lambda config: _fits_llama(config) and not config.qk_norm,
        _write_llama_config,
        lambda values: _read_llama_config(values, qk_norm=False),
        _write_llama_weights,
        _read_llama_weights,
    ),
}
