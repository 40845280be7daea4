"""Our models against transformers' own classes, with the same random weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from toolkit.errors import RunError
from toolkit.models import LanguageModel, create_model, load_pretrained, save_pretrained

transformers = pytest.importorskip("transformers")

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("gpt2", {}, "GPT2LMHeadModel"),
    ("gpt2", {"tie_embeddings": False, "n_inner": 100}, "GPT2LMHeadModel"),
    ("modern", {}, "Qwen3ForCausalLM"),
    ("modern", {"n_kv_head": 2, "rope_theta": 500.0}, "Qwen3ForCausalLM"),
    ("modern", {"n_kv_head": 1, "tie_embeddings": False, "head_dim": 64}, "Qwen3ForCausalLM"),
    ("modern", {"qk_norm": False}, "LlamaForCausalLM"),
    ("modern", {"qk_norm": False, "bias": True, "n_kv_head": 2}, "LlamaForCausalLM"),
    ("modern", {"qk_norm": False, "tie_embeddings": False, "n_kv_head": 1}, "LlamaForCausalLM"),
    ("modern", {"qk_norm": False, "window": 7, "n_kv_head": 2}, "MistralForCausalLM"),
    ("modern", {"qk_norm": False, "n_head": 3, "head_dim": 20}, "MistralForCausalLM"),
    ("modern", {"window": 2}, "Qwen3ForCausalLM"),
    ("modern", {"window": 20, "n_kv_head": 2}, "Qwen3ForCausalLM"),
    ("gpt2", {"mlp": "relu2"}, "GPT2LMHeadModel"),
    ("gpt2", {"norm_order": "post"}, "OpenAIGPTLMHeadModel"),
    ("gpt2", {"norm_order": "post", "tie_embeddings": False}, "OpenAIGPTLMHeadModel"),
]


def make(preset: str, options: dict[str, Any]) -> LanguageModel:
    """A model whose weights are all large enough to matter."""
    model = create_model("gpt", 97, preset=preset, size="micro", block_size=64, **options)
    source = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=source))
    return model.eval()


def ids() -> torch.Tensor:
    return torch.randint(0, 97, (2, 64), generator=torch.Generator().manual_seed(3))


@torch.inference_mode()
@pytest.mark.parametrize(("preset", "options", "architecture"), CASES)
def test_a_saved_model_opens_in_transformers_with_the_same_logits(
    tmp_path: Path, preset: str, options: dict[str, Any], architecture: str
) -> None:
    model = make(preset, options)
    save_pretrained(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(theirs).__name__ == architecture
    assert theirs.num_parameters() == model.num_params()
    logits = model(ids()).logits
    assert float(logits.std()) > 0.5
    # Both compute in float32, in another order: a few units in the last place of logits near 5.
    torch.testing.assert_close(logits, theirs(ids()).logits, atol=1e-5, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize(("preset", "options", "architecture"), CASES)
def test_a_folder_that_transformers_wrote_opens_here(
    tmp_path: Path, preset: str, options: dict[str, Any], architecture: str
) -> None:
    save_pretrained(make(preset, options), tmp_path / "ours")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    theirs.save_pretrained(tmp_path / "theirs")
    model = load_pretrained(tmp_path / "theirs").eval()
    torch.testing.assert_close(model(ids()).logits, theirs(ids()).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "options"), [("bigram", {}), ("gpt", {"norm": "layernorm"}), ("gpt", {})]
)
def test_saving_and_loading_changes_no_bit(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    model = create_model(name, 31, size="nano", seed=4, **options)
    save_pretrained(model, tmp_path)
    again = load_pretrained(tmp_path)
    assert again.config == model.config
    state = again.state_dict()
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[key]), key


def broken(tmp_path: Path) -> Path:
    save_pretrained(create_model("gpt", 31, size="nano"), tmp_path)
    return tmp_path


def test_broken_folders_are_one_clear_line(tmp_path: Path) -> None:
    folder = broken(tmp_path)
    with pytest.raises(RunError, match="No model folder"):
        load_pretrained(folder / "nowhere")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(RunError, match=r"model\.safetensors is damaged"):
        load_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"has no model\.safetensors"):
        load_pretrained(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json cannot be read"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba' is not one that toolkit reads: gpt2"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu' is not supported"),
        ({"num_hidden_layers": 3}, r"has no tensor .*layers\.2"),
        ({"vocab_size": 32}, r"embed_tokens\.weight has shape \(31, 64\)"),
        ({"hidden_size": "many"}, "does not describe a model"),
    ],
)
def test_a_config_that_does_not_fit_says_why(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = broken(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(RunError, match=message):
        load_pretrained(folder)
