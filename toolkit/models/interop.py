"""Hugging Face's weights in and out: GPT, GPT-2, Llama, Mistral, Qwen3, Marian and Pegasus.

A model whose parts are those of one of these models is that model, number for number: only
the names differ, the GPTs keep their matrices transposed, the others keep apart what is one
matrix here, and the last two have the channels in another order. One table (`stored_tensors`) says
which rows of which parameter are which tensor of the file; it is read in both directions, so the
two cannot disagree. Layouts as in transformers 4.51 to 5.x; their configurations are in
`hf_configs`.

The order of channels: Marian and Pegasus have all sines of the positions first, then all cosines,
where the paper's alternate. Nothing else in a model tells one channel of the residual stream from
another, so putting the even channels before the odd ones, in everything that reads or writes the
stream, makes the one model out of the other, with the same logits up to the rounding of sums.

Left out: quantised weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.models.base import LanguageModel
from toolkit.models.encoder_decoder import EncoderDecoderModel
from toolkit.models.gpt import GPTModel
from toolkit.models.hf_configs import config_from_hf, hf_layout
from toolkit.models.registry import build_model

# Buffers that older files hold beside the weights: causal masks and rotary frequencies.
_BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
_HEAD = "lm_head.weight"
_SIDES = ("encoder", "decoder")
# Where one matrix is all of them, a file may hold it more than once.
_COPIES = (_HEAD, *(f"model.{side}.embed_tokens.weight" for side in _SIDES))
_BIAS = "final_logits_bias"  # of Marian's and Pegasus' logits


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file and where it is in the model.

    Attributes:
        parameter: a parameter of the model, or some rows of one: a view that shares its memory.
        transposed: the file holds the transpose.
        halved: the axis along which the file holds the even channels first, then the odd ones.
    """

    parameter: Tensor
    transposed: bool = False
    halved: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the file."""
        shape = tuple(self.parameter.shape)
        return shape[::-1] if self.transposed else shape

    def stored(self) -> Tensor:
        """The tensor as the file holds it, where the parameter is."""
        return self._as_stored().reshape(self.shape)

    def read(self) -> Tensor:
        """The tensor as the file holds it, contiguous, on the CPU."""
        return self.stored().cpu().contiguous()

    def fill(self, stored: Tensor) -> None:
        """Set the parameter from what the file holds, in the parameter's dtype."""
        view = self._as_stored()
        view.copy_(stored.reshape(view.shape))

    def _as_stored(self) -> Tensor:
        """A view of the parameter in the order of the file; a halved axis is two, (2, C/2)."""
        view = self.parameter.detach()
        if self.halved is not None:
            pairs = torch.unflatten(view, self.halved, (-1, 2))  # (…, C/2, 2, …)
            view = pairs.transpose(self.halved, self.halved + 1)
        return view.t() if self.transposed else view


