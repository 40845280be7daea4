"""Muon: momentum whose direction is made orthogonal, for matrices; AdamW for all else.

    m = m + (1 − β)(g − m),  u = g + β(m − g)          Nesterov's momentum
    W = W − lr · sqrt(max(1, rows / columns)) · U·Vᵀ    where u = U·S·Vᵀ

Every direction of an update then has the same strength, where the gradient's is ruled by a few.
U·Vᵀ is found without a decomposition, by a polynomial in u that pulls all singular values to 1 and
is applied some times (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural
networks"). Embeddings, the head, norms and biases are not matrices in this sense: they get AdamW
(Loshchilov and Hutter 2019) with a learning rate of their own.

Where processes hold shares of a matrix, each puts the update together and does all of the work.

Matrices that a layer keeps as one for speed (queries, keys and values; gate and up) are taken
apart first, and all of one shape are made orthogonal together: on a CPU in some large products
instead of many small ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.training.distributed import place, whole_tensor
from toolkit.training.layer_rates import by_scale

# One polynomial for each round, found numerically to bring small singular values up fast (the
# modded-nanogpt speedruns use these). Jordan's own are the same (3.4445, −4.775, 2.0315) each time.
COEFFICIENTS = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
)
_EPS = 1e-7


def orthogonalize(
    matrices: Tensor,
    coefficients: Sequence[tuple[float, float, float]] = COEFFICIENTS,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Each matrix of a batch with its singular values brought near 1: about U·Vᵀ of U·S·Vᵀ.

    Args:
        matrices: (N, rows, columns).
        coefficients: a, b, c of each round: X becomes aX + b(XXᵀ)X + c(XXᵀ)²X.
        dtype: of the computation; half precision is enough.

    >>> x = orthogonalize(torch.tensor([[[3.0, 0.0], [0.0, 0.5]]]))
    >>> bool((x[0].diagonal() - 1).abs().max() < 0.3)
    True
    """
    x = matrices.to(dtype)
    tall = x.size(-2) > x.size(-1)
    if tall:  # the products below are of the shorter side
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=_EPS)
    for a, b, c in coefficients:
        squared = x @ x.mT
        polynomial = torch.baddbmm(squared, squared, squared, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a, alpha=1.0)
    return (x.mT if tall else x).to(matrices.dtype)


@dataclass(frozen=True)
class Matrix:
    """A parameter that Muon updates.

    Attributes:
        parameter: (rows, columns).
        rows: of each of the matrices that lie one below the other in it.
        transposed: the parameter is (columns, rows) instead, as Hugging Face's GPT-2 keeps it.
    """

    parameter: nn.Parameter
    rows: tuple[int, ...]
    transposed: bool = False


class Muon:
    """Muon for matrices and AdamW for other parameters.

    It has what the trainer needs of an optimizer, and is none of torch's: making one of those
    loads torch's compiler, which takes a second.

    Attributes:
        param_groups: the matrices, then the others, each in one group or in one for each factor
            of the learning rate (`lr_scale`); `lr` of each may be set before a step.
        state: tensors by name for each parameter.
    """

    def __init__(
        self,
        matrices: Sequence[Matrix],
        others: Iterable[nn.Parameter],
        *,
        lr: float,
        lr_of_others: float,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        coefficients: Sequence[tuple[float, float, float]] = COEFFICIENTS,
        dtype: torch.dtype | None = None,
        scale_of: Callable[[Tensor], float] = lambda parameter: 1.0,
    ) -> None:
        """
        Args:
            lr: of the matrices.
            lr_of_others: of the parameters that AdamW updates; they do not decay.
            momentum: β of Muon.
            betas, eps: AdamW's.
            weight_decay: of the matrices, times `lr` each step.
            coefficients: see `orthogonalize`.
            dtype: of `orthogonalize`; None is bfloat16 where the device computes it fast.
            scale_of: what the learning rate of a parameter is multiplied with.
        """
        self._rows: dict[Tensor, tuple[int, ...]] = {m.parameter: m.rows for m in matrices}
        self._transposed = {m.parameter for m in matrices if m.transposed}
        self._momentum = momentum
        self._betas = betas
        self._eps = eps
        self._coefficients = coefficients
        self._dtype = dtype
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        self.param_groups: list[dict[str, Any]] = []
        for scale, parameters in by_scale((m.parameter for m in matrices), scale_of).items():
            group = {"params": parameters, "lr_scale": scale, "weight_decay": weight_decay}
            self.param_groups.append({**group, "lr": lr * scale})
            for parameter in parameters:
                self.state[parameter] = {"momentum": torch.zeros_like(parameter)}
        for scale, parameters in by_scale(others, scale_of).items():
            group = {"params": parameters, "lr_scale": lr_of_others / lr * scale}
            self.param_groups.append({**group, "lr": lr_of_others * scale, "weight_decay": 0.0})
            for parameter in parameters:
                self.state[parameter] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            if parameters[0] in self._rows:
                self._step_matrices(parameters, group)
            else:
                self._step_others(parameters, group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients, or set them to zero."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad.zero_()

    def _step_matrices(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = _gradients(parameters)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - self._momentum)
        updates = list(torch._foreach_lerp(gradients, momenta, self._momentum))

        # All pieces of one shape at once, written back to where they came from.
        pieces: dict[tuple[int, int], list[Tensor]] = {}
        wholes = [whole_tensor(update) for update in updates]
        for parameter, whole in zip(parameters, wholes, strict=True):
            upright = whole.t() if parameter in self._transposed else whole  # (rows, columns)
            for piece in torch.split(upright, list(self._rows[parameter])):
                pieces.setdefault((piece.size(0), piece.size(1)), []).append(piece)
        for (rows, columns), same in pieces.items():
            dtype = self._dtype or fast_dtype(same[0].device)
            batch = orthogonalize(torch.stack(same), self._coefficients, dtype=dtype)
            batch *= math.sqrt(max(1.0, rows / columns))
            torch._foreach_copy_(same, list(batch.unbind()))
        updates = [place(whole, like) for whole, like in zip(wholes, updates, strict=True)]
        lr = group["lr"]
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-lr)

    def _step_others(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = _gradients(parameters)
        states = [self.state[parameter] for parameter in parameters]
        beta1, beta2 = self._betas
        torch._foreach_add_([state["step"] for state in states], 1.0)
        first = [state["exp_avg"] for state in states]
        second = [state["exp_avg_sq"] for state in states]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        step = float(states[0]["step"])  # all have made as many
        roots = torch._foreach_sqrt(second)
        torch._foreach_div_(roots, math.sqrt(1 - beta2**step))
        torch._foreach_add_(roots, self._eps)
        torch._foreach_addcdiv_(parameters, first, roots, -group["lr"] / (1 - beta1**step))


def _gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device has instructions for it, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu":
        has_bfloat16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        return torch.bfloat16 if has_bfloat16() else torch.float32
    return torch.float32
