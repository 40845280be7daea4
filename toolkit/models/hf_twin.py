"""A model's twin: the same configuration and weights in a class of transformers'.

    twin = HuggingFaceTwin(model)
    twin.hf        # a GPT2LMHeadModel, Qwen3ForCausalLM, LlamaForCausalLM, MarianMTModel …
    twin.read()    # what it has learned, back into `model`

What is what in the two is said by the table of `interop`, tensor by tensor.

Left out: models without a counterpart, OpenAI's first GPT, dropout that the counterpart lacks.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.errors import MissingExtraError, UsageError
from toolkit.models.base import LanguageModel
from toolkit.models.config import PRESETS, GPTConfig, ModelConfig, flag
from toolkit.models.encoder_decoder_config import EncoderDecoderConfig
from toolkit.models.hf_configs import hf_config, hf_layout
from toolkit.models.interop import StoredTensor, stored_tensors, whole_stream
from toolkit.models.taps import tap_of

TWIN_LAYOUTS = ("gpt2", "llama", "marian", "mistral", "pegasus", "qwen3")
_PACKAGES = ("transformers", "accelerate")
# What a model of transformers' has by all means, as far as ours can be without; 0: the usual.
_PARTS: dict[type[ModelConfig], tuple[dict[str, Any], ...]] = {
    GPTConfig: (
        {**PRESETS["modern"], "norm_order": "pre"},
        {**PRESETS["gpt2"], "norm_order": "pre", "window": 0, "n_kv_head": 0, "head_dim": 0},
    ),
    EncoderDecoderConfig: (
        {
            "norm": "layernorm", "norm_eps": 1e-5, "mlp": "relu", "bias": True,
            "tie_embeddings": True, "head_dim": 0,
        },
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """A parameter of the twin, and how it lies in one of the model's.

    Attributes:
        parameter: the twin's; its channels may be in another order, which no optimizer minds.
        transposed: it is the transpose.
        whole: it is all of the model's parameter, not some rows of it.
    """

    parameter: nn.Parameter
    transposed: bool
    whole: bool


class HuggingFaceTwin:
    """A model and its twin, which has the model's weights and its device at first.

    Attributes:
        model: ours.
        hf: transformers'. The two share no memory.
    """

    def __init__(self, model: LanguageModel) -> None:
        """
        Raises:
            UsageError, MissingExtraError: as `require_twin`.
        """
        layout = require_twin(model.config)
        self.model = model
        self.hf = _build(model, layout).to(model.device)
        self._stored = stored_tensors(model, layout)
        self._parameters: dict[str, nn.Parameter] = dict(self.hf.named_parameters())
        self.write()

    def tensors(self) -> dict[str, tuple[StoredTensor, nn.Parameter]]:
        """By Hugging Face's names: where each tensor is in the model, and the twin's parameter."""
        return {name: (stored, self._parameters[name]) for name, stored in self._stored.items()}

    @torch.no_grad()
    def write(self) -> None:
        """Give the twin the model's weights."""
        for stored, parameter in self.tensors().values():
            parameter.copy_(stored.read())

    @torch.no_grad()
    def read(self) -> None:
        """Give the model the twin's weights."""
        for stored, parameter in self.tensors().values():
            stored.fill(parameter)

    def in_our_order(self, tap: str, theirs: Tensor) -> Tensor:
        """What a `Tracer` of the twin has read at a tap, with its channels in the model's order."""
        is_stream = tap_of(tap).shape.endswith("C")
        return whole_stream(theirs) if self.model.takes_source and is_stream else theirs

    def inputs(self, ids: Tensor, targets: Tensor, *source: Tensor) -> dict[str, Tensor]:
        """What transformers calls a batch of ours: ids and targets (B, T), and for a model that
        takes one the source (B, S)."""
        labels = targets.contiguous()
        read = {**self.read_inputs(ids, *source), "labels": labels}
        # Shifted already: it would shift `labels`, and have none for the last position.
        return read if source else {**read, "shift_labels": labels}

    def read_inputs(self, ids: Tensor, *source: Tensor) -> dict[str, Tensor]:
        """Of `inputs`, what a forward pass without a loss reads."""
        if not source:
            return {"input_ids": ids}
        seen = source[0] != self.hf.config.pad_token_id
        read = {"input_ids": source[0], "attention_mask": seen.long()}
        return {**read, "decoder_input_ids": ids}

    def loss(self, *batch: Tensor) -> Tensor:
        """The twin's mean cross-entropy for a batch of ours, in nats."""
        loss: Tensor = self.hf(**self.inputs(*batch)).loss
        return loss

    def pieces(self) -> dict[nn.Parameter, list[Piece]]:
        """The twin's parameters for each one of the model's, in its order."""
        found: dict[nn.Parameter, list[Piece]] = {p: [] for p in self.model.parameters()}
        for stored, parameter in self.tensors().values():
            whole = isinstance(stored.parameter, nn.Parameter)
            # Some rows of a parameter are a view, which knows what it is a view of.
            owner: Any = stored.parameter if whole else stored.parameter._base
            found[owner].append(Piece(parameter, stored.transposed, whole))
        return found

    def gradients(self) -> dict[str, tuple[Tensor, Tensor]]:
        """By Hugging Face's names: the model's gradient and the twin's, in the same shape."""
        own = {id(p): p.grad for p in self.model.parameters()}
        found = {}
        for name, (stored, parameter) in self.tensors().items():
            whole = isinstance(stored.parameter, nn.Parameter)
            view: Any = stored.parameter
            gradient = own[id(view if whole else view._base)]
            if gradient is None or parameter.grad is None:
                continue
            if not whole:
                start = view.storage_offset() // gradient[0].numel()
                gradient = gradient[start : start + view.size(0)]
            found[name] = (replace(stored, parameter=gradient).stored(), parameter.grad)
        return found


