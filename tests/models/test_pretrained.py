"""Folders of models: what is written, and one clear line for everything that can be broken."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from toolkit.errors import MissingExtraError, RunError, ToolkitError, UsageError
from toolkit.models import GPTConfig, build_model, create_model, load_pretrained, save_pretrained


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    save_pretrained(create_model("gpt", 31, size="nano", seed=1), path)
    return path


def rewrite_weights(folder: Path, change: Any) -> None:
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)


def rewrite_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def failure(folder: str | Path) -> str:
    with pytest.raises(RunError) as caught:
        load_pretrained(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_files_say_what_they_are(tmp_path: Path) -> None:
    model = create_model("gpt", 31, size="nano", tie_embeddings=True)
    save_pretrained(model, tmp_path, bos_token_id=2, eos_token_id=3)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert (config["bos_token_id"], config["eos_token_id"]) == (2, 3)
    assert config["torch_dtype"] == "float32"
    with safetensors.safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert "lm_head.weight" not in set(file.keys())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_parts_that_no_layout_has_are_saved_in_ours(tmp_path: Path) -> None:
    model = build_model(GPTConfig(31, n_embd=32, norm="layernorm", n_kv_head=2))
    save_pretrained(model, tmp_path, eos_token_id=4)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "toolkit-gpt"
    assert config["eos_token_id"] == 4
    stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert stored.keys() == model.state_dict().keys()
    assert load_pretrained(tmp_path).config == model.config


def test_a_loaded_model_is_in_evaluation_mode_and_float32(tmp_path: Path) -> None:
    model = create_model("gpt", 31, size="nano", dropout=0.5).bfloat16()
    save_pretrained(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"
    loaded = load_pretrained(tmp_path)
    assert not loaded.training
    for name, parameter in model.named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter.float()), name


def test_shards_are_read_as_one(folder: Path) -> None:
    expected = load_pretrained(folder)
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        shard = f"model-{number:05}-of-00002.safetensors"
        safetensors.torch.save_file({name: tensors[name] for name in part}, folder / shard)
        weight_map.update(dict.fromkeys(part, shard))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    loaded = load_pretrained(folder)
    for name, parameter in expected.named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter), name

    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "has no model-00002-of-00002.safetensors: the model is not complete" in failure(folder)
    index.write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    assert "index.json is damaged: 'weight_map' must name a file beside it" in failure(folder)
    index.write_text(json.dumps({}))
    assert "index.json is damaged" in failure(folder)


def test_saving_again_replaces_the_weights(folder: Path) -> None:
    other = create_model("gpt", 31, size="nano", seed=2)
    save_pretrained(other, folder)
    assert torch.equal(load_pretrained(folder).get_parameter("norm.weight"), other.norm.weight)
    assert torch.equal(
        load_pretrained(folder).get_parameter("tok_emb.weight"), other.tok_emb.weight
    )


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolkitError, match="Could not write"):
        save_pretrained(create_model("bigram", 3), tmp_path / "file" / "model")


def test_missing_tensors_are_named_as_in_the_file(folder: Path) -> None:
    rewrite_weights(folder, lambda tensors: tensors.pop("model.norm.weight"))
    assert failure(folder) == (
        f"{folder / 'model.safetensors'} does not fit config.json: it has no tensor "
        "model.norm.weight; the config asks for it."
    )


def test_many_missing_tensors_are_counted(folder: Path) -> None:
    rewrite_config(folder, num_hidden_layers=4)
    # 11 tensors in each of the two layers that are not there; five are shown.
    assert "and 17 more; the config asks for it" in failure(folder)


def test_unexpected_tensors_are_named(folder: Path) -> None:
    rewrite_weights(folder, lambda tensors: tensors.update({"adapter.a": torch.zeros(2)}))
    assert "it has tensors that the config does not ask for: adapter.a." in failure(folder)


def test_a_wrong_shape_is_named_with_both(folder: Path) -> None:
    rewrite_weights(folder, lambda t: t.update({"model.norm.weight": torch.zeros(3)}))
    assert "tensor model.norm.weight has shape (3,); the config asks for (64,)" in failure(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_cut_off_weights_are_damaged(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{path} is damaged or half written" in failure(folder)


def test_a_folder_without_a_config_holds_no_model(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert failure(folder) == f"No model in {folder}: config.json is missing."
    (folder / "config.json").write_text("[]")
    assert "config.json is damaged: expected a JSON object" in failure(folder)
    (folder / "config.json").write_bytes(b"\xff\xfe{")
    assert "config.json cannot be read" in failure(folder)


def test_a_pickle_is_never_opened(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "pytorch_model.bin is a pickle, which is never opened" in failure(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": None}, "model_type 'None' is not one that toolkit reads: gpt2, llama, "),
        ({"model_type": ["qwen3"]}, "is not one that toolkit reads"),
        ({"hidden_size": None}, "the field hidden_size is missing"),
        ({"attention_bias": True}, "attention_bias = True is not supported"),
        (
            {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
            "layer_types, sliding_window and max_window_layers ask for layers that differ",
        ),
        ({"layer_types": ["sliding_attention"] * 2}, "or for a window without a length"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "layers that differ"),
        ({"layer_types": 5}, "layer_types"),
        ({"layer_types": []}, "layer_types"),
        (
            {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": "a"},
            "layer_types",
        ),
        (
            {"use_sliding_window": True, "sliding_window": "a", "max_window_layers": 0},
            "--window a must be a whole number of positions",
        ),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "each kind of layer"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5 is not supported"),
        ({"model_type": "llama", "use_sliding_window": True}, "use_sliding_window = True is not"),
        ({"model_type": "mistral", "layer_types": ["full_attention"]}, "layer_types = ["),
        ({"model_type": "mistral", "attention_bias": True}, "attention_bias = True is not"),
        ({"model_type": "mistral", "mlp_bias": True}, "mlp_bias = True is not supported"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rope_type = 'llama3' is not supported"),
        ({"rope_scaling": {"type": "linear"}}, "rope_type = 'linear' is not supported"),
        ({"rope_scaling": "yarn"}, "rope_scaling"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is not supported"),
        ({"num_attention_heads": 3, "head_dim": 7}, "--n-head 3 must be divisible by --n-kv-head"),
    ],
)
def test_a_config_that_asks_for_more_says_what(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    rewrite_config(folder, **changes)
    text = failure(folder)
    assert text.startswith(f"{folder / 'config.json'} does not describe a model")
    assert message in text


def test_parts_that_tensors_do_not_show_are_not_taken_for_others(tmp_path: Path) -> None:
    """A Llama and a Mistral have the same tensors, and differ in what their config says alone."""
    model = create_model("gpt", 31, size="nano", qk_norm=False, window=3, seed=1)
    save_pretrained(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["sliding_window"]) == ("mistral", 3)
    assert load_pretrained(tmp_path).config == model.config
    rewrite_config(tmp_path, model_type="llama")
    assert load_pretrained(tmp_path).config.window == 0


# What earlier versions wrote, by name of its fields: the parts that came later are the usual ones.
OLDER = {
    "model_type": "toolkit-gpt",
    "format": 1,
    "vocab_size": 31,
    "block_size": 16,
    "n_layer": 2,
    "n_head": 3,
    "n_kv_head": 3,
    "n_embd": 32,
    "head_dim": 10,
    "n_inner": 96,
    "norm": "rmsnorm",
    "position": "rotary",
    "qk_norm": False,
    "mlp": "swiglu",
    "bias": False,
    "tie_embeddings": True,
    "dropout": 0.0,
    "weight_init": "gpt2",
    "norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "bos_token_id": None,
    "eos_token_id": 4,
}
OLDER_TENSORS = {
    "tok_emb.weight": (31, 32),
    "norm.weight": (32,),
    **{
        f"blocks.{layer}.{name}": shape
        for layer in range(2)
        for name, shape in {
            "norm1.weight": (32,),
            "attn.qkv.weight": (90, 32),
            "attn.proj.weight": (32, 30),
            "norm2.weight": (32,),
            "mlp.gate_up.weight": (192, 32),
            "mlp.down.weight": (32, 96),
        }.items()
    },
}


@pytest.mark.parametrize(
    ("changes", "tensors"),
    [
        ({}, {}),
        ({"norm": "layernorm", "mlp": "gelu"}, {"mlp.gate_up": None, "mlp.up": (96, 32)}),
    ],
)
def test_a_folder_of_an_earlier_version_opens(
    tmp_path: Path, changes: dict[str, Any], tensors: dict[str, tuple[int, int] | None]
) -> None:
    """With its own names, though today the first of them would be written as a Mistral."""
    shapes = dict(OLDER_TENSORS)
    for name, shape in tensors.items():
        for layer in range(2):
            key = f"blocks.{layer}.{name}.weight"
            if shape is None:
                del shapes[key]
            else:
                shapes[key] = shape
    generator = torch.Generator().manual_seed(0)
    stored = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    safetensors.torch.save_file(stored, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**OLDER, **changes}))
    model = load_pretrained(tmp_path)
    state = model.state_dict()
    assert state.keys() == stored.keys()
    for name, tensor in stored.items():
        assert torch.equal(state[name], tensor), name
    config = model.config
    assert isinstance(config, GPTConfig)
    assert (config.norm_order, config.window) == ("pre", 0)
    assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()


def test_gpt2_with_another_activation_is_refused(tmp_path: Path) -> None:
    save_pretrained(create_model("gpt", 31, preset="gpt2", size="nano"), tmp_path)
    rewrite_config(tmp_path, activation_function="relu")
    assert (
        "activation_function = 'relu' is not supported; toolkit reads 'gelu_new' and 'relu2'"
    ) in failure(tmp_path)
    save_pretrained(
        create_model("gpt", 31, preset="gpt2", size="nano", norm_order="post"), tmp_path
    )
    rewrite_config(tmp_path, afn="relu")
    assert "afn = 'relu' is not supported; toolkit reads 'gelu'" in failure(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    save_pretrained(create_model("bigram", 5), tmp_path)
    rewrite_config(tmp_path, format=99)
    assert "its format is 99, and this toolkit reads up to 1. Install a newer" in failure(tmp_path)


def test_a_path_that_is_a_file_or_nothing_is_no_hub_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file; expected the folder" in failure(tmp_path / "file")
    assert failure(tmp_path / "nothing") == f"No model folder at {tmp_path / 'nothing'}."
    assert failure("nothing") == "No model folder at nothing."


def test_a_mistyped_run_is_not_looked_up_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert failure("runs/first") == f"No model folder at {Path('runs/first')}."


def test_a_hub_name_without_the_hub_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"no folder owner/name; .*toolkit\[hf\]"):
        load_pretrained("owner/name")


def test_a_hub_name_without_a_network_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The package itself does not import its constants.
    constants = pytest.importorskip("huggingface_hub.constants")
    # The client's own switch; with an empty cache it has nowhere to look.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", os.fspath(tmp_path))
    text = failure("owner/no-such-model")
    assert "There is no folder owner/no-such-model, and the Hugging Face Hub did not" in text


def test_a_device_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="The device warp cannot be used"):
        load_pretrained(folder, device="warp")
