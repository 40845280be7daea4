"""`toolkit.export` and its command: what it takes, what it refuses, and the Hugging Face folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from export_models import LAYOUTS, TEXT, make_model

import toolkit
from toolkit.cli import main
from toolkit.errors import UnknownNameError, UsageError
from toolkit.models import load_pretrained
from toolkit.tokenizers import BPETokenizer, CharTokenizer


@torch.inference_mode()
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_opens_in_transformers(
    layout: str, tokenizer: BPETokenizer, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    model = make_model("gpt", tokenizer.vocab_size, **LAYOUTS[layout])
    exported = toolkit.export(model, "hf", tmp_path / "folder", tokenizer=tokenizer)
    assert exported.largest_difference == 0.0
    assert {path.name for path in exported.files} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "folder").eval()
    ids = tokenizer.encode(TEXT)[:24]
    theirs_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "folder")
    assert theirs_tokenizer.encode(TEXT)[:24] == ids
    assert theirs_tokenizer.eos_token == "<|endoftext|>"
    assert theirs.generation_config.eos_token_id == tokenizer.special_tokens["<|endoftext|>"]
    x = torch.tensor([ids])
    # float32 in another order of operations, on logits near 5.
    torch.testing.assert_close(theirs(x).logits, model(x).logits, atol=2e-5, rtol=0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_folder_in_half_precision(dtype: str, tokenizer: BPETokenizer, tmp_path: Path) -> None:
    model = make_model("gpt", tokenizer.vocab_size)
    exported = toolkit.export(model, "hf", tmp_path, tokenizer=tokenizer, dtype=dtype)
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == dtype
    stored = load_pretrained(tmp_path)
    for name, parameter in model.named_parameters():
        rounded = parameter.to(getattr(torch, dtype)).float()
        assert torch.equal(stored.get_parameter(name), rounded), name
    assert exported.largest_difference is not None
    assert 0 < exported.largest_difference < 0.2
    assert next(model.parameters()).dtype == torch.float32  # the one given stays as it was


@torch.inference_mode()
@pytest.mark.parametrize("order", ["post", "pre"])
def test_a_folder_of_an_encoder_decoder_opens_in_transformers(order: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = CharTokenizer.train([TEXT])
    end = tokenizer.vocab_size
    model: Any = make_model("encoder-decoder", end + 3, norm_order=order)
    exported = toolkit.export(model, "hf", tmp_path / "folder", tokenizer=tokenizer)
    assert exported.largest_difference == 0.0
    assert {path.name for path in exported.files} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "folder").eval()
    names = transformers.AutoTokenizer.from_pretrained(tmp_path / "folder")
    inputs = names(["the sun is pale", "the moon"], return_tensors="pt", padding=True)
    assert inputs.input_ids[0].tolist() == [*tokenizer.encode("the sun is pale"), end]
    ids = torch.tensor([[end + 1, 3, 4], [end + 1, 5, 6]])
    found = model(ids, None, inputs.input_ids).logits
    expected = theirs(**inputs, decoder_input_ids=ids).logits
    # float32 in another order of operations.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    # The folder translates here as the model does, and can be written again.
    opened = toolkit.open_model(tmp_path / "folder")
    written = toolkit.Translator(opened.model, opened.tokenizer).translate(["the sun"])
    assert written == toolkit.Translator(model, tokenizer).translate(["the sun"])
    again = toolkit.export(tmp_path / "folder", "hf", tmp_path / "again")
    for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"):
        first, second = (path / name for path in (tmp_path / "folder", again.path))
        assert first.read_bytes() == second.read_bytes(), name


def test_what_an_encoder_decoder_has_no_form_for(tmp_path: Path) -> None:
    tokenizer = CharTokenizer.train([TEXT])
    size = tokenizer.vocab_size
    gated = make_model("encoder-decoder", size + 3, mlp="swiglu")
    with pytest.raises(UsageError, match="hf takes what Marian and Pegasus have"):
        toolkit.export(gated, "hf", tmp_path / "x", tokenizer=tokenizer)
    model = make_model("encoder-decoder", size + 5)
    with pytest.raises(UsageError, match=rf"has {size} tokens .* knows {size + 2} \(and"):
        toolkit.export(model, "hf", tmp_path / "x", tokenizer=tokenizer)
    with pytest.raises(UsageError, match="has no Marian and no Pegasus"):
        toolkit.export(model, "gguf", tmp_path / "x", with_tokenizer=False)
    assert list(tmp_path.iterdir()) == []


def test_a_model_in_training_is_left_as_it_was(tmp_path: Path) -> None:
    model = make_model("gpt", 40, dropout=0.5).bfloat16().train()
    exported = toolkit.export(model, "torchscript", tmp_path / "m.pt")
    assert exported.largest_difference == 0.0
    assert model.training
    assert next(model.parameters()).dtype == torch.bfloat16


def test_what_cannot_be_is_one_clear_line(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    model = make_model("gpt", tokenizer.vocab_size)
    with pytest.raises(UnknownNameError, match=r"No export format 'ggfu'. Did you mean 'gguf'"):
        toolkit.export(model, "ggfu", tmp_path)
    with pytest.raises(UnknownNameError, match="No dtype of onnx 'float16'"):
        toolkit.export(model, "onnx", tmp_path, dtype="float16")
    with pytest.raises(UsageError, match="no tokenizer to put into the hf"):
        toolkit.export(model, "hf", tmp_path)
    bigger = BPETokenizer.train([TEXT], vocab_size=291)
    with pytest.raises(UsageError, match="The tokenizer has 291 tokens and the model gpt knows"):
        toolkit.export(model, "hf", tmp_path, tokenizer=bigger)
    with pytest.raises(UsageError, match="No Hugging Face layout has the parts of this bigram"):
        toolkit.export(make_model("bigram", 290), "hf", tmp_path, tokenizer=tokenizer)
    (tmp_path / "mine").write_text("")
    with pytest.raises(UsageError, match="is there already and not an empty folder"):
        toolkit.export(model, "hf", tmp_path, tokenizer=tokenizer)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit:
        main(["export", *arguments])
    printed = capsys.readouterr()
    assert isinstance(exit.value.code, int)
    return exit.value.code, printed.out, printed.err


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gguf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    (tmp_path / "text.txt").write_text(TEXT)
    corpus = toolkit.load_corpus("text.txt")
    run = toolkit.train(
        corpus, "bpe:280", n_layer=1, n_embd=32, n_head=2, block_size=16, batch_size=2, max_steps=2,
        device="cpu", out="runs/first",
    )  # fmt: skip
    code, out, _ = command(capsys, "--format", "gguf", "--out", "m.gguf", "--json")
    reply = json.loads(out)
    assert code == 0
    assert reply["largest_difference"] == 0.0
    assert (reply["format"], reply["path"]) == ("gguf", "m.gguf")
    assert reply["num_bytes"] == (tmp_path / "m.gguf").stat().st_size
    assert command(capsys, "first", "--format", "hf", "--out", "hf")[0] == 0
    # A folder that was written opens like any other of Hugging Face's.
    code, out, _ = command(capsys, "hf", "--format", "torchscript", "--out", "m.pt")
    assert code == 0
    assert "logits of the file, loaded again" in out
    opened = toolkit.open_model("hf")
    assert opened.tokenizer.encode(TEXT) == run.tokenizer.encode(TEXT)
    for arguments, message in (
        (("--format", "gguf2", "--out", "x"), "Did you mean 'gguf'"),
        (("nowhere", "--format", "hf", "--out", "x"), "No model folder at nowhere"),
        (("--format", "onnx", "--out", "x", "--dtype", "int4"), "No dtype of onnx 'int4'"),
    ):
        code, _, err = command(capsys, *arguments)
        assert code in (1, 2)
        assert message in err
        assert err.count("\n") == 1


def test_a_tokenizer_is_taken_by_its_spec(tmp_path: Path) -> None:
    chars = CharTokenizer.train([TEXT])
    chars.save(tmp_path / "chars")
    model = make_model("gpt", chars.vocab_size)
    toolkit.export(model, "hf", tmp_path / "out", tokenizer=str(tmp_path / "chars"))
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs.encode(TEXT) == chars.encode(TEXT)
