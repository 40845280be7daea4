"""The encoder–decoder transformer of "Attention is all you need" (Vaswani et al. 2017,
arXiv:1706.03762): one text in, another text out.

The encoder reads all of the source at once, each position from every other. The decoder writes the
target token by token; each of its layers reads the target so far, and then the source. The parts
are those of `layers` and `cross_attention`. Positions are sinusoids, so none is learned.

Shapes: B batch, T target tokens, S source tokens, C channels, V vocabulary of the target. Left
out: sources of several texts, and positions that are distances.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.models.base import (
    LanguageModel,
    LMOutput,
    check_range,
    check_shape,
    next_token_loss,
)
from toolkit.models.cache import KVCache, LayerCache
from toolkit.models.cross_attention import CrossAttention, DecoderBlock
from toolkit.models.encoder_decoder_config import EncoderDecoderConfig
from toolkit.models.layers import Block, embedding, linear, make_norm
from toolkit.models.positions import sinusoids
from toolkit.models.source_cache import SourceCache


class Stack(nn.Module):
    """The layers of one side, and the norm after them that "pre" needs (None with "post")."""

    def __init__(self, blocks: list[nn.Module], norm: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def normed(self, x: Tensor) -> Tensor:
        """What comes out of the last block, normalised where that is left to do."""
        y: Tensor = x if self.norm is None else self.norm(x)
        return y


class EncoderDecoderModel(LanguageModel):
    """An encoder–decoder transformer: a model of the next token of a target, given its source.

    >>> from toolkit.models.encoder_decoder_config import make_encoder_decoder_config
    >>> config = make_encoder_decoder_config(vocab_size=100, size="nano")
    >>> model = EncoderDecoderModel(config).eval()
    >>> source = torch.tensor([[5, 6, 7, config.source_end_id]])
    >>> ids = torch.tensor([[config.begin_id, 7, 6, 5]])
    >>> logits, loss = model(ids, torch.tensor([[7, 6, 5, config.end_id]]), source)
    >>> logits.shape, 3 < loss.item() < 7
    (torch.Size([1, 4, 100]), True)

    `tok_emb` is the target's; `source_emb` is None where the source shares it, and `head` is None
    where that is the target's embedding: no number is in `state_dict()` twice.
    """

    name: ClassVar[str] = "encoder-decoder"
    takes_source: ClassVar[bool] = True
    config: EncoderDecoderConfig
    sinusoids: Tensor

    def __init__(
        self,
        config: EncoderDecoderConfig,
        generator: torch.Generator | None = None,
        *,
        init: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        width, tied = config.n_embd, config.tie_embeddings
        shared = tied and config.source_vocab_size == 0
        self.tok_emb = embedding(config.vocab_size, width)
        self.source_emb = None if shared else embedding(config.num_source_ids, width)
        self.embedding_scale = math.sqrt(width)  # section 3.4
        waves = sinusoids(config.block_size, width)  # (T, C)
        self.register_buffer("sinusoids", waves, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        pre = config.norm_order == "pre"
        self.encoder = Stack(
            [Block(config) for _ in range(config.n_encoder_layer)],
            make_norm(config) if pre else None,
        )
        self.decoder = Stack(
            [DecoderBlock(config) for _ in range(config.n_layer)],
            make_norm(config) if pre else None,
        )
        self.head = None if tied else linear(width, config.vocab_size)
        if init:
            self.init_weights(generator or torch.Generator().manual_seed(0))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Draw all weights anew.

        Matrices are uniform with the bound sqrt(6 / (n_in + n_out)) (Glorot and Bengio 2010), each
        of those that are one parameter by its own shape. Embeddings are normal with a deviation of
        1/sqrt(C), which the factor sqrt(C) brings to the height of the waves. Biases are zero,
        norms one.
        """
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_()
            elif parameter.dim() == 1:  # the weight of a norm
                parameter.fill_(1.0)
            elif name.endswith("_emb.weight"):
                parameter.normal_(std=1 / self.embedding_scale, generator=generator)
            else:
                self._init_matrix(name, parameter, generator)

    def _init_matrix(self, name: str, parameter: Tensor, generator: torch.Generator) -> None:
        module, _, own_name = name.rpartition(".")
        layer, _, matrix = module.rpartition(".")
        fused: Any = getattr(self.get_submodule(layer), "fused_rows", dict)
        rows = fused().get(f"{matrix}.{own_name}", (parameter.size(0),))
        for part in torch.split(parameter, rows):
            bound = math.sqrt(6.0 / (part.size(0) + part.size(1)))
            part.uniform_(-bound, bound, generator=generator)

    def forward(
        self,
        ids: Tensor,
        targets: Tensor | None = None,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
    ) -> LMOutput:
        """Logits (B, T, V) for the target so far, ids (B, T), given its source (B, S); with targets
        (B, T), which are the ids that come next, the mean loss too.

        Args:
            ids: they begin with `config.begin_id`. Rows that are shorter are filled up with any
                ids; no earlier position sees them, and their targets are -100.
            source_mask: (B, S), True where there is a token; None: where it is not
                `config.source_padding_id`.

        Raises:
            UsageError: no source, or as `LanguageModel.forward`.
        """
        self.check_inputs(ids, targets)
        memory, seen = self.encode(source, source_mask)  # (B, S, C)
        if memory.size(0) != ids.size(0):
            raise UsageError(f"There are {memory.size(0)} sources and {ids.size(0)} targets.")
        x = self._embed(self.tok_emb, ids)  # (B, T, C)
        for block in self.decoder.blocks:
            x = self.through(block, x, memory, seen)  # (B, T, C)
        logits = self._unembed(x)  # (B, T, V)
        return LMOutput(logits, None if targets is None else next_token_loss(logits, targets))

    if TYPE_CHECKING:  # torch types a module's call as Any

        def __call__(
            self,
            ids: Tensor,
            targets: Tensor | None = None,
            source: Tensor | None = None,
            source_mask: Tensor | None = None,
        ) -> LMOutput: ...

    def encode(
        self, source: Tensor | None, source_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the decoder reads of a source (B, S): (B, S, C), and where there are tokens,
        (B, 1, 1, S). What is computed for a place without one means nothing, and nobody reads it.

        Raises:
            UsageError: no source, another shape or dtype, S above `block_size`, a row without a
                token, or an id outside the vocabulary.
        """
        source, mask = self._checked_source(source, source_mask)  # (B, S)
        seen = mask[:, None, None, :]  # (B, 1, 1, S)
        table = self.tok_emb if self.source_emb is None else self.source_emb
        x = self._embed(table, source)  # (B, S, C)
        for block in self.encoder.blocks:
            x = self.through(block, x, None, seen)  # (B, S, C)
        return self.encoder.normed(x), seen

    def start(
        self, source: Tensor, source_mask: Tensor | None = None, *, capacity: int | None = None
    ) -> SourceCache:
        """Read sources (B, S) for `extend`: a cache of rows that have no target yet, with room for
        `capacity` tokens of it at first (None: for as many as there can be), without gradients.

        Raises:
            UsageError: as `encode`.
        """
        with torch.no_grad():
            memory, seen = self.encode(source, source_mask)  # (B, S, C)
            sources = [_cross(block).read(memory) for block in self.decoder.blocks]
        return SourceCache(sources, seen, limit=self.block_size, capacity=capacity)

    @torch.no_grad()
    def extend(self, ids: Tensor, cache: KVCache, *, last_only: bool = False) -> Tensor:
        """As `LanguageModel.extend`, with a cache that `start` made."""
        if not isinstance(cache, SourceCache):
            raise UsageError("This cache holds no source: take one from the model's start(source).")
        self.check_ids(ids)
        cache.reserve(ids.size(1))
        start, t = cache.length, ids.size(1)
        x = self._embed(self.tok_emb, ids, start)  # (B, T, C)
        mask = cache.mask(t, None)
        layer: LayerCache
        for block, layer, source in zip(
            self.decoder.blocks, cache.layers, cache.sources, strict=True
        ):
            x = block(x, source, cache.seen, layer, mask)  # (B, T, C)
        cache.length += t
        return self._unembed(x[:, -1:] if last_only else x)  # (B, 1 or T, V)

    def _embed(self, table: nn.Embedding, ids: Tensor, start: int = 0) -> Tensor:
        waves = self.sinusoids[start : start + ids.size(1)]  # (T, C)
        embedded: Tensor = self.dropout(table(ids) * self.embedding_scale + waves)  # (B, T, C)
        return embedded

    def _unembed(self, x: Tensor) -> Tensor:
        head = self.tok_emb if self.head is None else self.head
        return F.linear(self.decoder.normed(x), head.weight)  # (B, T, V)

    def _checked_source(self, source: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The source and its mask, both (B, S)."""
        if source is None:
            raise UsageError(
                "An encoder-decoder continues no text: give it a source, model(ids, targets, "
                "source)."
            )
        check_shape("source", source)
        check_range("source", source, self.config.num_source_ids)
        if source.size(1) > self.block_size:
            raise UsageError(
                f"A source of {source.size(1)} tokens is longer than the model's --block-size "
                f"{self.block_size}. Give it a shorter one."
            )
        if mask is None:
            mask = source != self.config.source_padding_id
        elif mask.shape != source.shape or mask.dtype != torch.bool:
            raise UsageError(
                f"source_mask must be booleans of shape {tuple(source.shape)}, as the source; got "
                f"{mask.dtype} of shape {tuple(mask.shape)}."
            )
        # As with ids, only where looking is free: a softmax over nothing would be nan.
        looks = mask.device.type == "cpu" and not torch.compiler.is_compiling()
        if looks and not mask.any(dim=1).all():
            raise UsageError("A source has no token at all; it should have its end at least.")
        return source, mask

    def flops_per_token(self) -> int:
        """Floating-point operations of forward and backward for one target token, with a source of
        as many tokens, both at full length; counted as in `GPTModel.flops_per_token`."""
        config = self.config
        linears = [module for module in self.modules() if isinstance(module, nn.Linear)]
        in_matrices = sum(module.weight.numel() for module in linears)
        if self.head is None:
            in_matrices += self.tok_emb.weight.numel()
        # A decoder's layer has two attentions.
        in_heads = (config.n_encoder_layer + 2 * config.n_layer) * config.n_head * config.head_dim
        return 6 * in_matrices + 12 * in_heads * config.block_size


def _cross(block: nn.Module) -> CrossAttention:
    assert isinstance(block, DecoderBlock)
    return block.cross
