"""A model's forward pass on a CPU as compiled code on several threads, for generation.

`CompiledModel` gives `kernels` a model's weights and the memory of a cache, and runs them. Weights
are read where the model has them: nothing is copied but norms and biases. Left out: other devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from numba import typeof
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.generation.kernels import layers, many_tokens, one_token
from toolkit.generation.kernels.machine import LANES, TILE
from toolkit.jit import COMPILED, KernelFolder
from toolkit.models import GPTModel, KVCache, RowCache
from toolkit.models.layers import MLP, RMSNorm
from toolkit.models.stored import StoredMatrix

_MLPS = {"gelu": layers.GELU, "relu2": layers.RELU2, "swiglu": layers.SWIGLU}
# The most tokens of one pass: what is computed for more would not stay in the processor's caches.
MAX_TOKENS = 64
_KERNELS = KernelFolder(Path(layers.__file__).parent, "generation")
# Where a thread writes, no other's numbers should lie in the same line of the processor's cache.
_LINE = 16


class CompiledModel:
    """What comes after tokens, computed by compiled code that keeps keys and values in a cache.

    >>> from toolkit.models import create_model
    >>> model = create_model("gpt", 65, size="nano").eval()
    >>> cache = model.new_cache()
    >>> compiled = CompiledModel(model, threads=1)
    >>> compiled.extend([1, 2, 3], cache).shape, cache.length
    (torch.Size([1, 65]), 3)
    """

    def __init__(self, model: GPTModel, *, threads: int | None = None) -> None:
        """Look where everything is.

        Args:
            model: as `can_compile` wants it; its norms and biases are those of now.
            threads: how many work; None: as many as torch uses.
        """
        self._model = model
        self._threads = torch.get_num_threads() if threads is None else threads
        self._pool = ThreadPoolExecutor(self._threads - 1) if self._threads > 1 else None
        self._shape = _shape_of(model)
        self._matrices = _matrices_of(model)
        self._weights = _weights_of(model, self._matrices)
        self._like: npt.NDArray[Any] = np.empty(0, _numpy_dtype(self._matrices[0]))
        self._arrived = np.zeros(2, np.int64)
        self._one: tuple[Tensor, one_token.Memory] | None = None
        self._many: dict[int, many_tokens.Memory] = {}  # by W
        self._prepared: set[object] = set()

    def extend(self, ids: Sequence[int], cache: KVCache, *, wanted: int = 1) -> Tensor:
        """Add tokens to a cache with one row, which grows by them.

        Args:
            ids: at least one.
            wanted: for how many of the last ones there should be logits.

        Returns:
            The logits (wanted, V) of what comes after each of these.

        Raises:
            UsageError: no token of the model, or no position left (see `KVCache.reserve`).
        """
        cache.reserve(len(ids))
        found: list[Tensor] = []
        start = 0
        while start < len(ids):
            # In a ring that has come round a token takes the place of one that those before it see.
            free = cache.slots - cache.length
            some = ids[start : start + max(1, min(MAX_TOKENS, free))]
            first = max(0, len(ids) - wanted - start)
            start += len(some)
            if len(some) == 1:
                logits = self.step(some, cache)
            else:
                positions = range(cache.length, cache.length + len(some))
                rows = [0] * len(some)
                logits = self.compute(some, rows, positions, cache.keys, cache.values, first=first)
                cache.length += len(some)
            if first < len(some):
                found.append(logits.clone())
        return torch.cat(found)

    def step(self, tokens: Sequence[int], cache: KVCache) -> Tensor:
        """Add one token to each of a cache's R rows: logits (R, V) of the tokens after them. The
        next call may write over them.

        Raises:
            UsageError: see `extend`.
        """
        cache.reserve(1)
        if len(tokens) == 1:
            logits = self._step(tokens[0], cache)
        else:
            logits = self._compute_rows(tokens, [cache.length] * len(tokens), cache)
        cache.length += 1
        return logits

    def extend_rows(self, tokens: Sequence[int], cache: RowCache) -> Tensor:
        """`GPTModel.extend_rows`: logits (B, V). The next call may write over them."""
        positions = cache.advance().tolist()
        logits = self._compute_rows(tokens, positions, cache)
        cache.lengths[: cache.rows] += 1
        return logits

    def _compute_rows(
        self, tokens: Sequence[int], positions: Sequence[int], cache: KVCache | RowCache
    ) -> Tensor:
        """One token of each row: logits (B, V)."""
        rows, memory = range(len(tokens)), (cache.keys, cache.values)
        if len(tokens) <= MAX_TOKENS:
            return self.compute(tokens, rows, positions, *memory)
        parts = [slice(start, start + MAX_TOKENS) for start in rows[::MAX_TOKENS]]
        return torch.cat(
            [self.compute(tokens[p], rows[p], positions[p], *memory).clone() for p in parts]
        )

    def compute(
        self,
        ids: Sequence[int],
        rows: Sequence[int],
        positions: Sequence[int],
        keys: Tensor,
        values: Tensor,
        *,
        first: int = 0,
    ) -> Tensor:
        """Compute N tokens in one pass, and put their keys and values in place.

        Args:
            ids: at least one, at most `MAX_TOKENS`.
            rows, positions: where they are. The tokens of a row follow each other, and there are
                slots for all of them: none takes the place of one that another of them sees.
            keys, values: of a cache (L, R, G, S, D), with position p in slot p mod S.
            first: the first of the tokens whose logits are wanted.

        Returns:
            The logits (N - first, V) of what comes after each of the wanted tokens. The next call
            writes over them.

        Raises:
            UsageError: no token or no position of the model.
        """
        self._check(ids, positions)
        count = len(ids)
        width = -(-count // LANES) * LANES
        memory = self._memory_of_many(width, slots=keys.size(3))
        memory = memory._replace(keys=keys.numpy(), values=values.numpy())
        placed = np.asarray(positions, np.int64)
        cos, sin = self._turns(positions)
        first = min(first, count)
        tokens = many_tokens.Tokens(
            np.asarray(ids, np.int64), np.asarray(rows, np.int64), placed, first, cos, sin
        )
        self._run(many_tokens.decode_all, tokens, self._shape, self._weights, memory, self._like)
        return torch.from_numpy(memory.logits[first:count])

    def _step(self, token: int, cache: KVCache) -> Tensor:
        self._check([token], [cache.length])
        if self._one is None or self._one[0] is not cache.keys:
            self._one = (cache.keys, self._memory_of_one(cache.keys, cache.values))
        memory = self._one[1]
        position, shape, weights = cache.length, self._shape, self._weights
        cos, sin = (factor[0] for factor in self._turns([position]))
        self._run(one_token.decode, token, position, shape, weights, memory, cos, sin, self._like)
        return torch.from_numpy(memory.logits)[None]

    def _turns(self, positions: Sequence[int]) -> tuple[layers.Floats, layers.Floats]:
        """What rotates queries and keys at these positions: (N, D) each."""
        rotary = self._model.rotary
        if rotary is None:
            nothing = _zeros(len(positions), 1)
            return nothing, nothing
        start, count = positions[0], len(positions)
        if list(positions) == list(range(start, start + count)):
            cos, sin = rotary.at(start, count)
            return cos.numpy(), sin.numpy()
        each = [rotary.at(position, 1) for position in positions]
        return torch.cat([cos for cos, _ in each]).numpy(), torch.cat(
            [sin for _, sin in each]
        ).numpy()

    def _check(self, ids: Sequence[int], positions: Sequence[int]) -> None:
        # Compiled code would read what lies there.
        for token in ids:
            if not 0 <= token < self._shape.vocab_size:
                raise UsageError(
                    f"{token} is no token: this model's are 0 … {self._shape.vocab_size - 1}."
                )
        ends = len(self._weights.added)
        if ends and max(positions) >= ends:
            raise UsageError(f"Position {max(positions)}: this model's are 0 … {ends - 1}.")

    def _run(self, kernel: Callable[..., None], *arguments: Any) -> None:
        """Let all threads do their share."""
        threads, met = self._threads, int(self._arrived[0])
        self._prepare(kernel, (0, threads, *arguments, met))
        try:
            for thread in range(1, threads):
                assert self._pool is not None
                self._pool.submit(kernel, thread, threads, *arguments, met)
            # When this returns the others have come to the last meeting: nothing is left to do.
            kernel(0, threads, *arguments, met)
        except BaseException:  # Ctrl-C, most of all
            self._arrived[1] = 1  # none should wait for this one
            self._arrived, self._one, self._many = np.zeros(2, np.int64), None, {}
            raise

    def _prepare(self, kernel: Any, arguments: tuple[Any, ...]) -> None:
        """Compile a kernel for arguments like these, or load it if that was done before."""
        if kernel not in self._prepared:
            types = tuple(map(cast(Any, typeof), arguments))
            name = f"{kernel.__name__}-{self._like.dtype}"
            _KERNELS.prepare(name, [kernel], lambda: kernel.compile(types))
            self._prepared.add(kernel)

    def _memory_of_one(self, keys: Tensor, values: Tensor) -> one_token.Memory:
        shape, threads = self._shape, self._threads
        in_heads = shape.n_head * shape.head_dim
        return one_token.Memory(
            keys=keys[:, 0].numpy(),
            values=values[:, 0].numpy(),
            streams=_rows(threads, shape.n_embd),
            inputs=_rows(threads, shape.n_embd),
            queries=_zeros(in_heads),
            mixed=_zeros(in_heads),
            delta=_zeros(shape.n_embd),
            hidden=_zeros(shape.n_inner),
            gates=_rows(threads, shape.n_inner if shape.mlp == layers.SWIGLU else 1),
            scores=_rows(threads, max(keys.size(3), shape.head_dim)),
            logits=_zeros(shape.vocab_size),
            arrived=self._arrived,
        )

    def _memory_of_many(self, width: int, slots: int) -> many_tokens.Memory:
        """All but the cache's; it is made once for each width."""
        known = self._many.get(width)
        if known is not None and known.scores.shape[1] >= slots:
            return known
        shape, threads = self._shape, self._threads
        in_heads = shape.n_head * shape.head_dim
        is_gated = shape.mlp == layers.SWIGLU
        self._many[width] = many_tokens.Memory(
            keys=_zeros(0, 0, 0, 0, 0),
            values=_zeros(0, 0, 0, 0, 0),
            streams=_zeros(threads, shape.n_embd, width),
            inputs=_zeros(threads, shape.n_embd, width),
            heads=_zeros(threads, max(shape.head_dim, TILE.rows), width),
            queries=_zeros(width, in_heads),
            mixed=_zeros(in_heads, width),
            delta=_zeros(shape.n_embd, width),
            hidden=_zeros(shape.n_inner, width),
            gates=_zeros(shape.n_inner if is_gated else 0, width),
            scores=_rows(threads, max(slots, shape.head_dim)),
            vectors=_zeros(threads, 2, max(shape.n_embd, shape.head_dim)),
            logits=_zeros(width, shape.vocab_size),
            arrived=self._arrived,
        )
        return self._many[width]


