"""GGUF: every number back by the `gguf` package's reader, and transformers' loader as a judge."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_models import LAYOUTS, TEXT, make_model

from toolkit.errors import UsageError
from toolkit.exporting import export
from toolkit.exporting.gguf_file import interleave_pairs
from toolkit.models import GPTConfig, LanguageModel, hf_config, to_hf_state_dict
from toolkit.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer, Tokenizer

gguf = pytest.importorskip("gguf")


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a file says: its keys, and its tensors."""
    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items()}
    return keys, {tensor.name: tensor for tensor in reader.tensors}


def numbers(tensor: Any) -> np.ndarray[Any, Any]:
    shape = tuple(int(size) for size in reversed(tensor.shape))
    return np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type)).reshape(shape)


@pytest.fixture(scope="module")
def models(tokenizer: BPETokenizer) -> dict[str, LanguageModel]:
    size = tokenizer.vocab_size + 3  # padded, as many models are
    return {name: make_model("gpt", size, **options) for name, options in LAYOUTS.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_number_comes_back(
    layout: str, models: dict[str, LanguageModel], tokenizer: BPETokenizer, tmp_path: Path
) -> None:
    model = models[layout]
    exported = export(model, "gguf", tmp_path / "m.gguf", tokenizer=tokenizer)
    assert exported.largest_difference == 0.0
    assert exported.num_bytes == (tmp_path / "m.gguf").stat().st_size
    _, stored = read(tmp_path / "m.gguf")
    ours = to_hf_state_dict(model)
    assert len(stored) == len(ours)
    # A few by their names in the files of llama.cpp, written out here.
    prefix = "transformer.h.1." if layout == "gpt2" else "model.layers.1."
    pairs = {
        "gpt2": {
            "token_embd.weight": ours["transformer.wte.weight"] if layout == "gpt2" else None,
            "position_embd.weight": ours.get("transformer.wpe.weight"),
            "blk.1.attn_qkv.bias": ours.get(prefix + "attn.c_attn.bias"),
            "blk.1.ffn_norm.weight": ours.get(prefix + "ln_2.weight"),
        },
        "llama": {"blk.1.attn_v.weight": ours.get(prefix + "self_attn.v_proj.weight")},
        "qwen3": {
            "blk.1.attn_q.weight": ours.get(prefix + "self_attn.q_proj.weight"),
            "blk.1.attn_k_norm.weight": ours.get(prefix + "self_attn.k_norm.weight"),
            "output_norm.weight": ours.get("model.norm.weight"),
        },
    }[layout]
    for name, tensor in pairs.items():
        assert tensor is not None
        assert np.array_equal(numbers(stored[name]), tensor.numpy()), name
    if layout == "gpt2":
        expected = ours[prefix + "mlp.c_fc.weight"].numpy().T
        assert np.array_equal(numbers(stored["blk.1.ffn_up.weight"]), expected)
    if layout == "llama":
        # Rotating neighbours in the file's order is rotating halves in ours: row 2i of a head is
        # its row i, row 2i + 1 its row i + D/2.
        for name, part, heads in (("attn_q", "q_proj", 4), ("attn_k", "k_proj", 2)):
            rows = numbers(stored[f"blk.1.{name}.weight"]).reshape(heads, 16, 64)
            mine = ours[f"{prefix}self_attn.{part}.weight"].numpy().reshape(heads, 16, 64)
            assert np.array_equal(rows[:, 0::2], mine[:, :8])
            assert np.array_equal(rows[:, 1::2], mine[:, 8:])


@torch.inference_mode()
@pytest.mark.parametrize("layout", LAYOUTS)
def test_transformers_reads_the_file_with_our_logits(
    layout: str, models: dict[str, LanguageModel], tokenizer: BPETokenizer, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    # What `from_pretrained(folder, gguf_file=…)` calls; that itself needs accelerate as well.
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    model = models[layout]
    export(model, "gguf", tmp_path / "m.gguf", tokenizer=tokenizer)
    ours = hf_config(model.config)
    assert ours is not None
    empty = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**ours)
    ).eval()
    found = load_gguf_checkpoint(tmp_path / "m.gguf", return_tensors=True, model_to_load=empty)
    compared = found["config"].keys() & ours.keys()
    assert {"model_type", "tie_word_embeddings"} < compared
    assert len(compared) >= (6 if layout == "gpt2" else 10)
    for name in compared - {"eos_token_id", "bos_token_id"}:
        assert found["config"][name] == pytest.approx(ours[name]), name
    result = empty.load_state_dict(found["tensors"], strict=False)
    assert set(result.missing_keys) <= {"lm_head.weight"}  # tied
    assert result.unexpected_keys == []
    ids = torch.randint(0, 290, (2, 24), generator=torch.Generator().manual_seed(3))
    # Both compute in float32, in another order: a few units in the last place of logits near 5.
    torch.testing.assert_close(model(ids).logits, empty(ids).logits, atol=2e-5, rtol=0)


