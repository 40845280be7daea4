"""`--backend huggingface`: the same training through transformers' own model class and `Trainer`.

The configuration, the weights at the start, the batches and their order, the optimizer and the
learning rates are those of our own training. What computes is transformers: the model is its twin
(`toolkit.models.hf_twin`), and each step is one of its Trainer's (`transformers_loop`). Everything
between the steps is ours: evaluation, samples, internals, checkpoints and the saved weights are of
the twin's weights, read back into our model, so that a run folder is like any other.

Left out: --compile, --parallel fsdp.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from torch import nn

from toolkit.models.hf_twin import HuggingFaceTwin
from toolkit.training.backends import refuse_options
from toolkit.training.events import CheckpointSaved, Event
from toolkit.training.optimizer_step import DivergenceError, overflowed
from toolkit.training.optimizers import Optimizer, make_optimizer
from toolkit.training.trainer import Trainer
from toolkit.training.transformers_loop import LoopOptions, TransformersLoop

if TYPE_CHECKING:
    from toolkit.data.training_data import Batch


class HuggingFaceTrainer(Trainer):
    """A `Trainer` whose steps are transformers'.

    Attributes:
        twin: the model that is trained, beside `model`, which has its weights whenever it is
            looked at.
    """

    twin: HuggingFaceTwin
    _loop_of_transformers: TransformersLoop | None = None
    _behind = False  # whether the twin has learned what the model does not have yet

    @property
    def trained(self) -> nn.Module:
        """The twin: the optimizer's names in a checkpoint are Hugging Face's."""
        hf: nn.Module = self.twin.hf
        return hf

    def run(self) -> Iterator[Event]:
        """As `Trainer.run`; transformers' loop ends with it."""
        try:
            yield from super().run()
        finally:
            self.close()

    def close(self) -> None:
        """End transformers' loop; another step would begin a new one."""
        if self._loop_of_transformers is not None:
            self._loop_of_transformers.close()
            self._loop_of_transformers = None

    def load_checkpoint(self) -> None:
        """As `Trainer.load_checkpoint`, and the twin gets the weights."""
        super().load_checkpoint()
        self.twin.write()

    def _prepare(self) -> tuple[nn.Module, Optimizer]:
        refuse_options(self.config, self.device, alone=self._world.size == 1)
        # Of several processes, all go on with the first one's weights: accelerate sees to that.
        self.twin = HuggingFaceTwin(self.model)
        if self.config.gradient_checkpointing:
            _checkpoint_gradients(self.twin.hf)
        return self.model, make_optimizer(self.model, self.config, self.twin.pieces())

    def _update(self, batches: list[Batch]) -> tuple[float, float]:
        with self._random.lent(), self._tf32():
            loop = self._loop_of_transformers or self._start_loop()
            loss, norm = loop.step(batches)
        self._behind = True
        value = float(self._world.mean(loss))
        if overflowed(value, norm, self._scaler) and self._scaler.get_scale() < 1.0:
            raise DivergenceError(value, norm)
        if self.average is not None:
            self._catch_up()
        return value, norm

    def _start_loop(self) -> TransformersLoop:
        config = self.config
        with self._random.lent(keep=False):  # transformers seeds what is the caller's
            loop = TransformersLoop(
                self.twin,
                self.optimizer,
                LoopOptions(
                    device=self.device,
                    dtype=self.dtype,
                    grad_accumulation=config.grad_accumulation,
                    grad_clip=config.grad_clip,
                    label_smoothing=config.label_smoothing,
                    batch_size=config.batch_size // self._world.size,
                    seed=config.seed + self._world.rank,
                ),
            )
        if loop.scaler is not None:
            loop.scaler.load_state_dict(self._scaler.state_dict())
            self._stepper.scaler = loop.scaler
        self._loop_of_transformers = loop
        return loop

    def _catch_up(self) -> None:
        if self._behind:
            self.twin.read()
            self._behind = False

    def _averaged(self) -> AbstractContextManager[None]:
        self._catch_up()
        return super()._averaged()

    def _checkpoint(self) -> CheckpointSaved:
        self._catch_up()
        return super()._checkpoint()

    def _compiles(self) -> bool:
        return False


def _checkpoint_gradients(model: nn.Module) -> None:
    # transformers has given it another name; the old one warns.
    name = "activation_checkpointing_enable"
    enable: Any = getattr(model, name, None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
