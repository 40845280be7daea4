"""Weights in fewer bits for generation: matrices are stored in bfloat16 or int8, and computed with
in float32.

A token is as slow as its weights are to read, so half the bytes are nearly twice the speed.

    bfloat16   the upper half of a float32: 8 bits of precision, the same range
    int8       w ≈ q · s, q a whole number from −127 to 127, s one float32 for each row (output
               channel), max|w| / 127: symmetric quantisation of weights only, round to nearest
               (as LLM.int8() does for what is no outlier, Dettmers et al. 2022, arXiv:2208.07339)

Stored are the matrices of linear layers, the token embedding and the head. Norms, biases and
position embeddings, a thousandth of the numbers, stay as they are. Left out: computing in int8,
and scales for parts of a row.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models.base import LanguageModel

WeightFormat = Literal["float32", "bfloat16", "int8"]
WEIGHT_FORMATS: tuple[WeightFormat, ...] = ("float32", "bfloat16", "int8")
_LARGEST = 127  # not −128: symmetric


class StoredMatrix(nn.Module):
    """A matrix (N, M) of which few bits are kept.

    Attributes:
        stored: (N, M) in bfloat16 or int8; a parameter, so that it counts and moves as one.
        scales: (N) in float32, what each row is multiplied with.
    """

    scales: Tensor

    def __init__(self, weight: Tensor, weights: WeightFormat) -> None:
        super().__init__()
        stored, scales = round_rows(weight.detach(), weights)
        self.stored = nn.Parameter(stored, requires_grad=False)
        self.register_buffer("scales", scales)

    @property
    def weight(self) -> Tensor:
        """The numbers that are kept, in float32 (N, M); made anew each time."""
        return self.stored.float() * self.scales[:, None]


class StoredLinear(StoredMatrix):
    """`nn.Linear` with a stored matrix."""

    def __init__(self, linear: nn.Linear, weights: WeightFormat) -> None:
        super().__init__(linear.weight, weights)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        product = F.linear(x, self.stored.float()) * self.scales
        return product if self.bias is None else product + self.bias


class StoredEmbedding(StoredMatrix):
    """`nn.Embedding` with a stored matrix."""

    def __init__(self, embedding: nn.Embedding, weights: WeightFormat) -> None:
        super().__init__(embedding.weight, weights)

    def forward(self, ids: Tensor) -> Tensor:
        return self.stored[ids].float() * self.scales[ids][..., None]


def round_rows(weight: Tensor, weights: WeightFormat) -> tuple[Tensor, Tensor]:
    """A matrix (N, M) as (N, M) numbers of few bits and (N) scales in float32.

    >>> stored, scales = round_rows(torch.tensor([[0.5, -1.0, 0.25]]), "int8")
    >>> stored.tolist(), round(scales.item(), 6)
    ([[64, -127, 32]], 0.007874)
    """
    weight = weight.float()
    if weights == "bfloat16":
        return weight.bfloat16(), torch.ones(len(weight), device=weight.device)
    largest = weight.abs().amax(dim=1)
    scales = torch.where(largest > 0, largest / _LARGEST, torch.ones_like(largest))
    return (weight / scales[:, None]).round().to(torch.int8), scales


def store_weights(model: LanguageModel, weights: WeightFormat) -> LanguageModel:
    """A copy of the model with its matrices stored in `weights`, for generation alone: what is
    stored cannot be trained. "float32" gives the model itself.

    On a GPU, which computes in bfloat16 too, that is an ordinary model in this dtype.

    >>> from toolkit.models import create_model
    >>> model = create_model("gpt", 65, size="nano")
    >>> small = store_weights(model, "int8")
    >>> small.blocks[0].attn.qkv.stored.dtype, small.num_params() == model.num_params()
    (torch.int8, True)

    Raises:
        UsageError: another format, or a model that is stored already.
    """
    if weights not in WEIGHT_FORMATS:
        raise UnknownNameError("weight format", str(weights), WEIGHT_FORMATS)
    if weights == "float32":
        return model
    if any(isinstance(module, StoredMatrix) for module in model.modules()):
        raise UsageError("The model's weights are stored in few bits already: give the original.")
    if weights == "bfloat16" and model.device.type != "cpu":
        return copy.deepcopy(model).bfloat16().eval()
    # A matrix that is copied only to be replaced would be held twice, so the copy has the model's
    # own parameters at first, and of those that are left a copy of each.
    own = {id(parameter): parameter for parameter in model.parameters()}
    small = copy.deepcopy(model, memo=dict(own))
    _replace(small, weights)
    for module in small.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in own:
                setattr(module, name, nn.Parameter(parameter.detach().clone(), requires_grad=False))
    return small.eval()


def _replace(module: nn.Module, weights: WeightFormat) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, StoredLinear(child, weights))
        elif isinstance(child, nn.Embedding) and name == "tok_emb":
            setattr(module, name, StoredEmbedding(child, weights))
        else:
            _replace(child, weights)
