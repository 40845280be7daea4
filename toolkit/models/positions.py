"""How a transformer knows where a token is: sinusoids, rotated heads, and biases that grow.

Attention sees a set; without help it cannot tell an order. Four answers, of which a model has one:

    learned      an embedding for each position, added to the token's (`GPTModel.pos_emb`)
    sinusoidal   fixed waves, added to the token's embedding (`sinusoids`)
    rotary       queries and keys are rotated by their position (`Rotary`)
    alibi        far keys score lower, by a line for each head (`alibi_slopes`)

Shapes: B batch, T time, C channels (`n_embd`), H heads, D head width. Left out: stretching
positions to contexts longer than those of training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn


def sinusoids(n_positions: int, n_channels: int) -> Tensor:
    """Fixed waves of every length from 2π to 10000 · 2π positions: (T, C), in float32.

        P[t, 2i] = sin(t / 10000^(2i/C)),  P[t, 2i+1] = cos(t / 10000^(2i/C))

    Vaswani et al. 2017, arXiv:1706.03762, section 3.5. The wave of position t + k is a rotation
    of the wave of t, whatever t is.

    >>> sinusoids(2, 2).tolist()[0]
    [0.0, 1.0]
    """
    # In float64: at position 1000 an angle in float32 would be wrong by 1e-4.
    channels = torch.arange(0, n_channels, 2, dtype=torch.float64)
    frequencies = 10000.0 ** (-channels / n_channels)  # (C/2)
    angles = torch.outer(torch.arange(n_positions, dtype=torch.float64), frequencies)  # (T, C/2)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).float()  # (T, C)


def alibi_slopes(n_head: int) -> Tensor:
    """How fast each head forgets what is far: (H), in float32.

    For H a power of two, slope h of 1 … H is 2^(−8h/H): a geometric sequence that ends at 2⁻⁸.
    For other numbers, the slopes of the next lower power of two, then every second one of twice
    that power: those that lie between. Press et al. 2021, arXiv:2108.12409, section 3.

    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    below = 2 ** int(math.log2(n_head))
    slopes = [2.0 ** (-8.0 * h / below) for h in range(1, below + 1)]
    between = [2.0 ** (-4.0 * h / below) for h in range(1, 2 * below, 2)]
    return torch.tensor(slopes + between[: n_head - below])


class Rotary(nn.Module):
    """Rotary position embedding: rotates queries and keys by angles that grow with the position.

    Channel pair (i, i + D/2) at position t is a point in the plane, rotated by t · θ_i with
    θ_i = base^(−2i/D). The product of a rotated query at t and a rotated key at s then depends
    on t − s alone. Su et al. 2021, arXiv:2104.09864; the pairing of the two halves (rather than
    of neighbours, as in the paper) is GPT-NeoX's, Llama's and Qwen's, so that their weights fit.

    Cosines and sines are computed once, for `block_size` positions, and are not saved. A position
    beyond them, which only a window that slides gets to, is computed when it comes.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, block_size: int, base: float) -> None:
        super().__init__()
        self.head_dim, self.base = head_dim, base
        cos, sin = self._compute(torch.arange(block_size))
        self.register_buffer("cos", cos, persistent=False)  # (T, D)
        self.register_buffer("sin", sin, persistent=False)  # (T, D)

    def _compute(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        # In float32, as Hugging Face does: models were trained with exactly these roundings.
        pairs = torch.arange(0, self.head_dim, 2, dtype=torch.float32)
        frequencies = 1.0 / self.base ** (pairs / self.head_dim)  # (D/2)
        angles = torch.outer(positions.float(), frequencies)  # (T, D/2)
        cos, sin = angles.cos(), angles.sin()  # (T, D/2)
        # [−sin, sin] instead of [sin, sin]: see `_rotate`.
        return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)

    def at(self, start: int, t: int) -> tuple[Tensor, Tensor]:
        """The factors of t positions from `start` on: (T, D) each."""
        if start == 0 or start + t <= len(self.cos):
            return self.cos[start : start + t], self.sin[start : start + t]
        cos, sin = self._compute(torch.arange(start, start + t))
        return cos.to(self.cos), sin.to(self.sin)

    def for_rows(self, positions: Tensor) -> Callable[[Tensor], Tensor]:
        """What rotates x (B, H, 1, D), each row by its own of the positions (B), of the CPU."""
        if int(positions.max()) < len(self.cos):
            index = positions.to(self.cos.device)
            cos, sin = self.cos[index], self.sin[index]  # (B, D)
        else:
            cos, sin = (factor.to(self.cos) for factor in self._compute(positions))
        return partial(_rotate, cos=cos[:, None, None], sin=sin[:, None, None])  # (B, 1, 1, D)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Rotate x (B, H, T, D), whose first position is `start`.

        With halves x = [a, b] the result is [a·cos − b·sin, b·cos + a·sin].
        """
        cos, sin = self.at(start, x.size(-2))
        return _rotate(x, cos, sin)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    # Rolling by D/2 swaps the halves, and the minus is in the table already: one pass over memory
    # less than building [−b, a] (measured on a CPU, a tenth less time).
    return x * cos + x.roll(x.size(-1) // 2, dims=-1) * sin
