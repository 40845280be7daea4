"""What is found inside an encoder–decoder on a pair: against NumPy, autograd, and models whose
weights were changed by hand."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy_encoder_decoder import NumpyEncoderDecoder

import toolkit
from toolkit.errors import UnknownNameError, UsageError
from toolkit.inspection import Inspector, PairInspector, Tracer
from toolkit.inspection.pairs import ATTENTIONS, PairHead
from toolkit.models import EncoderDecoderConfig, EncoderDecoderModel, create_model

# As long as each other, so that swapped axes would have the right shape.
SOURCE, TARGET = [1, 2, 3, 4, 8], [3, 1, 2, 5]
BEGIN, END = 9, 8


def make(**options: Any) -> EncoderDecoderModel:
    """A model whose norms and biases do something, too."""
    shape: dict[str, Any] = {"n_layer": 2, "n_encoder_layer": 1, "n_head": 2, "n_embd": 16}
    config = EncoderDecoderConfig(11, **{**shape, "dropout": 0.2, **options})
    model = EncoderDecoderModel(config, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def model() -> EncoderDecoderModel:
    return make()


def test_attention_and_loss_are_those_of_the_equations(model: EncoderDecoderModel) -> None:
    oracle = NumpyEncoderDecoder(model, n_head=2)
    said = oracle([BEGIN, *TARGET], SOURCE)
    inspector = PairInspector(model, SOURCE, TARGET)
    for kind, pattern in ATTENTIONS.items():
        for layer in range(inspector.n_layer(kind)):
            expected = oracle.weights[pattern.replace("*", str(layer))]
            found = inspector.attention(kind, layer).numpy()
            # float32 against float64; measured 3e-7.
            np.testing.assert_allclose(found, expected, atol=2e-6, rtol=0)
    cross = inspector.attention("cross", 1)
    # Rows are what is written, columns the source: the other way round is far away.
    assert np.abs(cross.transpose(1, 2).numpy() - oracle.weights[
        "decoder.blocks.1.cross.weights"
    ]).max() > 0.1  # fmt: skip
    loss = -said[range(5), [*TARGET, END]].mean()
    assert inspector.loss() == pytest.approx(loss, abs=1e-5)
    assert model.training


def test_heads_are_described_as_numpy_would(model: EncoderDecoderModel) -> None:
    oracle = NumpyEncoderDecoder(model, n_head=2)
    oracle([BEGIN, *TARGET], SOURCE)
    inspector = PairInspector(model, SOURCE, TARGET)
    for kind, pattern in ATTENTIONS.items():
        even = [math.log(n if kind == "decoder" else 5) for n in range(1, 6)]
        assert inspector.even_entropy(kind) == pytest.approx(np.mean(even))
        heads = inspector.heads(kind)
        assert [(head.layer, head.head) for head in heads] == [
            (layer, head) for layer in range(inspector.n_layer(kind)) for head in range(2)
        ]
        for found in heads:
            weights = oracle.weights[pattern.replace("*", str(found.layer))][found.head]
            logs = np.log(weights, where=weights > 0, out=np.zeros_like(weights))
            entropy = -(weights * logs).sum(-1)
            assert found.entropy == pytest.approx(entropy.mean(), abs=1e-5)
            assert found.focus == pytest.approx(1 - entropy.mean() / np.mean(even), abs=1e-5)
            assert found.largest == pytest.approx(weights.max(-1).mean(), abs=1e-5)
            order = np.corrcoef(np.arange(5), weights @ np.arange(5))[0, 1]
            assert found.order == pytest.approx(order, abs=1e-4)
            seeing = np.arange(5, 0, -1) if kind == "decoder" else np.full(5, 5)
            assert found.received == pytest.approx(weights.sum(0) / seeing, abs=1e-5)


def head_of(weights: torch.Tensor) -> PairHead:
    """What is said of a head of cross-attention that has these weights, (T, S)."""

    class Made(PairInspector):
        def attention(self, kind: str, layer: int) -> torch.Tensor:
            return weights[None]

    t, s = weights.shape
    config = EncoderDecoderConfig(11, n_layer=1, n_head=1, n_embd=8)
    return Made(EncoderDecoderModel(config), [1] * s, [1] * (t - 1)).heads("cross")[0]


def test_the_order_of_a_head_by_hand() -> None:
    along, back = torch.eye(4), torch.eye(4).flip(1)
    assert head_of(along).order == pytest.approx(1.0)
    assert head_of(back).order == pytest.approx(-1.0)
    assert head_of(torch.full((4, 4), 0.25)).order is None
    assert head_of(torch.ones(1, 1)).order is None
    one = head_of(torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
    assert one.received == (0.0, 1.0, 0.0)
    assert one.received_above_even == pytest.approx((0.0, 3.0, 0.0))
    assert (one.entropy, one.largest) == (0.0, 1.0)


def test_gradients_are_autograds(model: EncoderDecoderModel) -> None:
    inspector = PairInspector(model, SOURCE, TARGET)
    model.eval()
    loss = model(
        torch.tensor([[BEGIN, *TARGET]]), torch.tensor([[*TARGET, END]]), torch.tensor([SOURCE])
    ).loss
    assert loss is not None
    assert inspector.loss() == pytest.approx(float(loss.detach()), abs=1e-6)
    found = inspector.gradient_flow(0.5)
    assert all(parameter.grad is None for parameter in model.parameters())
    loss.backward()
    for gradient, (name, parameter) in zip(found, model.named_parameters(), strict=True):
        assert gradient.name == name
        assert parameter.grad is not None
        assert gradient.grad_norm == pytest.approx(float(parameter.grad.double().norm()), rel=1e-4)
        assert gradient.weight_norm == pytest.approx(float(parameter.detach().double().norm()))
        ratio = 0.5 * gradient.grad_norm / gradient.weight_norm
        assert gradient.update_ratio == pytest.approx(ratio)


def changed_loss(model: EncoderDecoderModel, names: tuple[str, ...], columns: slice) -> float:
    """The loss where some columns of matrices are zero."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name in names:
            parameter = other.get_parameter(name)
            parameter[..., columns] = 0.0
    return PairInspector(other, SOURCE, TARGET).loss()


