"""What a sweep tries: grids, draws, and what is refused before anything runs."""

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.errors import UsageError
from toolkit.sweep_plan import SweepPlan, make_plan, read_plan


def test_a_grid_is_every_combination_in_the_files_order() -> None:
    plan = make_plan({"model": "bigram", "grid": {"seed": [1, 2], "batch-size": [4, 8, 16]}})
    expected = [{"seed": s, "batch_size": b} for s, b in product([1, 2], [4, 8, 16])]
    assert plan.varied() == expected


def test_draws_are_within_their_distributions() -> None:
    random = {
        "learning_rate": {"min": 1e-4, "max": 1e-1, "log": True},
        "dropout": {"min": 0.0, "max": 0.5},
        "n_layer": {"min": 1, "max": 3},
        "optimizer": ["adamw", "muon"],
    }
    plan = make_plan({"random": random, "sweep": {"trials": 400, "seed": 3}})
    draws = plan.varied()
    assert draws == plan.varied()
    assert draws[:400] != make_plan({"random": random, "sweep": {"trials": 400}}).varied()
    rates = np.log10([draw["learning_rate"] for draw in draws])
    assert -4 <= rates.min() < -3.9
    assert -1.1 < rates.max() <= -1
    # The mean of 400 uniform numbers over 3 decades: 0.87 / 20 is its standard error; 4 of them.
    assert rates.mean() == pytest.approx(-2.5, abs=0.18)
    dropouts = [draw["dropout"] for draw in draws]
    assert 0 <= min(dropouts) <= max(dropouts) <= 0.5
    assert np.mean(dropouts) == pytest.approx(0.25, abs=4 * 0.144 / 20)
    for name, values in (("n_layer", [1, 2, 3]), ("optimizer", ["adamw", "muon"])):
        counts = [sum(draw[name] == value for draw in draws) for value in values]
        share = 1 / len(values)
        assert sum(counts) == 400
        for count in counts:  # 4 standard deviations of a binomial
            assert abs(count - 400 * share) < 4 * math.sqrt(400 * share * (1 - share))


def test_every_point_of_the_grid_gets_the_same_draws() -> None:
    plan = make_plan(
        {
            "grid": {"optimizer": ["adamw", "muon"]},
            "random": {"learning_rate": {"min": 1e-3, "max": 1e-2}},
            "sweep": {"trials": 3},
        }
    )
    trials = plan.varied()
    assert [trial["optimizer"] for trial in trials] == ["adamw"] * 3 + ["muon"] * 3
    rates = [trial["learning_rate"] for trial in trials]
    assert rates[:3] == rates[3:]
    assert len(set(rates)) == 3


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('tokenizer = "char"\noption = ["unknown=unk"]\n[grid]\nseed = [1]\n')
    base = {"tokenizer": "char", "option": ["unknown=unk"]}
    assert read_plan(path) == SweepPlan(base=base, grid={"seed": [1]})
    path.write_text("tokenizer = \n")
    with pytest.raises(UsageError, match=r"a\.toml is not valid TOML"):
        read_plan(path)
    with pytest.raises(UsageError, match=r"nothing.toml cannot be read"):
        read_plan(tmp_path / "nothing.toml")
    path.write_text("[grid]\nsede = [1]\n")
    with pytest.raises(UsageError, match=r"a.toml: No option of gpt 'sede'. Did you mean 'seed'"):
        read_plan(path)


GRID = {"seed": [1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"seed": 1}, "varies at least one option"),
        ({"grid": {"seed": []}}, "seed = \\[\\] must be a list of one or more"),
        ({"grid": {"seed": 3}}, "seed = 3 must be a list"),
        ({"grid": 3}, "\\[grid\\] must be a table"),
        ({"grid": {"learnin_rate": [1.0]}}, "Did you mean 'learning_rate'"),
        ({"lerning_rate": 1.0, "grid": GRID}, "Did you mean 'learning_rate'"),
        ({"out": "here", "grid": GRID}, "No option of gpt 'out'"),
        ({"seed": 1, "grid": GRID}, "seed is given twice"),
        ({"grid": GRID, "random": {"seed": [2]}, "sweep": {"trials": 1}}, "seed is given twice"),
        ({"grid": {"learning_rate": ["a"]}}, "--learning-rate 'a' must be a number .trial 1"),
        ({"grid": {"n_layer": [1, "a"]}}, "n-layer.*a.*trial 2: n_layer a"),
        ({"grid": {"n_embd": [7]}}, "must be divisible"),
        ({"grid": {"model": ["gtp"]}}, "Did you mean 'gpt'"),
        ({"grid": {"tokenizer": ["chra"]}}, "Did you mean 'char'"),
        ({"grid": {"tokenizer": [3]}}, "tokenizer = 3 must be a text"),
        ({"grid": {"optimizer": ["adam"]}}, "Did you mean 'adamw'"),
        ({"grid": {"model": ["bigram"], "n_layer": [1]}}, "No option of bigram 'n_layer'"),
        ({"held_out": "x", "grid": GRID}, "held_out = 'x' must be a number"),
        ({"option": "x", "grid": GRID}, "option = 'x' must be a list"),
        ({"option": ["x"], "grid": GRID}, "'x' is not NAME=VALUE"),
        ({"max_memory": "lots", "grid": GRID}, "'lots' is not a size"),
        ({"grid": GRID, "sweep": {"trials": 2}}, "belong to \\[random\\]"),
        ({"random": {"seed": [1]}}, "give \\[sweep\\] trials"),
        ({"random": {"seed": [1]}, "sweep": {"trials": 0}}, "give \\[sweep\\] trials"),
        ({"random": {"seed": [1]}, "sweep": {"trails": 3}}, "Did you mean 'trials'"),
        ({"random": {"seed": [1]}, "sweep": {"trials": 2.5}}, "must be a whole number"),
        ({"random": {"seed": 1}, "sweep": {"trials": 1}}, "a list of choices, or"),
        ({"random": {"dropout": {"min": 0.5}}, "sweep": {"trials": 1}}, "a list of choices, or"),
        ({"random": {"dropout": {"min": 0.5, "max": 0.1}}, "sweep": {"trials": 1}}, "min below"),
        (
            {"random": {"dropout": {"min": 0, "max": 1, "log": True}}, "sweep": {"trials": 1}},
            "min = 0 must be above 0",
        ),
        ({"grid": {"seed": list(range(200)), "batch_size": list(range(1, 101))}}, "20,000 trials"),
    ],
)
def test_what_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        make_plan(content)
    assert "\n" not in str(error.value)
