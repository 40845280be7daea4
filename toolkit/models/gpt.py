"""The decoder-only transformer, GPT: embeddings, a stack of blocks, a norm, a head.

The order of GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"),
in parts that its config chooses. The preset "gpt2" is GPT-2 itself; "modern" is Qwen3's layout
(Yang et al. 2025, arXiv:2505.09388): RMSNorm, rotary positions, normalised queries and keys,
grouped heads, a gated MLP. The parts are in `layers` and `positions`, the way to and from Hugging
Face's weights in `interop`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.models.base import LanguageModel, LMOutput, next_token_loss
from toolkit.models.cache import KVCache, LayerCache
from toolkit.models.config import GPTConfig
from toolkit.models.layers import Block, attention_mask, embedding, linear, make_norm
from toolkit.models.positions import Rotary, alibi_slopes, sinusoids
from toolkit.models.row_cache import LayerRows, RowCache

INIT_STD = 0.02
POSITION_INIT_STD = 0.01


class GPTModel(LanguageModel):
    """A decoder-only transformer.

    >>> from toolkit.models.config import make_gpt_config
    >>> model = GPTModel(make_gpt_config(vocab_size=100, size="nano"))
    >>> logits, loss = model(torch.tensor([[1, 2, 3]]), targets=torch.tensor([[2, 3, 4]]))
    >>> logits.shape, abs(loss.item() - math.log(100)) < 0.5
    (torch.Size([1, 3, 100]), True)

    Of `pos_emb`, `sinusoids`, `rotary` and `slopes` all are None but the one of `config.position`;
    the last three are fixed numbers, which are not saved. `norm` is None with `norm_order="post"`,
    where every block ends with one, and `head` is None where the head is the token embedding
    (`tie_embeddings`): no number is in `state_dict()` twice.
    """

    name: ClassVar[str] = "gpt"
    config: GPTConfig
    sinusoids: Tensor | None
    slopes: Tensor | None

    def __init__(
        self,
        config: GPTConfig,
        generator: torch.Generator | None = None,
        *,
        init: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        position, width, length = config.position, config.n_embd, config.block_size
        self.tok_emb = embedding(config.vocab_size, width)
        # Vaswani et al. 2017, section 3.4. Beside waves of height 1, small numbers would be lost:
        # after 500 steps of a nano model the loss was 2.74 without the root and 2.34 with it.
        self.embedding_scale = math.sqrt(width) if position == "sinusoidal" else 1.0
        self.pos_emb = embedding(length, width) if position == "learned" else None
        self.rotary = (
            Rotary(config.head_dim, length, config.rope_theta) if position == "rotary" else None
        )
        waves = sinusoids(length, width) if position == "sinusoidal" else None  # (T, C)
        self.register_buffer("sinusoids", waves, persistent=False)
        slopes = alibi_slopes(config.n_head) if position == "alibi" else None  # (H)
        self.register_buffer("slopes", slopes, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = make_norm(config) if config.norm_order == "pre" else None
        self.head = None if config.tie_embeddings else linear(config.n_embd, config.vocab_size)
        if init:
            self.init_weights(generator or torch.Generator().manual_seed(0))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Draw all weights anew: as GPT-2 does, or as `weight_init="zeros"` says.

        Matrices and embeddings are normal with deviation 0.02, position embeddings 0.01, biases
        zero, norms one. The two matrices of a block that write into the residual stream get
        0.02 / sqrt(2 · n_layer): the stream is a sum of 2 · n_layer such parts, and keeps its
        variance however deep the model is (GPT-2 paper, section 2.3). Llama and Qwen train from
        0.02 too.

        With "zeros" these two matrices and a head of its own are zero (Yang et al. 2022,
        arXiv:2203.03466, recommend both). The other matrices are uniform with a deviation of
        1/sqrt(n_embd), which keeps the variance of what they are multiplied with. An embedding
        that is not the head as well has deviation 1 in the stream: it is all of it at first.
        """
        if self.config.weight_init == "zeros":
            self._init_zeros(generator)
            return
        residual_std = INIT_STD / math.sqrt(2 * self.config.n_layer)
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_()
            elif parameter.dim() == 1:  # the weight of a norm
                parameter.fill_(1.0)
            elif name.endswith((".attn.proj.weight", ".mlp.down.weight")):
                parameter.normal_(std=residual_std, generator=generator)
            elif name == "pos_emb.weight":
                parameter.normal_(std=POSITION_INIT_STD, generator=generator)
            else:
                parameter.normal_(std=INIT_STD, generator=generator)

    def _init_zeros(self, generator: torch.Generator) -> None:
        bound = math.sqrt(3.0 / self.config.n_embd)  # of a uniform with deviation 1/sqrt(C)
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_()
            elif parameter.dim() == 1:  # the weight of a norm
                parameter.fill_(1.0)
            elif name.endswith((".attn.proj.weight", ".mlp.down.weight")) or name == "head.weight":
                parameter.zero_()
            elif name == "pos_emb.weight":
                parameter.normal_(std=POSITION_INIT_STD, generator=generator)
            elif name == "tok_emb.weight":
                std = 1.0 / self.embedding_scale if self.head is not None else INIT_STD
                parameter.normal_(std=std, generator=generator)
            else:
                parameter.uniform_(-bound, bound, generator=generator)

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> LMOutput:
        self.check_inputs(ids, targets)
        x = self._embed(ids, slice(ids.size(1)))  # (B, T, C)
        mask = self._mask(ids)
        for block in self.blocks:
            x = self.through(block, x, self.rotary, mask)  # (B, T, C)
        logits = self._unembed(x)  # (B, T, V)
        return LMOutput(logits, None if targets is None else next_token_loss(logits, targets))

    def _embed(self, ids: Tensor, positions: slice | Tensor) -> Tensor:
        """What goes into the first block, (B, T, C), for positions (T), or (B, T) of each row."""
        x: Tensor = self.tok_emb(ids)  # (B, T, C)
        if self.pos_emb is not None:
            x = x + self.pos_emb.weight[positions]  # (B, T, C) + (T, C)
        if self.sinusoids is not None:
            x = x * self.embedding_scale + self.sinusoids[positions]  # (B, T, C) + (T, C)
        embedded: Tensor = self.dropout(x)
        return embedded

    def _unembed(self, x: Tensor) -> Tensor:
        """Logits (B, T, V) of what comes out of the last block."""
        if self.norm is not None:
            x = self.norm(x)
        head = self.tok_emb if self.head is None else self.head
        return F.linear(x, head.weight)  # (B, T, V)

    def new_cache(self, rows: int = 1, capacity: int | None = None) -> KVCache:
        return KVCache(**self._cache_options(rows, capacity))

    def _cache_options(self, rows: int, capacity: int | None) -> dict[str, Any]:
        config = self.config
        return {
            "shape": (config.n_layer, rows, config.n_kv_head, config.head_dim),
            "span": min(config.window or config.block_size, config.block_size),
            # Positions that are added to the tokens end with the table; the others are distances.
            "limit": None if self.pos_emb is None and self.sinusoids is None else config.block_size,
            "capacity": capacity,
            "like": next(self.blocks.parameters()),
        }

    @torch.no_grad()
    def extend(self, ids: Tensor, cache: KVCache, *, last_only: bool = False) -> Tensor:
        self.check_ids(ids)
        cache.reserve(ids.size(1))
        # Longer pieces would need masks of T · T; the last of them has the last position.
        pieces = ids.split(self.block_size, dim=1)  # type: ignore[no-untyped-call]  # torch's
        logits = [self._extend(piece, cache, last_only=last_only) for piece in pieces]
        return logits[-1] if last_only or len(logits) == 1 else torch.cat(logits, dim=1)

    def _extend(self, ids: Tensor, cache: KVCache, *, last_only: bool) -> Tensor:
        start, t = cache.length, ids.size(1)
        x = self._embed(ids, slice(start, start + t))  # (B, T, C)
        rotary = None if self.rotary is None else partial(self.rotary, start=start)
        mask = cache.mask(t, self.slopes)
        layer: LayerCache
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            x = block(x, rotary, mask, layer)  # (B, T, C)
        cache.length += t
        return self._unembed(x[:, -1:] if last_only else x)  # (B, 1 or T, V)

    def new_row_cache(self, rows: int, capacity: int | None = None) -> RowCache:
        return RowCache(**self._cache_options(rows, capacity))

    @torch.no_grad()
    def extend_rows(self, tokens: Tensor, cache: RowCache) -> Tensor:
        self.check_ids(tokens[:, None])
        if len(tokens) != cache.rows:
            raise UsageError(f"{len(tokens)} tokens for {cache.rows} rows: give each row one.")
        positions = cache.advance()  # (B)
        x = self._embed(tokens[:, None], positions[:, None].to(tokens.device))  # (B, 1, C)
        rotary = None if self.rotary is None else self.rotary.for_rows(positions)
        mask = cache.mask(self.slopes)
        layer: LayerRows
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            x = block(x, rotary, mask, layer)  # (B, 1, C)
        cache.lengths[: cache.rows] += 1
        return self._unembed(x)[:, 0]  # (B, V)

    def _mask(self, ids: Tensor) -> Tensor | None:
        """What all layers share for ids (B, T): None where every position sees all before it.

        Made anew for each batch: T² booleans, or H·T² numbers with ALiBi, are a small part of the
        work of one layer, and a table for the longest context would be carried along all the time.
        """
        t = ids.size(1)
        window = self.config.window if self.config.window < t else 0
        if not window and self.slopes is None:
            return None
        positions = torch.arange(t, device=ids.device)
        return attention_mask(positions, positions, window=window, slopes=self.slopes)

    def flops_per_token(self) -> int:
        """Floating-point operations of forward and backward for one token at full context.

        Each number of a matrix is multiplied and added once forwards and twice backwards: 6.
        Each of the H·D channels of a layer's heads meets each of T positions twice (scores, and
        their sum over the values): 12 · H·D·T. The tied head counts as a matrix; embeddings that
        are only read, norms and what a mask could save (the half of the causal one, all beyond a
        window) do not count (Kaplan et al. 2020, arXiv:2001.08361; Chowdhery et al. 2022,
        arXiv:2204.02311, B).
        """
        config = self.config
        linears = [module for module in self.modules() if isinstance(module, nn.Linear)]
        in_matrices = sum(module.weight.numel() for module in linears)
        if self.head is None:
            in_matrices += self.tok_emb.weight.numel()
        in_heads = config.n_layer * config.n_head * config.head_dim
        return 6 * in_matrices + 12 * in_heads * config.block_size
