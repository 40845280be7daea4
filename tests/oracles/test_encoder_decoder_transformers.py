"""The encoder–decoder against transformers: Marian has its layout with the norms last, Pegasus with
the norms first."""

from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.inspection import Tracer
from toolkit.models import EncoderDecoderConfig, EncoderDecoderModel

transformers = pytest.importorskip("transformers")

V, C, H, INNER = 17, 24, 3, 40


def names_of(model: EncoderDecoderModel, *, pre: bool) -> dict[str, Tensor]:
    """Our weights under their names."""
    found: dict[str, Tensor] = {}
    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        for number, block in enumerate(stack.blocks):
            name = f"model.{side}.layers.{number}"
            part: Any = block
            for letter, weight, bias in zip(
                "qkv", part.attn.qkv.weight.chunk(3), part.attn.qkv.bias.chunk(3), strict=True
            ):
                found[f"{name}.self_attn.{letter}_proj.weight"] = weight
                found[f"{name}.self_attn.{letter}_proj.bias"] = bias
            modules = {
                "self_attn.out_proj": part.attn.proj,
                "self_attn_layer_norm": part.norm1,
                "fc1": part.mlp.up,
                "fc2": part.mlp.down,
                "final_layer_norm": part.norm2,
            }
            if side == "decoder":
                modules |= {
                    "encoder_attn.q_proj": part.cross.q,
                    "encoder_attn.out_proj": part.cross.proj,
                    "encoder_attn_layer_norm": part.cross_norm,
                }
                for letter, weight, bias in zip(
                    "kv", part.cross.kv.weight.chunk(2), part.cross.kv.bias.chunk(2), strict=True
                ):
                    found[f"{name}.encoder_attn.{letter}_proj.weight"] = weight
                    found[f"{name}.encoder_attn.{letter}_proj.bias"] = bias
            for theirs, module in modules.items():
                found[f"{name}.{theirs}.weight"] = module.weight
                found[f"{name}.{theirs}.bias"] = module.bias
        found[f"model.{side}.embed_positions.weight"] = model.sinusoids
        found[f"model.{side}.embed_tokens.weight"] = model.tok_emb.weight
        if pre:
            assert stack.norm is not None
            found[f"model.{side}.layer_norm.weight"] = stack.norm.get_parameter("weight")
            found[f"model.{side}.layer_norm.bias"] = stack.norm.get_parameter("bias")
    found["model.shared.weight"] = found["lm_head.weight"] = model.tok_emb.weight
    return found


@pytest.mark.parametrize("order", ["post", "pre"])
def test_it_is_marian_or_pegasus(order: Any) -> None:
    pre = order == "pre"
    config = EncoderDecoderConfig(
        V, block_size=12, n_layer=2, n_encoder_layer=3, n_head=H, n_embd=C, n_inner=INNER,
        norm_order=order, dropout=0.0,
    )  # fmt: skip
    model = EncoderDecoderModel(config).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    kinds = ("Pegasus", "PegasusForConditionalGeneration") if pre else ("Marian", "MarianMTModel")
    of_theirs = getattr(transformers, f"{kinds[0]}Config")(
        vocab_size=V, d_model=C, encoder_layers=3, decoder_layers=2, encoder_attention_heads=H,
        decoder_attention_heads=H, encoder_ffn_dim=INNER, decoder_ffn_dim=INNER, dropout=0.0,
        activation_function="relu", scale_embedding=True, max_position_embeddings=12,
        pad_token_id=V - 1, eos_token_id=V - 3, decoder_start_token_id=V - 2,
    )  # fmt: skip
    # "eager" is the one that tells its attention weights.
    of_theirs._attn_implementation = "eager"
    theirs = getattr(transformers, kinds[1])(of_theirs).eval()
    missing, unexpected = theirs.load_state_dict(names_of(model, pre=pre), strict=False)
    assert not unexpected
    assert set(missing) <= {"final_logits_bias"}  # zeros

    source = torch.tensor([[1, 2, 3, 4, V - 3], [5, 6, V - 3, V - 1, V - 1]])
    ids = torch.tensor([[V - 2, 7, 8, 9], [V - 2, 10, 11, 12]])
    with torch.no_grad(), Tracer(model, "*.weights") as trace:
        output = theirs(
            input_ids=source, attention_mask=(source != V - 1).long(), decoder_input_ids=ids,
            output_attentions=True,
        )  # fmt: skip
        found = model(ids, None, source).logits
    expected = output.logits
    # float32 through five layers.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert len(trace) == 3 + 2 + 2
    for name, weights in (
        ("encoder.blocks.{}.attn", output.encoder_attentions),
        ("decoder.blocks.{}.attn", output.decoder_attentions),
        ("decoder.blocks.{}.cross", output.cross_attentions),
    ):
        for layer, theirs_of_layer in enumerate(weights):
            ours = trace[f"{name.format(layer)}.weights"]
            torch.testing.assert_close(ours, theirs_of_layer, rtol=0, atol=2e-5)