def can_compile(model: nn.Module) -> bool:
    """Whether `CompiledModel` can take a model: a `GPTModel` of float32, or of stored weights, on
    the CPU, with no hooks that would not be called, and a compiler."""
    if not COMPILED or type(model) is not GPTModel or model.device.type != "cpu":
        return False
    if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
        return False
    dtypes = {matrix.dtype for matrix in _matrices_of(model)}
    others = {p.dtype for name, p in model.named_parameters() if not name.endswith(".stored")}
    contiguous = all(parameter.is_contiguous() for parameter in model.parameters())
    return contiguous and len(dtypes) == 1 and others == {torch.float32}


def _shape_of(model: GPTModel) -> layers.Shape:
    config = model.config
    return layers.Shape(
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_kv_head=config.n_kv_head,
        head_dim=config.head_dim,
        n_embd=config.n_embd,
        n_inner=config.n_inner,
        vocab_size=config.vocab_size,
        mlp=_MLPS[config.mlp],
        rms=config.norm == "rmsnorm",
        post=config.norm_order == "post",
        qk_norm=config.qk_norm,
        rotary=model.rotary is not None,
        norm_eps=config.norm_eps,
        embedding_scale=model.embedding_scale,
    )


def _matrix_modules(model: GPTModel) -> list[Any]:
    """Those with the matrices: four of each layer, the embedding, the head."""
    found: list[Any] = []
    block: Any  # torch does not know what is in a ModuleList
    for block in model.blocks:
        up = block.mlp.up if isinstance(block.mlp, MLP) else block.mlp.gate_up
        found.extend((block.attn.qkv, block.attn.proj, up, block.mlp.down))
    return [*found, model.tok_emb, model.tok_emb if model.head is None else model.head]


