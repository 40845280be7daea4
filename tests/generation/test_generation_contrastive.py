"""Contrastive search against the paper's formula, token by token."""

from typing import Any

import pytest
import torch

from toolkit.errors import UsageError
from toolkit.generation import Generator
from toolkit.models import PRESETS, GPTConfig, GPTModel, create_model


def gpt(**options: Any) -> GPTModel:
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16}
    config = GPTConfig(vocab_size=30, **shape, **{**PRESETS["gpt2"], **options})
    model = GPTModel(config, torch.Generator().manual_seed(2))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return model.eval()


def states(model: GPTModel, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities after ids (V), and what the head multiplies (T, C), solved from the logits."""
    logits = model(torch.tensor([ids])).logits[0].double()
    head = model.tok_emb.weight if model.head is None else model.head.weight
    hidden = torch.linalg.lstsq(head.double(), logits.T).solution.T  # (T, C)
    return logits[-1].softmax(dim=-1), hidden


@torch.no_grad()
def by_the_paper(
    model: GPTModel, prompt: list[int], length: int, k: int, alpha: float
) -> list[int]:
    ids = list(prompt)
    for _ in range(length):
        p, _ = states(model, ids)
        scores = {}
        for token in sorted(range(len(p)), key=lambda each: -p[each].item())[:k]:
            _, hidden = states(model, [*ids, token])
            last = hidden[-1] / hidden[-1].norm()
            similarity = max(float(last @ h / h.norm()) for h in hidden[:-1])
            scores[token] = (1 - alpha) * p[token].item() - alpha * similarity
        ids.append(max(scores, key=lambda each: scores[each]))
    return ids[len(prompt) :]


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
@pytest.mark.parametrize(("k", "alpha"), [(4, 0.6), (8, 0.3), (3, 1.0)])
def test_the_formula_of_the_paper(preset: str, k: int, alpha: float) -> None:
    model = gpt(**PRESETS[preset])
    expected = by_the_paper(model, [3, 4], 12, k, alpha)
    options = {"strategy": "contrastive", "contrast_k": k, "contrast_alpha": alpha}
    found = Generator(model).generate_ids([3, 4], max_new_tokens=12, **options)
    assert found == expected
    greedy = Generator(model).generate_ids([3, 4], max_new_tokens=12, strategy="greedy")
    assert found != greedy


@pytest.mark.parametrize("preset", ["gpt2", "modern"])
@pytest.mark.parametrize("options", [{"contrast_alpha": 0}, {"contrast_k": 1}])
def test_without_contrast_it_is_greedy(preset: str, options: dict[str, float]) -> None:
    generator = Generator(gpt(**PRESETS[preset]))
    expected = generator.generate_ids([3], max_new_tokens=30, strategy="greedy")
    found = generator.generate_ids([3], max_new_tokens=30, strategy="contrastive", **options)
    assert found == expected  # past the block size of 16 too


def test_processors_rule_tokens_out() -> None:
    ids = Generator(gpt()).generate_ids(
        [3], max_new_tokens=20, strategy="contrastive", no_repeat_ngram=1
    )
    assert len({3, *ids}) == 21


def test_what_it_cannot_do() -> None:
    with pytest.raises(UsageError, match="a bigram model has no layers that it knows"):
        Generator(create_model("bigram", 5)).generate_ids([1], strategy="contrastive")
    for options, message in (
        ({"contrast_k": 0}, "--contrast-k 0 must be at least 1"),
        ({"contrast_alpha": 1.5}, "--contrast-alpha 1.5 must be at least 0 and at most 1"),
        ({"temperature": 1.0}, "contrastive does not take --temperature"),
    ):
        with pytest.raises(UsageError, match=message):
            Generator(gpt()).generate_ids([1], strategy="contrastive", **options)
