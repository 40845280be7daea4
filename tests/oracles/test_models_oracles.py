"""Our models and transformers' own: configurations, names, logits, losses and gradients.

`from_hf` and `to_hf_state_dict` in memory; saved folders are compared elsewhere.
"""

from typing import Any

import pytest
import torch

from toolkit.errors import UsageError
from toolkit.models import create_model, from_hf, hf_config, to_hf_state_dict
from toolkit.models.hf_configs import config_from_hf
from toolkit.models.layers import attention_mask
from toolkit.models.positions import alibi_slopes, sinusoids

transformers = pytest.importorskip("transformers")

GPT2 = {"vocab_size": 61, "n_positions": 24, "n_embd": 48, "n_layer": 2, "n_head": 3}
KV_HEADS = {"llama": 32, "mistral": 8, "qwen3": 32}
LLAMA = {
    "vocab_size": 61,
    "max_position_embeddings": 24,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}

WHOLE = {"sliding_window": None}
WINDOW = {"use_sliding_window": True, "sliding_window": 7}
ALL_SLIDE = {"layer_types": ["sliding_attention", "sliding_attention"]}

CASES = {
    "gpt2": ("GPT2", GPT2),
    "gpt2-untied-wide": ("GPT2", {**GPT2, "tie_word_embeddings": False, "n_inner": 70}),
    "gpt2-eps": ("GPT2", {**GPT2, "layer_norm_epsilon": 1e-2}),
    "qwen3": ("Qwen3", {**LLAMA, "head_dim": 16, "tie_word_embeddings": True}),
    "qwen3-untied": ("Qwen3", {**LLAMA, "head_dim": 12, "rms_norm_eps": 1e-2}),
    "qwen3-default-width": ("Qwen3", LLAMA),  # head_dim 128, whatever the hidden size
    "llama": ("Llama", LLAMA),
    "llama-biases": ("Llama", {**LLAMA, "attention_bias": True, "mlp_bias": True}),
    "llama-one-kv-head": ("Llama", {**LLAMA, "num_key_value_heads": 1}),
    "llama-tied-wide-heads": ("Llama", {**LLAMA, "head_dim": 20, "tie_word_embeddings": True}),
    "gpt2-relu2": ("GPT2", {**GPT2, "activation_function": "relu2"}),
    "gpt": ("OpenAIGPT", GPT2),
    "gpt-untied": ("OpenAIGPT", {**GPT2, "tie_word_embeddings": False}),
    "mistral": ("Mistral", {**LLAMA, "sliding_window": 5}),
    "mistral-wider-than-the-context": ("Mistral", {**LLAMA, "sliding_window": 50}),
    "mistral-odd-width": ("Mistral", {**LLAMA, "hidden_size": 50, "head_dim": 12, **WHOLE}),
    "qwen3-window": ("Qwen3", {**LLAMA, **WINDOW, "max_window_layers": 0}),
    "qwen3-window-of-two": ("Qwen3", {**LLAMA, **WINDOW, "sliding_window": 2, **ALL_SLIDE}),
}

# transformers' first GPT keeps no keys and values.
WITHOUT_A_CACHE = ("gpt", "gpt-untied")


