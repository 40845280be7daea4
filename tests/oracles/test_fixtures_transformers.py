"""The block of the fixtures beside that of Hugging Face's GPT-2, with the same parameters."""

import numpy as np
import pytest
import torch

from toolkit.fixtures import MakeOptions, build_fixture

gpt2 = pytest.importorskip("transformers.models.gpt2.modeling_gpt2")


def test_the_block_is_that_of_gpt2() -> None:
    fixture = build_fixture("transformer", MakeOptions(compact=True, dtype="float64", grad=True))
    p = {name: torch.tensor(a) for name, a in fixture.tree["parameters"].items()}
    config = gpt2.GPT2Config(
        n_embd=48, n_head=4, n_inner=192, attn_pdrop=0.0, resid_pdrop=0.0,
        attn_implementation="eager",
    )  # fmt: skip
    block = gpt2.GPT2Block(config, layer_idx=0).double().eval()
    qkv = ("q", "k", "v")
    state = {
        "ln_1.weight": p["norm1_scale"],
        "ln_1.bias": p["norm1_shift"],
        # A Conv1D keeps its weight as [in, out].
        "attn.c_attn.weight": torch.cat([p[f"attn_w{name}"] for name in qkv]).T,
        "attn.c_attn.bias": torch.cat([p[f"attn_b{name}"] for name in qkv]),
        "attn.c_proj.weight": p["attn_wout"].T,
        "attn.c_proj.bias": p["attn_bout"],
        "ln_2.weight": p["norm2_scale"],
        "ln_2.bias": p["norm2_shift"],
        "mlp.c_fc.weight": p["ff_w1"].T,
        "mlp.c_fc.bias": p["ff_b1"],
        "mlp.c_proj.weight": p["ff_w2"].T,
        "mlp.c_proj.bias": p["ff_b2"],
    }
    block.load_state_dict(state)
    x = torch.tensor(fixture.tree["input"], requires_grad=True)
    mask = torch.full((4, 4), float("-inf"), dtype=torch.float64).triu(1)[None, None]
    y = block(x, attention_mask=mask)
    y = y[0] if isinstance(y, tuple) else y
    # Float64 against float64: what is left is the order of the sums.
    np.testing.assert_allclose(y.detach().numpy(), fixture.tree["output"], rtol=0, atol=1e-13)
    gradients = fixture.tree["gradients"]
    y.backward(torch.tensor(gradients["output"]))
    scale = np.abs(gradients["input"]).max()
    np.testing.assert_allclose(x.grad.numpy(), gradients["input"], rtol=0, atol=1e-13 * scale)
    of_weight = block.mlp.c_fc.weight.grad.T.numpy()
    np.testing.assert_allclose(of_weight, gradients["parameters"]["ff_w1"], rtol=0, atol=1e-11)