def test_the_metadata_is_that_of_the_model(
    models: dict[str, LanguageModel], tokenizer: BPETokenizer, tmp_path: Path
) -> None:
    for layout, model in models.items():
        export(model, "gguf", tmp_path / f"{layout}.gguf", tokenizer=tokenizer)
    config = models["qwen3"].config
    assert isinstance(config, GPTConfig)
    keys, _ = read(tmp_path / "qwen3.gguf")
    assert keys["general.architecture"] == "qwen3"
    assert keys["general.type"] == "model"
    assert keys["general.file_type"] == 0
    expected = {
        "context_length": 24,
        "embedding_length": 64,
        "block_count": 2,
        "feed_forward_length": config.n_inner,
        "attention.head_count": 2,
        "attention.head_count_kv": 1,
        "attention.key_length": 24,
        "attention.value_length": 24,
        "rope.freq_base": 10000.0,
        "vocab_size": tokenizer.vocab_size + 3,
    }
    for name, value in expected.items():
        assert keys[f"qwen3.{name}"] == value, name
    assert keys["qwen3.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    keys, _ = read(tmp_path / "llama.gguf")
    assert keys["llama.rope.dimension_count"] == 16
    keys, _ = read(tmp_path / "gpt2.gguf")
    assert keys["gpt2.attention.layer_norm_epsilon"] == pytest.approx(1e-5)
    assert keys["gpt2.feed_forward_length"] == 256
    assert "gpt2.attention.head_count_kv" not in keys


def test_the_tokenizer_is_in_it(
    models: dict[str, LanguageModel], tokenizer: BPETokenizer, tmp_path: Path
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    export(models["gpt2"], "gguf", tmp_path / "m.gguf", tokenizer=tokenizer)
    keys, _ = read(tmp_path / "m.gguf")
    tokens, merges = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.merges"]
    assert (keys["tokenizer.ggml.model"], keys["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    assert keys["tokenizer.ggml.eos_token_id"] == tokenizer.special_tokens["<|endoftext|>"]
    assert keys["tokenizer.ggml.add_bos_token"] is False
    end = tokenizer.vocab_size
    assert keys["tokenizer.ggml.token_type"] == [1] * (end - 1) + [3] + [5] * 3
    assert tokens[end:] == [f"[PAD{token_id}]" for token_id in range(end, end + 3)]
    # A BPE made of the file's lists alone gives our ids.
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            {token: i for i, token in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges]
        )
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    text = TEXT[:300] + " é€ "
    assert made.encode(text).ids == tokenizer.encode(text)


@pytest.mark.parametrize(
    ("pattern", "name"), [("gpt2", "gpt-2"), ("cl100k", "dbrx"), ("o200k", "gpt-4o")]
)
def test_split_patterns_go_by_llama_cpps_names(pattern: str, name: str, tmp_path: Path) -> None:
    tokenizer = BPETokenizer.train([TEXT], vocab_size=270, pattern=pattern)
    export(make_model("gpt", 270), "gguf", tmp_path / "m.gguf", tokenizer=tokenizer)
    assert read(tmp_path / "m.gguf")[0]["tokenizer.ggml.pre"] == name


@pytest.mark.parametrize(
    ("tokenizer", "why"),
    [
        (ByteTokenizer(), "has no merges"),
        (CharTokenizer.train([TEXT]), "is no byte-level BPE"),
        (BPETokenizer.train([TEXT], vocab_size=270, pattern="none"), "GGUF has no name for"),
    ],
)
def test_a_tokenizer_without_a_form_is_refused_by_name(
    tokenizer: Tokenizer, why: str, tmp_path: Path
) -> None:
    model = make_model("gpt", tokenizer.vocab_size)
    with pytest.raises(UsageError, match=f"The tokenizer {tokenizer.name} .*{why}.*--no-tokenizer"):
        export(model, "gguf", tmp_path / "m.gguf", tokenizer=tokenizer)
    assert list(tmp_path.iterdir()) == []
    exported = export(model, "gguf", tmp_path / "m.gguf", tokenizer=tokenizer, with_tokenizer=False)
    assert not exported.has_tokenizer
    assert read(tmp_path / "m.gguf")[0]["tokenizer.ggml.model"] == "none"


@pytest.mark.parametrize(
    ("dtype", "kind", "share"),
    [
        ("float16", "F16", 2**-11),  # half of the last of 11 bits
        ("bfloat16", "BF16", 2**-8),  # of 8 bits
        ("q8_0", "Q8_0", 0.5 / 127 + 2**-11),  # half a step of 127, times a scale in float16
    ],
)
def test_smaller_dtypes_round_no_more_than_they_must(
    dtype: str, kind: str, share: float, models: dict[str, LanguageModel], tmp_path: Path
) -> None:
    model = models["gpt2"]
    exported = export(model, "gguf", tmp_path / "m.gguf", dtype=dtype, with_tokenizer=False)
    _, stored = read(tmp_path / "m.gguf")
    assert {t.tensor_type.name for t in stored.values()} == {"F32", kind}
    assert stored["position_embd.weight"].tensor_type.name == "F32"
    largest = max(float(parameter.detach().abs().max()) for parameter in model.parameters())
    assert exported.largest_difference is not None
    assert 0 < exported.largest_difference <= share * largest


def test_rows_that_no_block_fits_stay_in_float16(tmp_path: Path) -> None:
    model = make_model("gpt", 40, n_embd=24, n_head=2, n_inner=32)
    export(model, "gguf", tmp_path / "m.gguf", dtype="q8_0", with_tokenizer=False)
    kinds = {name: tensor.tensor_type.name for name, tensor in read(tmp_path / "m.gguf")[1].items()}
    assert kinds["blk.0.attn_q.weight"] == "F16"  # rows of 24
    assert kinds["blk.0.ffn_down.weight"] == "Q8_0"  # rows of 32


def test_pairs_are_interleaved_within_each_head() -> None:
    rows = np.arange(8, dtype=np.float32)
    assert interleave_pairs(rows, 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_models_without_an_architecture_are_refused(tmp_path: Path) -> None:
    for model in (make_model("bigram", 9), make_model("gpt", 9, norm="layernorm")):
        with pytest.raises(UsageError, match="hf and gguf take the presets gpt2 and modern"):
            export(model, "gguf", tmp_path / "m.gguf", with_tokenizer=False)
