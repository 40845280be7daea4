"""The encoder–decoder once more, in NumPy and float64, as the paper's equations say it: what the
tests compare its attention with. Post-norm, ReLU, biases, one vocabulary for both sides.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Array = npt.NDArray[np.float64]


def layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    return (x - x.mean(axis=-1, keepdims=True)) / deviation * weight + bias


def softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def waves(length: int, width: int) -> Array:
    """Section 3.5: sines at the even channels, cosines at the odd ones."""
    places = np.arange(length)[:, None] / 10_000.0 ** (np.arange(0, width, 2) / width)
    found = np.empty((length, width))
    found[:, 0::2], found[:, 1::2] = np.sin(places), np.cos(places)
    return found


class NumpyEncoderDecoder:
    """Weights of a model, and after a call its attention weights, (H, T, S) by their names."""

    def __init__(self, model: nn.Module, n_head: int) -> None:
        state: Mapping[str, torch.Tensor] = model.state_dict()
        self.state = {name: value.double().numpy() for name, value in state.items()}
        self.n_head = n_head
        self.weights: dict[str, Array] = {}

    def __call__(self, ids: list[int], source: list[int]) -> Array:
        """Log-probabilities (T, V) after each of ids."""
        memory = self._stack("encoder", source, None)
        x = self._stack("decoder", ids, memory)
        return np.log(softmax(x @ self.state["tok_emb.weight"].T))

    def _stack(self, stack: str, ids: list[int], memory: Array | None) -> Array:
        table = self.state["tok_emb.weight"]
        width = table.shape[1]
        x = table[ids] * np.sqrt(width) + waves(len(ids), width)
        layers = {name.split(".")[2] for name in self.state if name.startswith(f"{stack}.blocks.")}
        for layer in range(len(layers)):
            block = f"{stack}.blocks.{layer}"
            qkv = self._linear(f"{block}.attn.qkv", x)
            own = self._attend(f"{block}.attn", *np.split(qkv, 3, axis=-1), stack == "decoder")
            x = self._norm(f"{block}.norm1", x + own)
            if memory is not None:
                q = self._linear(f"{block}.cross.q", x)
                k, v = np.split(self._linear(f"{block}.cross.kv", memory), 2, axis=-1)
                x = self._norm(
                    f"{block}.cross_norm", x + self._attend(f"{block}.cross", q, k, v, False)
                )
            hidden = np.maximum(self._linear(f"{block}.mlp.up", x), 0.0)
            x = self._norm(f"{block}.norm2", x + self._linear(f"{block}.mlp.down", hidden))
        return x

    def _attend(self, name: str, q: Array, k: Array, v: Array, causal: bool) -> Array:
        width = q.shape[-1] // self.n_head
        heads = []
        for head in range(self.n_head):
            own = slice(head * width, (head + 1) * width)
            scores = q[:, own] @ k[:, own].T / np.sqrt(width)  # (T, S)
            if causal:
                scores = np.where(np.tri(*scores.shape, dtype=bool), scores, -np.inf)
            heads.append(softmax(scores))
        self.weights[f"{name}.weights"] = np.stack(heads)
        values = [w @ v[:, h * width : (h + 1) * width] for h, w in enumerate(heads)]
        return self._linear(f"{name}.proj", np.concatenate(values, axis=-1))

    def _linear(self, name: str, x: Array) -> Array:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def _norm(self, name: str, x: Array) -> Array:
        return layer_norm(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])
