"""A text, and models whose weights are large enough to matter."""

from typing import Any

import torch

from toolkit.models import LanguageModel, create_model

TEXT = "".join(
    f"{name}:\nthe {noun} is {word}, and so are we.\n\n"
    for name in ("ROMEO", "JULIET")
    for noun in ("sun", "moon", "night", "day", "rose")
    for word in ("bright", "pale", "long", "dark")
)


def make_model(name: str, vocab_size: int, **options: Any) -> LanguageModel:
    options = {"size": "nano", "block_size": 24, **options}
    model = create_model(name, vocab_size, seed=1, **options)
    source = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=source))
    return model.eval()


LAYOUTS: dict[str, dict[str, Any]] = {
    "gpt2": {"preset": "gpt2"},
    "llama": {"preset": "modern", "qk_norm": False, "n_head": 4, "n_kv_head": 2},
    "qwen3": {"preset": "modern", "n_head": 2, "n_kv_head": 1, "head_dim": 24},
}
