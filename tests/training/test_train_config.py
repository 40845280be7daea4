"""Options of training: what is refused, and in which words. Devices and parameter groups too."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from toolkit.errors import UnknownNameError, UsageError
from toolkit.models.config import GPTConfig, flag
from toolkit.models.gpt import GPTModel
from toolkit.training import TrainConfig, resolve_device
from toolkit.training.devices import resolve_dtype
from toolkit.training.optimizers import parameter_groups


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 0),
        ("batch_size", 1.5),
        ("batch_size", True),
        ("max_steps", 0),
        ("max_steps", "many"),
        ("max_time", 0.0),
        ("max_time", math.nan),
        ("learning_rate", 0.0),
        ("learning_rate", math.inf),
        ("learning_rate", None),
        ("min_lr_ratio", 1.1),
        ("warmup_steps", -1),
        ("weight_decay", -0.1),
        ("beta1", 1.0),
        ("beta2", math.nan),
        ("grad_clip", -1.0),
        ("grad_accumulation", 0),
        ("eval_every", 0),
        ("sample_every", -1),
        ("checkpoint_every", -1),
        ("early_stop", -1),
        ("layer_decay", 0.0),
        ("layer_decay", 1.5),
        ("label_smoothing", 1.0),
        ("label_smoothing", math.nan),
        ("ema", -0.1),
        ("ema", 1.0),
        ("gradient_checkpointing", 1),
        ("gradient_checkpointing", None),
        ("tf32", "yes"),
        ("compile", "auto"),
        ("log_every", 0),
        ("seed", -1),
        ("dtype", 16),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_flag(field: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        TrainConfig(**{field: value})
    assert str(caught.value).startswith(f"{flag(field)} ")
    assert "\n" not in str(caught.value)


def test_names_and_limits_that_are_missing_are_explained() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'bfloat16'"):
        TrainConfig(dtype="bfloat61")
    with pytest.raises(UnknownNameError, match="auto, cpu, cuda, mps"):
        TrainConfig(device="tpu")
    with pytest.raises(UsageError, match="--max-steps or --max-time"):
        TrainConfig(max_steps=None)


def test_whole_numbers_are_numbers_and_options_survive_json_types() -> None:
    config = TrainConfig(learning_rate=1, max_time=5)
    assert TrainConfig(**dataclasses.asdict(config)) == config


def test_devices_that_are_not_there_are_refused() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="--device cuda"):
            resolve_device("cuda")
    with pytest.raises(UnknownNameError):
        resolve_device("gpu")
    cpu = torch.device("cpu")
    assert resolve_dtype("auto", cpu) == torch.float32
    assert resolve_dtype("bfloat16", cpu) == torch.bfloat16
    assert resolve_dtype("float16", cpu) == torch.float16


def test_matrices_decay_and_the_rest_does_not() -> None:
    model = GPTModel(
        GPTConfig(11, block_size=8, n_layer=1, n_head=2, n_embd=16, norm="layernorm", bias=True)
    )
    decay, rest = parameter_groups(model, 0.1)
    assert (decay["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    decayed = {id(parameter) for parameter in decay["params"]}
    other = {id(parameter) for parameter in rest["params"]}
    assert decayed.isdisjoint(other)
    assert len(decayed) + len(other) == len(list(model.parameters()))
    linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    assert {id(m.weight) for m in linears} - embeddings == decayed
