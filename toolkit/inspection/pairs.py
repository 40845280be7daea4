"""Statistics of an encoder–decoder on one pair, a source and its target: who reads what, on both
sides and between them.

    inspector = PairInspector(model, source_ids, target_ids)
    inspector.attention("cross", 0)  # (H, T, S)
    inspector.heads("cross")[0].focus

It is to pairs what `Inspector` is to texts: one traced forward pass, and runs without parts of the
model. There are three kinds of attention (`ATTENTIONS`), each with its own axes:

    encoder   the source's tokens (with their end) read the source's
    decoder   each step of writing reads the target so far: its beginning, then the tokens
    cross     each step of writing reads the source's tokens

The loss is that of the target, its end included. The model is left as it was found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UnknownNameError, UsageError
from toolkit.inspection.ablation import passing_on, silent, silent_head
from toolkit.inspection.findings import (
    AblationFinding,
    Contribution,
    LensRow,
    ParameterGradient,
    SparsityFinding,
    VectorStatistics,
)
from toolkit.inspection.measures import (
    contribution,
    parameter_gradients,
    sparsity,
    vector_statistics,
)
from toolkit.inspection.modes import evaluating
from toolkit.inspection.patterns import entropy, even_attention, received, received_above_even
from toolkit.inspection.tracer import DEFAULT_MAX_BYTES, Tracer
from toolkit.models import EncoderDecoderModel
from toolkit.models.anatomy import stacks_of

ATTENTIONS = {
    "encoder": "encoder.blocks.*.attn.weights",
    "decoder": "decoder.blocks.*.attn.weights",
    "cross": "decoder.blocks.*.cross.weights",
}
"""The kinds of attention, and the names of their weights."""

STACKS = ("encoder", "decoder")
_WANTED = (
    "*.resid_*", "*.norm1.out", "*.cross_norm.in", "*.q", "*.k", "*.v", "*.weights", "*.attn.out",
    "*.cross.out", "*.mlp.hidden", "*.mlp.out", "logits",
)  # fmt: skip


@dataclass(frozen=True)
class PairHead:
    """How one head attends.

    Attributes:
        layer, head: which, of its kind.
        entropy: mean over the rows, in nats.
        focus: how far it is from even attention, 0 to 1 (`focus`).
        largest: mean of a row's largest weight.
        order: the correlation of the place that reads and the mean place that is read: 1 for a head
            that goes along, −1 for one that goes backwards; None where either never changes.
        received: for each token that is read, the mean attention of the rows that see it.
        received_above_even: the same, divided by what even attention would give.
    """

    layer: int
    head: int
    entropy: float
    focus: float
    largest: float
    order: float | None
    received: tuple[float, ...]
    received_above_even: tuple[float, ...]


class PairInspector:
    """An encoder–decoder and a pair.

    >>> from toolkit.models import create_model
    >>> inspector = PairInspector(create_model("encoder-decoder", 9, size="nano"), [1, 2, 6], [3])
    >>> inspector.attention("cross", 0).shape  # two rows: the token, and the end
    torch.Size([2, 2, 3])
    """

    def __init__(
        self,
        model: nn.Module,
        source_ids: Sequence[int],
        target_ids: Sequence[int],
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        """
        Args:
            source_ids: what the encoder reads, with its end.
            target_ids: what the decoder writes, without its end.
            max_bytes: what a trace may hold.

        Raises:
            UsageError: another model, or ids that it refuses.
        """
        if not isinstance(model, EncoderDecoderModel):
            raise UsageError("Pairs are for an encoder-decoder; this model reads one text.")
        self.model = model
        self.source_ids, self.target_ids = tuple(source_ids), tuple(target_ids)
        self._stacks = stacks_of(model)
        self._max_bytes = max_bytes
        ids, self._targets, self._source = pair_batch(model, source_ids, target_ids)
        self._ids = ids

    @cached_property
    def trace(self) -> Tracer:
        """One forward pass over the pair."""
        tracer = Tracer(self.model, *_WANTED, max_bytes=self._max_bytes)
        with evaluating(self.model), torch.no_grad(), tracer:
            self.model(self._ids, None, self._source)
        return tracer

    def loss(self) -> float:
        """Mean cross-entropy of the target and its end, in nats."""
        return F.cross_entropy(self.trace["logits"][0].float(), self._targets[0]).item()

    def n_layer(self, kind: str) -> int:
        """How many layers have this kind of attention.

        Raises:
            UnknownNameError: there is no such kind.
        """
        return self._stacks[f"{_stack(kind)}."].n_layer

    def attention(self, kind: str, layer: int) -> Tensor:
        """The weights of a layer's heads, on the CPU: (H, T, S), those that read in the rows.

        Raises:
            UsageError: there is no such kind or layer.
        """
        if not 0 <= layer < self.n_layer(kind):
            raise UsageError(f"There is no layer {layer}: there are {self.n_layer(kind)}.")
        return self.trace[self._name(kind, layer, "weights")][0].float().cpu()

    def weights(self) -> dict[str, Tensor]:
        """Those of all layers, (H, T, S) each, by the names of their points."""
        return {
            self._name(kind, layer, "weights"): self.attention(kind, layer)
            for kind in ATTENTIONS
            for layer in range(self.n_layer(kind))
        }

    def visible(self, kind: str) -> Tensor:
        """Which tokens (S) each row (T) sees, as booleans."""
        t, s = len(self.target_ids) + 1, len(self.source_ids)
        seen = torch.ones(s if kind == "encoder" else t, t if kind == "decoder" else s)  # (T, S)
        return seen.tril().bool() if kind == "decoder" else seen.bool()

    def even_entropy(self, kind: str) -> float:
        """The mean entropy in nats of even attention over what can be seen."""
        return entropy(even_attention(self.visible(kind))).mean().item()

    def heads(self, kind: str) -> list[PairHead]:
        """Each head's entropy, focus and direction, and the tokens that it reads."""
        found, visible = [], self.visible(kind)
        for layer in range(self.n_layer(kind)):
            weights = self.attention(kind, layer)  # (H, T, S)
            spread, sure = entropy(weights).mean(-1).tolist(), weights.amax(-1).mean(-1).tolist()
            got, above = received(weights, visible), received_above_even(weights, visible)
            for head, far in enumerate(focus(weights)):
                found.append(
                    PairHead(
                        layer,
                        head,
                        spread[head],
                        far,
                        sure[head],
                        _order(weights[head]),
                        tuple(got[head].tolist()),
                        tuple(above[head].tolist()),
                    )
                )
        return found

    def qkv_statistics(self, kind: str) -> list[VectorStatistics]:
        """Queries, keys and values of each layer and head."""
        return [
            found
            for layer in range(self.n_layer(kind))
            for which in ("q", "k", "v")
            for found in vector_statistics(
                layer, which, self.trace[self._name(kind, layer, which)][0]
            )
        ]

    def layer_contributions(self, stack: str) -> list[Contribution]:
        """How much each attention and MLP of the encoder or the decoder adds to the stream."""
        found = []
        anatomy = self._stacks[f"{_stack(stack)}."]
        before_cross = "norm1.out" if anatomy.post else "cross_norm.in"
        for layer, parts in enumerate(anatomy.layers):
            name = f"{stack}.blocks.{layer}"
            streams = {"attn": "resid_pre", "cross": before_cross, "mlp": "resid_mid"}
            if parts.cross is None:
                del streams["cross"]
            for part, before in streams.items():
                update, stream = self.trace[f"{name}.{part}.out"], self.trace[f"{name}.{before}"]
                found.append(contribution(layer, part, update[0], stream[0]))
        return found

    def logit_lens(self) -> list[LensRow]:
        """What would be written if the decoder ended at each depth (see `Inspector.logit_lens`)."""
        anatomy = self._stacks["decoder."]
        points = ["decoder.blocks.0.resid_pre"]
        points += [f"decoder.blocks.{layer}.resid_post" for layer in range(anatomy.n_layer)]
        last = self.trace["logits"][0].float().log_softmax(-1)  # (T, V)
        rows = []
        for point in points:
            with torch.no_grad(), evaluating(self.model):
                said = anatomy.logits(self.trace[point])[0].float().log_softmax(-1)  # (T, V)
            best = said.max(-1)
            rows.append(
                LensRow(
                    point,
                    tuple(best.indices.tolist()),
                    tuple(best.values.exp().tolist()),
                    F.nll_loss(said, self._targets[0]).item(),
                    (last.exp() * (last - said)).sum(-1).mean().item(),
                )
            )
        return rows

    def ablation(self, kind: str) -> AblationFinding:
        """The target's loss without each head of this kind of attention, and for "encoder" and
        "decoder" without each part of that stack's layers."""
        anatomy = self._stacks[f"{_stack(kind)}."]
        heads, parts = [], []
        for layer in anatomy.layers:
            attention = layer.cross if kind == "cross" else layer.attn
            assert attention is not None, "a decoder has it"
            proj: nn.Module = attention.get_submodule("proj")
            heads.append(
                tuple(
                    self._loss_within(partial(silent_head, proj, head, anatomy.head_dim))
                    for head in range(anatomy.n_head)
                )
            )
            if kind == "cross":
                continue
            modules = {"attn": layer.attn, "cross": layer.cross, "mlp": layer.mlp}
            losses = {
                part: self._loss_within(partial(silent, module))
                for part, module in modules.items()
                if module is not None
            }
            losses["layer"] = self._loss_within(partial(passing_on, layer.block))
            parts.append(losses)
        return AblationFinding(self.loss(), tuple(heads), tuple(parts))

    def gradient_flow(self, learning_rate: float = 1e-3) -> list[ParameterGradient]:
        """The gradient of the target's loss by each parameter; those kept in the model stay."""
        return parameter_gradients(self.model, self._loss, learning_rate)

    def mlp_sparsity(self, stack: str) -> list[SparsityFinding]:
        """How few hidden units of each MLP are active."""
        return [
            sparsity(layer, self.trace[f"{stack}.blocks.{layer}.mlp.hidden"][0])
            for layer in range(self.n_layer(stack))
        ]

    # -- parts --------------------------------------------------------------------------------

    def _name(self, kind: str, layer: int, part: str) -> str:
        return f"{_stack(kind)}.blocks.{layer}.{'cross' if kind == 'cross' else 'attn'}.{part}"

    def _loss(self) -> Tensor:
        logits = self.model(self._ids, None, self._source).logits[0].float()
        return F.cross_entropy(logits, self._targets[0])

    def _loss_within(self, change: Callable[[], AbstractContextManager[None]]) -> float:
        with evaluating(self.model), torch.no_grad(), change():
            return self._loss().item()