def test_ablation_is_a_model_without_the_weights(model: EncoderDecoderModel) -> None:
    inspector = PairInspector(model, SOURCE, TARGET)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for kind, proj in (
        ("encoder", "encoder.blocks.0.attn.proj"),
        ("decoder", "decoder.blocks.1.attn.proj"),
        ("cross", "decoder.blocks.1.cross.proj"),
    ):
        found = inspector.ablation(kind)
        assert found.loss == inspector.loss()
        for head in range(2):
            expected = changed_loss(model, (f"{proj}.weight",), slice(8 * head, 8 * head + 8))
            # Zeros are added in another place of the sum.
            assert found.without_head[-1][head] == pytest.approx(expected, abs=1e-5)
    decoder = inspector.ablation("decoder").without_part
    assert [set(row) for row in decoder] == [{"attn", "cross", "mlp", "layer"}] * 2
    for part, module in (("attn", "attn.proj"), ("cross", "cross.proj"), ("mlp", "mlp.down")):
        names = tuple(f"decoder.blocks.1.{module}.{of}" for of in ("weight", "bias"))
        expected = changed_loss(model, names, slice(None))
        assert decoder[1][part] == pytest.approx(expected, abs=1e-5)
    assert [set(row) for row in inspector.ablation("encoder").without_part] == [
        {"attn", "mlp", "layer"}
    ]
    assert inspector.ablation("cross").without_part == ()
    assert all(before[name].equal(value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(("order", "mlp"), [("post", "relu"), ("pre", "swiglu")])
def test_layers_are_what_is_traced(order: str, mlp: str) -> None:
    model = make(norm_order=order, mlp=mlp).eval()
    inspector = PairInspector(model, SOURCE, TARGET)
    with Tracer(model) as trace:
        logits = model(
            torch.tensor([[BEGIN, *TARGET]]), None, torch.tensor([SOURCE])
        ).logits[0]  # fmt: skip
    found = {(c.layer, c.part): c for c in inspector.layer_contributions("decoder")}
    assert set(found) == {(n, part) for n in range(2) for part in ("attn", "cross", "mlp")}
    # What each part is added to, and what comes of the sum.
    sums = (
        {"attn": ("resid_pre", "norm1.in"), "cross": ("norm1.out", "cross_norm.in")}
        if order == "post"
        else {"attn": ("resid_pre", "cross_norm.in"), "cross": ("cross_norm.in", "resid_mid")}
    )
    for layer in range(2):
        for part, (before, after) in sums.items():
            name = f"decoder.blocks.{layer}"
            stream, update = trace[f"{name}.{before}"], trace[f"{name}.{part}.out"]
            torch.testing.assert_close(stream + update, trace[f"{name}.{after}"])
            lengths = update[0].norm(dim=-1), stream[0].norm(dim=-1)
            assert found[layer, part].update_norm == pytest.approx(float(lengths[0].mean()))
            assert found[layer, part].stream_norm == pytest.approx(float(lengths[1].mean()))
    assert {c.part for c in inspector.layer_contributions("encoder")} == {"attn", "mlp"}
    lens = inspector.logit_lens()
    assert [row.point for row in lens][1:] == [f"decoder.blocks.{n}.resid_post" for n in range(2)]
    assert lens[-1].tokens == tuple(logits.argmax(-1).tolist())
    assert lens[-1].loss == pytest.approx(inspector.loss(), abs=1e-5)
    assert lens[-1].kl_to_last == pytest.approx(0.0, abs=1e-6)
    lengths = {(s.layer, s.head, s.which): s.norm for s in inspector.qkv_statistics("cross")}
    key = trace["decoder.blocks.1.cross.k"][0, 1]
    assert lengths[1, 1, "k"] == pytest.approx(float(key.norm(dim=-1).mean()))
    hidden = trace["decoder.blocks.0.mlp.hidden"]
    share = float((hidden == 0).float().mean())
    assert inspector.mlp_sparsity("decoder")[0].zero == pytest.approx(share)


def test_what_is_no_pair(model: EncoderDecoderModel) -> None:
    with pytest.raises(UsageError, match="Pairs are for an encoder-decoder"):
        PairInspector(create_model("bigram", 9), [1], [2])
    with pytest.raises(UsageError, match="use a PairInspector, walk_pair, or a Tracer"):
        Inspector(model, [1, 2])
    inspector = toolkit.PairInspector(model, SOURCE, TARGET)
    with pytest.raises(UnknownNameError, match="crosss"):
        inspector.heads("crosss")
    with pytest.raises(UsageError, match="no layer 1: there are 1"):
        inspector.attention("encoder", 1)
    with pytest.raises(UsageError, match="11"):
        PairInspector(model, [11, END], TARGET).loss()
