"""What a model is like inside at one step of its training, kept on disk, one file a snapshot.

    internals/step_00000050.safetensors    the attention as bytes, everything else as JSON

The folder is bounded: it never holds more than `MOST_SNAPSHOTS` and the first one. When there would
be more, every second one goes, and from then on they are taken half as often. Which steps are kept
follows from the step alone, so that a resumed training keeps the same ones.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from toolkit.errors import RunError
from toolkit.files import write_bytes
from toolkit.inspection.findings import Contribution, ParameterGradient, VectorStatistics
from toolkit.inspection.inspector import Inspector
from toolkit.inspection.pair_snapshots import PairSnapshot, pack_pair, unpack_pair
from toolkit.inspection.patterns import entropy, even_attention

FORMAT = 1
MOST_SNAPSHOTS = 100
_PREFIX, _SUFFIX = "step_", ".safetensors"


class AttentionAtStep(Protocol):
    """What is drawn of attention over the steps: of a `Snapshot`, or of one kind of attention of a
    `PairSnapshot`."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""

    @property
    def entropy(self) -> tuple[tuple[float, ...], ...]:
        """Of each layer and head."""

    @property
    def even_entropy(self) -> float:
        """Of even attention."""

    @property
    def qkv(self) -> tuple[VectorStatistics, ...]:
        """Lengths and statistics of queries, keys and values."""

    @property
    def attention(self) -> Tensor:
        """(L, H, T, S) as bytes."""

    def weights(self, layer: int, head: int) -> Tensor:
        """Attention weights (T, S)."""


class GradientsAtStep(Protocol):
    """What is drawn of gradients over the steps: of a `Snapshot` or a `PairSnapshot`."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""

    @property
    def gradients(self) -> tuple[ParameterGradient, ...]:
        """By parameter."""


@dataclass(frozen=True)
class Snapshot:
    """A model at one step, on a text that stays the same.

    Attributes:
        step: optimizer steps done.
        ids: the text.
        loss: on it, in nats a token.
        entropy: of each layer and head, the mean over the queries, in nats.
        even_entropy: the same of even attention.
        qkv: lengths and statistics of queries, keys and values.
        contributions: of each layer's parts to the residual stream.
        gradients: of the text's loss, by parameter.
        attention: (L, H, T, T) as bytes, of which 255 is a weight of 1.
    """

    step: int
    ids: tuple[int, ...]
    loss: float
    entropy: tuple[tuple[float, ...], ...]
    even_entropy: float
    qkv: tuple[VectorStatistics, ...]
    contributions: tuple[Contribution, ...]
    gradients: tuple[ParameterGradient, ...]
    attention: Tensor

    def weights(self, layer: int, head: int) -> Tensor:
        """Attention weights (T, T), to within 1/510."""
        return self.attention[layer, head].float() / 255


def take_snapshot(
    model: nn.Module, ids: Sequence[int], *, step: int, learning_rate: float
) -> Snapshot:
    """Look at a model, which is left as it was.

    Args:
        learning_rate: for the length of a plain gradient step, by the weights'.

    Raises:
        UsageError: as `Inspector`.
    """
    inspector = Inspector(model, ids)
    layers = [inspector.attention(layer) for layer in range(inspector.anatomy.n_layer)]
    even = entropy(even_attention(inspector.visible)).mean().item() if layers else 0.0
    return Snapshot(
        step,
        inspector.ids,
        inspector.loss(),
        tuple(tuple(entropy(weights).mean(-1).tolist()) for weights in layers),
        even,
        tuple(inspector.qkv_statistics()),
        tuple(inspector.layer_contributions()),
        tuple(inspector.gradient_flow(learning_rate)),
        torch.stack([(weights.clamp(0, 1) * 255).round().byte() for weights in layers])
        if layers
        else torch.zeros(0, 0, len(ids), len(ids), dtype=torch.uint8),
    )


class SnapshotFolder:
    """Where the snapshots of one training are."""

    def __init__(self, folder: Path, every: int = 1) -> None:
        """
        Args:
            every: steps between two snapshots.
        """
        self._folder = folder
        self._every = every

    def record(self, step: int, take: Callable[[], Snapshot | PairSnapshot]) -> None:
        """Take the snapshot of a step, if it is one that is kept, and let go what is not.

        Raises:
            ToolkitError: it could not be written.
        """
        interval = kept_interval(step, self._every)
        if step % interval:
            return
        snapshot = take()
        if isinstance(snapshot, PairSnapshot):
            fields, tensors = pack_pair(snapshot)
        else:
            fields = {**vars(snapshot)}
            tensors = {"attention": fields.pop("attention")}
        fields = {"format": FORMAT, **fields}
        # One entry: several come in no order, and the same snapshot is to be the same file.
        metadata = {"snapshot": json.dumps(fields, default=dataclasses.asdict)}
        data = safetensors.torch.save(tensors, metadata)
        write_bytes(self._folder / f"{_PREFIX}{step:08d}{_SUFFIX}", data)
        for old, path in self._paths():
            if old % interval:
                path.unlink()

    def drop_later(self, step: int) -> None:
        """Let go what was taken after a step: a resumed training goes on from there."""
        for later, path in self._paths():
            if later > step:
                path.unlink()

    def steps(self) -> list[int]:
        """What there is, oldest first."""
        return [step for step, _ in self._paths()]

    def load(self) -> tuple[Snapshot, ...] | tuple[PairSnapshot, ...]:
        """All snapshots, oldest first.

        Raises:
            RunError: a file is damaged, or of a newer toolkit.
        """
        found = [_read(path) for _, path in self._paths()]
        of_pairs = tuple(snapshot for snapshot in found if isinstance(snapshot, PairSnapshot))
        return of_pairs or tuple(snapshot for snapshot in found if isinstance(snapshot, Snapshot))

    def _paths(self) -> list[tuple[int, Path]]:
        found = []
        for path in self._folder.glob(f"{_PREFIX}*{_SUFFIX}"):
            number = path.name[len(_PREFIX) : -len(_SUFFIX)]
            if number.isdecimal():
                found.append((int(number), path))
        return sorted(found)


def kept_interval(step: int, every: int) -> int:
    """How far apart the snapshots are that are kept once training has come to `step`.

    >>> [kept_interval(step, 50) for step in (0, 5000, 5050, 10_000, 10_050)]
    [50, 50, 100, 100, 200]
    """
    interval = every
    while step > MOST_SNAPSHOTS * interval:
        interval *= 2
    return interval


def _names(file: Any) -> list[str]:
    """What a safetensors file holds; it is no mapping, though it has keys."""
    names: list[str] = file.keys()
    return names


def _read(path: Path) -> Snapshot | PairSnapshot:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            fields: dict[str, Any] = json.loads(file.metadata()["snapshot"])
            if fields.pop("format") > FORMAT:
                raise RunError(f"{path} is of a newer toolkit. Upgrade toolkit to read it.")
            tensors = {name: file.get_tensor(name) for name in _names(file)}
        if "attentions" in fields:
            return unpack_pair(fields, tensors)
        return Snapshot(
            **{
                **fields,
                "ids": tuple(fields["ids"]),
                "entropy": tuple(tuple(row) for row in fields["entropy"]),
                "qkv": tuple(VectorStatistics(**found) for found in fields["qkv"]),
                "contributions": tuple(Contribution(**found) for found in fields["contributions"]),
                "gradients": tuple(
                    ParameterGradient(**{**found, "shape": tuple(found["shape"])})
                    for found in fields["gradients"]
                ),
                "attention": tensors["attention"],
            }
        )
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise RunError(f"{path} is damaged: {error}. Remove it, and the others will do.") from error