def pair_batch(
    model: EncoderDecoderModel, source_ids: Sequence[int], target_ids: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """What the decoder reads (1, T), what it is to say (1, T), and the source (1, S)."""
    config = model.config
    ids = [config.begin_id, *target_ids]
    return (
        torch.tensor([ids], device=model.device),
        torch.tensor([[*target_ids, config.end_id]], device=model.device),
        torch.tensor([list(source_ids)], device=model.device),
    )


def focus(weights: Tensor) -> list[float]:
    """How far each head's attention (H, T, S) is from even, 0 to 1: one less its mean entropy over
    that of even attention to all that a position can read."""
    positive = weights.double().clamp(min=1e-12)
    entropies = -(positive * positive.log()).sum(dim=-1)  # (H, T)
    readable = (weights > 0).any(dim=0).sum(dim=-1)  # (T): all tokens, or those so far
    even = float(readable.double().log().mean())
    if not even:  # a single token
        return [0.0] * len(weights)
    return [1.0 - entropy / even for entropy in entropies.mean(dim=-1).tolist()]


def _order(weights: Tensor) -> float | None:
    """The correlation of the rows' numbers and the mean place that each row (T, S) reads."""
    t, s = weights.shape
    rows = torch.arange(t, dtype=torch.float64)
    places = weights.double() @ torch.arange(s, dtype=torch.float64)  # (T)
    if t < 2 or float(places.std()) < 1e-9:
        return None
    return float(torch.corrcoef(torch.stack((rows, places)))[0, 1])


def _stack(kind: str) -> str:
    """Which stack a kind of attention is in."""
    if kind not in ATTENTIONS:
        raise UnknownNameError("kind of attention", kind, list(ATTENTIONS))
    return "encoder" if kind == "encoder" else "decoder"