def require_twin(config: ModelConfig) -> str:
    """The layout of the twin that a model of this configuration has.

    Raises:
        UsageError: there is none.
        MissingExtraError: transformers, or what its Trainer needs, is not installed.
    """
    layout = hf_layout(config)
    if layout not in TWIN_LAYOUTS:
        raise UsageError(f"transformers has no model with these parts. {_what_it_has(config)}")
    dropout = float(getattr(config, "dropout", 0.0))
    if dropout and layout not in ("gpt2", "marian", "pegasus"):
        raise UsageError(
            f"--dropout {dropout:g}: transformers' {layout} drops out attention weights alone, so "
            "it would be another model. Use --dropout 0, or --preset gpt2."
        )
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError("hf", "training by transformers")
    return str(layout)


def _what_it_has(config: ModelConfig) -> str:
    """What to change, for a model that transformers lacks; the least that will do."""
    if getattr(config, "source_vocab_size", 0):
        return "Its encoder-decoders are with one vocabulary for both sides: use --tokenizer."
    changes = []
    for parts in _PARTS.get(type(config), ()):
        with contextlib.suppress(UsageError):  # parts that its numbers do not go with
            changes.append(_changes(config, parts))
    if not changes:
        return "It has gpt's presets, and for a --task the encoder-decoder of the paper."
    least = min(changes, key=len)
    said = [
        _switch(name, value) if isinstance(value, bool) else f"{flag(name)} {value}"
        for name, value in least.items()
    ]
    return f"With {' '.join(said)} it has one."


def _changes(config: ModelConfig, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the `parts` of a model of transformers' that `config` cannot do without."""
    fitting = replace(config, **parts)
    needed = {}
    for name in parts:
        tried = replace(fitting, **{name: getattr(config, name)})
        if hf_layout(tried) in TWIN_LAYOUTS:
            fitting = tried
        else:
            needed[name] = getattr(fitting, name)
    return needed


def _switch(name: str, on: bool) -> str:
    return flag(name) if on else flag(f"no_{name}")


def _build(model: LanguageModel, layout: str) -> Any:
    """The twin with weights that do not matter; torch's random state is as before."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    values = hf_config(model.config) or {}
    # The first is an older name of the last, and all are for files.
    for field in ("torch_dtype", "model_type", "architectures"):
        values.pop(field)
    build: Any = AutoModelForSeq2SeqLM if model.takes_source else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        hf = build.from_config(AutoConfig.for_model(layout, **values))
    if not model.takes_source:
        hf.loss_type = "ForCausalLM"  # as it takes anyway, saying aloud that it had to guess
    return hf
