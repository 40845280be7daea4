"""Whole models: what they compute, how they start, what they refuse."""

import math
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models import LanguageModel, create_model
from toolkit.models.config import GPTConfig, make_gpt_config
from toolkit.models.gpt import GPTModel

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("bigram", {}),
    ("average-loop", {}),
    ("average-matmul", {"position": "learned"}),
    ("average-softmax", {}),
    ("single-head", {}),
    ("single-head", {"position": "none", "head_dim": 24}),
    ("gpt", {"preset": "gpt2"}),
    ("gpt", {"preset": "modern"}),
    ("gpt", {"preset": "modern", "n_kv_head": 1, "tie_embeddings": False}),
]
GPTS = [kind for kind in KINDS if kind[0] == "gpt"]


def make(name: str, options: dict[str, Any], vocab_size: int = 50, **more: Any) -> LanguageModel:
    more = {"block_size": 16, **more}
    return create_model(name, vocab_size, size="nano", seed=1, **options, **more)


def ids(rows: int = 2, length: int = 16, vocab_size: int = 50, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randint(0, vocab_size, (rows, length), generator=source)


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_the_first_loss_is_that_of_a_uniform_guess(name: str, options: dict[str, Any]) -> None:
    model = make(name, options, vocab_size=500)
    loss = model(ids(8, vocab_size=500), ids(8, vocab_size=500, seed=1)).loss
    # Logits have a spread of about 0.02 · √C at most, which moves the mean by well under 0.1.
    assert abs(loss.item() - math.log(500)) < 0.1


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_a_later_token_changes_no_earlier_logit(name: str, options: dict[str, Any]) -> None:
    model = make(name, options).eval()
    x = ids()
    changed = x.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 50
    before, after = model(x).logits, model(changed).logits
    assert torch.equal(before[:, :10], after[:, :10])
    assert not torch.allclose(before[:, 10], after[:, 10])


@pytest.mark.parametrize(("name", "options"), KINDS[1:])
def test_an_earlier_token_changes_later_logits(name: str, options: dict[str, Any]) -> None:
    model = make(name, options).eval()
    changed = ids().clone()
    changed[:, 0] = (changed[:, 0] + 1) % 50
    difference = (model(ids()).logits - model(changed).logits).abs().amax(dim=-1)
    assert (difference > 0).all()


def test_a_bigram_sees_the_current_token_alone() -> None:
    model = make("bigram", {})
    x = torch.tensor([[3, 7, 3]])
    logits = model(x).logits
    assert torch.equal(logits[0, 0], logits[0, 2])
    assert torch.equal(logits[0, 1], model.table.weight[7])


@pytest.mark.parametrize(("name", "options"), GPTS)
def test_one_batch_is_learned_by_heart(name: str, options: dict[str, Any]) -> None:
    model = make(name, options)
    x, y = ids(4), ids(4, seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(200):
        loss = model(x, y).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_a_bigram_learns_the_frequencies_of_pairs() -> None:
    # After token 0 comes 1 three times of four and 2 once: the best loss is their entropy.
    model = make("bigram", {}, vocab_size=3)
    x, y = torch.tensor([[0, 0, 0, 0]]), torch.tensor([[1, 1, 1, 2]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss = model(x, y).loss
        loss.backward()
        optimizer.step()
    probabilities = model(x).logits[0, 0].softmax(-1)
    torch.testing.assert_close(probabilities[1:], torch.tensor([0.75, 0.25]), atol=0.01, rtol=0)


def test_ignored_targets_do_not_count() -> None:
    model = make("gpt", {})
    x, y = ids(2), ids(2, seed=1)
    y[1] = -100
    whole = model(x, y).loss
    torch.testing.assert_close(whole, model(x[:1], y[:1]).loss)


def test_dropout_acts_in_training_alone() -> None:
    model = make("gpt", {"preset": "gpt2"}, dropout=0.5)
    torch.manual_seed(0)
    assert not torch.equal(model(ids()).logits, model(ids()).logits)
    model.eval()
    assert torch.equal(model(ids()).logits, model(ids()).logits)


def test_the_seed_decides_the_weights() -> None:
    one, same = (create_model("gpt", 20, size="nano", seed=5) for _ in range(2))
    other = create_model("gpt", 20, size="nano", seed=6)
    for a, b in zip(one.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.tok_emb.weight, other.tok_emb.weight)


def test_initial_spread_is_that_of_the_papers() -> None:
    model = create_model("gpt", 2000, preset="gpt2", size="micro", seed=0)
    # 256,000 draws: the spread of their standard deviation is 0.02 / √512,000 = 0.00003.
    assert abs(float(model.tok_emb.weight.detach().std()) - 0.02) < 0.0002
    residual = model.blocks[0].mlp.down.weight
    assert abs(float(residual.std()) - 0.02 / math.sqrt(8)) < 0.0002
    assert float(model.blocks[0].attn.qkv.bias.abs().max()) == 0.0


def test_a_start_from_zeros() -> None:
    """The new model is its embeddings alone, and with a head of zeros knows nothing at all."""
    options: dict[str, Any] = {"size": "micro", "weight_init": "zeros"}
    model = create_model("gpt", 2000, seed=0, **options)
    for block in model.blocks:
        assert not block.attn.proj.weight.any()
        assert not block.mlp.down.weight.any()
    # Uniform with deviation 1/√128: 49,152 draws vary by a few per mil, and none goes beyond √3.
    qkv = model.blocks[0].attn.qkv.weight
    assert float(qkv.std()) == pytest.approx(128**-0.5, rel=0.01)
    assert float(qkv.abs().max()) <= (3 / 128) ** 0.5
    assert float(model.tok_emb.weight.std()) == pytest.approx(1.0, rel=0.01)
    assert float(model.norm.weight.min()) == float(model.norm.weight.max()) == 1.0
    assert not model(ids()).logits.any()
    tied = create_model("gpt", 2000, tie_embeddings=True, seed=0, **options)
    assert float(tied.tok_emb.weight.std()) == pytest.approx(0.02, rel=0.01)
    with pytest.raises(UnknownNameError, match="No weight_init 'ones'"):
        create_model("gpt", 20, weight_init="ones")


@pytest.mark.parametrize(
    ("size", "published"),
    [
        ("small", 124_439_808),
        ("medium", 354_823_168),
        ("large", 774_030_080),
        ("xl", 1_557_611_200),
    ],
)
def test_parameters_of_gpt2_as_published(size: str, published: int) -> None:
    config = make_gpt_config(50257, preset="gpt2", size=size)
    with torch.device("meta"):
        model = GPTModel(config, init=False)
    assert model.num_params() == published
    assert all(parameter.is_meta for parameter in model.parameters()), "no memory was asked for"


IN_A_BLOCK = {
    "gpt2": (
        "norm1.weight norm1.bias attn.qkv.weight attn.qkv.bias attn.proj.weight attn.proj.bias "
        "norm2.weight norm2.bias mlp.up.weight mlp.up.bias mlp.down.weight mlp.down.bias"
    ),
    "modern": (
        "norm1.weight attn.qkv.weight attn.proj.weight attn.q_norm.weight attn.k_norm.weight "
        "norm2.weight mlp.gate_up.weight mlp.down.weight"
    ),
}


@pytest.mark.parametrize(
    ("preset", "around"),
    [
        ("gpt2", "tok_emb.weight pos_emb.weight norm.weight norm.bias"),
        ("modern", "tok_emb.weight norm.weight head.weight"),
    ],
)
def test_checkpoints_of_earlier_versions_fit(preset: str, around: str) -> None:
    """The names under which checkpoints hold the presets' weights; fixed since the first."""
    expected = set(around.split())
    for layer in range(2):
        expected |= {f"blocks.{layer}.{name}" for name in IN_A_BLOCK[preset].split()}
    assert make("gpt", {"preset": preset}).state_dict().keys() == expected


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_flops_are_those_that_torch_counts(name: str, options: dict[str, Any]) -> None:
    model = make(name, options)
    x = ids(3)
    with FlopCounterMode(display=False) as counter:
        model(x, x).loss.backward()
    counted = counter.get_total_flops()
    # torch counts the backward pass of attention with one product more than the formula (it
    # recomputes the scores), and leaves out what is not a matrix product.
    expected = model.flops_per_token() * x.numel()
    assert expected == pytest.approx(counted, rel=0.1, abs=0)


def test_a_context_that_is_too_long_is_refused() -> None:
    with pytest.raises(UsageError, match="17 tokens is longer than the model's --block-size 16"):
        make("gpt", {})(ids(1, 17))
    with pytest.raises(UsageError, match=r"\(B, T\)"):
        make("gpt", {})(torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_embd": 100, "n_head": 6}, "--n-embd 100 must be divisible by --n-head 6"),
        ({"n_head": 4, "n_kv_head": 3}, "--n-head 4 must be divisible by --n-kv-head 3"),
        ({"n_layer": 0}, "--n-layer 0 must be a whole number of at least 1"),
        ({"dropout": 1.0}, "--dropout 1.0 must be at least 0 and below 1"),
        ({"n_embd": 12, "n_head": 4}, "--head-dim 3 must be even"),
        ({"norm": "batchnorm"}, "No norm 'batchnorm'"),
        ({"norm_order": "middle"}, "No norm_order 'middle'"),
        ({"mlp": "relu"}, r"No mlp 'relu'\. Did you mean 'relu2'"),
        ({"n_embd": 33, "n_head": 3, "position": "sinusoidal"}, "--n-embd 33 must be even for sin"),
    ],
)
def test_shapes_that_do_not_fit_name_the_flag(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        GPTConfig(vocab_size=10, **options)


def test_unknown_names_come_with_a_guess() -> None:
    with pytest.raises(UnknownNameError, match=r"No model 'gtp'\. Did you mean 'gpt'"):
        create_model("gtp", 10)
    with pytest.raises(UnknownNameError, match="Did you mean 'modern'"):
        create_model("gpt", 10, preset="moden")
    with pytest.raises(UnknownNameError, match="Did you mean 'micro'"):
        create_model("gpt", 10, size="mirco")
    with pytest.raises(UsageError, match="The model bigram has no --n-layer"):
        create_model("bigram", 10, n_layer=3)
    with pytest.raises(UsageError, match="--preset gpt2 is for the model gpt"):
        create_model("bigram", 10, preset="gpt2")
