"""The bigram model: the next token depends on the current one and on nothing else.

    P(next = j | current = i) = softmax(W[i])[j]

One row of logits for each current token, V × V numbers in all: the smallest language model that
trains by gradient descent, and the one to compare every other with. After training, softmax(W[i])
is how often each token followed i in the text (Shannon 1948, "A Mathematical Theory of
Communication", section 3, counts such tables by hand). Left out: smoothing of rare pairs, and
longer histories.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from toolkit.models.base import LanguageModel, LMOutput, next_token_loss
from toolkit.models.config import BigramConfig
from toolkit.models.layers import embedding

INIT_STD = 0.02  # so small that the first loss is ln V: every token is as likely as any other


class BigramModel(LanguageModel):
    """A V × V table; the logits after a token are its row.

    >>> model = BigramModel(BigramConfig(vocab_size=3))
    >>> logits, _ = model(torch.tensor([[2, 0]]))
    >>> torch.equal(logits[0], model.table.weight[[2, 0]])
    True
    """

    name: ClassVar[str] = "bigram"
    config: BigramConfig

    def __init__(
        self,
        config: BigramConfig,
        generator: torch.Generator | None = None,
        *,
        init: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.table = embedding(config.vocab_size, config.vocab_size)
        if init:
            self.init_weights(generator or torch.Generator().manual_seed(0))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Draw all weights anew: normal, with a small deviation."""
        self.table.weight.normal_(std=INIT_STD, generator=generator)

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> LMOutput:
        self.check_inputs(ids, targets)
        logits = self.table(ids)  # (B, T, V)
        return LMOutput(logits, None if targets is None else next_token_loss(logits, targets))

    def flops_per_token(self) -> int:
        """Zero: reading a row multiplies nothing."""
        return 0
