"""Learning rates by layer and decay by kind of parameter: by hand, and against torch's AdamW."""

import pytest
import torch
from tiny_training import config, dataset, gpt, train, weights
from torch import nn

from toolkit.errors import UsageError
from toolkit.models import (
    EncoderDecoderConfig,
    EncoderDecoderModel,
    available_models,
    create_model,
)
from toolkit.training import StepDone, TrainConfig, Trainer
from toolkit.training.muon import Muon
from toolkit.training.optimizers import make_optimizer, parameter_groups


def rates(model: nn.Module, options: TrainConfig) -> dict[str, float]:
    """The learning rate of each parameter."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: group["lr"]
        for group in make_optimizer(model, options).param_groups
        for parameter in group["params"]
    }


def test_rates_by_hand() -> None:
    model = gpt(n_layer=3, tie_embeddings=False, position="learned")
    found = rates(model, config(learning_rate=0.8, layer_decay=0.5))
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, rate in found.items():
        if name.startswith(("tok_emb", "pos_emb")):
            assert rate == pytest.approx(0.1)  # 0.8 / 2³
        elif name.startswith("blocks."):
            number = int(name.split(".")[1])
            assert rate == pytest.approx({0: 0.2, 1: 0.4, 2: 0.8}[number]), name
        else:
            assert name in ("norm.weight", "head.weight")
            assert rate == pytest.approx(0.8)


def test_rates_by_hand_with_muon() -> None:
    model = gpt(tie_embeddings=False)
    options = config(optimizer="muon", learning_rate=0.04, adam_learning_rate=0.02, layer_decay=0.5)
    found = rates(model, options)
    assert found.keys() == dict(model.named_parameters()).keys()
    assert found["tok_emb.weight"] == pytest.approx(0.005)
    assert found["blocks.0.attn.qkv.weight"] == pytest.approx(0.02)
    assert found["blocks.0.norm1.weight"] == pytest.approx(0.01)
    assert found["blocks.1.attn.qkv.weight"] == pytest.approx(0.04)
    assert found["blocks.1.norm1.weight"] == pytest.approx(0.02)
    assert found["norm.weight"] == found["head.weight"] == pytest.approx(0.02)


def test_encoder_and_decoder_are_counted_each_for_itself() -> None:
    model = EncoderDecoderModel(
        EncoderDecoderConfig(
            9, source_vocab_size=8, block_size=8, n_layer=3, n_encoder_layer=2, n_head=1, n_embd=8,
            norm_order="pre", tie_embeddings=False,
        )
    )  # fmt: skip
    found = rates(model, config(learning_rate=0.8, layer_decay=0.5))
    assert found.keys() == dict(model.named_parameters()).keys()
    expected = {
        "tok_emb": 0.1, "source_emb": 0.1, "encoder.blocks.0": 0.4, "encoder.blocks.1": 0.8,
        "encoder.norm": 0.8, "decoder.blocks.0": 0.2, "decoder.blocks.1": 0.4,
        "decoder.blocks.2": 0.8, "decoder.norm": 0.8, "head": 0.8,
    }  # fmt: skip
    for name, rate in found.items():
        part = next(part for part in expected if name.startswith(part + "."))
        assert rate == pytest.approx(expected[part]), name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_schedule_multiplies_all_of_them(optimizer: str) -> None:
    model = gpt()
    trainer = Trainer(model, dataset(), config(optimizer=optimizer, layer_decay=0.5))
    peak = rates(model, trainer.config)
    for event in trainer.run():
        if isinstance(event, StepDone):
            names = {id(p): name for name, p in model.named_parameters()}
            for group in trainer.optimizer.param_groups:
                for parameter in group["params"]:
                    expected = peak[names[id(parameter)]] * event.lr / trainer.config.learning_rate
                    assert group["lr"] == pytest.approx(expected)


def test_a_step_equals_plain_adamw_with_a_group_for_each_parameter() -> None:
    ours, theirs = gpt(), gpt()
    options = config(layer_decay=0.7, warmup_steps=0, max_steps=3, schedule="wsd", grad_clip=0.0)
    decays = [name for name, p in theirs.named_parameters() if p.dim() == 2 and "emb" not in name]
    scale = {"tok_emb.weight": 0.49, "norm.weight": 1.0}
    groups = [
        {
            "params": [parameter],
            "lr": 1e-3 * scale.get(name, 0.7 if name.startswith("blocks.0.") else 1.0),
            "weight_decay": 0.1 if name in decays else 0.0,
        }
        for name, parameter in theirs.named_parameters()
    ]
    oracle = torch.optim.AdamW(groups, betas=(0.9, 0.99))
    loader = Trainer(gpt(), dataset(), options).loader
    for _ in range(2):  # the third step would be in the part where the learning rate falls
        x, y = loader.next_batch()
        loss = theirs(x, y).loss
        assert loss is not None
        loss.backward()
        oracle.step()
        oracle.zero_grad()
    for event in Trainer(ours, dataset(), options).run():
        if isinstance(event, StepDone) and event.step == 2:
            break
    for name, parameter in weights(ours).items():
        # The fused kernel rounds otherwise than torch's loop: some of the last of 24 bits.
        torch.testing.assert_close(parameter, weights(theirs)[name], rtol=1e-5, atol=1e-6)


def test_muon_steps_as_several_optimizers_would() -> None:
    """One block a group: the same numbers as Muon on each block alone with its learning rate."""
    together, apart = gpt(), gpt()
    options = config(optimizer="muon", learning_rate=0.04, layer_decay=0.5)
    optimizer = make_optimizer(together, options)
    halved = make_optimizer(apart, config(optimizer="muon", learning_rate=0.02))
    assert isinstance(optimizer, Muon)
    generator = torch.Generator().manual_seed(0)
    for ours, theirs in zip(together.parameters(), apart.parameters(), strict=True):
        ours.grad = torch.randn(ours.shape, generator=generator)
        theirs.grad = ours.grad.clone()
    optimizer.step()
    halved.step()
    first = together.blocks[0].state_dict()
    for name, tensor in apart.blocks[0].state_dict().items():
        # A batch of 4 matrices instead of 8 of one shape: bfloat16, where the processor has it.
        torch.testing.assert_close(first[name], tensor, rtol=0, atol=2e-4)
    last = together.blocks[1].state_dict()["attn.proj.weight"]
    assert not torch.allclose(last, apart.blocks[1].state_dict()["attn.proj.weight"], atol=2e-3)


def test_without_it_nothing_changes_and_a_model_without_layers_is_refused() -> None:
    assert {group["lr_scale"] for group in parameter_groups(gpt(), 0.1)} == {1.0}
    model = create_model("bigram", 11, block_size=8)
    with pytest.raises(UsageError, match=r"--layer-decay is for .* bigram has none"):
        train(model, config(layer_decay=0.9))
    for value in (0.0, 1.1):
        with pytest.raises(UsageError, match=r"--layer-decay .* must be above 0 and at most 1"):
            config(layer_decay=value)


@pytest.mark.parametrize("name", available_models())
@pytest.mark.parametrize("tied", [True, False])
def test_what_decays_in_every_model(name: str, tied: bool) -> None:
    """Weights of linear layers decay: no embedding (tied to the head or not), norm or bias."""
    options = (
        {"tie_embeddings": tied, "norm": "layernorm", "bias": True, "mlp": "gelu"}
        if name == "gpt"
        else {}
    )
    model = create_model(name, 50, size="nano", **options)
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    found: dict[str, float] = {}
    for group in parameter_groups(model, 0.1):
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = group["weight_decay"]
    assert found.keys() == set(names.values())
    linear = {key + ".weight" for key, m in model.named_modules() if isinstance(m, nn.Linear)}
    assert {key for key, decay in found.items() if decay} == linear
    assert all(model.get_parameter(key).dim() == 2 for key in linear)
    if name == "gpt":
        assert ("head.weight" in linear) is not tied
