"""Models that look back by averaging: three ways to compute one and the same mean of the past.

    a_t = 1/(t+1) · Σ_{s ≤ t} relu(W x_s),    logits_t = head(x_t + a_t)

    average-loop      two loops, as the sum is written
    average-matmul    a lower-triangular matrix of 1/(t+1), times x
    average-softmax   softmax over a matrix of zeros that is −∞ above the diagonal, times x

The third is attention whose scores say nothing (Vaswani et al. 2017, arXiv:1706.03762, with
q·kᵀ = 0): `single_head` puts scores where it has zeros, and that is all that is left to learn
about it. The three have the same parameters, and the weights of one load into another.

Left out: weights that depend on what the tokens are.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.models.base import LanguageModel, LMOutput, next_token_loss
from toolkit.models.config import AveragingConfig
from toolkit.models.layers import embedding, linear

INIT_STD = 0.02


def average_loop(x: Tensor) -> Tensor:
    """The mean of each position and all before it, (B, T, C) to (B, T, C), in two loops.

        y_t = 1/(t+1) · Σ_{s=0…t} x_s

    T·(T+1)/2 additions of (B, C), one after the other: clear, and slow where T is long.

    >>> average_loop(torch.tensor([[[1.0], [4.0], [7.0]]])).flatten().tolist()
    [1.0, 2.5, 4.0]

    Raises:
        UsageError: x is not (B, T, C).
    """
    _check(x)
    # Taken apart once: the gradient of x[:, s] would fill a whole (B, T, C) at each addition.
    positions = x.unbind(dim=1)  # T of (B, C)
    means = []
    for t in range(len(positions)):
        total = torch.zeros_like(positions[0])  # (B, C)
        for s in range(t + 1):
            total = total + positions[s]
        means.append(total / (t + 1))
    return torch.stack(means, dim=1)  # (B, T, C)


def average_matmul(x: Tensor) -> Tensor:
    """The same mean, (B, T, C) to (B, T, C), as one product with a lower-triangular matrix.

        y = A x,    A[t, s] = 1/(t+1) where s ≤ t, else 0

    Each row of A sums to 1, and the zeros above the diagonal hide what is yet to come.

    >>> average_matmul(torch.tensor([[[1.0], [4.0], [7.0]]])).flatten().tolist()
    [1.0, 2.5, 4.0]

    Raises:
        UsageError: x is not (B, T, C).
    """
    _check(x)
    t = x.size(1)
    ones = x.new_ones(t, t).tril()  # (T, T)
    weights = ones / ones.sum(dim=1, keepdim=True)
    return weights @ x  # (T, T) @ (B, T, C) -> (B, T, C)


def average_softmax(x: Tensor) -> Tensor:
    """The same mean, (B, T, C) to (B, T, C), with weights that a masked softmax of zeros gives.

        y = softmax(S) x,    S[t, s] = 0 where s ≤ t, else −∞

    e⁰ = 1 for each position that may be seen and e^(−∞) = 0 for the others, divided by their sum:
    again 1/(t+1). Any other numbers in S would be a weighted mean, which is attention.

    >>> average_softmax(torch.tensor([[[1.0], [4.0], [7.0]]])).flatten().tolist()
    [1.0, 2.5, 4.0]

    Raises:
        UsageError: x is not (B, T, C).
    """
    _check(x)
    t = x.size(1)
    future = torch.ones(t, t, dtype=torch.bool, device=x.device).triu(diagonal=1)
    scores = x.new_zeros(t, t).masked_fill(future, -torch.inf)  # (T, T)
    return scores.softmax(dim=-1) @ x  # (B, T, C)


class AveragingModel(LanguageModel):
    """What the three models share; each adds its way to average.

    The current token comes in twice: in the mean, with a weight that shrinks as 1/(t+1), and as
    itself (`x_t +`, a residual connection as in He et al. 2016, arXiv:1512.03385). Without the
    second the model forgets what it has just read, and is worse than a bigram: on characters of
    tiny Shakespeare (64 channels, context 32, 1000 steps) 3.07 nats against 2.50.

    The matrix W lets a token of the past mean something else than the current one. With x_t + the
    mean of x itself, both would go through one and the same table: 2.50 again, no gain on the
    bigram, and 2.45 with W. The relu makes positions count: without it the mean of
    W (token_s + position_s) is a sum of tokens and a sum of positions, and the order of the tokens
    would be lost however much is learned. Where there are no positions it costs nothing (2.45
    either way).

    `pos_emb` is None without positions.
    """

    config: AveragingConfig

    def __init__(
        self,
        config: AveragingConfig,
        generator: torch.Generator | None = None,
        *,
        init: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        learned = config.position == "learned"
        self.tok_emb = embedding(config.vocab_size, config.n_embd)
        self.pos_emb = embedding(config.block_size, config.n_embd) if learned else None
        self.value = linear(config.n_embd, config.n_embd)
        self.head = linear(config.n_embd, config.vocab_size)
        if init:
            self.init_weights(generator or torch.Generator().manual_seed(0))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Draw all weights anew: normal, with a small deviation, the same for all three models."""
        for parameter in self.parameters():
            parameter.normal_(std=INIT_STD, generator=generator)

    @staticmethod
    @abstractmethod
    def average(x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C): the mean of each position and all before it."""

    @abstractmethod
    def average_flops(self) -> int:
        """What `average` costs for one token at full context, forward and backward."""

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> LMOutput:
        self.check_inputs(ids, targets)
        x = self.tok_emb(ids)  # (B, T, C)
        if self.pos_emb is not None:
            x = x + self.pos_emb.weight[: ids.size(1)]  # (B, T, C) + (T, C)
        x = x + self.average(self.value(x).relu())  # (B, T, C)
        logits = self.head(x)  # (B, T, V)
        return LMOutput(logits, None if targets is None else next_token_loss(logits, targets))

    def flops_per_token(self) -> int:
        """6 for each number of the two matrices (see `GPTModel`), and what the average costs."""
        in_matrices = sum(m.weight.numel() for m in self.modules() if isinstance(m, nn.Linear))
        return 6 * in_matrices + self.average_flops()


class AverageLoopModel(AveragingModel):
    """`average_loop` between an embedding and a head.

    >>> from toolkit.models.config import AverageLoopConfig
    >>> model = AverageLoopModel(AverageLoopConfig(vocab_size=5, n_embd=8))
    >>> model(torch.tensor([[1, 2, 3]])).logits.shape
    torch.Size([1, 3, 5])
    """

    name: ClassVar[str] = "average-loop"
    average = staticmethod(average_loop)

    def average_flops(self) -> int:
        """(T+1)/2 additions a channel on the mean over t, and as many backwards."""
        return self.config.n_embd * (self.block_size + 1)


class AverageMatmulModel(AveragingModel):
    """`average_matmul` between an embedding and a head; the same function as `AverageLoopModel`."""

    name: ClassVar[str] = "average-matmul"
    average = staticmethod(average_matmul)

    def average_flops(self) -> int:
        """T products and T additions a channel, and as many backwards: the matrix itself is not
        learned."""
        return 4 * self.config.n_embd * self.block_size


class AverageSoftmaxModel(AveragingModel):
    """`average_softmax` between an embedding and a head; again the same function."""

    name: ClassVar[str] = "average-softmax"
    average = staticmethod(average_softmax)

    def average_flops(self) -> int:
        """As `AverageMatmulModel`: the softmax of T² zeros does not count beside the product."""
        return 4 * self.config.n_embd * self.block_size


def _check(x: Tensor) -> None:
    if x.dim() != 3 or 0 in x.shape or not x.is_floating_point():
        raise UsageError(
            "The average is over T of (B, T, C), each at least 1, of floating-point numbers; "
            f"got {tuple(x.shape)} of {str(x.dtype).removeprefix('torch.')}."
        )
