"""Looking inside an encoder–decoder: its points, and its attention."""

import math
from typing import Any

import pytest
import torch

from toolkit.errors import UnknownNameError
from toolkit.inspection import PairInspector, Tracer
from toolkit.inspection.pairs import focus
from toolkit.models import EncoderDecoderConfig, EncoderDecoderModel
from toolkit.models.taps import tap_names, tap_of

SOURCE = torch.tensor([[1, 2, 3, 4, 8], [5, 8, 10, 10, 10]])
IDS = torch.tensor([[9, 1, 2, 3], [9, 5, 10, 10]])


def make(order: Any = "post", mlp: Any = "relu") -> EncoderDecoderModel:
    config = EncoderDecoderConfig(
        11, n_layer=2, n_encoder_layer=1, n_head=2, n_embd=16, norm_order=order, mlp=mlp,
        dropout=0.0,
    )  # fmt: skip
    return EncoderDecoderModel(config).eval()


@pytest.mark.parametrize(("order", "mlp"), [("post", "relu"), ("pre", "swiglu")])
def test_every_point_is_reached_and_has_its_shape(order: str, mlp: str) -> None:
    model = make(order, mlp)
    plain = model(IDS, None, SOURCE).logits
    with Tracer(model) as trace:
        traced = model(IDS, None, SOURCE).logits
    assert traced.equal(plain)
    assert tuple(trace) == tap_names(model)
    inner = model.config.n_inner
    for name, tensor in trace.items():
        encodes = name.startswith("encoder.")
        t = 5 if encodes else 4
        s = 4 if name.startswith("decoder.") and ".attn." in name else 5
        numbers = {"B": 2, "T": t, "S": s, "C": 16, "H": 2, "G": 2, "D": 8, "I": inner, "V": 11}
        expected = [numbers[letter] for letter in tap_of(name).shape.split(", ")]
        assert list(tensor.shape) == expected, name
    with pytest.raises(UnknownNameError):
        Tracer(model, "blocks.0.attn.q")
    assert not model._forward_hooks


@pytest.mark.parametrize("order", ["post", "pre"])
def test_the_numbers_belong_together(order: str) -> None:
    model = make(order)
    with Tracer(model) as trace:
        logits = model(IDS, None, SOURCE).logits
    assert trace["logits"].equal(logits)
    for layer in range(2):
        name = f"decoder.blocks.{layer}.cross"
        q, k, v = (trace[f"{name}.{part}"] for part in "qkv")
        scores = q @ k.transpose(-1, -2) / math.sqrt(8)
        scores[1, :, :, 2:] = -torch.inf  # the second source has two tokens
        weights = scores.softmax(dim=-1)
        torch.testing.assert_close(trace[f"{name}.weights"], weights)
        torch.testing.assert_close(trace[f"{name}.heads"], weights @ v)
        own = trace[f"decoder.blocks.{layer}.attn.weights"]
        assert not own.triu(1).any()
        both = trace[f"decoder.blocks.{layer}.attn.out"] + trace[f"{name}.out"]
        if order == "pre":
            before = trace[f"decoder.blocks.{layer}.resid_pre"]
            torch.testing.assert_close(trace[f"decoder.blocks.{layer}.resid_mid"], before + both)
    assert not trace["encoder.blocks.0.attn.weights"][1, :, :, 2:].any()
    assert trace["encoder.blocks.0.attn.weights"][0].triu(1).any()  # it looks forward, too


def test_the_attention_of_a_pair() -> None:
    model = make()
    weights = PairInspector(model, [1, 2, 8], [3, 4, 5]).weights()
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == {
        "encoder.blocks.0.attn.weights": (2, 3, 3),
        "decoder.blocks.0.attn.weights": (2, 4, 4),
        "decoder.blocks.1.attn.weights": (2, 4, 4),
        "decoder.blocks.0.cross.weights": (2, 4, 3),
        "decoder.blocks.1.cross.weights": (2, 4, 3),
    }
    for tensor in weights.values():
        torch.testing.assert_close(tensor.sum(dim=-1), torch.ones(tensor.shape[:2]))


def test_focus_by_hand() -> None:
    even = torch.full((1, 4, 3), 1 / 3)
    sharp = torch.zeros(1, 4, 3)
    sharp[:, :, 1] = 1.0
    assert focus(even) == pytest.approx([0.0], abs=1e-6)
    half = torch.tensor([[[0.5, 0.5, 0.0, 0.0], [0.25] * 4]])
    # Each row is even over what it reads.
    assert focus(half) == pytest.approx([0.0], abs=1e-6)
    mixed = torch.cat([even, sharp + 0 * even])
    # Both heads can read all three tokens: ln 3 is the most there is.
    assert focus(mixed) == pytest.approx([0.0, 1.0], abs=1e-6)
