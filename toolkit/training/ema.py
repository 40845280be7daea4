"""The exponential moving average of the weights: less noise than the last step leaves in them.

    average ← average + (1 − d) · (weights − average)        after each step
    d = min(decay, (1 + n) / (10 + n))                       n steps before this one

The average of late steps lies nearer to the middle of a valley than any of them (Polyak and
Juditsky 1992), as if the learning rate had been lower. With a decay of 0.999 it looks back over
some 1000 steps; the second line keeps a short training from averaging in its random start: it looks
back over a tenth of the steps done, until the decay is the shorter of the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from toolkit.errors import RunError
from toolkit.training.distributed import place


class AveragedWeights:
    """The moving average of a model's parameters, by name; `applied` lends it to the model."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._parameters: dict[str, Tensor] = dict(model.named_parameters())
        self._averages = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, steps_before: int) -> None:
        """Take in the weights as they are, after a step."""
        decay = min(self._decay, (1 + steps_before) / (10 + steps_before))
        torch._foreach_lerp_(
            list(self._averages.values()), list(self._parameters.values()), 1 - decay
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A context in which the model has the average for weights; afterwards its own, exactly."""
        own = [parameter.detach().clone() for parameter in self._parameters.values()]
        self._set(list(self._averages.values()))
        try:
            yield
        finally:
            self._set(own)

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        # One by one: shares of tensors cannot be copied all at once.
        for parameter, value in zip(self._parameters.values(), values, strict=True):
            parameter.copy_(value)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages, for a checkpoint."""
        return self._averages

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from the averages of a checkpoint.

        Raises:
            RunError: they are of another model, or there are none.
        """
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if shapes != {name: tensor.shape for name, tensor in self._averages.items()}:
            raise RunError(
                "The checkpoint has no averaged weights of this model, as --ema wants them: it "
                "was written without --ema, or by another model. Start a new run instead."
            )
        for name, average in self._averages.items():
            average.copy_(place(tensors[name], average))
