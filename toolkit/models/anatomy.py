"""Where the parts of a model are, whichever class it is of: ours, or one of Hugging Face's.

`anatomy_of(model)` finds the modules by the names that each class gives them. Tracing, ablation and
the logit lens read models through it, so that none of them asks which class it has before it.
Hugging Face's models are known by the name of their class: transformers is not imported.

`anatomy_of` is for models of one stack of layers; `stacks_of` for those of two as well. Left out:
models whose layers differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.models.averaging import AveragingModel
from toolkit.models.bigram import BigramModel
from toolkit.models.encoder_decoder import EncoderDecoderModel, Stack
from toolkit.models.gpt import GPTModel
from toolkit.models.layers import MLP
from toolkit.models.single_head import SingleHeadModel

_GPT2_CLASSES = ("GPT2LMHeadModel",)
_LLAMA_CLASSES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen3ForCausalLM")
_MARIAN_CLASS = "MarianMTModel"  # the norms after each sum
_PEGASUS_CLASS = "PegasusForConditionalGeneration"  # the norms before each part


@dataclass(frozen=True)
class LayerParts:
    """The modules of one layer.

    Attributes:
        attn: the attention, whose call holds the product of queries and keys.
        proj: what mixes the heads; its input is (B, T, H·D), head after head.
        up: the module or modules (gate, up) whose outputs the nonlinearity joins; one module whose
            output is both, gate first, where they are one matrix.
        down: what brings the MLP's hidden channels back to the stream.
        block, norm1, norm2: themselves.
        mlp: itself, or its last matrix where the MLP is no module of its own.
        cross, cross_norm: of a decoder, its attention to the source, and the norm of that.
    """

    block: nn.Module
    norm1: nn.Module
    attn: nn.Module
    proj: nn.Module
    norm2: nn.Module
    mlp: nn.Module
    up: tuple[nn.Module, ...]
    down: nn.Module
    cross: nn.Module | None = None
    cross_norm: nn.Module | None = None


@dataclass(frozen=True)
class Anatomy:
    """The parts of a model that has layers, or of one rung of the ladder below them.

    Attributes:
        kind: "transformer", "single-head", "average" or "bigram".
        n_head, n_kv_head, head_dim: H, G and D.
        block_size: the longest T.
        gated: whether the MLP multiplies two projections.
        post: whether norms come after the sum with the stream.
        activation: the name of the MLP's nonlinearity.
        tok_emb: its output is (B, T, C), or the logits of a bigram.
        token_scale: what the token's row is multiplied with.
        pos_emb: a module that is called for positions (Hugging Face's GPT-2), else None.
        positions: gives (T, C) that is added to the tokens, for a T; None where nothing is.
        position: "learned", "sinusoidal", "rotary", "alibi" or "none".
        window: how many positions attention sees, its own included; 0 for all before it.
        summed: its input is the sum of the embeddings.
        layers: of a transformer.
        norm: the last one, or None.
        head: gives logits (…, V) for the stream (…, C) after the last norm.
    """

    kind: str
    n_head: int
    n_kv_head: int
    head_dim: int
    block_size: int
    tok_emb: nn.Embedding
    head: Callable[[Tensor], Tensor]
    gated: bool = False
    post: bool = False
    activation: str = ""
    token_scale: float = 1.0
    pos_emb: nn.Module | None = None
    positions: Callable[[int], Tensor] | None = None
    position: str = "none"
    window: int = 0
    summed: nn.Module | None = None
    layers: tuple[LayerParts, ...] = field(default=())
    norm: nn.Module | None = None

    @property
    def n_layer(self) -> int:
        """How many layers have attention weights."""
        return {"transformer": len(self.layers), "bigram": 0}.get(self.kind, 1)

    def logits(self, stream: Tensor) -> Tensor:
        """What the model would say if the stream (…, C) were the last one: (…, V)."""
        return self.head(stream if self.norm is None else self.norm(stream))


def anatomy_of(model: nn.Module) -> Anatomy:
    """Find the parts of a model.

    Raises:
        UsageError: a class that is not known.
    """
    if isinstance(model, GPTModel):
        return _gpt(model)
    if isinstance(model, SingleHeadModel):
        return _single_head(model)
    if isinstance(model, AveragingModel):
        return _average(model)
    if isinstance(model, BigramModel):
        config = model.config
        return Anatomy("bigram", 0, 0, 0, config.block_size, model.table, head=lambda x: x)
    name = type(model).__name__
    if isinstance(model, EncoderDecoderModel) or name in (_MARIAN_CLASS, _PEGASUS_CLASS):
        raise UsageError(
            "An encoder-decoder has two stacks of layers, and this reads one: use a PairInspector, "
            "walk_pair, or a Tracer."
        )
    if name in _GPT2_CLASSES:
        return _huggingface_gpt2(model)
    if name in _LLAMA_CLASSES:
        return _huggingface_llama(model)
    known = ", ".join((*_GPT2_CLASSES, *_LLAMA_CLASSES, _MARIAN_CLASS, _PEGASUS_CLASS))
    raise UsageError(f"A {name} cannot be looked into; expected a model of toolkit's, or {known}.")


def stacks_of(model: nn.Module) -> dict[str, Anatomy]:
    """The parts of each stack of layers, by what stands before its names: "encoder." and
    "decoder.", or "" where there is one.

    Raises:
        UsageError: a class that is not known.
    """
    if isinstance(model, EncoderDecoderModel):
        return {"encoder.": _stack(model, model.encoder), "decoder.": _stack(model, model.decoder)}
    if type(model).__name__ in (_MARIAN_CLASS, _PEGASUS_CLASS):
        return {f"{side}.": _huggingface_marian(model, side) for side in ("encoder", "decoder")}
    return {"": anatomy_of(model)}


def _stack(model: EncoderDecoderModel, stack: Stack) -> Anatomy:
    config = model.config
    head = model.tok_emb if model.head is None else model.head
    return Anatomy(
        kind="transformer",
        n_head=config.n_head,
        n_kv_head=config.n_kv_head,
        head_dim=config.head_dim,
        block_size=config.block_size,
        tok_emb=model.tok_emb,
        head=lambda x: nn.functional.linear(x, head.weight),
        gated=config.mlp == "swiglu",
        post=config.norm_order == "post",
        activation="silu" if config.mlp == "swiglu" else config.mlp,
        token_scale=model.embedding_scale,
        position="sinusoidal",
        layers=_layers(stack.blocks),
        norm=stack.norm,
    )


def _layers(blocks: Any) -> tuple[LayerParts, ...]:  # torch types what a ModuleList holds as Module
    layers = []
    for block in blocks:
        up = block.mlp.up if isinstance(block.mlp, MLP) else block.mlp.gate_up
        parts = (block.norm1, block.attn, block.attn.proj, block.norm2, block.mlp)
        layers.append(
            LayerParts(
                block,
                *parts,
                up=(up,),
                down=block.mlp.down,
                cross=getattr(block, "cross", None),
                cross_norm=getattr(block, "cross_norm", None),
            )
        )
    return tuple(layers)


def _gpt(model: GPTModel) -> Anatomy:
    config = model.config
    table = model.pos_emb.weight if model.pos_emb is not None else model.sinusoids
    head = model.tok_emb if model.head is None else model.head
    return Anatomy(
        kind="transformer",
        n_head=config.n_head,
        n_kv_head=config.n_kv_head,
        head_dim=config.head_dim,
        block_size=config.block_size,
        tok_emb=model.tok_emb,
        head=lambda x: nn.functional.linear(x, head.weight),
        gated=config.mlp == "swiglu",
        post=config.norm_order == "post",
        activation="silu" if config.mlp == "swiglu" else config.mlp,
        token_scale=model.embedding_scale,
        positions=None if table is None else lambda t: table[:t],
        position=config.position,
        window=config.window,
        summed=model.dropout,
        layers=_layers(model.blocks),
        norm=model.norm,
    )


def _single_head(model: SingleHeadModel) -> Anatomy:
    config = model.config
    table = None if model.pos_emb is None else model.pos_emb.weight
    return Anatomy(
        kind="single-head",
        n_head=1,
        n_kv_head=1,
        head_dim=config.head_dim,
        block_size=config.block_size,
        tok_emb=model.tok_emb,
        head=model.head,
        positions=None if table is None else lambda t: table[:t],
        position=config.position,
        summed=model.query,
    )


def _average(model: AveragingModel) -> Anatomy:
    config = model.config
    table = None if model.pos_emb is None else model.pos_emb.weight
    return Anatomy(
        kind="average",
        n_head=1,
        n_kv_head=1,
        head_dim=config.n_embd,
        block_size=config.block_size,
        tok_emb=model.tok_emb,
        head=model.head,
        positions=None if table is None else lambda t: table[:t],
        position=config.position,
        summed=model.value,
    )


def _huggingface_gpt2(model: Any) -> Anatomy:
    config, inner = model.config, model.transformer
    layers = tuple(
        LayerParts(
            block, block.ln_1, block.attn, block.attn.c_proj, block.ln_2, block.mlp,
            up=(block.mlp.c_fc,), down=block.mlp.c_proj,
        )
        for block in inner.h
    )  # fmt: skip
    return Anatomy(
        kind="transformer",
        n_head=config.n_head,
        n_kv_head=config.n_head,
        head_dim=config.n_embd // config.n_head,
        block_size=config.n_positions,
        tok_emb=inner.wte,
        head=model.lm_head,
        activation="gelu" if config.activation_function == "gelu_new" else "f",
        pos_emb=inner.wpe,
        position="learned",
        summed=inner.drop,
        layers=layers,
        norm=inner.ln_f,
    )


def _huggingface_llama(model: Any) -> Anatomy:
    config, inner = model.config, model.model
    heads = config.num_attention_heads
    layers = tuple(
        LayerParts(
            block, block.input_layernorm, block.self_attn, block.self_attn.o_proj,
            block.post_attention_layernorm, block.mlp,
            up=(block.mlp.gate_proj, block.mlp.up_proj), down=block.mlp.down_proj,
        )
        for block in inner.layers
    )  # fmt: skip
    return Anatomy(
        kind="transformer",
        n_head=heads,
        n_kv_head=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        block_size=config.max_position_embeddings,
        tok_emb=inner.embed_tokens,
        head=model.lm_head,
        gated=True,
        activation="silu",
        position="rotary",
        window=getattr(config, "sliding_window", None) or 0,
        summed=inner.embed_tokens,
        layers=layers,
        norm=inner.norm,
    )


def _huggingface_marian(model: Any, side: str) -> Anatomy:
    """One stack of a Marian or a Pegasus, whose MLP is two matrices of the layer itself."""
    config, stack = model.config, getattr(model.model, side)
    heads = getattr(config, f"{side}_attention_heads")
    layers = tuple(
        LayerParts(
            block, block.self_attn_layer_norm, block.self_attn, block.self_attn.out_proj,
            block.final_layer_norm, block.fc2, up=(block.fc1,), down=block.fc2,
            cross=getattr(block, "encoder_attn", None),
            cross_norm=getattr(block, "encoder_attn_layer_norm", None),
        )
        for block in stack.layers
    )  # fmt: skip
    return Anatomy(
        kind="transformer",
        n_head=heads,
        n_kv_head=heads,
        head_dim=config.d_model // heads,
        block_size=config.max_position_embeddings,
        tok_emb=stack.embed_tokens,
        head=lambda x: model.lm_head(x) + model.final_logits_bias,
        post=type(model).__name__ == _MARIAN_CLASS,
        activation={"gelu_new": "gelu"}.get(config.activation_function, config.activation_function),
        token_scale=stack.embed_scale,
        position="sinusoidal",
        layers=layers,
        norm=getattr(stack, "layer_norm", None),
    )
