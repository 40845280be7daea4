"""The steps of a forward pass: one follows from the other, and the numbers are the model's."""

import math
from typing import Any

import pytest
import torch
from test_tracer import CONFIGURATIONS, gpt

from toolkit.errors import UsageError
from toolkit.inspection import walk
from toolkit.inspection.walkthrough import Walk
from toolkit.models import available_models, create_model

IDS = [1, 2, 3, 4, 5, 1, 2]


def titles(found: Walk, layer: int) -> list[str]:
    return [step.title for step in found.steps if step.layer == layer]


@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_what_goes_in_has_come_out_before(options: dict[str, Any]) -> None:
    found = walk(gpt(**options), IDS)
    known = {"ids", "embed.position"}
    same = {"blocks.0.resid_pre": "embed.sum", "blocks.1.resid_pre": "blocks.0.resid_post"}
    if options.get("norm_order") == "post":
        same |= {f"blocks.{i}.resid_mid": f"blocks.{i}.norm1.out" for i in range(2)}
        same |= {f"blocks.{i}.resid_post": f"blocks.{i}.norm2.out" for i in range(2)}
    for step in found.steps:
        for numbers in step.inputs:
            name = numbers.name
            while name in same and name not in known:
                name = same[name]
            before = {"embed.sum": "embed.token"}.get(name, name)
            assert name in known or before in known, (step.title, numbers.name)
        known |= {numbers.name for numbers in step.outputs}
    assert "probabilities" in known


def test_the_numbers_of_a_step() -> None:
    model = gpt(n_kv_head=1, window=3)
    found = walk(model, IDS)
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0]
    (out,) = found.steps[-2].outputs
    assert (out.name, out.letters, out.shape) == ("logits", "B, T, V", (1, 7, 11))
    expected = (logits.mean(), logits.std(correction=0), logits.min(), logits.max())
    numbers = (out.mean, out.std, out.min, out.max)
    assert numbers == pytest.approx(tuple(n.item() for n in expected), rel=1e-5)
    assert out.excerpt == tuple(tuple(row) for row in logits[:4, :6].double().tolist())
    likeliest = logits[-1].softmax(-1).topk(5)
    assert [token for token, _ in found.next_tokens] == likeliest.indices.tolist()
    assert [p for _, p in found.next_tokens] == pytest.approx(likeliest.values.tolist())
    mask = next(step for step in found.steps if step.title == "Mask")
    assert mask.equation == "s[t, s] = −∞ where s > t or s ≤ t − 3"
    hidden = [[math.isinf(value) for value in row] for row in mask.outputs[0].excerpt]
    assert hidden == [[not (s <= t and s > t - 3) for s in range(6)] for t in range(4)]
    assert math.isfinite(mask.outputs[0].mean)


def test_the_order_of_the_parts() -> None:
    attention = [
        "Queries, keys, values", "Scores", "Scaling", "Mask", "Attention weights", "Head outputs",
        "Projection", "Added to the stream",
    ]  # fmt: skip
    mlp = ["MLP, up", "MLP, activation", "MLP, down"]
    added = ["Added to the stream"]
    pre = titles(walk(gpt(), IDS), 1)
    assert pre == ["RMSNorm", *attention, "RMSNorm", *mlp, *added]
    post = titles(walk(gpt(**CONFIGURATIONS["post"]), IDS), 1)
    assert post == [*attention, "LayerNorm", *mlp, *added, "LayerNorm"]
    alibi = walk(gpt(position="alibi"), IDS)
    assert any("m_h · (t − s)" in step.equation for step in alibi.steps)


@pytest.mark.parametrize("name", available_models())
def test_every_model_of_the_ladder(name: str) -> None:
    model = create_model(name, 11, size="nano").train()
    found = walk(model, IDS, top=20)
    assert model.training
    assert sum(probability for _, probability in found.next_tokens) == pytest.approx(1.0)
    assert found.steps[-1].title == "Probabilities"
    assert found.steps[0].inputs[0].shape == (1, 7)


def test_no_tokens() -> None:
    with pytest.raises(UsageError, match="nothing to trace: the text has no tokens"):
        walk(gpt(), [])
