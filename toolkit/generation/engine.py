"""Steps of generation for one row on a CPU, as compiled code on several threads.

`CompiledStep` gives `engine_kernels.decode` a model's weights and a cache, and runs it. Weights are
read where the model has them: nothing is copied but norms and biases. Left out: several rows, where
torch's matrix products read the weights once for all of them, and other devices.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.generation import engine_kernels as kernels
from toolkit.models import GPTModel, KVCache
from toolkit.models.layers import MLP, RMSNorm
from toolkit.models.stored import StoredMatrix

logger = logging.getLogger("toolkit")

_MLPS = {"gelu": kernels.GELU, "relu2": kernels.RELU2, "swiglu": kernels.SWIGLU}
# Where a thread writes, no other's numbers should lie in the same line of the processor's cache.
_LINE = 16


class CompiledStep:
    """The next token's logits for a cache with one row, which grows by it.

    >>> from toolkit.models import create_model
    >>> model = create_model("gpt", 65, size="nano").eval()
    >>> cache = model.new_cache()
    >>> with torch.inference_mode():
    ...     _ = model.extend(torch.tensor([[1, 2]]), cache)
    >>> CompiledStep(model, cache, threads=1)(3).shape, cache.length
    (torch.Size([1, 65]), 3)
    """

    def __init__(self, model: GPTModel, cache: KVCache, *, threads: int | None = None) -> None:
        """Look where everything is.

        Args:
            model: as `can_compile` wants it; its norms and biases are those of now.
            cache: of the model, with one row.
            threads: how many work; None: as many as torch uses.
        """
        self._model, self._cache = model, cache
        self._threads = torch.get_num_threads() if threads is None else threads
        self._pool = ThreadPoolExecutor(self._threads - 1) if self._threads > 1 else None
        self._shape = _shape_of(model)
        self._matrices = _matrices_of(model)
        self._weights = _weights_of(model, self._matrices)
        self._like: npt.NDArray[Any] = np.empty(0, _numpy_dtype(self._matrices[0]))
        self._arrived = np.zeros(2, np.int64)
        self._logits = torch.empty(1, model.config.vocab_size)
        self._cached: Tensor | None = None
        _announce()

    def __call__(self, token: int) -> Tensor:
        """Logits (1, V) of the token after `token`; the next call writes over them.

        Raises:
            UsageError: no token of the model, or no position left (see `KVCache.reserve`).
        """
        cache, threads = self._cache, self._threads
        if not 0 <= token < self._shape.vocab_size:  # compiled code would read what lies there
            raise UsageError(
                f"{token} is no token: this model's are 0 … {self._shape.vocab_size - 1}."
            )
        cache.reserve(1)
        if self._cached is not cache.keys:
            self._memory = self._new_memory()
            self._cached = cache.keys
        position = cache.length
        cos = sin = self._logits.numpy()[0]
        if self._model.rotary is not None:
            cos, sin = (factor.numpy()[0] for factor in self._model.rotary.at(position, 1))
        met = int(self._arrived[0])
        rest = (self._shape, self._weights, self._memory, cos, sin, self._like, met)
        try:
            for thread in range(1, threads):
                assert self._pool is not None
                self._pool.submit(kernels.decode, thread, threads, token, position, *rest)
            # When this returns the others have come to the last meeting: nothing is left to do.
            kernels.decode(0, threads, token, position, *rest)
        except BaseException:  # Ctrl-C, most of all
            self._arrived[1] = 1
            self._arrived, self._cached = np.zeros(2, np.int64), None
            raise
        cache.length += 1
        return self._logits

    def _new_memory(self) -> kernels.Memory:
        shape, threads, cache = self._shape, self._threads, self._cache
        in_heads = shape.n_head * shape.head_dim
        return kernels.Memory(
            keys=cache.keys[:, 0].numpy(),
            values=cache.values[:, 0].numpy(),
            streams=_rows(threads, shape.n_embd),
            inputs=_rows(threads, shape.n_embd),
            queries=_zeros(in_heads),
            mixed=_zeros(in_heads),
            delta=_zeros(shape.n_embd),
            hidden=_zeros(shape.n_inner),
            gates=_rows(threads, shape.n_inner if shape.mlp == kernels.SWIGLU else 1),
            scores=_rows(threads, max(cache.slots, shape.head_dim)),
            logits=self._logits.numpy()[0],
            arrived=self._arrived,
        )


def can_compile(model: nn.Module) -> bool:
    """Whether `CompiledStep` can do a model's steps: a `GPTModel` of float32, or of stored weights,
    on the CPU, with no hooks that would not be called, and a compiler."""
    if not kernels.COMPILED or type(model) is not GPTModel or model.device.type != "cpu":
        return False
    if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
        return False
    dtypes = {matrix.dtype for matrix in _matrices_of(model)}
    others = {p.dtype for name, p in model.named_parameters() if not name.endswith(".stored")}
    contiguous = all(parameter.is_contiguous() for parameter in model.parameters())
    return contiguous and len(dtypes) == 1 and others == {torch.float32}


def _shape_of(model: GPTModel) -> kernels.Shape:
    config = model.config
    return kernels.Shape(
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


def _weights_of(model: GPTModel, matrices: Sequence[Tensor]) -> kernels.Weights:
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
    return kernels.Weights(
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


def _zeros(size: int) -> npt.NDArray[np.float32]:
    return np.zeros(size, np.float32)


def _rows(threads: int, width: int) -> npt.NDArray[np.float32]:
    return np.zeros((threads, -(-width // _LINE) * _LINE + _LINE), np.float32)


def _announce() -> None:
    """Say so before Numba compiles for some seconds: when it has kept nothing of it."""
    if kernels.decode.signatures:  # type: ignore[attr-defined]  # of a Numba dispatcher
        return
    folder = kernels.decode.stats.cache_path  # type: ignore[attr-defined]  # of a Numba dispatcher
    if folder is None or not any(Path(folder).glob("engine_kernels.*.nbc")):
        logger.warning("toolkit: compiling generation for this machine, once (some seconds) …")