def _matrices_of(model: GPTModel) -> list[Tensor]:
    """The matrices as they are stored; the list keeps them where their addresses say."""
    return [
        (module.stored if isinstance(module, StoredMatrix) else module.weight).detach()
        for module in _matrix_modules(model)
    ]


def _weights_of(model: GPTModel, matrices: Sequence[Tensor]) -> layers.Weights:
    config, modules = model.config, _matrix_modules(model)
    longest = max(len(matrix) for matrix in matrices[:-2])
    scales = np.zeros((config.n_layer, 4, longest), np.float32)
    biases = np.zeros_like(scales)
    norms = np.zeros((config.n_layer, 2, 2, config.n_embd), np.float32)
    head_norms = np.zeros((config.n_layer, 2, config.head_dim), np.float32)
    block: Any
    for layer, block in enumerate(model.blocks):
        for number, module in enumerate(modules[4 * layer : 4 * layer + 4]):
            rows = len(matrices[4 * layer + number])
            scales[layer, number, :rows] = _scales_of(module, rows)
            if module.bias is not None:
                biases[layer, number, :rows] = _numbers(module.bias)
        norms[layer] = _norm_of(block.norm1), _norm_of(block.norm2)
        if block.attn.q_norm is not None:
            head_norms[layer] = (
                _numbers(block.attn.q_norm.weight),
                _numbers(block.attn.k_norm.weight),
            )
    added = model.sinusoids if model.pos_emb is None else model.pos_emb.weight
    none = np.zeros((0, config.n_embd), np.float32)
    return layers.Weights(
        matrices=np.array([m.data_ptr() for m in matrices[:-2]], np.int64).reshape(-1, 4),
        embedding=matrices[-2].data_ptr(),
        head=matrices[-1].data_ptr(),
        scales=scales,
        biases=biases,
        embedding_scales=_scales_of(modules[-2], config.vocab_size),
        head_scales=_scales_of(modules[-1], config.vocab_size),
        head_biases=_zeros(config.vocab_size),
        norms=norms,
        last_norm=norms[0, 0] if model.norm is None else _norm_of(model.norm),
        head_norms=head_norms,
        added=none if added is None else _numbers(added),
        slopes=none[:, 0] if model.slopes is None else _numbers(model.slopes),
    )


def _scales_of(module: Any, rows: int) -> npt.NDArray[np.float32]:
    return (
        _numbers(module.scales) if isinstance(module, StoredMatrix) else np.ones(rows, np.float32)
    )


def _norm_of(norm: Any) -> npt.NDArray[np.float32]:
    """Weight and bias (2, C)."""
    weight = _numbers(norm.weight)
    bias = None if isinstance(norm, RMSNorm) else norm.bias
    return np.stack((weight, np.zeros_like(weight) if bias is None else _numbers(bias)))


def _numbers(tensor: Tensor) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().float().numpy())


def _numpy_dtype(matrix: Tensor) -> Any:
    # NumPy knows no bfloat16; its bits are those of a uint16.
    return {torch.float32: np.float32, torch.bfloat16: np.uint16, torch.int8: np.int8}[matrix.dtype]


def _zeros(*shape: int) -> npt.NDArray[np.float32]:
    return np.zeros(shape, np.float32)


def _rows(threads: int, width: int) -> npt.NDArray[np.float32]:
    return np.zeros((threads, -(-width // _LINE) * _LINE + _LINE), np.float32)
