"""One optimizer step: forward and backward of its batches, the gradient's length, new weights.

A step has one batch or, with --grad-accumulation, several, and with several processes some rows of
each. Its loss is the mean over the targets of all of them, wherever they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from toolkit.models import LanguageModel, LMOutput
from toolkit.training.config import TrainConfig
from toolkit.training.devices import autocast, tf32
from toolkit.training.distributed import World, whole_tensor
from toolkit.training.losses import share_of_loss, target_shares, training_losses
from toolkit.training.optimizers import Optimizer
from toolkit.training.randomness import OwnRandom

if TYPE_CHECKING:
    from toolkit.data.training_data import Batch


class DivergenceError(Exception):
    """The loss or the gradient's length is no finite number; the trainer says at which step."""

    def __init__(self, loss: float, norm: float) -> None:
        what = f"The loss is {loss}" if not math.isfinite(loss) else f"The gradient norm is {norm}"
        super().__init__(what)


class OptimizerStep:
    """Changes a model's weights by batches.

    Attributes:
        scaler: of float16's gradients; does nothing in other dtypes.
    """

    def __init__(
        self,
        model: LanguageModel,
        module: nn.Module,
        optimizer: Optimizer,
        config: TrainConfig,
        *,
        dtype: torch.dtype,
        world: World,
        random: OwnRandom,
    ) -> None:
        """
        Args:
            module: what `world` made of the model.
            dtype: of the computation.
            random: what dropout draws from.
        """
        self._model, self._module, self._optimizer = model, module, optimizer
        self._config, self._dtype = config, dtype
        self._world, self._random = world, random
        self._forward: Callable[..., LMOutput] = module
        self.scaler = torch.GradScaler(model.device.type, enabled=dtype == torch.float16)

    def use(self, forward: Callable[..., LMOutput]) -> None:
        """Compute the model by this from now on."""
        self._forward = self._world.compiled(self._module, forward)

    def take(self, batches: list[Batch]) -> tuple[float, float]:
        """Do the step; returns its loss and the gradient's length before it was clipped.

        Raises:
            DivergenceError: one of the two is no finite number, and not because float16 overflowed,
                which leaves the step out.
        """
        total = self._gradients(batches)
        optimizer: Any = self._optimizer  # the scaler's type is torch's own class
        self.scaler.unscale_(optimizer)
        limit = self._config.grad_clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), limit)
        norm = whole_tensor(norm)
        # One reading of both numbers: on a GPU each reading waits for the device.
        loss_value, norm_value = torch.stack([total, norm.to(total.dtype)]).tolist()
        overflow = overflowed(loss_value, norm_value, self.scaler)
        self.scaler.step(optimizer)
        self.scaler.update()
        if overflow and self.scaler.get_scale() < 1.0:
            raise DivergenceError(loss_value, norm_value)  # too large for float16 as they are
        self._optimizer.zero_grad(set_to_none=True)
        return loss_value, norm_value

    def _gradients(self, batches: list[Batch]) -> Tensor:
        """Forward and backward; returns the loss."""
        device = self._model.device
        total = torch.zeros((), device=device)
        shares = target_shares([targets for _, targets, *_ in batches], self._world)
        with self._random.lent(), tf32(device, self._dtype, self._config.tf32):
            for number, (batch, share) in enumerate(zip(batches, shares.unbind(), strict=True), 1):
                x, y, *source = batch
                with self._world.accumulating(self._module, last=number == len(batches)):
                    with autocast(device, self._dtype):
                        loss, plain = training_losses(
                            self._forward, x, y, self._config.label_smoothing, *source
                        )
                    loss = share_of_loss(loss, share)
                    torch.autograd.backward(self.scaler.scale(loss))
                total += share_of_loss(plain.detach(), share)
        return self._world.mean(total)


def overflowed(loss: float, norm: float, scaler: torch.GradScaler) -> bool:
    """Whether float16 has overflowed, which may be.

    Raises:
        DivergenceError: loss or norm is no finite number for another reason.
    """
    overflow = scaler.is_enabled() and not math.isfinite(norm)
    if not math.isfinite(loss) or not (math.isfinite(norm) or overflow):
        raise DivergenceError(loss, norm)
    return overflow
