"""The encoder-decoder in transformers' layouts: Marian (Junczys-Dowmunt et al. 2018,
arXiv:1804.00344), which is the Transformer of the paper with one matrix for all tokens, and Pegasus
(Zhang et al. 2020, arXiv:1912.08777), the same with norms before each part and at the end.

Only to train beside them (`hf_twin`): their positions are other waves, which are replaced, so that
files of weights stay in our own layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from toolkit.models.encoder_decoder import EncoderDecoderModel
from toolkit.models.encoder_decoder_config import EncoderDecoderConfig
from toolkit.models.interop import StoredTensor, module_tensors, row_tensors

_ACTIVATIONS = {"relu": "relu", "gelu": "gelu_new", "relu2": "relu2"}
_NORM_EPS = 1e-5  # of all their norms


def marian_layout(config: EncoderDecoderConfig) -> str | None:
    """The layout that has a model's parts: "marian", "pegasus" or none."""
    fits = (
        (config.norm, config.norm_eps) == ("layernorm", _NORM_EPS)
        and config.mlp in _ACTIVATIONS
        and config.bias
        and config.tie_embeddings
        and config.source_vocab_size == 0
        and config.n_head * config.head_dim == config.n_embd
    )
    if not fits:
        return None
    return "marian" if config.norm_order == "post" else "pegasus"


def marian_config(config: EncoderDecoderConfig) -> dict[str, Any]:
    """The fields of transformers' `MarianConfig`, or `PegasusConfig`."""
    sides: dict[str, Any] = {}
    for side, layers in (("encoder", config.n_encoder_layer), ("decoder", config.n_layer)):
        sides[f"{side}_layers"] = layers
        sides[f"{side}_attention_heads"] = config.n_head
        sides[f"{side}_ffn_dim"] = config.n_inner
    return {
        **sides,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.block_size,
        "d_model": config.n_embd,
        "activation_function": _ACTIVATIONS[config.mlp],
        "dropout": config.dropout,
        "attention_dropout": config.dropout,
        "activation_dropout": 0.0,
        "scale_embedding": True,
        "pad_token_id": config.source_padding_id,
        "eos_token_id": config.end_id,
        "forced_eos_token_id": None,
        "decoder_start_token_id": config.begin_id,
    }


def marian_tensors(model: EncoderDecoderModel) -> Iterator[tuple[str, StoredTensor]]:
    """Where each of Marian's or Pegasus' parameters is in a model that fits."""
    width = model.config.n_embd
    yield "model.shared.weight", StoredTensor(model.tok_emb.weight)
    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        blocks: Any = stack.blocks  # torch types what a ModuleList holds as Module
        for index, block in enumerate(blocks):
            name = f"model.{side}.layers.{index}"
            heads = {"q_proj": width, "k_proj": width, "v_proj": width}
            yield from row_tensors(f"{name}.self_attn", block.attn.qkv, heads)
            yield from module_tensors(f"{name}.self_attn.out_proj", block.attn.proj)
            yield from module_tensors(f"{name}.self_attn_layer_norm", block.norm1)
            if side == "decoder":
                cross = f"{name}.encoder_attn"
                yield from module_tensors(f"{cross}.q_proj", block.cross.q)
                yield from row_tensors(cross, block.cross.kv, {"k_proj": width, "v_proj": width})
                yield from module_tensors(f"{cross}.out_proj", block.cross.proj)
                yield from module_tensors(f"{cross}_layer_norm", block.cross_norm)
            yield from module_tensors(f"{name}.fc1", block.mlp.up)
            yield from module_tensors(f"{name}.fc2", block.mlp.down)
            yield from module_tensors(f"{name}.final_layer_norm", block.norm2)
        if stack.norm is not None:
            yield from module_tensors(f"model.{side}.layer_norm", stack.norm)


def set_positions(hf: Any, model: EncoderDecoderModel) -> None:
    """Give the twin the paper's waves, which it has in another order of channels."""
    for stack in (hf.model.encoder, hf.model.decoder):
        table: nn.Embedding = stack.embed_positions
        table.weight.data.copy_(model.sinusoids)
        table.weight.requires_grad_(False)
