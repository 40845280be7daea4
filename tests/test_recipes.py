"""The training options that a model gets unless others are given."""

import pytest

from toolkit.errors import UsageError
from toolkit.models import make_config
from toolkit.recipes import RECIPES, default_size, model_options, train_config, with_speedrun


def test_the_modern_preset_trains_with_muon_to_a_rate_of_0() -> None:
    for preset in (None, "modern"):
        config = train_config("gpt", preset, "micro", {})
        assert (config.optimizer, config.schedule, config.min_lr_ratio) == ("muon", "linear", 0.0)
        assert (config.learning_rate, config.adam_learning_rate) == (0.03, pytest.approx(0.012))
        assert (config.warmup_steps, config.weight_decay) == (0, 0.0)


@pytest.mark.parametrize(("model", "preset"), [("gpt", "gpt2"), ("bigram", None)])
def test_all_else_trains_with_adamw_and_a_cosine(model: str, preset: str | None) -> None:
    config = train_config(model, preset, "micro", {})
    assert (config.optimizer, config.schedule, config.min_lr_ratio) == ("adamw", "cosine", 0.1)
    assert (config.learning_rate, config.warmup_steps, config.weight_decay) == (3e-3, 50, 0.1)


def test_the_modern_preset_starts_from_zeros() -> None:
    assert model_options("gpt", None, {"n_layer": 2}) == {"weight_init": "zeros", "n_layer": 2}
    assert model_options("gpt", "modern", {"weight_init": "gpt2"}) == {"weight_init": "gpt2"}
    assert model_options("gpt", "gpt2", {"n_layer": 2}) == {"n_layer": 2}
    assert model_options("bigram", None, {}) == {}


def test_another_optimizer_brings_the_options_that_suit_it() -> None:
    adamw = train_config("gpt", None, "micro", {"optimizer": "adamw"})
    assert adamw == train_config("gpt", "gpt2", "micro", {})
    muon = train_config("gpt", "gpt2", "micro", {"optimizer": "muon"})
    assert muon == train_config("gpt", None, "micro", {})


def test_what_is_given_wins() -> None:
    given = {"learning_rate": 0.5, "warmup_steps": 7, "max_time": 30.0, "batch_size": 3}
    config = train_config("gpt", None, "micro", given)
    assert {name: getattr(config, name) for name in given} == given
    assert config.max_steps is None  # the time is the limit
    assert config.adam_learning_rate == pytest.approx(0.4 * 0.5)
    assert train_config("gpt", None, "micro", {"max_time": 3.0, "max_steps": 5}).max_steps == 5


def test_the_numbers_of_every_size_make_a_training() -> None:
    for size, recipe in RECIPES.items():
        for preset, rate in (("modern", recipe.muon_rate), ("gpt2", recipe.adamw_rate)):
            config = train_config("gpt", preset, size, {})
            assert config.learning_rate == rate
            assert config.max_steps == recipe.max_steps
            assert make_config("gpt", recipe.vocab_size, preset=preset, size=size)
    assert default_size("cpu") in RECIPES
    assert default_size("cuda") in RECIPES


def test_a_speedrun_is_of_gpt_and_keeps_what_is_given() -> None:
    options = with_speedrun(20.0, "gpt", {"n_layer": 1, "schedule": "wsd"})
    assert (options["optimizer"], options["n_embd"], options["max_time"]) == ("muon", 96, 20.0)
    assert (options["n_layer"], options["schedule"]) == (1, "wsd")
    with pytest.raises(UsageError, match="A speedrun is of the model gpt, not of bigram"):
        with_speedrun(20.0, "bigram", {})
