"""Hugging Face's layouts in and out: GPT-2, Llama and Qwen3.

A `GPTModel` whose parts are those of one of these models is that model, number for number: only
the names differ, GPT-2 keeps its matrices transposed, and the others keep apart what is one matrix
here. One table (`stored_tensors`) says which rows of which parameter are which tensor of the file;
it is read in both directions, so the two cannot disagree. Layouts as in transformers 4.51 to 5.x.

Left out: scaled rotary positions (Llama 3.1's), sliding windows, quantised weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models.base import LanguageModel
from toolkit.models.config import GPTConfig, ModelConfig, make_gpt_config
from toolkit.models.gpt import GPTModel

HF_MODEL_TYPES = ("gpt2", "llama", "qwen3")
_ARCHITECTURES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
# Buffers that older files hold beside the weights: causal masks and rotary frequencies.
_BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file and where it is in the model.

    Attributes:
        parameter: a parameter of the model, or some rows of one: a view that shares its memory.
        transposed: the file holds the transpose.
    """

    parameter: Tensor
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the file."""
        return tuple(self._as_stored().shape)

    def read(self) -> Tensor:
        """The tensor as the file holds it, contiguous, on the CPU."""
        return self._as_stored().cpu().contiguous()

    def fill(self, stored: Tensor) -> None:
        """Set the parameter from what the file holds, in the parameter's dtype."""
        self._as_stored().copy_(stored)

    def _as_stored(self) -> Tensor:
        detached = self.parameter.detach()
        return detached.t() if self.transposed else detached


# -- which layout --------------------------------------------------------------------------------


def hf_layout(config: ModelConfig) -> str | None:
    """The `model_type` of the Hugging Face model that has the same parts, or None.

    >>> [hf_layout(make_gpt_config(9, preset=preset)) for preset in ("gpt2", "modern")]
    ['gpt2', 'qwen3']
    >>> [hf_layout(make_gpt_config(9, **part)) for part in ({"qk_norm": False}, {"mlp": "gelu"})]
    ['llama', None]
    """
    if not isinstance(config, GPTConfig):
        return None
    square = config.n_head * config.head_dim == config.n_embd
    match (config.norm, config.position, config.mlp, config.qk_norm, config.bias):
        case ("layernorm", "learned", "gelu", False, True):
            return "gpt2" if square and config.n_kv_head == config.n_head else None
        case ("rmsnorm", "rotary", "swiglu", True, False):
            return "qwen3"
        case ("rmsnorm", "rotary", "swiglu", False, _):
            # transformers refuses other widths, though its code would take them.
            return "llama" if config.n_embd % config.n_head == 0 else None
    return None


# -- configurations ------------------------------------------------------------------------------


def hf_config(
    config: ModelConfig,
    *,
    dtype: str = "float32",
    bos_token_id: int | None = None,
    eos_token_id: int | None = None,
) -> dict[str, Any] | None:
    """The config.json that `AutoModelForCausalLM` reads, or None where no layout fits.

    `dtype` names what the weights are stored in. Our one dropout becomes GPT-2's three;
    Llama and Qwen3 know attention's alone.
    """
    layout = hf_layout(config)
    if layout is None or not isinstance(config, GPTConfig):
        return None
    header = {
        "architectures": [_ARCHITECTURES[layout]],
        "model_type": layout,
        # The name before transformers 4.56; later versions read both.
        "torch_dtype": dtype,
        "bos_token_id": bos_token_id,
        "eos_token_id": eos_token_id,
        "tie_word_embeddings": config.tie_embeddings,
        "vocab_size": config.vocab_size,
        "initializer_range": 0.02,
    }
    if layout == "gpt2":
        return {
            **header,
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
        "attention_bias": config.bias,
        "attention_dropout": config.dropout,
        "rms_norm_eps": config.norm_eps,
        # transformers 5 moves this into its new `rope_parameters` when it reads the file.
        "rope_theta": config.rope_theta,
    }
    if layout == "llama":
        return {**values, "mlp_bias": config.bias}
    # Without the null, transformers 4.51 warns of a window that it does not use.
    return {**values, "use_sliding_window": False, "sliding_window": None}


def config_from_hf(values: Mapping[str, Any]) -> GPTConfig:
    """Our configuration of the model that a Hugging Face config.json describes.

    Fields that the file leaves out have the defaults of transformers' config classes.

    Raises:
        UsageError: another model_type, a missing field, or a feature that `GPTModel` lacks; the
            message names the field.
    """
    layout = values.get("model_type")
    if not isinstance(layout, str) or layout not in HF_MODEL_TYPES:
        raise UnknownNameError("model_type", str(layout), HF_MODEL_TYPES)
    _require_absent(values, "quantization_config")
    if layout == "gpt2":
        return _config_from_gpt2(values)
    return _config_from_llama_or_qwen3(values, layout)


