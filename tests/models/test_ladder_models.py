"""The models between bigram and gpt: three equal averages, and one head of attention."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.corpora import load_corpus
from toolkit.data import TokenDataset
from toolkit.errors import UnknownNameError, UsageError
from toolkit.models import (
    LanguageModel,
    SingleHeadConfig,
    attention_weights,
    available_models,
    average_loop,
    average_matmul,
    average_softmax,
    build_model,
    create_model,
    load_pretrained,
    make_config,
    save_pretrained,
    scaled_scores,
)
from toolkit.tokenizers import load_tokenizer
from toolkit.training import Evaluated, TrainConfig, Trainer

AVERAGES = [average_loop, average_matmul, average_softmax]
AVERAGING = ["average-loop", "average-matmul", "average-softmax"]
V, C, T = 13, 24, 8
STEPS = 400


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make(name: str, seed: int = 1, spread: float = 0.5, **options: Any) -> LanguageModel:
    """A small model whose weights are large enough that every part of it matters."""
    options = {"n_embd": C, "block_size": T, **options}
    model = create_model(name, V, seed=seed, **options).eval()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(spread * normal(*parameter.shape, seed=100 * seed + number))
    return model


# -- the averages -----------------------------------------------------------------------------


@pytest.mark.parametrize("average", AVERAGES)
def test_an_average_by_hand(average: Callable[[Tensor], Tensor]) -> None:
    x = torch.tensor([[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]])
    expected = torch.tensor([[[1.0, 2, 3], [2.5, 3.5, 4.5], [4, 5, 6]]])
    # A third is no binary fraction: one rounding of numbers up to 9.
    torch.testing.assert_close(average(x), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 2), (2, 64, 16)])
def test_the_three_averages_agree(shape: tuple[int, int, int]) -> None:
    x = normal(*shape)
    expected = x.double().cumsum(dim=1) / torch.arange(1, shape[1] + 1)[:, None]
    for average in AVERAGES:
        torch.testing.assert_close(average(x), expected.float(), atol=1e-6, rtol=0)


def test_the_three_averages_have_the_same_gradient() -> None:
    gradients = []
    for average in AVERAGES:
        x = normal(2, 6, 3).requires_grad_()
        (average(x) * normal(2, 6, 3, seed=1)).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(gradients[2], gradients[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize(
    "x", [torch.zeros(2, 3), torch.zeros(1, 0, 2), torch.ones(1, 2, 3, dtype=torch.int64)]
)
def test_what_has_no_average_is_refused(average: Callable[[Tensor], Tensor], x: Tensor) -> None:
    with pytest.raises(UsageError, match=r"The average is over T of \(B, T, C\)"):
        average(x)


@pytest.mark.parametrize("position", ["none", "learned"])
def test_the_weights_of_one_averaging_model_fit_the_others(position: str, tmp_path: Path) -> None:
    first = make("average-loop", position=position)
    ids = torch.arange(2 * T).view(2, T) % V
    for number, name in enumerate(AVERAGING[1:], start=2):
        other = make(name, seed=number, position=position)
        assert not torch.allclose(other(ids).logits, first(ids).logits, atol=0.1)
        other.load_state_dict(first.state_dict())
        torch.testing.assert_close(other(ids).logits, first(ids).logits, atol=1e-5, rtol=0)


def test_the_averaging_models_start_from_the_same_weights() -> None:
    first, *others = (create_model(name, V, size="nano", seed=3).state_dict() for name in AVERAGING)
    for other in others:
        assert first.keys() == other.keys()
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_an_averaging_model_is_its_equation() -> None:
    model = make("average-matmul", position="learned")
    ids = torch.tensor([[5, 0, 12]])
    x = model.tok_emb.weight[ids[0]] + model.pos_emb.weight[:3]
    values = (x @ model.value.weight.T).relu()
    mean = torch.stack([values[: t + 1].mean(dim=0) for t in range(3)])
    expected = (x + mean) @ model.head.weight.T
    torch.testing.assert_close(model(ids).logits[0], expected, atol=1e-5, rtol=1e-5)


# -- order and positions ----------------------------------------------------------------------

SWAPPED = (torch.tensor([[3, 7, 1, 9, 2]]), torch.tensor([[9, 7, 3, 1, 2]]))


def last_logits(model: LanguageModel) -> tuple[Tensor, Tensor]:
    before, after = (model(ids).logits[0, -1] for ids in SWAPPED)
    return before, after


@pytest.mark.parametrize("name", [*AVERAGING, "single-head"])
def test_without_positions_the_order_of_the_past_does_not_matter(name: str) -> None:
    before, after = last_logits(make(name, position="none"))
    # The same numbers, added in another order.
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [*AVERAGING, "single-head"])
def test_with_positions_the_order_of_the_past_matters(name: str) -> None:
    before, after = last_logits(make(name, position="learned"))
    assert (before - after).abs().max() > 0.01


@pytest.mark.parametrize("name", [*AVERAGING, "single-head"])
def test_equal_tokens_have_equal_logits_until_positions_tell_them_apart(name: str) -> None:
    ids = torch.full((1, T), 4)
    without = make(name, position="none")(ids).logits[0]
    torch.testing.assert_close(without, without[:1].expand(T, V), atol=1e-5, rtol=1e-5)
    with_positions = make(name, position="learned")(ids).logits[0]
    for t in range(1, T):
        assert (with_positions[t] - with_positions[:t]).abs().amax(dim=-1).min() > 0.01


# -- one head ---------------------------------------------------------------------------------


@pytest.mark.parametrize("head_dim", [4, 16, 64, 256])
def test_scaled_scores_have_variance_one_at_every_width(head_dim: int) -> None:
    q, k = normal(64, 32, head_dim), normal(64, 32, head_dim, seed=1)
    # 64 independent blocks of 32 × 32 scores, whose squares are correlated within a block by
    # shared queries and keys: over 200 seeds the variance was off by at most 0.06 (width 4).
    assert scaled_scores(q, k).var().item() == pytest.approx(1.0, abs=0.1)
    unscaled = q @ k.transpose(1, 2)
    assert unscaled.var().item() == pytest.approx(head_dim, rel=0.1)


def test_the_scale_is_the_heads_and_not_the_models() -> None:
    model = make("single-head", n_embd=C, head_dim=4)
    x = model.embed(torch.tensor([[5, 0, 12]]))
    q, k, v = (layer(x) for layer in (model.query, model.key, model.value))
    assert q.shape == (1, 3, 4)
    scores = q @ k.transpose(1, 2) / 2.0  # √4, not √24
    torch.testing.assert_close(scaled_scores(q, k), scores)
    weights = scores.masked_fill(~torch.ones(3, 3).tril().bool(), -torch.inf).softmax(-1)
    expected = (x + weights @ v @ model.proj.weight.T) @ model.head.weight.T
    torch.testing.assert_close(model(torch.tensor([[5, 0, 12]])).logits, expected)


def test_attention_weights_are_a_distribution_over_the_past() -> None:
    weights = attention_weights(3 * normal(2, 9, 5), normal(2, 9, 5, seed=1))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 9), atol=1e-6, rtol=0)
    assert (weights >= 0).all()
    future = torch.ones(9, 9).triu(diagonal=1).bool()
    assert (weights[:, future] == 0).all()
    assert (weights[:, ~future] > 0).all()
    assert weights[:, 0, 0].tolist() == [1.0, 1.0]


def test_attention_weights_by_hand() -> None:
    # Scores of the second query: 0 and 4·ln 3 / √16 = ln 3, so the weights are 1/4 and 3/4.
    q = torch.zeros(1, 2, 16)
    q[0, 1, 0] = 4 * math.log(3)
    k = torch.zeros(1, 2, 16)
    k[0, 1, 0] = 1
    expected = torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])
    torch.testing.assert_close(attention_weights(q, k), expected)


def test_attention_equals_the_fused_call() -> None:
    q, k, v = (normal(2, 7, 5, seed=seed) for seed in range(3))
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(attention_weights(q, k) @ v, fused, atol=1e-6, rtol=0)


def test_a_head_whose_scores_are_zero_is_an_average() -> None:
    x = normal(2, 6, 3)
    zeros = torch.zeros(2, 6, 4)
    torch.testing.assert_close(attention_weights(zeros, zeros) @ x, average_softmax(x))


@pytest.mark.parametrize(
    ("q", "k"), [((2, 3), (2, 3)), ((1, 2, 3), (1, 2, 4)), ((1, 0, 3), (1, 0, 3))]
)
def test_scores_of_what_does_not_fit_are_refused(q: tuple[int, ...], k: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"must both be \(B, T, D\)"):
        scaled_scores(torch.zeros(q), torch.zeros(k))


# -- configurations and files -----------------------------------------------------------------


def test_the_ladder_is_in_the_order_in_which_one_learns_it() -> None:
    assert available_models() == ["bigram", *AVERAGING, "single-head", "gpt"]


def test_a_size_gives_the_numbers_that_a_model_has() -> None:
    assert make_config("single-head", 10, size="nano") == SingleHeadConfig(10, 64, 64, 64)
    assert make_config("single-head", 10, n_embd=48, head_dim=16).head_dim == 16
    assert make_config("average-loop", 10, size="nano", block_size=5).n_embd == 64


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("average-loop", {"n_embd": 0}, "--n-embd 0 must be a whole number of at least 1"),
        ("single-head", {"head_dim": -1}, "--head-dim -1 must be a whole number of at least 1"),
        ("average-matmul", {"n_layer": 2}, "The model average-matmul has no --n-layer. Its option"),
        ("single-head", {"preset": "gpt2"}, "--preset gpt2 is for the model gpt; single-head has"),
        ("single-head", {"n_head": 2}, "The model single-head has no --n-head"),
    ],
)
def test_wrong_options_name_the_flag(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_config(name, 10, **options)


@pytest.mark.parametrize("name", [*AVERAGING, "single-head"])
def test_a_position_that_is_none_of_them_comes_with_a_guess(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"No position 'learnt'\. Did you mean 'learned'"):
        make_config(name, 10, position="learnt")


@pytest.mark.parametrize("position", ["none", "learned"])
@pytest.mark.parametrize("name", [*AVERAGING, "single-head"])
def test_a_saved_model_opens_as_it_was(name: str, position: str, tmp_path: Path) -> None:
    model = make(name, position=position)
    save_pretrained(model, tmp_path)
    opened = load_pretrained(tmp_path)
    assert opened.config == model.config
    ids = torch.arange(T).view(1, T)
    assert torch.equal(opened(ids).logits, model(ids).logits)


@pytest.mark.parametrize("position", ["none", "learned"])
@pytest.mark.parametrize("name", [*AVERAGING, "single-head"])
def test_gradients_reach_every_parameter(name: str, position: str) -> None:
    model = make(name, position=position)
    # Every token occurs and every position.
    ids = torch.arange(2 * T).view(2, T) % V
    loss = model(ids, ids.roll(1, 0)).loss
    assert loss is not None
    loss.backward()
    for part, parameter in model.named_parameters():
        assert parameter.grad is not None, part
        assert parameter.grad.abs().max() > 0, part


def test_parameters_by_hand() -> None:
    for name in AVERAGING:
        assert make(name).num_params() == V * C + C * C + C * V
        assert make(name, position="learned").num_params() == V * C + T * C + C * C + C * V
    single = make("single-head", head_dim=4)
    assert single.num_params() == V * C + T * C + 4 * (C * 4) + C * V


# -- what each step is worth ------------------------------------------------------------------


@pytest.mark.slow
def test_each_step_of_the_ladder_reaches_a_lower_loss(tmp_path: Path) -> None:
    """The same text, batches and number of steps for all: how they rank is the point."""
    corpus = load_corpus("python-help")
    tokenizer = load_tokenizer("char", corpus)
    dataset = TokenDataset.build(corpus, tokenizer, tmp_path)
    config = TrainConfig(
        batch_size=32, max_steps=STEPS, learning_rate=1e-2, eval_every=STEPS, device="cpu"
    )
    losses = {}
    for name in available_models():
        shape = {"block_size": 16} if name == "bigram" else {"block_size": 16, "n_embd": 64}
        if name == "gpt":
            shape["n_layer"] = 1  # it is ahead with one
        model = create_model(name, tokenizer.vocab_size, size="nano", seed=0, **shape)
        events = Trainer(model, dataset, config).run()
        losses[name] = [event.val_loss for event in events if isinstance(event, Evaluated)][-1]
    bigram, loop, matmul, softmax, single, gpt = losses.values()
    assert matmul == pytest.approx(loop, abs=1e-3)
    assert softmax == pytest.approx(loop, abs=1e-3)
    assert loop < bigram - 0.02, losses
    assert single < loop - 0.03, losses
    assert gpt < single - 0.1, losses


@pytest.mark.parametrize("name", [*AVERAGING, "single-head"])
def test_without_a_generator_equal_configs_give_equal_models(name: str) -> None:
    config = make_config(name, V, size="nano")
    one, other = build_model(config), build_model(config)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.isfinite(a).all()
