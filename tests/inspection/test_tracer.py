"""What a trace says, against the model itself, float64 by hand, and transformers."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from toolkit.errors import UnknownNameError, UsageError
from toolkit.inspection import Tracer
from toolkit.models import (
    LanguageModel,
    attention_weights,
    available_models,
    create_model,
)
from toolkit.models.taps import TAPS, tap_names, tap_of

IDS = torch.tensor([[1, 2, 3, 4, 5, 1, 2], [6, 6, 0, 3, 2, 9, 8]])
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "modern": {},
    "gpt2": {"preset": "gpt2"},
    "sinusoidal": {"position": "sinusoidal"},
    "alibi": {"position": "alibi"},
    "none": {"position": "none"},
    "window": {"window": 3},
    "alibi and window": {"position": "alibi", "window": 2},
    "grouped": {"n_kv_head": 1},
    "without qk-norm": {"qk_norm": False},
    "post": {"norm_order": "post", "norm": "layernorm", "bias": True, "mlp": "gelu"},
    "relu2": {"mlp": "relu2"},
    "wide heads": {"head_dim": 48, "tie_embeddings": False},
}


def gpt(**options: Any) -> LanguageModel:
    """Weights large enough that attention is not an average."""
    model = create_model("gpt", 11, size="nano", **options).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3, generator=generator)
    return model


def softmax_attention(model: Any, layer: int, x: Tensor) -> dict[str, Tensor]:
    """One attention in float64, written out from its definition, for x (B, T, C)."""
    config, attn = model.config, model.blocks[layer].attn
    x = x.double()
    heads, groups, d, t = config.n_head, config.n_kv_head, config.head_dim, x.size(1)
    qkv = x @ attn.qkv.weight.double().T
    if attn.qkv.bias is not None:
        qkv = qkv + attn.qkv.bias.double()
    q, k, v = qkv.split((heads * d, groups * d, groups * d), dim=-1)
    q = q.view(-1, t, heads, d).transpose(1, 2)
    k = k.view(-1, t, groups, d).transpose(1, 2)
    v = v.view(-1, t, groups, d).transpose(1, 2)
    if config.qk_norm:
        norms = [(y * y).mean(-1, keepdim=True).add(config.norm_eps).sqrt() for y in (q, k)]
        q = q / norms[0] * attn.q_norm.weight.double()
        k = k / norms[1] * attn.k_norm.weight.double()
    if config.position == "rotary":
        # Pairs (i, i + D/2) as complex numbers, turned by t · θ_i.
        angles = torch.arange(t).double()[:, None] * config.rope_theta ** (
            -torch.arange(0, d, 2).double() / d
        )
        turn = torch.polar(torch.ones_like(angles), angles)
        q, k = (
            torch.view_as_real(torch.complex(y[..., : d // 2], y[..., d // 2 :]) * turn)
            .transpose(-1, -2)
            .flatten(-2)
            for y in (q, k)
        )
    raw = torch.einsum("bhtd,bhsd->bhts", q, k.repeat_interleave(heads // groups, dim=1))
    scaled = raw / d**0.5
    masked = scaled.clone()
    for query in range(t):
        for key in range(t):
            distance = query - key
            if distance < 0 or (config.window and distance >= config.window):
                masked[:, :, query, key] = -torch.inf
            elif config.position == "alibi":
                for head in range(heads):
                    masked[:, head, query, key] -= distance * 2.0 ** (-8 * (head + 1) / heads)
    weights = masked.exp() / masked.exp().sum(-1, keepdim=True)
    y = weights @ v.repeat_interleave(heads // groups, dim=1)
    return {
        "q": q, "k": k, "v": v, "scores_raw": raw, "scores_scaled": scaled,
        "scores_masked": masked, "weights": weights, "heads": y,
    }  # fmt: skip


@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_gpt_in_every_configuration(options: dict[str, Any]) -> None:
    model = gpt(**options)
    plain = model(IDS).logits
    with Tracer(model) as trace:
        traced = model(IDS).logits
    assert torch.equal(plain, traced)
    assert torch.equal(trace["logits"], plain)
    assert tuple(trace) == tap_names(model)
    post = model.config.norm_order == "post"  # type: ignore[attr-defined]  # of GPTConfig
    for layer in range(2):
        name = f"blocks.{layer}"
        x = trace[f"{name}.resid_pre" if post else f"{name}.norm1.out"]
        for part, expected in softmax_attention(model, layer, x).items():
            found = trace[f"{name}.attn.{part}"].double()
            # float32 against float64, on numbers up to 60.
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5, msg=part)
            if part == "weights":
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        resid, mid = trace[f"{name}.resid_pre"], trace[f"{name}.resid_mid"]
        if post:
            assert torch.equal(trace[f"{name}.norm1.in"], resid + trace[f"{name}.attn.out"])
            assert torch.equal(trace[f"{name}.norm2.in"], mid + trace[f"{name}.mlp.out"])
            assert torch.equal(trace[f"{name}.norm1.out"], mid)
        else:
            assert torch.equal(mid, resid + trace[f"{name}.attn.out"])
            after = trace[f"{name}.resid_post"]
            assert torch.equal(after, mid + trace[f"{name}.mlp.out"])
            assert torch.equal(trace[f"{name}.norm1.in"], resid)
        check_mlp(model, trace, layer)
    if "embed.position" in trace:
        assert torch.equal(trace["embed.sum"], trace["embed.token"] + trace["embed.position"])
    assert torch.equal(trace["blocks.0.resid_pre"], trace["embed.sum"])
    assert torch.equal(trace["blocks.1.resid_pre"], trace["blocks.0.resid_post"])


def check_mlp(model: Any, trace: Tracer, layer: int) -> None:
    pre = trace[f"blocks.{layer}.mlp.pre"]
    if model.config.mlp == "swiglu":
        hidden = pre * torch.sigmoid(pre) * trace[f"blocks.{layer}.mlp.up"]
    elif model.config.mlp == "relu2":
        hidden = pre.clamp(min=0) ** 2
    else:
        hidden = nn.GELU(approximate="tanh")(pre)
    # The same operations in float32, in another order.
    torch.testing.assert_close(trace[f"blocks.{layer}.mlp.hidden"], hidden)
    down = model.blocks[layer].mlp.down
    assert torch.equal(trace[f"blocks.{layer}.mlp.out"], down(trace[f"blocks.{layer}.mlp.hidden"]))


@pytest.mark.parametrize("name", available_models())
def test_every_model_of_the_ladder(name: str) -> None:
    model = create_model(name, 11, size="nano").eval()
    plain = model(IDS).logits
    with Tracer(model) as trace:
        assert torch.equal(model(IDS).logits, plain)
    assert tuple(trace) == tap_names(model)
    assert torch.equal(trace["logits"], plain)
    for point, tensor in trace.items():
        assert tensor.dim() == len(tap_of(point).shape.split(",")), point
        assert not tensor.requires_grad


@pytest.mark.parametrize("name", ["average-loop", "average-matmul", "average-softmax"])
def test_an_average_is_attention_that_takes_the_same_from_all(name: str) -> None:
    model = create_model(name, 11, size="nano").eval()
    with Tracer(model) as trace:
        model(IDS)
    weights = trace["blocks.0.attn.weights"]
    for t in range(IDS.size(1)):
        expected = [1 / (t + 1)] * (t + 1) + [0.0] * (IDS.size(1) - t - 1)
        assert weights[1, 0, t].tolist() == pytest.approx(expected)
    # One sum in another order.
    y = weights @ trace["blocks.0.attn.v"]
    torch.testing.assert_close(y, trace["blocks.0.attn.heads"])
    resid = trace["blocks.0.resid_pre"] + trace["blocks.0.attn.out"]
    assert torch.equal(resid, trace["blocks.0.resid_post"])


def test_the_single_head() -> None:
    model: Any = create_model("single-head", 11, size="nano", head_dim=16).eval()
    with Tracer(model) as trace:
        model(IDS)
    x = trace["embed.sum"]
    expected = attention_weights(model.query(x), model.key(x))
    torch.testing.assert_close(trace["blocks.0.attn.weights"][:, 0], expected)
    masked = trace["blocks.0.attn.scores_masked"][0, 0]
    assert masked.isinf().tolist() == torch.ones(7, 7).triu(1).bool().tolist()
    assert torch.equal(trace["blocks.0.resid_post"], x + trace["blocks.0.attn.out"])


def test_patterns_choose() -> None:
    model = gpt()
    with Tracer(model, "blocks.1.*.weights", "embed.*") as trace:
        model(IDS)
    assert list(trace) == ["embed.token", "embed.sum", "blocks.1.attn.weights"]
    with pytest.raises(KeyError, match=r"this trace listens to blocks\.1"):
        trace["logits"]
    with pytest.raises(UnknownNameError, match=r"Did you mean 'blocks\.\*\.attn\.weights'"):
        Tracer(model, "blocks.0.attn.weight")
    untouched = Tracer(model, "logits")
    with pytest.raises(KeyError, match="no forward pass"):
        untouched["logits"]


def number_of_hooks(model: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )


def test_hooks_are_gone_after_errors_too() -> None:
    model = gpt()
    with pytest.raises(UsageError, match="longer than"), Tracer(model):
        model(torch.zeros(1, 65, dtype=torch.long))
    assert number_of_hooks(model) == 0
    with pytest.raises(UsageError, match="outside"), Tracer(model) as trace:
        raise UsageError("outside of the model")
    assert number_of_hooks(model) == 0
    assert not trace
    # Nothing listens any more.
    model(IDS)
    assert not trace


def test_memory_is_bounded() -> None:
    model = gpt()
    with Tracer(model, "logits", max_bytes=IDS.numel() * 11 * 4) as trace:
        model(IDS)
    assert trace["logits"].shape == (2, 7, 11)
    with (
        pytest.raises(UsageError, match=r"more than 0 MB \(reached at logits\)"),
        Tracer(model, "logits", max_bytes=IDS.numel() * 11 * 4 - 1),
    ):
        model(IDS)
    # Before the scores are computed, not after.
    with (
        pytest.raises(UsageError, match=r"reached at blocks.0.attn.weights"),
        Tracer(model, "*.weights", max_bytes=100),
    ):
        model(IDS)


def test_the_last_call_counts() -> None:
    model = gpt()
    with Tracer(model, "*.weights", "logits") as trace:
        model(IDS)
        model(IDS[:, :3])
    assert trace["logits"].shape == (2, 3, 11)
    assert trace["blocks.1.attn.weights"].shape == (2, 2, 3, 3)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("options", [{}, {"preset": "gpt2"}], ids=["modern", "gpt2"])
def test_training_is_the_same_with_a_trace(checkpointing: bool, options: dict[str, Any]) -> None:
    """Losses and gradients, bit for bit, with dropout."""
    gradients = []
    for traced in (False, True):
        model = gpt(dropout=0.2, **options).train()
        model.gradient_checkpointing = checkpointing
        torch.manual_seed(3)
        if traced:
            with Tracer(model):
                loss = model(IDS, IDS).loss
                assert loss is not None
                loss.backward()
        else:
            loss = model(IDS, IDS).loss
            assert loss is not None
            loss.backward()
        gradients.append([loss.detach(), *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_unknown_models_are_refused() -> None:
    with pytest.raises(UsageError, match="A Linear cannot be looked into; expected a model of"):
        Tracer(nn.Linear(2, 2))


def test_every_tap_has_a_model() -> None:
    models = [gpt(), gpt(preset="gpt2")]
    found = {tap_of(name).name for model in models for name in tap_names(model)}
    assert found == {tap.name for tap in TAPS}
