"""The encoder-decoder in transformers' layouts: Marian (Junczys-Dowmunt et al. 2018,
arXiv:1804.00344), which is the Transformer of the paper with one matrix for all tokens, and Pegasus
(Zhang et al. 2020, arXiv:1912.08777), the same with norms before each part and at the end.

An `EncoderDecoderConfig` whose parts are theirs is written as their config.json, and such a file is
read back into one. The weights are in `interop`. Fields as in transformers 4.51 to 5.x.

Left out: a bias of the logits, sides of different widths, a vocabulary for each side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from toolkit.errors import UsageError
from toolkit.models.encoder_decoder_config import EncoderDecoderConfig
from toolkit.models.hf_fields import require, take

MARIAN_ARCHITECTURES = {"marian": "MarianMTModel", "pegasus": "PegasusForConditionalGeneration"}
"""Their classes by `model_type`."""
_ACTIVATIONS: dict[str, Literal["relu", "gelu", "relu2"]] = {
    "relu": "relu",
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "relu2": "relu2",
}
_NAMES = {"relu": "relu", "gelu": "gelu_new", "relu2": "relu2"}
_NORM_EPS = 1e-5  # of all their norms


def marian_layout(config: EncoderDecoderConfig) -> str | None:
    """The layout that has a model's parts: "marian", "pegasus" or none.

    >>> parts = {"n_layer": 1, "n_embd": 8, "n_head": 2}
    >>> marian_layout(EncoderDecoderConfig(9, **parts))
    'marian'
    >>> marian_layout(EncoderDecoderConfig(9, norm_order="pre", **parts))
    'pegasus'
    >>> marian_layout(EncoderDecoderConfig(9, source_vocab_size=9, **parts))
    """
    fits = (
        (config.norm, config.norm_eps) == ("layernorm", _NORM_EPS)
        and config.mlp in _NAMES
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
        "activation_function": _NAMES[config.mlp],
        "dropout": config.dropout,
        "attention_dropout": config.dropout,
        "activation_dropout": 0.0,
        "scale_embedding": True,
        "tie_word_embeddings": True,
        "is_encoder_decoder": True,
        "bos_token_id": None,
        "pad_token_id": config.padding_id,
        "eos_token_id": config.end_id,
        # Their default would end a text with id 0 where it is cut off.
        "forced_eos_token_id": None,
        "decoder_start_token_id": config.begin_id,
    }


def marian_generation(config: EncoderDecoderConfig) -> dict[str, Any]:
    """The generation_config.json with which transformers' `generate` writes what we do: the
    likeliest tokens, as many as there are positions for, and of the special ids the end alone."""
    values: dict[str, Any] = {
        "pad_token_id": config.padding_id,
        "eos_token_id": config.end_id,
        "decoder_start_token_id": config.begin_id,
        "max_new_tokens": config.block_size,
    }
    unwritten = list(range(config.num_written_ids, config.vocab_size))
    return values | ({"suppress_tokens": unwritten} if unwritten else {})


def config_from_marian(values: Mapping[str, Any]) -> EncoderDecoderConfig:
    """Our configuration of what their config.json describes.

    Raises:
        UsageError: a field is missing, or asks for what our model lacks; the message names it.
    """
    activation = values.get("activation_function", "gelu")
    if activation not in _ACTIVATIONS:
        raise UsageError(
            f"activation_function = {activation!r} is not supported; toolkit reads "
            f"{', '.join(map(repr, _ACTIVATIONS))}."
        )
    require({"scale_embedding": False, **values}, "scale_embedding", True)
    for field, supported in (
        ("share_encoder_decoder_embeddings", True),
        ("tie_word_embeddings", True),
        ("normalize_embedding", False),
    ):
        require(values, field, supported)
    vocab_size = take(values, "vocab_size")
    if values.get("decoder_vocab_size"):
        require(values, "decoder_vocab_size", vocab_size)
    for field in ("attention_heads", "ffn_dim"):
        if take(values, f"encoder_{field}") != take(values, f"decoder_{field}"):
            raise UsageError(
                f"encoder_{field} and decoder_{field} differ; our model has one for both sides."
            )
    end_id = take(values, "eos_token_id")
    if not isinstance(end_id, int):
        raise UsageError(f"eos_token_id = {end_id!r} is not supported; toolkit reads one id.")
    return EncoderDecoderConfig(
        vocab_size=vocab_size,
        block_size=take(values, "max_position_embeddings"),
        n_layer=take(values, "decoder_layers"),
        n_encoder_layer=take(values, "encoder_layers"),
        n_head=take(values, "decoder_attention_heads"),
        n_embd=take(values, "d_model"),
        n_inner=take(values, "decoder_ffn_dim"),
        norm_order="post" if values["model_type"] == "marian" else "pre",
        mlp=_ACTIVATIONS[activation],
        dropout=values.get("dropout", 0.1),
        end_id=end_id,
        begin_id=take(values, "decoder_start_token_id"),
        padding_id=take(values, "pad_token_id"),
    )
