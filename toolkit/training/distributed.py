"""More than one process for one training, as torchrun starts them: a copy of the model on each
(`ddp`), or a share of every tensor on each (`fsdp`).

Every process runs the same loop. A `World` is what it needs to know of the others: which rows of
the batch are its own, and the few places where all must agree (the mean of the losses, the clock,
whether somebody asked to stop). A process that is alone has a `World` too, in which each of these
is the thing itself; then nothing of torch.distributed is imported.

    ddp    every process holds the model; gradients are averaged while they are computed
           (Li et al. 2020, "PyTorch Distributed")
    fsdp   every process holds a share of each parameter, gradient and moment; a block's parameters
           are put together only while it computes (Zhao et al. 2023, "PyTorch FSDP"; Rajbhandari
           et al. 2020, "ZeRO")

Names stay those of the model in both, and a checkpoint holds whole tensors: it is the same
whatever number of processes wrote it. torch's own distributed checkpoints keep their index as a
pickle; this one is safetensors and JSON like any other.

Left out: sharing one layer's computation between devices, and pipelines of layers.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from toolkit.errors import RunError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from toolkit.models import LanguageModel

SET_BY_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# How long the others wait while the first one fetches a text and trains a tokenizer.
_PATIENCE = timedelta(days=1)


def launched() -> bool:
    """Whether torchrun, or something that sets the same variables, started this process."""
    return all(name in os.environ for name in SET_BY_TORCHRUN)


def is_main() -> bool:
    """Whether this process is alone or the first of its world: the one that writes and talks."""
    return not launched() or os.environ["RANK"] == "0"


def first_to_fail() -> bool:
    """Whether no other process of this world has asked before: its error is the one to show.

    The others fail soon after for want of it, or for the same reason.
    """
    if not launched():
        return True
    import torch.distributed as dist

    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]  # public, but not in its __all__
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=5),
        )
        # torchrun keeps the store while it starts processes again after a failure.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return bool(store.add(f"toolkit/failed/{attempt}", 1) == 1)
    except (RuntimeError, ValueError):
        return True  # rather twice than never


def join_world(parallel: str = "auto", device: str = "auto") -> World:
    """The world of this process; under torchrun it meets the others here.

    Args:
        parallel: "ddp" or "fsdp"; "auto" is "ddp" under torchrun.
        device: as in `TrainConfig`; under torchrun "cuda" is the GPU of the process's own.

    Raises:
        UsageError: "ddp" or "fsdp" without torchrun, or a device that the process cannot have.
        RunError: the others cannot be reached.
    """
    if not launched():
        if parallel != "auto":
            raise UsageError(
                f"--parallel {parallel} trains with several processes, which torchrun starts: "
                f"torchrun --nproc-per-node 2 -m toolkit train --parallel {parallel} …"
            )
        return World()
    import torch
    import torch.distributed as dist

    own = _own_device(device)
    if not dist.is_initialized():
        if own.type == "cuda":
            torch.cuda.set_device(own)
        try:
            dist.init_process_group("nccl" if own.type == "cuda" else "gloo")
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(f"The processes of this training did not meet: {reason}") from error
        atexit.register(_leave)
    return ShardedWorld(own) if parallel == "fsdp" else ReplicatedWorld(own)


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _own_device(name: str) -> torch.device:
    import torch

    from toolkit.training.devices import resolve_device

    if name == "auto" and not torch.cuda.is_available():
        name = "cpu"
    device = resolve_device(name)
    if device.type == "mps":
        raise UsageError("--device mps trains in one process alone: leave torchrun out.")
    if device.type == "cpu":
        return device
    if device.index is not None:
        raise UsageError(
            f"--device {name} is one GPU, and torchrun's processes have one each: use cuda."
        )
    number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= there:
        raise UsageError(
            f"Process {number + 1} of this machine has no GPU: there are {there}. Start it with "
            f"--nproc-per-node {there}, or train with --device cpu."
        )
    return torch.device("cuda", number)


def whole_tensor(tensor: Tensor) -> Tensor:
    """A tensor of which each process may hold a share, as one; all have to ask for it."""
    whole = getattr(tensor, "full_tensor", None)  # without importing what a lone process lacks
    return tensor if whole is None else whole()


def place(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which every process has, on the device of `like` and divided as that is."""
    if not hasattr(like, "full_tensor"):
        return tensor.to(like.device)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(
        tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )


class World:
    """A process that is alone. Every method does for all processes what its text says.

    Where others are there too, all of them have to call the same methods in the same order.

    Attributes:
        rank: the number of this process among all.
        size: how many there are.
        takes_compiled: whether there is `compiled`.
    """

    rank = 0
    size = 1
    takes_compiled = True

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device of this process, where the options name `name`.

        Raises:
            UsageError: there is no such device.
        """
        from toolkit.training.devices import resolve_device

        return resolve_device(name)

    def rows(self, batch_size: int) -> slice:
        """Which rows of a batch are this process's.

        Raises:
            UsageError: the batch cannot be divided.
        """
        if batch_size % self.size:
            raise UsageError(
                f"--batch-size {batch_size} cannot be divided between {self.size} processes; it "
                "counts the sequences of all of them together."
            )
        own = batch_size // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def prepare(self, model: LanguageModel) -> nn.Module:
        """Make a model ready, before it gets an optimizer; returns what to call in training.

        Every process goes on with the first one's weights.
        """
        return model

    def compiled(self, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        """What to call in training instead of what `prepare` gave, where `forward` computes the
        model faster."""
        return forward

    def accumulating(self, module: nn.Module, *, last: bool) -> AbstractContextManager[object]:
        """A context for one forward and backward: gradients are exchanged after the last alone."""
        return contextlib.nullcontext()

    def evaluated(self, model: LanguageModel) -> None:
        """To be called after forwards without backward."""

    def whole(self, model: LanguageModel) -> LanguageModel | None:
        """The model with whole tensors, to save it or look at it; None where not main."""
        return model

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors in place of shares; only main's result is for use."""
        return tensors

    def gather_random(self, states: dict[str, Tensor]) -> dict[str, Tensor]:
        """The random states of all processes; those of the first under their own names."""
        return states

    def own_random(self, states: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of what `gather_random` gave, the states of this process; empty if it had none."""
        prefix = f"rank{self.rank}/" if self.rank else ""
        own = {
            name.removeprefix(prefix): t for name, t in states.items() if name.startswith(prefix)
        }
        return {name: tensor for name, tensor in own.items() if "/" not in name}

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over the processes."""
        return tensor

    def in_turn(self, numbers: list[float]) -> list[float]:
        """The first number of each process, then the second of each …; all have as many."""
        return numbers

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        return flag

    def same(self, number: float) -> float:
        """The number that the first process has."""
        return number

    def tell(self, text: str) -> str:
        """The text that the first process has; the others wait for it, as long as it takes."""
        return text


class ReplicatedWorld(World):
    """Data parallelism: every process holds the model and computes its rows' gradients."""

    def __init__(self, device: torch.device) -> None:
        import torch.distributed as dist

        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._device = device
        # What the processes tell each other goes from CPU to CPU, whatever computes.
        self._words = dist.new_group(backend="gloo", timeout=_PATIENCE)

    def device(self, name: str) -> torch.device:
        return self._device

    def prepare(self, model: LanguageModel) -> nn.Module:
        from torch.nn.parallel import DistributedDataParallel

        with warnings.catch_warnings():
            # torch 2.13 has another name for broadcast_buffers, which older ones do not know.
            warnings.filterwarnings("ignore", "`broadcast_buffers`")
            return DistributedDataParallel(
                _computed(model), broadcast_buffers=False, gradient_as_bucket_view=True
            )

    def compiled(self, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        # DDP has to be called, which sees to the exchange; what it calls is the faster one.
        object.__setattr__(module.module, "compute", forward)
        return module

    def accumulating(self, module: nn.Module, *, last: bool) -> AbstractContextManager[object]:
        if last:
            return contextlib.nullcontext()
        from torch.nn.parallel import DistributedDataParallel

        assert isinstance(module, DistributedDataParallel)
        return module.no_sync()

    def whole(self, model: LanguageModel) -> LanguageModel | None:
        return model if self.is_main else None

    def gather_random(self, states: dict[str, Tensor]) -> dict[str, Tensor]:
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, states, group=self._words)
        named = dict(states if self.is_main else {})
        for rank, others in enumerate(found[1:], start=1):
            named.update({f"rank{rank}/{name}": tensor for name, tensor in others.items()})
        return named

    def mean(self, tensor: Tensor) -> Tensor:
        import torch.distributed as dist

        dist.all_reduce(tensor)
        return tensor / self.size

    def in_turn(self, numbers: list[float]) -> list[float]:
        import torch
        import torch.distributed as dist

        # Zeros in all places but one's own: the sum is exact.
        places = torch.zeros(len(numbers), self.size, dtype=torch.float64)
        places[:, self.rank] = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(places, group=self._words)
        return places.flatten().tolist()

    def any(self, flag: bool) -> bool:
        return sum(self.in_turn([float(flag)])) > 0

    def same(self, number: float) -> float:
        return self.in_turn([number])[0]

    def tell(self, text: str) -> str:
        import torch.distributed as dist

        said = [text]
        dist.broadcast_object_list(said, src=0, group=self._words)
        return said[0]


def _computed(model: LanguageModel) -> nn.Module:
    """The model for DDP, with `compute`, what is called for it: the model itself at first."""
    from torch import nn

    class Computed(nn.Module):
        compute: Callable[..., Any]

        def __init__(self) -> None:
            super().__init__()
            self.model = model
            # Not as a module of its own, whose parameters would be there twice.
            object.__setattr__(self, "compute", model)

        def forward(self, *batch: Tensor | None) -> Any:
            return self.compute(*batch)

    return Computed()


class ShardedWorld(ReplicatedWorld):
    """Fully sharded data parallelism: every process holds a share of each tensor."""

    takes_compiled = False  # a block is put together between Python's calls

    def prepare(self, model: LanguageModel) -> nn.Module:
        import torch.distributed as dist
        from torch import nn

        try:
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard
        except ImportError as error:
            raise RunError(
                "--parallel fsdp needs torch 2.7 or newer; --parallel ddp does not."
            ) from error

        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor.detach(), src=0)
        # What is saved and sampled from; on the CPU, where there is room for all of it.
        self._copy = copy.deepcopy(model).cpu() if self.is_main else None
        mesh = init_device_mesh(self._device.type, (self.size,))
        for stack in list(model.modules()):
            if isinstance(stack, nn.ModuleList):
                for block in stack:
                    fully_shard(block, mesh=mesh)
        # Embedding, last norm and head with the model itself: the head may be the embedding.
        fully_shard(model, mesh=mesh)
        return model

    def accumulating(self, module: nn.Module, *, last: bool) -> AbstractContextManager[object]:
        from torch.distributed.fsdp import FSDPModule

        assert isinstance(module, FSDPModule)
        module.set_requires_gradient_sync(last)
        return contextlib.nullcontext()

    def evaluated(self, model: LanguageModel) -> None:
        from torch.distributed.fsdp import FSDPModule

        assert isinstance(model, FSDPModule)
        model.reshard()  # as a backward would have done

    def whole(self, model: LanguageModel) -> LanguageModel | None:
        tensors = self.gather(model.state_dict())
        if self._copy is not None:
            self._copy.load_state_dict(tensors)
        return self._copy

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        gathered: dict[str, Tensor] = {}
        for name in sorted(tensors):  # in one order everywhere, whatever order they were read in
            whole = whole_tensor(tensors[name])  # one at a time, to spare memory
            if self.is_main:
                gathered[name] = whole.cpu()
        return gathered