def whole_stream(halved: Tensor) -> Tensor:
    """Channels (…, C) of which the even ones come first, in their own order.

    >>> whole_stream(torch.tensor([0, 2, 4, 1, 3, 5])).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    return torch.unflatten(halved, -1, (2, -1)).transpose(-1, -2).flatten(-2)


def stored_tensors(model: LanguageModel, layout: str | None) -> dict[str, StoredTensor]:
    """What a weights file holds for `model`: under the names of a Hugging Face layout that fits
    it, or under our own (None). A tied head is the embedding and not stored again."""
    if layout is not None and isinstance(model, EncoderDecoderModel):
        return dict(_marian_tensors(model))
    if layout is None or not isinstance(model, GPTModel):
        return {name: StoredTensor(parameter) for name, parameter in model.named_parameters()}
    if layout == "gpt2":
        return dict(_gpt_tensors(model, "wte", "wpe"))
    if layout == "openai-gpt":
        return dict(_gpt_tensors(model, "tokens_embed", "positions_embed"))
    return dict(_llama_tensors(model))


def to_hf_state_dict(model: LanguageModel) -> dict[str, Tensor]:
    """The weights under Hugging Face's names and in its shapes, on the CPU.

    Raises:
        UsageError: no Hugging Face layout has this model's parts.
    """
    layout = hf_layout(model.config)
    if layout is None:
        raise UsageError(
            f"No Hugging Face layout has the parts of this {model.name} model; the presets gpt2 "
            "and modern have one."
        )
    tensors = {name: stored.read() for name, stored in stored_tensors(model, layout).items()}
    return tensors | fixed_tensors(model, layout)


def fixed_tensors(model: LanguageModel, layout: str | None) -> dict[str, Tensor]:
    """What a weights file holds beside the parameters: the positions of Marian and Pegasus."""
    if layout is None or not isinstance(model, EncoderDecoderModel):
        return {}
    waves = StoredTensor(model.sinusoids, halved=1)
    return {f"model.{side}.embed_positions.weight": waves.read() for side in _SIDES}


def from_hf(config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> LanguageModel:
    """A model from a Hugging Face config.json and its weights, in float32, on the CPU.

    Raises:
        UsageError: a model or feature that is not supported, or weights that are missing,
            unexpected or of another shape; the message names them as the file does.
    """
    model = build_model(config_from_hf(config), init=False)
    fill_model(model, state_dict, config["model_type"])
    return model


def fill_model(model: LanguageModel, state_dict: Mapping[str, Tensor], layout: str | None) -> None:
    """Set every parameter of `model` from the tensors of a file: its `model_type` where it is one
    of Hugging Face's, None where it is ours. What a file holds is decided by what it says, for
    which layout we would choose today may change.

    Raises:
        UsageError: tensors are missing, unexpected or of another shape; then none is set.
    """
    expected = stored_tensors(model, layout)
    found = dict(state_dict)
    if layout is not None:
        found = _normalise(state_dict, expected)
        _drop_fixed(found, fixed_tensors(model, layout))
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


def _normalise(
    stored: Mapping[str, Tensor], expected: Mapping[str, StoredTensor]
) -> dict[str, Tensor]:
    """Bring older and hand-made files to the names that are expected."""
    found = {name: tensor for name, tensor in stored.items() if not name.endswith(_BUFFERS)}
    embedding = next(iter(expected))  # every layout's first
    # OpenAI's own files were saved from the inner model, without its name in front.
    outer = "transformer."
    if embedding not in found and embedding.removeprefix(outer) in found:
        found = {name if name == _HEAD else outer + name: tensor for name, tensor in found.items()}
    for copy in _COPIES:
        if copy in found and copy not in expected:
            if embedding in found and not torch.equal(found[copy], found[embedding]):
                raise UsageError(
                    f"tensor {copy} differs from {embedding}, though tie_word_embeddings is true."
                )
            del found[copy]
    return found


def _drop_fixed(found: dict[str, Tensor], fixed: Mapping[str, Tensor]) -> None:
    """Take out what is no parameter, after a look at whether it is what our model has in its place.

    Raises:
        UsageError: other positions, or a bias of the logits.
    """
    for name, ours in fixed.items():
        theirs = found.pop(name, ours)
        # Far above the rounding of bfloat16, far below the difference of any other waves.
        if theirs.shape != ours.shape or not torch.allclose(theirs.float(), ours, atol=1e-2):
            raise UsageError(f"tensor {name} holds other positions than the sinusoids of its size.")
    if fixed and _BIAS in found and bool(found.pop(_BIAS).any()):
        raise UsageError(f"tensor {_BIAS} is not zero, and this model has no bias of its logits.")


def _gpt_tensors(
    model: GPTModel, tokens: str, positions: str
) -> Iterator[tuple[str, StoredTensor]]:
    """Both GPTs: they differ in the names of the embeddings, and the first has no last norm."""
    assert model.pos_emb is not None
    yield from module_tensors(f"transformer.{tokens}", model.tok_emb)
    yield from module_tensors(f"transformer.{positions}", model.pos_emb)
    for index, block in enumerate(_blocks(model)):
        name = f"transformer.h.{index}"
        yield from module_tensors(f"{name}.ln_1", block.norm1)
        yield from module_tensors(f"{name}.attn.c_attn", block.attn.qkv, transposed=True)
        yield from module_tensors(f"{name}.attn.c_proj", block.attn.proj, transposed=True)
        yield from module_tensors(f"{name}.ln_2", block.norm2)
        yield from module_tensors(f"{name}.mlp.c_fc", block.mlp.up, transposed=True)
        yield from module_tensors(f"{name}.mlp.c_proj", block.mlp.down, transposed=True)
    if model.norm is not None:
        yield from module_tensors("transformer.ln_f", model.norm)
    if model.head is not None:
        yield from module_tensors("lm_head", model.head)


def _llama_tensors(model: GPTModel) -> Iterator[tuple[str, StoredTensor]]:
    """Llama, Mistral and Qwen3."""
    assert model.norm is not None
    yield from module_tensors("model.embed_tokens", model.tok_emb)
    for index, block in enumerate(_blocks(model)):
        name, attn, mlp = f"model.layers.{index}", block.attn, block.mlp
        heads = {"q_proj": attn.n_query, "k_proj": attn.n_kv, "v_proj": attn.n_kv}
        yield from module_tensors(f"{name}.input_layernorm", block.norm1)
        yield from row_tensors(f"{name}.self_attn", attn.qkv, heads)
        yield from module_tensors(f"{name}.self_attn.o_proj", attn.proj)
        if attn.q_norm is not None:  # Qwen3 alone
            yield from module_tensors(f"{name}.self_attn.q_norm", attn.q_norm)
            yield from module_tensors(f"{name}.self_attn.k_norm", attn.k_norm)
        n_inner = model.config.n_inner
        yield from module_tensors(f"{name}.post_attention_layernorm", block.norm2)
        yield from row_tensors(
            f"{name}.mlp", mlp.gate_up, {"gate_proj": n_inner, "up_proj": n_inner}
        )
        yield from module_tensors(f"{name}.mlp.down_proj", mlp.down)
    yield from module_tensors("model.norm", model.norm)
    if model.head is not None:
        yield from module_tensors("lm_head", model.head)


def _marian_tensors(model: EncoderDecoderModel) -> Iterator[tuple[str, StoredTensor]]:
    """Marian and Pegasus, which has a norm more on each side."""
    width = model.config.n_embd
    yield from _reading(module_tensors("model.shared", model.tok_emb))
    for side, stack in zip(_SIDES, (model.encoder, model.decoder), strict=True):
        blocks: Any = stack.blocks  # as in `_blocks`
        for index, block in enumerate(blocks):
            name = f"model.{side}.layers.{index}"
            heads = {"q_proj": width, "k_proj": width, "v_proj": width}
            yield from _reading(row_tensors(f"{name}.self_attn", block.attn.qkv, heads))
            yield from _writing(module_tensors(f"{name}.self_attn.out_proj", block.attn.proj))
            yield from _writing(module_tensors(f"{name}.self_attn_layer_norm", block.norm1))
            if side == "decoder":
                cross, of_source = f"{name}.encoder_attn", {"k_proj": width, "v_proj": width}
                yield from _reading(module_tensors(f"{cross}.q_proj", block.cross.q))
                yield from _reading(row_tensors(cross, block.cross.kv, of_source))
                yield from _writing(module_tensors(f"{cross}.out_proj", block.cross.proj))
                yield from _writing(module_tensors(f"{cross}_layer_norm", block.cross_norm))
            yield from _reading(module_tensors(f"{name}.fc1", block.mlp.up))
            yield from _writing(module_tensors(f"{name}.fc2", block.mlp.down))
            yield from _writing(module_tensors(f"{name}.final_layer_norm", block.norm2))
        if stack.norm is not None:
            yield from _writing(module_tensors(f"model.{side}.layer_norm", stack.norm))


def _reading(tensors: Iterable[tuple[str, StoredTensor]]) -> Iterator[tuple[str, StoredTensor]]:
    """Of a layer that reads the stream: the columns of its matrix are channels."""
    for name, stored in tensors:
        yield name, stored if stored.parameter.dim() == 1 else replace(stored, halved=1)


def _writing(tensors: Iterable[tuple[str, StoredTensor]]) -> Iterator[tuple[str, StoredTensor]]:
    """Of a layer that writes the stream, or a norm of it: rows, biases and weights are channels."""
    for name, stored in tensors:
        yield name, replace(stored, halved=0)


def _blocks(model: GPTModel) -> Iterable[Any]:
    # Any: torch types what a ModuleList holds as Module, and a Module's attributes as unknown.
    return model.blocks


def module_tensors(
    name: str, module: nn.Module, *, transposed: bool = False
) -> Iterator[tuple[str, StoredTensor]]:
    """The parameters of a module under its name in the file."""
    for parameter_name, parameter in module.named_parameters():
        yield (
            f"{name}.{parameter_name}",
            StoredTensor(parameter, transposed=transposed and parameter.dim() == 2),
        )


def row_tensors(
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