def _config_from_gpt2(values: Mapping[str, Any]) -> GPTConfig:
    activation = values.get("activation_function", "gelu_new")
    if activation not in ("gelu_new", "gelu_pytorch_tanh"):
        raise UsageError(
            f"activation_function = {activation!r} is not supported; toolkit reads 'gelu_new'."
        )
    _require(values, "scale_attn_weights", True)
    _require(values, "scale_attn_by_inverse_layer_idx", False)
    _require(values, "add_cross_attention", False)
    return make_gpt_config(
        _take(values, "vocab_size"),
        preset="gpt2",
        block_size=_take(values, "n_positions"),
        n_layer=_take(values, "n_layer"),
        n_head=_take(values, "n_head"),
        n_embd=_take(values, "n_embd"),
        n_inner=values.get("n_inner") or 0,
        dropout=values.get("resid_pdrop", 0.1),
        norm_eps=values.get("layer_norm_epsilon", 1e-5),
        tie_embeddings=values.get("tie_word_embeddings", True),
    )


def _config_from_llama_or_qwen3(values: Mapping[str, Any], layout: str) -> GPTConfig:
    _require(values, "hidden_act", "silu")
    _require(values, "use_sliding_window", False)
    bias = values.get("attention_bias", False)
    if layout == "qwen3":
        _require(values, "attention_bias", False)
    elif values.get("mlp_bias", False) != bias:
        raise UsageError("attention_bias and mlp_bias differ; GPTModel has biases or has none.")
    return make_gpt_config(
        _take(values, "vocab_size"),
        preset="modern",
        block_size=_take(values, "max_position_embeddings"),
        n_layer=_take(values, "num_hidden_layers"),
        n_head=_take(values, "num_attention_heads"),
        n_kv_head=values.get("num_key_value_heads") or 0,
        n_embd=_take(values, "hidden_size"),
        head_dim=values.get("head_dim") or (128 if layout == "qwen3" else 0),
        n_inner=_take(values, "intermediate_size"),
        qk_norm=layout == "qwen3",
        bias=bias,
        dropout=values.get("attention_dropout", 0.0),
        norm_eps=values.get("rms_norm_eps", 1e-6),
        rope_theta=_rope_theta(values),
        tie_embeddings=values.get("tie_word_embeddings", False),
    )


def _rope_theta(values: Mapping[str, Any]) -> float:
    """The base of the rotary frequencies, from where transformers 4 or 5 writes it."""
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise UsageError(f"rope_scaling = {rope!r} is not supported; expected a JSON object.")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise UsageError(f"rope_type = {kind!r} is not supported; toolkit reads 'default'.")
    _require(rope, "partial_rotary_factor", 1.0)
    theta: float = rope.get("rope_theta", values.get("rope_theta", 10000.0))
    return theta


def _take(values: Mapping[str, Any], field: str) -> Any:
    if values.get(field) is None:
        raise UsageError(f"the field {field} is missing.")
    return values[field]


def _require(values: Mapping[str, Any], field: str, supported: Any) -> None:
    if values.get(field, supported) != supported:
        value = values[field]
        raise UsageError(f"{field} = {value!r} is not supported; toolkit reads {supported!r}.")


def _require_absent(values: Mapping[str, Any], field: str) -> None:
    if values.get(field) is not None:
        raise UsageError(f"{field} is not supported; use the weights that are not quantised.")


# -- weights -------------------------------------------------------------------------------------


def stored_tensors(model: LanguageModel) -> dict[str, StoredTensor]:
    """What a weights file holds for `model`: under Hugging Face's names where a layout fits,
    under our own where none does. A tied head is the embedding and not stored again."""
    layout = hf_layout(model.config)
    if layout is None or not isinstance(model, GPTModel):
        return {name: StoredTensor(parameter) for name, parameter in model.named_parameters()}
    pairs = _gpt2_tensors(model) if layout == "gpt2" else _llama_tensors(model)
    return dict(pairs)


def to_hf_state_dict(model: LanguageModel) -> dict[str, Tensor]:
    """The weights under Hugging Face's names and in its shapes, on the CPU.

    Raises:
        UsageError: no Hugging Face layout has this model's parts.
    """
    if hf_layout(model.config) is None:
        raise UsageError(
            f"No Hugging Face layout has the parts of this {model.name} model; the presets gpt2 "
            "and modern have one."
        )
    return {name: stored.read() for name, stored in stored_tensors(model).items()}


