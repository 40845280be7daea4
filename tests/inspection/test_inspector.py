"""What an Inspector finds, against models changed by hand, autograd and NumPy."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_tracer import CONFIGURATIONS, gpt
from torch import Tensor, nn

from toolkit.errors import UsageError
from toolkit.inspection import Inspector
from toolkit.inspection.probes import probe_class, probe_number
from toolkit.models import LanguageModel, available_models, create_model
from toolkit.models.config import GPTConfig
from toolkit.models.gpt import GPTModel

IDS = [1, 2, 3, 4, 5, 1, 2, 9, 6, 3]
TARGETS = torch.tensor(IDS[1:])


def loss_of(model: LanguageModel) -> float:
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0, :-1]
    return F.cross_entropy(logits, TARGETS).item()


def parts(model: LanguageModel) -> Any:
    return model


@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_ablation_is_a_model_with_zeros(options: dict[str, Any]) -> None:
    model = gpt(**options)
    found = Inspector(model, IDS).ablation()
    assert found.loss == pytest.approx(loss_of(model), abs=1e-6)
    d, heads = parts(model).config.head_dim, parts(model).config.n_head
    for layer in range(2):
        for head in range(heads):
            changed = copy.deepcopy(model)
            with torch.no_grad():
                weight = parts(changed).blocks[layer].attn.proj.weight
                weight[:, head * d : (head + 1) * d] = 0.0
            # The same sums, of which some are 0.
            assert found.without_head[layer][head] == pytest.approx(loss_of(changed), abs=1e-5)
        for part, name in (("attn", "attn.proj"), ("mlp", "mlp.down")):
            changed = copy.deepcopy(model)
            with torch.no_grad():
                for parameter in changed.get_submodule(f"blocks.{layer}.{name}").parameters():
                    parameter.zero_()
            expected = loss_of(changed)
            assert found.without_part[layer][part] == pytest.approx(expected, abs=1e-5)
        changed = copy.deepcopy(model)
        del parts(changed).blocks[layer]
        assert found.without_part[layer]["layer"] == pytest.approx(loss_of(changed), abs=1e-5)


@pytest.mark.parametrize("options", [{}, {"preset": "gpt2"}, {"mlp": "relu2"}], ids=str)
def test_gradients_are_those_of_autograd(options: dict[str, Any]) -> None:
    model = gpt(**options)
    twin = copy.deepcopy(model)
    F.cross_entropy(twin(torch.tensor([IDS])).logits[0, :-1], TARGETS).backward()
    found = Inspector(model, IDS).gradient_flow(learning_rate=0.5)
    for gradient, (name, parameter) in zip(found, twin.named_parameters(), strict=True):
        assert gradient.name == name
        assert parameter.grad is not None
        # Norms in float64 of the same float32 gradients.
        assert gradient.grad_norm == pytest.approx(parameter.grad.double().norm().item())
        weight = parameter.detach().double().norm().item()
        ratio = 0.5 * gradient.grad_norm / weight if weight else None
        assert gradient.update_ratio == pytest.approx(ratio)
        assert gradient.flag == ""


def test_dead_and_exploding_parameters() -> None:
    model = gpt()
    with torch.no_grad():
        parts(model).blocks[1].attn.proj.weight.zero_()
        parts(model).blocks[0].mlp.down.weight.mul_(0.0)
        parts(model).blocks[0].mlp.gate_up.weight.mul_(1e4)
    flags = {found.name: found.flag for found in Inspector(model, IDS).gradient_flow()}
    assert flags["blocks.1.attn.qkv.weight"] == "dead"
    assert flags["blocks.0.mlp.gate_up.weight"] == "dead"
    assert flags["blocks.0.mlp.down.weight"] == "exploding"
    assert flags["head.weight"] == ""


def induction_model() -> GPTModel:
    """Two layers of one head each, written by hand: the first copies the previous token, the
    second looks for the current token among these copies.

    The stream has three parts: the token, the token before it, the position, each as a one-hot.
    """
    v, length = 24, 64
    config = GPTConfig(
        vocab_size=v, block_size=length, n_layer=2, n_head=1, n_embd=2 * v + length,
        head_dim=length, n_inner=4, position="learned", qk_norm=False, mlp="gelu",
        tie_embeddings=False,
    )  # fmt: skip
    model = GPTModel(config)
    token, before, place = slice(0, v), slice(v, 2 * v), slice(2 * v, 2 * v + length)
    sharp = 30.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.zero_()
        model.tok_emb.weight[:, token] = torch.eye(v)
        assert model.pos_emb is not None
        model.pos_emb.weight[:, place] = torch.eye(length)
        first, second = (parts(model).blocks[layer].attn for layer in range(2))
        query, key, value = slice(0, length), slice(length, 2 * length), 2 * length
        # Position t asks for position t − 1.
        first.qkv.weight[query, place] = sharp * torch.eye(length).roll(-1, 0)
        first.qkv.weight[key, place] = torch.eye(length)
        first.qkv.weight[value : value + v, token] = torch.eye(v)
        first.proj.weight[before, :v] = torch.eye(v)
        # The current token asks for places whose token before was the same.
        second.qkv.weight[:v, token] = sharp * torch.eye(v)
        second.qkv.weight[length : length + v, before] = torch.eye(v)
        second.qkv.weight[value : value + v, token] = torch.eye(v)
        second.proj.weight[token, :v] = 3 * torch.eye(v)
        assert model.head is not None
        model.head.weight[:, token] = torch.eye(v)
    return model.eval()


def test_a_model_wired_for_induction() -> None:
    model = induction_model()
    generator = torch.Generator().manual_seed(5)
    once = torch.randperm(24, generator=generator)[:12].tolist()
    inspector = Inspector(model, once + once)
    first, second = inspector.heads()
    assert (first.kind, second.kind) == ("previous-token", "induction")
    assert first.scores["previous-token"].value == pytest.approx(1.0, abs=0.02)
    # All but half of one query in 24: the first position, which has none before it, takes itself
    # for its own predecessor, so that the copy of the first token has two places to look at.
    assert second.scores["induction"].value == pytest.approx(1 - 0.5 / 24, abs=1e-3)
    assert (second.scores["induction"].above_chance or 0.0) > 0.97
    assert (first.scores["induction"].value or 0.0) < 0.05
    # It says what came after the earlier copy.
    last = inspector.logit_lens()[-1]
    assert list(last.tokens[13:23]) == once[2:]
    # Without either head it cannot.
    found = inspector.ablation()
    assert min(row[0] for row in found.without_head) > found.loss + 0.3


def test_the_lens_ends_with_the_model() -> None:
    for options in CONFIGURATIONS.values():
        model = gpt(**options)
        rows = Inspector(model, IDS).logit_lens()
        with torch.no_grad():
            expected = model(torch.tensor([IDS])).logits[0].softmax(-1).max(-1)
        assert [row.point for row in rows] == [
            "embed.sum", "blocks.0.resid_post", "blocks.1.resid_post",
        ]  # fmt: skip
        assert list(rows[-1].tokens) == expected.indices.tolist()
        assert rows[-1].probabilities == pytest.approx(expected.values.tolist(), abs=1e-6)
        assert rows[-1].loss == pytest.approx(loss_of(model), abs=1e-5)
        assert rows[-1].kl_to_last == pytest.approx(0.0, abs=1e-5)
        assert rows[0].kl_to_last > 0.01


def test_contributions_by_hand() -> None:
    model = gpt()
    inspector = Inspector(model, IDS)
    found = inspector.layer_contributions()
    assert [(c.layer, c.part) for c in found] == [(0, "attn"), (0, "mlp"), (1, "attn"), (1, "mlp")]
    stream = inspector.trace["blocks.1.resid_mid"][0].numpy().astype(np.float64)
    update = (inspector.trace["blocks.1.resid_post"][0].numpy() - stream).astype(np.float64)
    norms = np.linalg.norm(update, axis=1), np.linalg.norm(stream, axis=1)
    last = found[-1]
    # The update is a difference of float32 numbers here.
    assert last.update_norm == pytest.approx(norms[0].mean(), rel=1e-5)
    assert last.ratio == pytest.approx((norms[0] / norms[1]).mean(), rel=1e-5)
    cosine = ((update * stream).sum(1) / norms[0] / norms[1]).mean()
    assert last.cosine == pytest.approx(cosine, abs=1e-5)


def test_statistics_of_queries_keys_and_values() -> None:
    model = gpt(n_kv_head=1)
    inspector = Inspector(model, IDS)
    found = inspector.qkv_statistics()
    assert [(s.layer, s.which, s.head) for s in found[:4]] == [
        (0, "q", 0), (0, "q", 1), (0, "k", 0), (0, "v", 0),
    ]  # fmt: skip
    q = inspector.trace["blocks.0.attn.q"][0, 1].numpy().astype(np.float64)
    second = found[1]
    expected = (q.mean(), q.std(), q.min(), q.max(), np.linalg.norm(q, axis=1).mean())
    assert (second.mean, second.std, second.min, second.max, second.norm) == pytest.approx(expected)


def test_sparsity() -> None:
    model = gpt(mlp="relu2")
    with torch.no_grad():
        weight = parts(model).blocks[0].mlp.up.weight
        weight[:64] = 0.0  # a quarter of the units has nothing to say
    inspector = Inspector(model, IDS)
    found = inspector.mlp_sparsity()
    hidden = inspector.trace["blocks.0.mlp.hidden"][0].numpy()
    assert found[0].zero == pytest.approx((hidden == 0).mean())
    assert found[0].zero > 0.25
    assert 0.25 <= found[0].dead_units < found[1].dead_units + 0.25
    squares = -np.sort(-(hidden.astype(np.float64) ** 2), axis=1)
    top = (squares[:, :26].sum(1) / squares.sum(1)).mean()
    assert found[0].top_tenth == pytest.approx(top)


def test_embeddings_against_numpy() -> None:
    model = gpt()
    found = Inspector(model, IDS).embedding_geometry(nearest=3)
    table = parts(model).tok_emb.weight.detach().numpy().astype(np.float64)
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    for neighbours in found.neighbours:
        cosines = unit @ unit[neighbours.token]
        cosines[neighbours.token] = -2
        order = np.argsort(-cosines)[:3]
        assert [token for token, _ in neighbours.nearest] == order.tolist()
        assert [c for _, c in neighbours.nearest] == pytest.approx(cosines[order].tolist())
    centred = table - table.mean(0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    share = values**2 / (values**2).sum()
    # A decomposition in another way.
    assert found.explained == pytest.approx(share[:10].tolist(), abs=1e-9)
    points = np.abs(centred[list(found.tokens)] @ axes[:2].T)
    assert np.abs(np.array(found.coordinates)) == pytest.approx(points, abs=1e-9)


def test_probes_find_what_is_there() -> None:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(200, 6, generator=generator)
    numbers = torch.arange(200)
    there = torch.cat((noise, numbers[:, None] / 50.0), dim=1)
    assert probe_number(there, numbers)[0] > 0.95
    assert probe_number(noise, numbers)[0] < 0.2
    classes = torch.randint(3, (200,), generator=generator)
    marked = torch.cat((noise, F.one_hot(classes) * 4.0), dim=1)
    score, chance = probe_class(marked, classes)
    assert score > 0.95
    held_out = classes[3::4]
    commonest = torch.cat([classes[i::4] for i in range(3)]).bincount().argmax()
    assert chance == pytest.approx((held_out == commonest).float().mean().item())
    with pytest.raises(UsageError, match="at least 16 tokens; there are 15"):
        probe_number(noise[:15], numbers[:15])


def test_probes_of_a_model() -> None:
    model = gpt()
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(11, (60,), generator=generator).tolist()
    inspector = Inspector(model, ids)
    found = inspector.linear_probes(token_classes=[i % 2 for i in ids])
    first = {probe.asked: probe for probe in found if probe.point == "embed.sum"}
    # The class is a function of the token, whose row is all that is in the stream.
    assert first["token-class"].score == 1.0
    assert first["position"].n_judged == 15
    assert len(found) == 9
    with pytest.raises(UsageError, match=r"No probe colour; there are position, token-class"):
        inspector.linear_probes(["colour"])


@pytest.mark.parametrize("name", available_models())
def test_every_model_of_the_ladder(name: str) -> None:
    inspector = Inspector(create_model(name, 11, size="nano"), IDS)
    heads = inspector.heads()
    if name.startswith("average"):
        assert [head.kind for head in heads] == ["global"]
    assert len(heads) == {"bigram": 0, "gpt": 4}.get(name, 1)
    assert len(inspector.redundancy().heads) == len(heads)
    assert len(inspector.gradient_flow()) == len(list(inspector.model.parameters()))
    assert inspector.ablation().loss == pytest.approx(np.log(11), abs=0.2)
    assert len(inspector.logit_lens()) == (0 if name == "bigram" else inspector.anatomy.n_layer + 1)
    assert inspector.embedding_geometry().tokens == tuple(sorted(set(IDS)))
    inspector.layer_contributions()
    inspector.qkv_statistics()
    inspector.mlp_sparsity()


def state(model: nn.Module) -> tuple[Any, ...]:
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    modes = [m.training for m in model.modules()]
    grads: list[Tensor | None] = [
        None if p.grad is None else p.grad.clone() for p in model.parameters()
    ]
    return hooks, modes, grads, [p.detach().clone() for p in model.parameters()]


def test_the_model_stays_as_it_was() -> None:
    model = gpt(dropout=0.3).train()
    parts(model).blocks[0].eval()  # a part that somebody keeps fixed
    loss = model(torch.tensor([IDS]), torch.tensor([IDS])).loss
    assert loss is not None
    loss.backward()
    before = state(model)
    inspector = Inspector(model, IDS * 2)
    first = inspector.ablation()
    inspector.heads()
    inspector.gradient_flow()
    inspector.logit_lens()
    inspector.linear_probes()
    assert inspector.ablation() == first  # nothing is dropped meanwhile
    for old, new in zip(before, state(model), strict=True):
        for a, b in zip(old, new, strict=True):
            assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


def test_too_little_to_look_at() -> None:
    with pytest.raises(UsageError, match="at least two tokens, one to predict; the text has 1"):
        Inspector(gpt(), [1])
    with pytest.raises(UsageError, match="There is no layer 2: this model has 2"):
        Inspector(gpt(), IDS).attention(2)
