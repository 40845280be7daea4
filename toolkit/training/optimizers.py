"""Optimizers: which parameters decay, which are matrices for Muon, and which optimizer it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from toolkit.models.hf_twin import Piece
from toolkit.training.config import TrainConfig
from toolkit.training.layer_rates import by_scale, layer_scales
from toolkit.training.muon import Matrix, Muon


class Optimizer(Protocol):
    """What the trainer needs of an optimizer; torch's and ours have it."""

    param_groups: list[dict[str, Any]]

    @property
    def state(self) -> Any: ...

    def step(self) -> Any: ...

    def zero_grad(self, set_to_none: bool = True) -> None: ...


def parameter_groups(
    model: nn.Module, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Matrices decay; embeddings, norms and biases do not.

    Decay is there to keep a linear layer's weights from growing without need; an embedding's row
    is a single vector, and most rows get no gradient in most steps. Each of the two is one group,
    or with a `layer_decay` one for each factor of the learning rate, its `lr_scale`.
    """
    embeddings = _embeddings(model)
    decay: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for parameter in model.parameters():
        matrix = parameter.dim() >= 2 and id(parameter) not in embeddings
        (decay if matrix else rest).append(parameter)
    scale_of = layer_scales(model, layer_decay)
    return [
        {"params": same, "weight_decay": share, "lr_scale": scale}
        for parameters, share in ((decay, weight_decay), (rest, 0.0))
        for scale, same in by_scale(parameters, scale_of).items()
    ]


def hidden_matrices(model: nn.Module) -> list[Matrix]:
    """The matrices between embedding and head, with those that a layer keeps as one taken apart.

    A layer says so with a method `fused_rows`: for the name of a parameter, the rows of each
    matrix in it.
    """
    excluded = _embeddings(model)
    head = getattr(model, "head", None)
    if isinstance(head, nn.Module):
        excluded |= {id(parameter) for parameter in head.parameters()}
    fused: dict[int, tuple[int, ...]] = {}
    for module in model.modules():
        rows_of = getattr(module, "fused_rows", None)
        if rows_of is not None:
            for name, rows in rows_of().items():
                fused[id(module.get_parameter(name))] = rows
    return [
        Matrix(parameter, fused.get(id(parameter), (parameter.size(0),)))
        for parameter in model.parameters()
        if parameter.dim() == 2 and id(parameter) not in excluded
    ]


def _embeddings(model: nn.Module) -> set[int]:
    return {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters()
    }


def make_optimizer(
    model: nn.Module,
    config: TrainConfig,
    pieces: Mapping[nn.Parameter, Sequence[Piece]] | None = None,
) -> Optimizer:
    """The optimizer that the options name.

    "adamw" is AdamW (Loshchilov and Hutter 2019), one fused kernel for all parameters. "muon" is
    Muon for the hidden matrices and AdamW for the rest (`muon.py`).

    With `pieces` it is for a twin's parameters, each of which is treated as the one of the model
    that it is a piece of.
    """
    if pieces is None:
        pieces = {p: [Piece(p, transposed=False, whole=True)] for p in model.parameters()}
    if config.optimizer == "muon":
        matrices = hidden_matrices(model)
        chosen = {id(matrix.parameter) for matrix in matrices}
        others = [p for p in model.parameters() if id(p) not in chosen]
        scale_of = layer_scales(model, config.layer_decay)
        scales = {id(piece.parameter): scale_of(p) for p in pieces for piece in pieces[p]}
        return Muon(
            [_piece_of(matrix, piece) for matrix in matrices for piece in pieces[matrix.parameter]],
            [piece.parameter for other in others for piece in pieces[other]],
            lr=config.learning_rate,
            lr_of_others=config.adam_learning_rate or config.learning_rate / 5,
            momentum=config.momentum,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            scale_of=lambda parameter: scales[id(parameter)],
            dtype=torch.float32 if config.dtype == "float32" else None,
        )
    groups = parameter_groups(model, config.weight_decay, config.layer_decay)
    for group in groups:
        group["lr"] = config.learning_rate * group["lr_scale"]
        group["params"] = [piece.parameter for p in group["params"] for piece in pieces[p]]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True
    )


def _piece_of(matrix: Matrix, piece: Piece) -> Matrix:
    """What Muon is told of a piece: its own rows, or those of the whole where it is all of it."""
    rows = matrix.rows if piece.whole else (piece.parameter.size(0),)
    return Matrix(piece.parameter, rows, piece.transposed)