def theirs(case: str) -> Any:
    """transformers' model of a case, every weight random and large enough to matter."""
    kind, values = CASES[case]
    config = getattr(transformers, f"{kind}Config")(**values)
    name = f"{kind}LMHeadModel" if "GPT" in kind else f"{kind}ForCausalLM"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, name)(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def batch() -> torch.Tensor:
    return torch.randint(0, 61, (2, 24), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("case", CASES)
def test_the_same_weights_give_the_same_logits_loss_and_gradients(case: str) -> None:
    model = theirs(case)
    ours = from_hf(model.config.to_dict(), model.state_dict()).eval()
    assert ours.num_params() == model.num_parameters()
    # transformers shifts labels itself: the target of position t is label t + 1.
    ids = batch()
    targets = torch.cat((ids[:, 1:], torch.full((2, 1), -100)), dim=1)
    expected = model(ids, labels=ids)
    logits, loss = ours(ids, targets)
    assert logits.std() > 0.3
    # Both compute in float32 in another order: units of 2⁻²³ of logits near 5, after two layers.
    torch.testing.assert_close(logits, expected.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(loss, expected.loss, atol=1e-6, rtol=0)
    expected.loss.backward()
    assert loss is not None
    loss.backward()
    embedding = model.get_input_embeddings().weight.grad
    torch.testing.assert_close(ours.tok_emb.weight.grad, embedding, atol=1e-6, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("case", [case for case in CASES if case not in WITHOUT_A_CACHE])
def test_their_cached_steps_give_our_logits(case: str) -> None:
    """Token by token, with keys and values kept."""
    model, ids, cache, steps = theirs(case), batch(), None, []
    ours = from_hf(model.config.to_dict(), model.state_dict()).eval()
    for t in range(24):
        output = model(ids[:, t : t + 1], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        steps.append(output.logits)
    # As above; sums over the past are made in another order once more.
    torch.testing.assert_close(ours(ids).logits, torch.cat(steps, dim=1), atol=2e-5, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_weights_come_back_under_the_same_names_bit_for_bit(case: str) -> None:
    model = theirs(case)
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    back = to_hf_state_dict(from_hf(model.config.to_dict(), state))
    assert back.keys() == state.keys()
    for name, tensor in back.items():
        assert tensor.is_contiguous(), name
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize("case", CASES)
def test_our_config_means_the_same_to_transformers(case: str) -> None:
    model = theirs(case)
    config = config_from_hf(model.config.to_dict())
    values = hf_config(config)
    assert values is not None
    again = type(model.config)(**values)
    mine, wanted = again.to_dict(), model.config.to_dict()
    # What transformers writes about itself, GPT-2's unset width, the ids of special tokens, and
    # how many layers have no window, where `layer_types` has said it in words.
    own = ("architectures", "dtype", "n_inner", "bos_token_id", "eos_token_id")
    for field in (*own, "max_window_layers"):
        mine.pop(field, None)
        wanted.pop(field, None)
    assert mine == wanted
    assert config_from_hf(again.to_dict()) == config


def test_where_transformers_4_and_5_keep_the_rotary_base() -> None:
    base = {**LLAMA, "model_type": "qwen3"}
    assert config_from_hf({**base, "rope_theta": 5e5}).rope_theta == 5e5
    assert config_from_hf({**base, "rope_theta": 5e5, "rope_scaling": None}).rope_theta == 5e5
    rope = {"rope_type": "default", "rope_theta": 7e5}
    assert config_from_hf({**base, "rope_parameters": rope}).rope_theta == 7e5
    values = hf_config(config_from_hf({**base, "rope_theta": 5e5}))
    assert transformers.Qwen3Config(**values).rope_parameters["rope_theta"] == 5e5


def test_fields_left_out_mean_what_transformers_takes_them_for() -> None:
    gpt2 = config_from_hf({**GPT2, "model_type": "gpt2"})
    assert (gpt2.tie_embeddings, gpt2.n_inner, gpt2.norm_eps) == (True, 192, 1e-5)
    qwen3 = config_from_hf({**LLAMA, "model_type": "qwen3"})
    assert (qwen3.tie_embeddings, qwen3.head_dim, qwen3.norm_eps) == (False, 128, 1e-6)
    llama = config_from_hf({**LLAMA, "model_type": "llama"})
    assert (llama.head_dim, llama.qk_norm, llama.bias) == (12, False, False)
    mistral = config_from_hf({**LLAMA, "model_type": "mistral"})
    assert (mistral.window, mistral.head_dim, mistral.qk_norm) == (4096, 12, False)
    gpt = config_from_hf({**GPT2, "model_type": "openai-gpt"})
    assert (gpt.norm_order, gpt.tie_embeddings, gpt.n_inner) == ("post", True, 192)
    wide = {**LLAMA, "num_attention_heads": 32, "hidden_size": 64}
    del wide["num_key_value_heads"]
    heads = {kind: config_from_hf({**wide, "model_type": kind}).n_kv_head for kind in KV_HEADS}
    assert heads == KV_HEADS
    for kind, count in KV_HEADS.items():
        named = {"llama": "Llama", "mistral": "Mistral", "qwen3": "Qwen3"}[kind]
        assert getattr(transformers, f"{named}Config")(**wide).num_key_value_heads == count
    defaults = ((gpt2, "GPT2", GPT2), (qwen3, "Qwen3", LLAMA), (mistral, "Mistral", LLAMA))
    for ours, name, values in (*defaults, (gpt, "OpenAIGPT", GPT2)):
        assert config_from_hf(getattr(transformers, f"{name}Config")(**values).to_dict()) == ours


@pytest.mark.parametrize("case", ["gpt2", "gpt", "gpt-untied"])
def test_openai_files_without_the_prefix_and_with_masks_are_read(case: str) -> None:
    model = theirs(case)
    bare = {name.removeprefix("transformer."): t for name, t in model.state_dict().items()}
    for layer in range(2):
        bare[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 24, 24)
        bare[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    config = model.config.to_dict()
    ours, same = from_hf(config, bare), from_hf(config, model.state_dict())
    for a, b in zip(ours.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_head_that_differs_from_the_embedding_is_not_dropped_in_silence() -> None:
    model = theirs("gpt2")
    state = dict(model.state_dict())
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    with pytest.raises(UsageError, match=r"lm_head\.weight differs from transformer\.wte\.weight"):
        from_hf(model.config.to_dict(), state)


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({}, 0),
        ({"sliding_window": 7}, 0),
        ({"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0}, 0),
        ({**WINDOW, "max_window_layers": 2}, 0),
        ({**WINDOW, "max_window_layers": 0}, 7),
        ({"use_sliding_window": True, "max_window_layers": 0}, 4096),
        ({**WINDOW, **ALL_SLIDE}, 7),
        ({**WINDOW, "layer_types": ["full_attention", "full_attention"]}, 0),
    ],
)
def test_which_window_a_qwen3_has(fields: dict[str, Any], window: int) -> None:
    config = transformers.Qwen3Config(**LLAMA, **fields)
    slides = [kind == "sliding_attention" for kind in config.layer_types]
    assert slides == [window > 0] * 2
    assert (config.sliding_window == window) is (window > 0)
    assert config_from_hf({**LLAMA, **fields, "model_type": "qwen3"}).window == window
    assert config_from_hf(config.to_dict()).window == window


@pytest.mark.parametrize("n_head", [*range(1, 34), 48, 71, 112])
def test_alibi_slopes_are_those_of_bloom(n_head: int) -> None:
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    theirs = bloom.build_alibi_tensor(torch.ones(1, 6), n_head, torch.float32)  # (H, 1, S)
    torch.testing.assert_close(alibi_slopes(n_head), theirs[:, 0, 1], atol=0, rtol=1e-6)
    # They add m·s where we add m·(s − t): the same for all keys of a query.
    positions = torch.arange(6)
    ours = attention_mask(positions, positions, slopes=alibi_slopes(n_head))[0]  # (H, T, S)
    scores = torch.randn(n_head, 6, 6, generator=torch.Generator().manual_seed(n_head))
    causal = torch.ones(6, 6).tril().log()
    torch.testing.assert_close(
        (scores + ours).softmax(-1), (scores + theirs + causal).softmax(-1), atol=1e-6, rtol=0
    )


def test_a_bloom_without_its_first_norm_is_our_gpt_with_alibi() -> None:
    """What Bloom has more is a norm of the embeddings, which ours can hold as its own."""
    shape = {"vocab_size": 61, "hidden_size": 48, "n_layer": 2, "n_head": 6}
    parts = {"tie_word_embeddings": False, "hidden_dropout": 0.0, "attention_dropout": 0.0}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.BloomConfig(**shape, **parts)
        bloom = transformers.BloomForCausalLM(config).eval()
        with torch.no_grad():
            for parameter in bloom.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    ours = create_model(
        "gpt",
        61,
        preset="gpt2",
        position="alibi",
        tie_embeddings=False,
        n_layer=2,
        n_head=6,
        n_embd=48,
        block_size=24,
    ).eval()
    inner = bloom.transformer
    with torch.no_grad():
        state = {
            "tok_emb.weight": inner.word_embeddings_layernorm(inner.word_embeddings.weight),
            "head.weight": bloom.lm_head.weight,
            "norm.weight": inner.ln_f.weight,
            "norm.bias": inner.ln_f.bias,
        }
        for layer, block in enumerate(inner.h):
            # Bloom keeps query, key and value of a head side by side.
            qkv, mlp = block.self_attention.query_key_value, block.mlp
            modules = {
                "norm1": block.input_layernorm,
                "attn.proj": block.self_attention.dense,
                "norm2": block.post_attention_layernorm,
                "mlp.up": mlp.dense_h_to_4h,
                "mlp.down": mlp.dense_4h_to_h,
            }
            name = f"blocks.{layer}"
            weight = qkv.weight.view(6, 3, 8, 48).transpose(0, 1).reshape(144, 48)
            state[f"{name}.attn.qkv.weight"] = weight
            state[f"{name}.attn.qkv.bias"] = qkv.bias.view(6, 3, 8).transpose(0, 1).reshape(144)
            for part, module in modules.items():
                state[f"{name}.{part}.weight"] = module.weight
                state[f"{name}.{part}.bias"] = module.bias
        ours.load_state_dict(state)
        expected = bloom(batch()).logits
        assert expected.std() > 0.3
        # As above.
        torch.testing.assert_close(ours(batch()).logits, expected, atol=1e-5, rtol=0)


def test_sinusoids_are_those_of_distilbert() -> None:
    distilbert = pytest.importorskip("transformers.models.distilbert.modeling_distilbert")
    table = torch.empty(512, 96)
    distilbert.create_sinusoidal_embeddings(n_pos=512, dim=96, out=table)
    torch.testing.assert_close(sinusoids(512, 96), table, atol=1e-6, rtol=0)


def test_biases_of_one_half_only_are_refused() -> None:
    with pytest.raises(UsageError, match="attention_bias and mlp_bias differ"):
        config_from_hf({**LLAMA, "model_type": "llama", "attention_bias": True})


def test_parts_that_no_layout_has_have_no_hugging_face_form() -> None:
    model = create_model("gpt", 61, size="nano", norm="layernorm")
    assert hf_config(model.config) is None
    with pytest.raises(UsageError, match="No Hugging Face layout has the parts"):
        to_hf_state_dict(model)
    assert hf_config(create_model("bigram", 5).config) is None


def test_transformers_generates_from_our_weights() -> None:
    ours = create_model("gpt", 61, size="nano", block_size=24, n_kv_head=1, seed=3).eval()
    described = hf_config(ours.config)
    assert described is not None
    config = transformers.Qwen3Config(**described)
    model = transformers.Qwen3ForCausalLM(config).eval()
    model.load_state_dict(to_hf_state_dict(ours), strict=False)
    ids = torch.tensor([[5, 9]])
    # Greedy, with their cache of keys and values against our whole forward pass.
    generated = model.generate(ids, max_new_tokens=15, do_sample=False, pad_token_id=0)
    with torch.no_grad():
        for _ in range(15):
            best = ours(ids).logits[:, -1:].argmax(dim=-1)
            ids = torch.cat((ids, best), dim=1)
    assert torch.equal(generated, ids)
