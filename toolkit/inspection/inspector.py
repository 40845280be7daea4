"""Statistics of one model on one text: a method for each question.

    inspector = Inspector(model, ids)
    inspector.heads()[0].kind
    inspector.ablation().without_head

One traced forward pass serves most of them; ablation and gradients run the model again. The model
is left as it was found: mode, gradients, hooks. Sources stand beside each measure. Left out:
encoder-decoders, which `pairs` reads, and how the numbers change over training.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.inspection.ablation import Part, logits_of, without_head, without_part
from toolkit.inspection.findings import (
    AblationFinding,
    Contribution,
    EmbeddingFinding,
    HeadFinding,
    LensRow,
    ParameterGradient,
    Redundancy,
    SparsityFinding,
    VectorStatistics,
)
from toolkit.inspection.geometry import embedding_geometry
from toolkit.inspection.measures import (
    contribution,
    parameter_gradients,
    sparsity,
    vector_statistics,
)
from toolkit.inspection.modes import evaluating
from toolkit.inspection.patterns import (
    Score,
    classify,
    distance,
    divergence,
    entropy,
    received,
    received_above_even,
    repeated_scores,
    repeated_tokens,
    span,
    text_scores,
)
from toolkit.inspection.probes import PROBES, Probe, probe_class, probe_number
from toolkit.inspection.tracer import DEFAULT_MAX_BYTES, Tracer
from toolkit.models.anatomy import anatomy_of
from toolkit.models.taps import tap_names

_PARTS: tuple[Part, ...] = ("attn", "mlp", "layer")
_WANTED = (
    "embed.*", "*.resid_*", "*.attn.q", "*.attn.k", "*.attn.v", "*.attn.weights", "*.attn.out",
    "*.mlp.hidden", "*.mlp.out", "blocks.0.attn.scores_masked", "logits",
)  # fmt: skip


class Inspector:
    """A model and the tokens of a text.

    >>> from toolkit.models import create_model
    >>> inspector = Inspector(create_model("average-softmax", 9, n_embd=4), [1, 2, 3, 1])
    >>> inspector.heads()[0].kind
    'global'
    """

    def __init__(
        self,
        model: nn.Module,
        ids: Sequence[int],
        *,
        seed: int = 0,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        """
        Args:
            model: of toolkit's, or a GPT-2, Llama, Mistral or Qwen3 of Hugging Face's.
            ids: at least two tokens.
            seed: of the random tokens for induction.
            max_bytes: what a trace may hold.

        Raises:
            UsageError: another model, or too few tokens.
        """
        if len(ids) < 2:
            raise UsageError(
                f"An analysis needs at least two tokens, one to predict; the text has {len(ids)}."
            )
        self.model = model
        self.anatomy = anatomy_of(model)
        self.ids = tuple(ids)
        self._batch = torch.tensor([self.ids], device=next(model.parameters()).device)  # (1, T)
        self._seed = seed
        self._max_bytes = max_bytes

    @cached_property
    def trace(self) -> Tracer:
        """One forward pass over the text."""
        return self._traced(self._batch, *_WANTED)

    @cached_property
    def visible(self) -> Tensor:
        """Which keys (S) each query (T) sees, as booleans on the CPU."""
        return self._visible(self.trace)

    def loss(self) -> float:
        """Mean cross-entropy on the text's own next tokens, in nats."""
        return F.cross_entropy(self.trace["logits"][0, :-1].float(), self._batch[0, 1:]).item()

    def attention(self, layer: int) -> Tensor:
        """The weights of a layer's heads on the text: (H, T, S), on the CPU.

        Raises:
            UsageError: there is no such layer.
        """
        if not 0 <= layer < self.anatomy.n_layer:
            raise UsageError(f"There is no layer {layer}: this model has {self.anatomy.n_layer}.")
        return self.trace[f"blocks.{layer}.attn.weights"][0].float().cpu()

    # -- attention ----------------------------------------------------------------------------

    def qkv_statistics(self) -> list[VectorStatistics]:
        """Queries, keys and values of each layer and head; none of a model without attention."""
        found = []
        for layer in range(self.anatomy.n_layer):
            for which in ("q", "k", "v"):
                name = f"blocks.{layer}.attn.{which}"
                if name not in self.trace:
                    continue  # an average has values alone
                found += vector_statistics(layer, which, self.trace[name][0])
        return found

    def heads(self) -> list[HeadFinding]:
        """Each head's entropy, span, scores and class (`patterns.KINDS`)."""
        found = []
        for layer in range(self.anatomy.n_layer):
            weights = self.attention(layer)  # (H, T, T)
            scores = text_scores(weights, self.visible)
            spread, far, reach = entropy(weights), distance(weights), span(weights).float()
            got = received(weights, self.visible)
            above = received_above_even(weights, self.visible)
            for head in range(weights.size(0)):
                all_scores = {**self._induction[layer][head], **scores[head]}
                found.append(
                    HeadFinding(
                        layer,
                        head,
                        classify(all_scores),
                        all_scores,
                        spread[head].mean().item(),
                        far[head].mean().item(),
                        reach[head].mean().item(),
                        tuple(got[head].tolist()),
                        tuple(above[head].tolist()),
                    )
                )
        return found

    @cached_property
    def _induction(self) -> list[list[dict[str, Score]]]:
        """For each layer and head the scores that random tokens, repeated once, show."""
        vocab_size = self.trace["logits"].size(-1)
        ids = repeated_tokens(vocab_size, self.anatomy.block_size, self._seed)
        if ids.size(1) < 2:
            nothing = {"induction": Score(None, None), "duplicate-token": Score(None, None)}
            return [[nothing] * self.anatomy.n_head for _ in range(self.anatomy.n_layer)]
        names = ("*.attn.weights", "blocks.0.attn.scores_masked")
        trace = self._traced(ids.to(self._batch.device), *names)
        visible = self._visible(trace)
        return [
            repeated_scores(trace[f"blocks.{layer}.attn.weights"], visible, ids)
            for layer in range(self.anatomy.n_layer)
        ]

    def redundancy(self) -> Redundancy:
        """How differently all heads of the model attend on the text."""
        heads = [
            (layer, head)
            for layer in range(self.anatomy.n_layer)
            for head in range(self.anatomy.n_head)
        ]
        if not heads:
            return Redundancy((), ())
        weights = torch.cat([self.attention(layer) for layer in range(self.anatomy.n_layer)])
        rows = divergence(weights).tolist()
        return Redundancy(tuple(heads), tuple(tuple(row) for row in rows))

    # -- layers -------------------------------------------------------------------------------

    def layer_contributions(self) -> list[Contribution]:
        """How much each attention and MLP adds to the stream, and in which direction."""
        found = []
        for layer in range(self.anatomy.n_layer):
            name = f"blocks.{layer}"
            for part, before in (("attn", "resid_pre"), ("mlp", "resid_mid")):
                if f"{name}.{part}.out" not in self.trace:
                    continue
                update, stream = self.trace[f"{name}.{part}.out"], self.trace[f"{name}.{before}"]
                found.append(contribution(layer, part, update[0], stream[0]))
        return found

    def logit_lens(self) -> list[LensRow]:
        """The prediction at each depth: the stream, sent through the last norm and the head.

        nostalgebraist 2020, "interpreting GPT: the logit lens". The last row is the model's own.
        """
        targets = self._batch[0, 1:]
        last = self.trace["logits"][0].float().log_softmax(-1)  # (T, V)
        rows = []
        for point in self._stream_points():
            with torch.no_grad(), evaluating(self.model):
                logits = self.anatomy.logits(self.trace[point])[0]  # (T, V)
            said = logits.float().log_softmax(-1)
            best = said.max(-1)
            kl = (last.exp() * (last - said)).sum(-1).mean()
            rows.append(
                LensRow(
                    point,
                    tuple(best.indices.tolist()),
                    tuple(best.values.exp().tolist()),
                    F.nll_loss(said[:-1], targets).item(),
                    kl.item(),
                )
            )
        return rows

    def ablation(self) -> AblationFinding:
        """The text's loss without each head, each attention, each MLP, each layer.

        Of models that are no transformers there is the loss alone.
        """
        with evaluating(self.model), torch.no_grad():
            heads, parts = [], []
            for layer in range(len(self.anatomy.layers)):
                row = []
                for head in range(self.anatomy.n_head):
                    with without_head(self.model, layer, head):
                        row.append(self._loss().item())
                heads.append(tuple(row))
                losses: dict[str, float] = {}
                for part in _PARTS:
                    with without_part(self.model, layer, part):
                        losses[part] = self._loss().item()
                parts.append(losses)
        return AblationFinding(self.loss(), tuple(heads), tuple(parts))

    def gradient_flow(self, learning_rate: float = 1e-3) -> list[ParameterGradient]:
        """The gradient of the text's loss by each parameter; those kept in the model stay."""
        return parameter_gradients(self.model, self._loss, learning_rate)

    def mlp_sparsity(self) -> list[SparsityFinding]:
        """How few hidden units of each MLP are active."""
        return [
            sparsity(layer, self.trace[f"blocks.{layer}.mlp.hidden"][0])
            for layer in range(len(self.anatomy.layers))
        ]

    # -- embeddings ---------------------------------------------------------------------------

    def embedding_geometry(self, nearest: int = 5) -> EmbeddingFinding:
        """Neighbours of the text's tokens by cosine, and the principal components of all."""
        return embedding_geometry(self.anatomy.tok_emb.weight, self.ids, nearest)

    def linear_probes(
        self, asked: Sequence[str] = PROBES, token_classes: Sequence[int] | None = None
    ) -> list[Probe]:
        """What one matrix reads off the stream at each depth: where a token is, of which class it
        is, and which comes next. With one text alone a rough answer: see `n_judged`.

        Args:
            asked: some of `PROBES`.
            token_classes: the class of each position, for "token-class"; without it that one is
                left out.

        Raises:
            UsageError: an unknown probe, or fewer than 16 tokens.
        """
        unknown = set(asked) - set(PROBES)
        if unknown:
            raise UsageError(f"No probe {sorted(unknown)[0]}; there are {', '.join(PROBES)}.")
        found = []
        for point in self._stream_points():
            stream = self.trace[point][0].double().cpu()  # (T, C)
            for name in asked:
                if name == "position":
                    measure, n = "R²", len(stream)
                    score = probe_number(stream, torch.arange(n))
                elif name == "next-token":
                    measure, n = "accuracy", len(stream) - 1
                    # Classes count from 0 over the tokens that come next somewhere.
                    _, classes = torch.unique(torch.tensor(self.ids[1:]), return_inverse=True)
                    score = probe_class(stream[:-1], classes)
                elif token_classes is not None:
                    measure, n = "accuracy", len(stream)
                    score = probe_class(stream, torch.tensor(list(token_classes)))
                else:
                    continue
                judged = n // 4
                found.append(Probe(name, point, measure, *score, n - judged, judged))
        return found

    # -- parts --------------------------------------------------------------------------------

    def _stream_points(self) -> Iterator[str]:
        if self.anatomy.n_layer:
            yield "embed.sum"
        for layer in range(self.anatomy.n_layer):
            yield f"blocks.{layer}.resid_post"

    def _loss(self) -> Tensor:
        """Mean cross-entropy in nats of the text's own next tokens."""
        logits = logits_of(self.model, self._batch)[0, :-1].float()
        return F.cross_entropy(logits, self._batch[0, 1:])

    def _traced(self, ids: Tensor, *patterns: str) -> Tracer:
        names = tap_names(self.anatomy)
        there = [pattern for pattern in patterns if fnmatch.filter(names, pattern)]
        tracer = Tracer(self.model, *there, max_bytes=self._max_bytes)
        with evaluating(self.model), torch.no_grad(), tracer:
            self.model(ids)
        return tracer

    def _visible(self, trace: Tracer) -> Tensor:
        name = "blocks.0.attn.scores_masked"
        if name in trace:
            return trace[name][0, 0].isfinite().cpu()
        t = trace["blocks.0.attn.weights"].size(-1)
        return torch.ones(t, t, dtype=torch.bool).tril()
