"""Cached and uncached generation agree token for token: in every configuration of the model, for
every way to choose tokens, within the context, at its end and past it.

The weights and seeds here are such that float32's rounding never decides a token.
"""

import itertools
from typing import Any

import pytest
import torch

from toolkit.generation import Batch, Generator
from toolkit.models import GPTConfig, GPTModel
from toolkit.tokenizers import CharTokenizer

LETTERS = CharTokenizer("abcdefgh")
POSITIONS = ("learned", "sinusoidal", "rotary", "alibi", "none")
GRID = list(itertools.product(POSITIONS, (0, 3), ("pre", "post"), (4, 2, 1)))
T = 8
# Within the context at first, ending with it, and past it.
PROMPTS = ("c", "abcdefgh"[: T - 1], "abcdefgh", "hgfedcba" * 2 + "ab")
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"strategy": "greedy"},
    "multinomial": {"temperature": 1.5},
    "cut off": {"temperature": 1.5, "top_k": 6, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.98},
    "penalties": {"repetition_penalty": 1.3, "presence_penalty": 0.5, "no_repeat_ngram": 3},
    "bias": {"logit_bias": {(1,): 2.0}, "forbid": [0], "force": [3, 3]},
    "beam": {"strategy": "beam", "num_beams": 3},
    "groups": {"strategy": "beam", "num_beams": 4, "num_groups": 2, "diversity_penalty": 1.5},
    "contrastive": {"strategy": "contrastive", "contrast_k": 3},
}


def config_number(number: int) -> dict[str, Any]:
    position, window, norm_order, n_kv_head = GRID[number]
    return {
        "position": position,
        "window": window,
        "norm_order": norm_order,
        "n_kv_head": n_kv_head,
        "norm": ("rmsnorm", "layernorm")[number % 2],
        "mlp": ("gelu", "relu2", "swiglu")[number // 2 % 3],
        "qk_norm": number // 3 % 2 == 0,
        "bias": number // 5 % 2 == 0,
        "tie_embeddings": number // 7 % 2 == 0,
    }


def make(seed: int = 2, **options: Any) -> GPTModel:
    """Its weights are large enough for every token before to matter."""
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 16, "block_size": T}
    model = GPTModel(GPTConfig(8, **{**shape, **options}), torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(20)
    return model.eval()


@pytest.mark.parametrize("number", range(len(GRID)))
def test_every_configuration(number: int) -> None:
    model = make(**config_number(number))
    kept, anew = Generator(model, LETTERS), Generator(model, LETTERS, cache=False)
    way = list(WAYS.values())[number % len(WAYS)]
    for prompt in PROMPTS[number % 2 :: 2]:
        sampling: dict[str, Any] = {**way, "max_new_tokens": 12, "seed": number}
        expected = anew.generate(prompt, **sampling)
        assert kept.generate(prompt, **sampling) == expected
        assert len(expected.ids) == 12


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("position", POSITIONS)
def test_every_way(way: str, position: Any) -> None:
    model = make(position=position)
    kept, anew = Generator(model, LETTERS), Generator(model, LETTERS, cache=False)
    options: dict[str, Any] = {**WAYS[way], "max_new_tokens": T + 3, "seed": 3}
    expected = [anew.generate_samples(prompt, 2, **options) for prompt in PROMPTS]
    assert [kept.generate_samples(prompt, 2, **options) for prompt in PROMPTS] == expected
    together = list(kept.generate_many(PROMPTS, 2, **options))
    assert together == list(itertools.chain.from_iterable(expected))


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("num_draft_tokens", [1, 3])
def test_with_a_draft(position: Any, num_draft_tokens: int) -> None:
    model, draft = make(position=position), make(seed=5, n_layer=1, position=position)
    kept, anew = Generator(model, LETTERS), Generator(model, LETTERS, cache=False)
    for prompt in PROMPTS:
        for options in (WAYS["multinomial"], WAYS["penalties"]):
            sampling: dict[str, Any] = {**options, "max_new_tokens": T + 3, "seed": 3}
            sampling |= {"draft": draft, "num_draft_tokens": num_draft_tokens}
            assert kept.generate(prompt, **sampling) == anew.generate(prompt, **sampling)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_stored_weights(weights: Any) -> None:
    model = make(position="rotary", n_kv_head=2)
    kept = Generator(model, LETTERS, weights=weights)
    anew = Generator(model, LETTERS, weights=weights, cache=False)
    for prompt in PROMPTS:
        sampling: dict[str, Any] = {"temperature": 1.5, "max_new_tokens": 2 * T, "seed": 3}
        assert kept.generate(prompt, **sampling) == anew.generate(prompt, **sampling)


def test_texts_that_join_one_after_the_other() -> None:
    for position in POSITIONS:
        model, found = make(position=position), []
        for cache in (True, False):
            batch = Batch(Generator(model, LETTERS, cache=cache))
            texts = []
            for seed, prompt in enumerate(PROMPTS * 2):
                texts += batch.join(prompt, seed=seed, max_new_tokens=T + seed, temperature=1.5)
                batch.step()
            while batch.rows:
                batch.step()
            found.append([text.completion() for text in texts])
        assert found[0] == found[1]
