"""Hugging Face's weights in and out: GPT, GPT-2, Llama, Mistral and Qwen3.

A `GPTModel` whose parts are those of one of these models is that model, number for number: only
the names differ, the GPTs keep their matrices transposed, and the others keep apart what is one
matrix here. One table (`stored_tensors`) says which rows of which parameter are which tensor of the
file; it is read in both directions, so the two cannot disagree. Layouts as in transformers 4.51 to
5.x; their configurations are in `hf_configs`.

Left out: quantised weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.models.base import LanguageModel
from toolkit.models.gpt import GPTModel
from toolkit.models.hf_configs import config_from_hf, hf_layout

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


def stored_tensors(model: LanguageModel, layout: str | None) -> dict[str, StoredTensor]:
    """What a weights file holds for `model`: under the names of a Hugging Face layout that fits
    it, or under our own (None). A tied head is the embedding and not stored again."""
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
    return {name: stored.read() for name, stored in stored_tensors(model, layout).items()}


def from_hf(config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> GPTModel:
    """A model from a Hugging Face config.json and its weights, in float32, on the CPU.

    Raises:
        UsageError: a model or feature that is not supported, or weights that are missing,
            unexpected or of another shape; the message names them as the file does.
    """
    model = GPTModel(config_from_hf(config), init=False)
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
    found = dict(state_dict) if layout is None else _normalise(state_dict, expected)
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
    if _HEAD in found and _HEAD not in expected:
        if embedding in found and not torch.equal(found[_HEAD], found[embedding]):
            raise UsageError(
                f"tensor {_HEAD} differs from {embedding}, though tie_word_embeddings is true."
            )
        del found[_HEAD]
    return found


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
