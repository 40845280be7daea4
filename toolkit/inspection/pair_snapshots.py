"""What an encoder–decoder is like inside at one step of its training, on a pair that stays the
same. Keeping snapshots is for `snapshots`; this is what one of them holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.inspection.findings import Contribution, ParameterGradient, VectorStatistics
from toolkit.inspection.pairs import ATTENTIONS, STACKS, PairInspector
from toolkit.inspection.patterns import entropy


@dataclass(frozen=True)
class AttentionSnapshot:
    """One kind of attention at one step.

    Attributes:
        step: optimizer steps done.
        entropy: of each layer and head, the mean over the rows, in nats.
        even_entropy: the same of even attention.
        qkv: lengths and statistics of queries, keys and values.
        attention: (L, H, T, S) as bytes, of which 255 is a weight of 1.
    """

    step: int
    entropy: tuple[tuple[float, ...], ...]
    even_entropy: float
    qkv: tuple[VectorStatistics, ...]
    attention: Tensor

    def weights(self, layer: int, head: int) -> Tensor:
        """Attention weights (T, S), to within 1/510."""
        return self.attention[layer, head].float() / 255


@dataclass(frozen=True)
class PairSnapshot:
    """A model at one step, on a pair that stays the same.

    Attributes:
        step: optimizer steps done.
        source_ids: of the source, with its end.
        target_ids: of the target, without its end.
        loss: of the target and its end, in nats a token.
        attentions: "encoder", "decoder" and "cross".
        contributions: of the parts of the stacks "encoder" and "decoder" to their streams.
        gradients: of the target's loss, by parameter.
    """

    step: int
    source_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    loss: float
    attentions: dict[str, AttentionSnapshot]
    contributions: dict[str, tuple[Contribution, ...]]
    gradients: tuple[ParameterGradient, ...]


def take_pair_snapshot(
    model: nn.Module,
    source_ids: Sequence[int],
    target_ids: Sequence[int],
    *,
    step: int,
    learning_rate: float,
) -> PairSnapshot:
    """Look at a model, which is left as it was.

    Args:
        source_ids, target_ids: as for `PairInspector`.
        learning_rate: for the length of a plain gradient step, by the weights'.

    Raises:
        UsageError: as `PairInspector`.
    """
    inspector = PairInspector(model, source_ids, target_ids)
    return PairSnapshot(
        step,
        inspector.source_ids,
        inspector.target_ids,
        inspector.loss(),
        {kind: _attention_snapshot(inspector, kind, step) for kind in ATTENTIONS},
        {stack: tuple(inspector.layer_contributions(stack)) for stack in STACKS},
        tuple(inspector.gradient_flow(learning_rate)),
    )


def _attention_snapshot(inspector: PairInspector, kind: str, step: int) -> AttentionSnapshot:
    layers = [inspector.attention(kind, layer) for layer in range(inspector.n_layer(kind))]
    return AttentionSnapshot(
        step,
        tuple(tuple(entropy(weights).mean(-1).tolist()) for weights in layers),
        inspector.even_entropy(kind),
        tuple(inspector.qkv_statistics(kind)),
        torch.stack([(weights.clamp(0, 1) * 255).round().byte() for weights in layers]),
    )


def pack_pair(snapshot: PairSnapshot) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A snapshot as JSON values and tensors."""
    fields = {**vars(snapshot), "attentions": {}}
    for kind, found in snapshot.attentions.items():
        values = {name: value for name, value in vars(found).items() if name != "attention"}
        fields["attentions"][kind] = values
    return fields, {kind: found.attention for kind, found in snapshot.attentions.items()}


def unpack_pair(fields: dict[str, Any], tensors: dict[str, Tensor]) -> PairSnapshot:
    """What `pack_pair` made JSON values and tensors of.

    Raises:
        KeyError, TypeError, ValueError: it made something else.
    """
    attentions = {}
    for kind in ATTENTIONS:
        found = fields["attentions"][kind]
        attentions[kind] = AttentionSnapshot(
            found["step"],
            tuple(tuple(row) for row in found["entropy"]),
            found["even_entropy"],
            tuple(VectorStatistics(**values) for values in found["qkv"]),
            tensors[kind],
        )
    return PairSnapshot(
        fields["step"],
        tuple(fields["source_ids"]),
        tuple(fields["target_ids"]),
        fields["loss"],
        attentions,
        {
            stack: tuple(Contribution(**values) for values in fields["contributions"][stack])
            for stack in STACKS
        },
        tuple(
            ParameterGradient(**{**values, "shape": tuple(values["shape"])})
            for values in fields["gradients"]
        ),
    )