def from_hf(config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> GPTModel:
    """A model from a Hugging Face config.json and its weights, in float32, on the CPU.

    Raises:
        UsageError: a model or feature that is not supported, or weights that are missing,
            unexpected or of another shape; the message names them as the file does.
    """
    model = GPTModel(config_from_hf(config), init=False)
    fill_model(model, state_dict)
    return model


def fill_model(model: LanguageModel, state_dict: Mapping[str, Tensor]) -> None:
    """Set every parameter of `model` from the tensors of a file, in `stored_tensors`' layout.

    Raises:
        UsageError: tensors are missing, unexpected or of another shape; then none is set.
    """
    expected = stored_tensors(model)
    found = dict(state_dict)
    if hf_layout(model.config) is not None:
        found = _normalise(found, model)
    missing, unexpected = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing:
        raise UsageError(f"it has no tensor {_names(missing)}; the config asks for it.")
    if unexpected:
        raise UsageError(f"it has tensors that the config does not ask for: {_names(unexpected)}.")
    for name, stored in expected.items():
        shape = tuple(found[name].shape)
        if shape != stored.shape:
            raise UsageError(
                f"tensor {name} has shape {shape}; the config asks for {stored.shape}."
            )
    for name, stored in expected.items():
        stored.fill(found[name])


def _normalise(found: dict[str, Tensor], model: LanguageModel) -> dict[str, Tensor]:
    """Bring older and hand-made files to the names of `stored_tensors`."""
    found = {name: tensor for name, tensor in found.items() if not name.endswith(_BUFFERS)}
    # OpenAI's own GPT-2 files were saved from the inner model, without its name in front.
    if hf_layout(model.config) == "gpt2" and "wte.weight" in found:
        found = {
            name if name == _HEAD else f"transformer.{name}": tensor
            for name, tensor in found.items()
        }
    if _HEAD in found and _HEAD not in stored_tensors(model):
        embedding = "transformer.wte.weight"
        embedding = embedding if embedding in found else "model.embed_tokens.weight"
        if embedding in found and not torch.equal(found[_HEAD], found[embedding]):
            raise UsageError(
                f"tensor {_HEAD} differs from {embedding}, though tie_word_embeddings is true."
            )
        del found[_HEAD]
    return found


def _gpt2_tensors(model: GPTModel) -> Iterator[tuple[str, StoredTensor]]:
    assert model.pos_emb is not None
    yield from _module("transformer.wte", model.tok_emb)
    yield from _module("transformer.wpe", model.pos_emb)
    for index, block in enumerate(_blocks(model)):
        name = f"transformer.h.{index}"
        yield from _module(f"{name}.ln_1", block.norm1)
        yield from _module(f"{name}.attn.c_attn", block.attn.qkv, transposed=True)
        yield from _module(f"{name}.attn.c_proj", block.attn.proj, transposed=True)
        yield from _module(f"{name}.ln_2", block.norm2)
        yield from _module(f"{name}.mlp.c_fc", block.mlp.up, transposed=True)
        yield from _module(f"{name}.mlp.c_proj", block.mlp.down, transposed=True)
    yield from _module("transformer.ln_f", model.norm)
    if model.head is not None:
        yield from _module("lm_head", model.head)


def _llama_tensors(model: GPTModel) -> Iterator[tuple[str, StoredTensor]]:
    yield from _module("model.embed_tokens", model.tok_emb)
    for index, block in enumerate(_blocks(model)):
        name, attn, mlp = f"model.layers.{index}", block.attn, block.mlp
        heads = {"q_proj": attn.n_query, "k_proj": attn.n_kv, "v_proj": attn.n_kv}
        yield from _module(f"{name}.input_layernorm", block.norm1)
        yield from _rows(f"{name}.self_attn", attn.qkv, heads)
        yield from _module(f"{name}.self_attn.o_proj", attn.proj)
        if attn.q_norm is not None:  # Qwen3 alone
            yield from _module(f"{name}.self_attn.q_norm", attn.q_norm)
            yield from _module(f"{name}.self_attn.k_norm", attn.k_norm)
        n_inner = model.config.n_inner
        yield from _module(f"{name}.post_attention_layernorm", block.norm2)
        yield from _rows(f"{name}.mlp", mlp.gate_up, {"gate_proj": n_inner, "up_proj": n_inner})
        yield from _module(f"{name}.mlp.down_proj", mlp.down)
    yield from _module("model.norm", model.norm)
    if model.head is not None:
        yield from _module("lm_head", model.head)


def _blocks(model: GPTModel) -> Iterable[Any]:
    # Any: torch types what a ModuleList holds as Module, and a Module's attributes as unknown.
    return model.blocks


def _module(
    name: str, module: nn.Module, *, transposed: bool = False
) -> Iterator[tuple[str, StoredTensor]]:
    """The parameters of a module under its name in the file."""
    for parameter_name, parameter in module.named_parameters():
        yield (
            f"{name}.{parameter_name}",
            StoredTensor(parameter, transposed=transposed and parameter.dim() == 2),
        )


def _rows(
    name: str, module: nn.Module, rows: Mapping[str, int]
) -> Iterator[tuple[str, StoredTensor]]:
    """The parameters of a fused layer, cut into the rows that the file keeps apart."""
    for parameter_name, parameter in module.named_parameters():
        start = 0
        for part, count in rows.items():
            stored = StoredTensor(parameter[start : start + count])
            yield f"{name}.{part}.{parameter_name}", stored
            start += count


def _names(names: set[str], most: int = 5) -> str:
    shown = sorted(names)[:most]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown) + more
