"""Traces of Hugging Face's own classes, against what they say themselves; and ours against them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from toolkit.errors import UsageError
from toolkit.inspection import Inspector, Tracer
from toolkit.models import EncoderDecoderConfig, EncoderDecoderModel, load_pretrained
from toolkit.models.hf_twin import HuggingFaceTwin
from toolkit.models.taps import tap_names

transformers = pytest.importorskip("transformers")

IDS = torch.tensor([[1, 2, 3, 4, 5, 1, 2], [6, 6, 0, 3, 2, 9, 8]])
KINDS = ("gpt2", "llama", "qwen3", "mistral")
ENDS = {"vocab_size": 11, "bos_token_id": 0, "eos_token_id": 0}


def config_of(kind: str) -> Any:
    shape = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 16,
        "initializer_range": 0.3, **ENDS,
    }  # fmt: skip
    if kind == "gpt2":
        return transformers.GPT2Config(
            n_positions=16, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3, **ENDS
        )
    if kind == "llama":
        return transformers.LlamaConfig(**shape)
    if kind == "mistral":
        return transformers.MistralConfig(**shape, sliding_window=3)
    return transformers.Qwen3Config(**shape, head_dim=8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(config_of(kind))
        model.save_pretrained(base / kind)
    return base


def open_theirs(folder: Path, implementation: str) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation=implementation
    ).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_our_trace_is_what_transformers_says(folders: Path, kind: str) -> None:
    """The fused kernel's weights, computed again, against "eager" attention of transformers."""
    ours = load_pretrained(folders / kind)
    with torch.no_grad():
        theirs = open_theirs(folders / kind, "eager")(
            IDS, output_attentions=True, output_hidden_states=True
        )
        with Tracer(ours) as trace:
            ours(IDS)
    for layer, weights in enumerate(theirs.attentions):
        # float32 in another order; the bound that the fused kernel's weights are promised.
        found = trace[f"blocks.{layer}.attn.weights"]
        torch.testing.assert_close(found, weights, atol=1e-5, rtol=0)
        hidden = theirs.hidden_states[layer]
        torch.testing.assert_close(trace[f"blocks.{layer}.resid_pre"], hidden, atol=1e-4, rtol=1e-5)
    # Their last hidden state is the one after the last norm.
    torch.testing.assert_close(trace["norm.out"], theirs.hidden_states[-1], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", KINDS)
def test_their_classes_under_the_same_names(folders: Path, kind: str, implementation: str) -> None:
    theirs, ours = open_theirs(folders / kind, implementation), load_pretrained(folders / kind)
    with torch.no_grad():
        plain = theirs(IDS).logits
        with Tracer(theirs) as trace:
            assert torch.equal(theirs(IDS).logits, plain)
        with Tracer(ours) as expected:
            ours(IDS)
    assert set(trace) == set(expected)
    for name, tensor in expected.items():
        # float32 in another order, on numbers up to 60.
        torch.testing.assert_close(trace[name], tensor, atol=2e-4, rtol=1e-5, msg=name)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("order", ["post", "pre"])
def test_their_encoder_decoders_under_the_same_names(order: Any, implementation: str) -> None:
    """Marian and Pegasus on a batch of pairs that differ in length, point by point."""
    config = EncoderDecoderConfig(
        11, n_layer=2, n_encoder_layer=1, n_head=2, n_embd=16, norm_order=order, dropout=0.0
    )
    ours = EncoderDecoderModel(config).eval()
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in ours.parameters():  # so that biases and norms matter, too
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=source))
    twin = HuggingFaceTwin(ours)
    theirs = twin.hf.eval()
    theirs.set_attn_implementation(implementation)
    sources = torch.tensor([[1, 2, 3, 4, 8], [5, 8, 10, 10, 10]])
    ids = torch.tensor([[9, 1, 2, 3], [9, 5, 10, 10]])
    inputs = {
        "input_ids": sources, "attention_mask": (sources != 10).long(), "decoder_input_ids": ids,
    }  # fmt: skip
    with torch.no_grad():
        plain = theirs(**inputs, output_hidden_states=True)
        with Tracer(ours) as expected:
            ours(ids, None, sources)
        with Tracer(theirs) as trace:
            assert torch.equal(theirs(**inputs).logits, plain.logits)
    assert tuple(trace) == tuple(expected) == tap_names(ours)
    for name, tensor in expected.items():
        # float32 in another order, on numbers up to 30.
        same = twin.in_our_order(name, trace[name])
        torch.testing.assert_close(same, tensor, atol=1e-4, rtol=1e-5, msg=name)
    # What transformers itself says of the streams.
    last = "norm.out" if order == "pre" else "blocks.1.resid_post"
    assert torch.equal(trace[f"decoder.{last}"], plain.decoder_hidden_states[-1])
    for layer in range(2):
        stream = trace[f"decoder.blocks.{layer}.resid_pre"]
        assert torch.equal(stream, plain.decoder_hidden_states[layer])
    with pytest.raises(UsageError, match="two stacks of layers"):
        Inspector(theirs, [1, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_an_inspector_of_their_classes(folders: Path, kind: str) -> None:
    """Two implementations of one model: the same losses without each part, the same heads."""
    ids = IDS[0].tolist()
    ours = Inspector(load_pretrained(folders / kind), ids)
    theirs = Inspector(open_theirs(folders / kind, "eager"), ids)
    mine, other = ours.ablation(), theirs.ablation()
    # float32 in another order, on losses of a few nats.
    assert other.loss == pytest.approx(mine.loss, abs=1e-4)
    for layer in range(2):
        assert other.without_head[layer] == pytest.approx(mine.without_head[layer], abs=1e-4)
        assert other.without_part[layer] == pytest.approx(mine.without_part[layer], abs=1e-4)
    assert [head.kind for head in theirs.heads()] == [head.kind for head in ours.heads()]
    for a, b in zip(theirs.logit_lens(), ours.logit_lens(), strict=True):
        assert a.tokens == b.tokens
        assert a.loss == pytest.approx(b.loss, abs=1e-4)
    total = sum(found.grad_norm**2 for found in ours.gradient_flow())
    assert sum(found.grad_norm**2 for found in theirs.gradient_flow()) == pytest.approx(
        total, rel=1e-3
    )


def test_a_kernel_that_cannot_be_read(folders: Path) -> None:
    def theirs(module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:
        return value.transpose(1, 2), None

    transformers.AttentionInterface.register("nothing", theirs)
    model = open_theirs(folders / "gpt2", "nothing")
    with pytest.raises(UsageError, match=r"blocks.0.attn: .* cannot be traced"), Tracer(model):
        model(IDS)
    with Tracer(model, "blocks.*.resid_pre") as trace:
        model(IDS)
    assert len(trace) == 2
