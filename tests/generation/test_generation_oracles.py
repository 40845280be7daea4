"""The same distributions and the same greedy text as transformers, which others wrote."""

from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.generation import Generator, Sampler, Temperature, TopK, TopP
from toolkit.models import LanguageModel, LMOutput, ModelConfig

transformers = pytest.importorskip("transformers")
V = 300


@pytest.fixture(scope="module")
def logits() -> Tensor:
    # Normal numbers: no ties, and no nucleus ends within rounding of p.
    return 3 * torch.randn(16, V, generator=torch.Generator().manual_seed(0))


def warp(warpers: list[Any], logits: Tensor) -> Tensor:
    for warper in warpers:
        logits = warper(None, logits)
    return logits


@pytest.mark.parametrize("temperature", [0.1, 0.8, 1.0, 2.5])
def test_temperature(logits: Tensor, temperature: float) -> None:
    expected = warp([transformers.TemperatureLogitsWarper(temperature)], logits)
    assert torch.equal(Temperature(temperature)(logits), expected)


@pytest.mark.parametrize("k", [1, 2, 50, V - 1, V, 2 * V])
def test_top_k(logits: Tensor, k: int) -> None:
    expected = warp([transformers.TopKLogitsWarper(top_k=k)], logits)
    assert torch.equal(TopK(k)(logits), expected)


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.99])
def test_top_p(logits: Tensor, p: float) -> None:
    expected = warp([transformers.TopPLogitsWarper(top_p=p)], logits)
    assert torch.equal(TopP(p)(logits), expected)


def test_all_three_in_the_order_of_generate(logits: Tensor) -> None:
    expected = warp(
        [
            transformers.TemperatureLogitsWarper(1.7),
            transformers.TopKLogitsWarper(top_k=40),
            transformers.TopPLogitsWarper(top_p=0.8),
        ],
        logits,
    ).softmax(dim=-1)
    sampler = Sampler([Temperature(1.7), TopK(40), TopP(0.8)])
    assert torch.equal(sampler.probabilities(logits), expected)


class TransformersModel(LanguageModel):
    """A transformers model behind our contract."""

    name = "transformers"

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.config = ModelConfig(inner.config.vocab_size, inner.config.n_positions)
        self.inner = inner

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> LMOutput:
        return LMOutput(self.inner(ids).logits, None)

    def flops_per_token(self) -> int:
        return 0


def test_greedy_ids_are_those_of_transformers_generate() -> None:
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=32, n_embd=32, n_layer=2, n_head=2, initializer_range=0.5
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inner = transformers.GPT2LMHeadModel(config).eval()
    prompt = [5, 7, 11]
    expected = inner.generate(
        torch.tensor([prompt]),
        max_new_tokens=29,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )[0, 3:].tolist()
    assert len(set(expected)) > 5  # not one token over and over, which a wrong context gives too
    generator = Generator(TransformersModel(inner))
    assert generator.generate_ids(prompt, max_new_tokens=29, strategy="greedy") == expected
