"""Names, presets, sizes and the JSON form of configurations; nothing here trains."""

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models import (
    PRESETS,
    SIZES,
    BigramConfig,
    GPTConfig,
    ModelConfig,
    available_models,
    config_from_dict,
    config_to_dict,
    create_model,
    make_config,
)
from toolkit.models.registry import MODELS


def test_names_need_no_torch() -> None:
    code = (
        "import sys, toolkit.models as m; m.available_models(); m.PRESETS; m.SIZES;"
        "m.make_config('gpt', 10); m.GPTConfig; dir(m); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_exported_name_exists() -> None:
    import toolkit.models

    for name in toolkit.models.__all__:
        assert getattr(toolkit.models, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        toolkit.models.Nonsense  # noqa: B018  # asking for it is what raises


@pytest.mark.parametrize("name", available_models())
def test_the_registry_and_the_class_agree(name: str) -> None:
    entry = MODELS[name]
    model = create_model(name, 10, size="nano")
    assert type(model) is entry.model_class()
    assert type(model.config) is entry.config_class
    assert model.name == name


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_fits_every_size(preset: str, size: str) -> None:
    config = make_config("gpt", 1000, preset=preset, size=size)
    values = dataclasses.asdict(config)
    for field, value in {**PRESETS[preset], **SIZES[size]}.items():
        assert values[field] == value
    assert values["head_dim"] * values["n_head"] == values["n_embd"]


def test_the_usual_numbers_are_filled_in() -> None:
    config = GPTConfig(10, n_embd=128, n_head=4)
    # 8/3 · 128 = 341.3, and the next multiple of 32 is 352.
    assert (config.head_dim, config.n_kv_head, config.n_inner) == (32, 4, 352)
    assert GPTConfig(10, n_embd=128, mlp="gelu").n_inner == 512
    assert GPTConfig(10, n_embd=128, mlp="relu2").n_inner == 512
    assert GPTConfig(10, n_embd=384, n_head=6).n_inner == 1024  # exactly 8/3
    assert GPTConfig(10, n_embd=100, n_head=3, head_dim=8).head_dim == 8  # need not divide


def test_a_size_of_a_bigram_is_its_context() -> None:
    assert make_config("bigram", 10, size="nano") == BigramConfig(10, block_size=64)
    assert make_config("bigram", 10, size="nano", block_size=5).block_size == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_layer": 2.0}, "--n-layer 2.0 must be a whole number of at least 1"),
        ({"n_layer": True}, "--n-layer True must be a whole number"),
        ({"n_embd": "128"}, "--n-embd 128 must be a whole number"),
        ({"n_kv_head": -1}, "--n-kv-head -1 must be a whole number"),
        ({"head_dim": -8}, "--head-dim -8 must be a whole number"),
        ({"n_inner": None}, "--n-inner None must be a whole number"),
        ({"bias": 1}, "--bias 1 must be true or false"),
        ({"dropout": -0.1}, "--dropout -0.1 must be at least 0"),
        ({"dropout": "much"}, "--dropout much must be at least 0"),
        ({"dropout": float("nan")}, "--dropout nan must be at least 0"),
        ({"norm_eps": 0}, "--norm-eps 0 must be a number above 0"),
        ({"rope_theta": -1.0}, "--rope-theta -1.0 must be a number above 0"),
        ({"rope_theta": float("inf")}, "--rope-theta inf must be a number above 0"),
        ({"position": "rotari"}, "No position 'rotari'. Did you mean 'rotary'?"),
        ({"window": -1}, "--window -1 must be a whole number of positions, or 0 for all of them"),
        ({"window": 1}, "--window 1 would show each position to itself alone; expected 0"),
        ({"window": 2.5}, "--window 2.5 must be a whole number"),
        ({"window": True}, "--window True must be a whole number"),
        ({"position": "alibi", "rope_theta": 500.0}, "--rope-theta is for --position rotary, and"),
        ({"preset": "gpt2", "rope_theta": 1e4}, "--rope-theta is for --position rotary, and this"),
        ({"block_size": 0}, "--block-size 0 must be a whole number of at least 1"),
    ],
)
def test_wrong_values_name_the_flag(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_config("gpt", 10, **options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_bigram_table_that_fills_the_memory_is_refused() -> None:
    with pytest.raises(UsageError, match=r"50,257 tokens would take 10\.1 GB; .* at most 16,384"):
        make_config("bigram", 50257)


@pytest.mark.parametrize("seed", [2**64, 1.5, "one"])
def test_a_seed_that_is_none_is_refused(seed: Any) -> None:
    with pytest.raises(UsageError, match=r"--seed .* must be a whole number"):
        create_model("bigram", 5, seed=seed)


@pytest.mark.parametrize(
    "config",
    [
        BigramConfig(10, block_size=3),
        GPTConfig(10),
        GPTConfig(10, position="alibi", window=5, mlp="relu2", norm_order="post"),
        GPTConfig(10, norm="layernorm", bias=True, dropout=0.25, head_dim=6, rope_theta=500.0),
    ],
)
def test_a_configuration_survives_its_json_form(config: ModelConfig) -> None:
    values = config_to_dict(config)
    assert values["model_type"].startswith("toolkit-")
    assert config_from_dict(values) == config
    # Files hold these two besides.
    assert config_from_dict({**values, "bos_token_id": None, "eos_token_id": 3}) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "its format is 2, and this toolkit reads up to 1"),
        ({"format": None}, "its format is None"),
        ({"n_expert": 8, "alibi": True}, "toolkit-gpt has no field alibi, n_expert"),
        ({"n_layer": "three"}, "--n-layer three must be a whole number"),
    ],
)
def test_a_wrong_json_form_says_why(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config_from_dict({**config_to_dict(GPTConfig(10)), **changes})


def test_a_json_form_needs_a_known_model_and_a_vocabulary() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'toolkit-gpt'"):
        config_from_dict({"model_type": "toolkit-gtp", "format": 1})
    with pytest.raises(UsageError, match="vocab_size is missing"):
        config_from_dict({"model_type": "toolkit-gpt", "format": 1})
