"""Folders of encoder–decoders: ours open in transformers, and those of transformers open here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import toolkit
from toolkit.cli import main
from toolkit.errors import RunError
from toolkit.generation import Translator
from toolkit.generation.translation import greedy_targets
from toolkit.models import (
    EncoderDecoderConfig,
    EncoderDecoderModel,
    hf_config,
    load_pretrained,
    save_pretrained,
)
from toolkit.models.registry import config_to_dict
from toolkit.tasks import load_task

transformers = pytest.importorskip("transformers")

V = 17
SHAPE: dict[str, Any] = {"n_layer": 2, "n_encoder_layer": 3, "n_head": 3, "n_embd": 24}
CLASSES = {"post": "MarianMTModel", "pre": "PegasusForConditionalGeneration"}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


def make(**options: Any) -> EncoderDecoderModel:
    config = EncoderDecoderConfig(V, **{**SHAPE, "block_size": 12, "n_inner": 40, **options})
    return fill(EncoderDecoderModel(config).eval())


def fill(model: Any) -> Any:
    """Weights large enough that nothing they do is lost in rounding."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.normal_(std=0.3, generator=generator)
    return model


def batch(config: EncoderDecoderConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """A source of two rows, one of them filled up, and the beginnings of two targets."""
    end, begin, padding = config.end_id, config.begin_id, config.padding_id
    source = torch.tensor([[1, 2, 3, 4, end], [5, 6, end, padding, padding]])
    return source, torch.tensor([[begin, 7, 8, 9], [begin, 10, 11, 12]])


@torch.inference_mode()
def assert_the_same(model: Any, theirs: Any) -> None:
    """The same logits, and the same greedy targets of the same sources."""
    config = model.config
    source, ids = batch(config)
    seen = (source != config.padding_id).long()
    expected = theirs(input_ids=source, attention_mask=seen, decoder_input_ids=ids).logits
    found = model(ids, None, source).logits
    # float32 through five layers, in another order of channels.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    sources = [[1, 2, 3, 4, config.end_id], [5, 6, config.end_id]]
    written = greedy_targets(model, sources)
    options = {"max_new_tokens": config.block_size, "do_sample": False, "num_beams": 1}
    rows = theirs.generate(source, attention_mask=seen, **options)
    for row, target in zip(rows, written, strict=True):
        ids_of_row = row.tolist()[1:]
        assert row[0] == config.begin_id
        if config.end_id in ids_of_row:
            ids_of_row = ids_of_row[: ids_of_row.index(config.end_id)]
        assert ids_of_row == target


# -- ours, in transformers ------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["post", "pre"])
@pytest.mark.parametrize("options", [{}, {"mlp": "gelu", "n_embd": 30}, {"mlp": "relu2"}])
def test_a_folder_opens_in_transformers(order: Any, options: Any, tmp_path: Path) -> None:
    model = make(norm_order=order, **options)
    save_pretrained(model, tmp_path, eos_token_id=3)  # the model knows its own better
    opened = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path, output_loading_info=True)
    theirs, report = opened
    assert type(theirs).__name__ == CLASSES[order]
    assert not any(report.values())  # nothing missing, unexpected or of another shape
    # The positions of the folder are those that transformers itself would make.
    for side in (theirs.model.encoder, theirs.model.decoder):
        made = side.embed_positions.create_weight()
        assert torch.equal(side.embed_positions.weight, made)
    assert_the_same(model, theirs.eval())
    assert theirs.generation_config.eos_token_id == V - 3
    assert theirs.generation_config.max_new_tokens == 12


@pytest.mark.parametrize("order", ["post", "pre"])
def test_a_folder_is_read_back_bit_for_bit(order: Any, tmp_path: Path) -> None:
    model = make(norm_order=order)
    save_pretrained(model, tmp_path / "ours")
    again = load_pretrained(tmp_path / "ours")
    assert again.config == model.config
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    third = load_pretrained(tmp_path / "theirs")
    assert third.config == model.config
    for name, parameter in model.named_parameters():
        assert torch.equal(again.get_parameter(name), parameter), name
        assert torch.equal(third.get_parameter(name), parameter), name


def test_the_channels_are_in_another_order_and_nothing_else(tmp_path: Path) -> None:
    """By hand: the even channels first, of columns where the stream is read, of rows where it is
    written."""
    model = make()
    save_pretrained(model, tmp_path)
    stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
    order = [*range(0, 24, 2), *range(1, 24, 2)]
    block: Any = model.decoder.blocks[1]
    layer = "model.decoder.layers.1"
    for name, expected in {
        "model.shared.weight": model.tok_emb.weight[:, order],
        f"{layer}.self_attn.k_proj.weight": block.attn.qkv.weight[24:48][:, order],
        f"{layer}.self_attn.k_proj.bias": block.attn.qkv.bias[24:48],
        f"{layer}.self_attn.out_proj.weight": block.attn.proj.weight[order],
        f"{layer}.self_attn.out_proj.bias": block.attn.proj.bias[order],
        f"{layer}.encoder_attn.v_proj.weight": block.cross.kv.weight[24:][:, order],
        f"{layer}.encoder_attn_layer_norm.weight": block.cross_norm.weight[order],
        f"{layer}.fc1.weight": block.mlp.up.weight[:, order],
        f"{layer}.fc1.bias": block.mlp.up.bias,
        f"{layer}.fc2.weight": block.mlp.down.weight[order],
        "model.encoder.embed_positions.weight": model.sinusoids[:, order],
    }.items():
        assert torch.equal(stored[name], expected), name


@pytest.mark.parametrize(
    "options",
    [
        {"norm": "rmsnorm"}, {"mlp": "swiglu"}, {"bias": False}, {"tie_embeddings": False},
        {"source_vocab_size": 9}, {"head_dim": 6}, {"norm_eps": 1e-6},
    ],
)  # fmt: skip
def test_what_does_not_fit_keeps_our_layout(options: dict[str, Any], tmp_path: Path) -> None:
    model = make(**options)
    assert hf_config(model.config) is None
    save_pretrained(model, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["model_type"] == "toolkit-encoder-decoder"
    assert not (tmp_path / "generation_config.json").exists()
    again = load_pretrained(tmp_path)
    assert again.config == model.config
    assert all(torch.equal(again.get_parameter(n), p) for n, p in model.named_parameters())


def test_a_folder_in_our_older_layout_still_opens(tmp_path: Path) -> None:
    model = make()
    values = config_to_dict(model.config)
    for field in ("end_id", "begin_id", "padding_id"):
        del values[field]  # which it did not have
    (tmp_path / "config.json").write_text(json.dumps(values))
    weights = {name: p.detach() for name, p in model.named_parameters()}
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    again = load_pretrained(tmp_path)
    assert again.config == model.config
    assert all(torch.equal(again.get_parameter(n), p) for n, p in model.named_parameters())


# -- runs -----------------------------------------------------------------------------------------

COLOURS = {"red": "rot", "green": "grün", "blue": "blau", "big": "groß", "small": "klein"}


def write_pairs(path: Path) -> str:
    names = list(COLOURS)
    rows = [[names[n // 5**place % 5] for place in range(3)] for n in range(125)]
    lines = [" ".join(row) + "\t" + " ".join(COLOURS[word] for word in row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("task", "tokenizer", "order"),
    [
        ("reverse:5", "char", "pre"),
        ("colours", "bpe:280", "post"),
        pytest.param("colours", "byte", "pre", marks=pytest.mark.slow),
        pytest.param("colours", "word", "post", marks=pytest.mark.slow),
        pytest.param("colours", "sentencepiece:unigram", "pre", marks=pytest.mark.slow),
    ],
)
def test_a_run_opens_in_transformers(
    task: str, tokenizer: str, order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    spec = write_pairs(tmp_path / "colours.tsv") if task == "colours" else task
    run = toolkit.train(
        task=spec, tokenizer=tokenizer, norm_order=order, max_steps=40, optimizer="muon",
        learning_rate=0.03, n_layer=1, n_embd=32, n_head=2, device="cpu", out="run",
    )  # fmt: skip
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained("run")
    assert type(theirs).__name__ == CLASSES[order]
    names = transformers.AutoTokenizer.from_pretrained("run")
    config: Any = run.model.config
    assert len(names) == config.vocab_size
    assert names.eos_token_id == theirs.config.eos_token_id == config.end_id
    assert names.pad_token_id == theirs.config.pad_token_id == config.padding_id
    assert names.bos_token_id == config.begin_id
    translator = Translator(run.model, run.tokenizer)
    sources = [pair.source for pair in load_task(spec).held_out[:12]]
    for source in sources:
        assert names(source).input_ids == translator.prompt_ids(source)
    inputs = names(sources, return_tensors="pt", padding=True)
    written = names.batch_decode(theirs.generate(**inputs), skip_special_tokens=True)
    assert written == translator.translate(sources)
    assert len(set(written)) > 1
    found = theirs.generate(**inputs, num_beams=3)
    best = [translator.generate(each, strategy="beam", num_beams=3).text for each in sources]
    assert names.batch_decode(found, skip_special_tokens=True) == best
    # Our own tokenizer is as it was.
    assert toolkit.Run.open("run").tokenizer.vocab_size == config.vocab_size - 3


def test_names_in_a_text_are_text(tmp_path: Path) -> None:
    from toolkit.run import write_huggingface_tokenizer

    text = "a<|end|>b <|padding|>"
    for spec in ("byte", "bpe:300", "sentencepiece:bpe:300"):
        tokenizer = toolkit.load_tokenizer(spec, [text * 9 + COLOURS["green"]])
        folder = tmp_path / spec.replace(":", "-")
        folder.mkdir()
        assert write_huggingface_tokenizer(tokenizer, folder, 9, {}, translates=True)
        names = transformers.AutoTokenizer.from_pretrained(folder)
        assert names(text).input_ids == [*tokenizer.encode(text), tokenizer.vocab_size]
        assert names.decode(names(text).input_ids, skip_special_tokens=True) == text


def test_a_token_of_such_a_name_leaves_no_place_for_ours(tmp_path: Path) -> None:
    from toolkit.run import write_huggingface_tokenizer
    from toolkit.tokenizers import BPETokenizer

    tokenizer = BPETokenizer.train(["ab"], vocab_size=258, special_tokens=["<|end|>"])
    assert not write_huggingface_tokenizer(tokenizer, tmp_path, 9, {}, translates=True)
    assert list(tmp_path.iterdir()) == []


# -- theirs, here ---------------------------------------------------------------------------------


def their_config(kind: str, **options: Any) -> Any:
    return getattr(transformers, f"{kind}Config")(
        **{
            "vocab_size": V, "d_model": 24, "encoder_layers": 3, "decoder_layers": 2,
            "encoder_attention_heads": 3, "decoder_attention_heads": 3, "encoder_ffn_dim": 40,
            "decoder_ffn_dim": 40, "activation_function": "relu", "scale_embedding": True,
            "max_position_embeddings": 12, "pad_token_id": 0, "eos_token_id": 2,
            "decoder_start_token_id": 0, "forced_eos_token_id": None, **options,
        }
    )  # fmt: skip


def their_model(kind: str, **options: Any) -> Any:
    name = {"Marian": "MarianMTModel", "Pegasus": "PegasusForConditionalGeneration"}[kind]
    return fill(getattr(transformers, name)(their_config(kind, **options)).eval())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Marian", {}),
        ("Pegasus", {"activation_function": "gelu_new"}),
        ("Marian", {"pad_token_id": V - 1, "decoder_start_token_id": V - 1, "eos_token_id": 0}),
        ("Pegasus", {"encoder_layers": 1, "dropout": 0.3, "max_position_embeddings": 9}),
    ],
)
def test_their_folders_open_here(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    theirs = their_model(kind, **options)
    theirs.save_pretrained(tmp_path)
    model = load_pretrained(tmp_path)
    assert isinstance(model, EncoderDecoderModel)
    of = theirs.config
    config = model.config
    ids = (config.end_id, config.begin_id, config.padding_id)
    assert ids == (of.eos_token_id, of.decoder_start_token_id, of.pad_token_id)
    assert config.norm_order == ("post" if kind == "Marian" else "pre")
    assert (config.dropout, config.block_size) == (of.dropout, of.max_position_embeddings)
    assert_the_same(model, theirs)
    # And from here to them again, with the same ids.
    save_pretrained(model, tmp_path / "again")
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "again")
    for name, parameter in theirs.named_parameters():
        assert torch.equal(again.get_parameter(name), parameter), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation_function": "swish"}, "activation_function = 'swish' is not supported"),
        ({"activation_function": "gelu"}, "activation_function = 'gelu' is not supported"),
        ({"scale_embedding": False}, "scale_embedding = False is not supported"),
        ({"share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings = False"),
        ({"normalize_embedding": True}, "normalize_embedding = True"),
        ({"encoder_ffn_dim": 48}, "encoder_ffn_dim and decoder_ffn_dim differ"),
        ({"encoder_attention_heads": 4}, "encoder_attention_heads and decoder_attention_heads"),
        ({"eos_token_id": [1, 2]}, "toolkit reads one id"),
    ],
)
def test_what_ours_has_not_is_one_line(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    their_config("Marian", **options).save_pretrained(tmp_path)
    with pytest.raises(RunError, match="does not describe a model that can be opened") as caught:
        load_pretrained(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_ours_has_not_are_one_line(tmp_path: Path) -> None:
    theirs = their_model("Pegasus")
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    stored = safetensors.torch.load_file(path)
    positions = "model.encoder.embed_positions.weight"
    for name, value, message in (
        ("final_logits_bias", torch.ones(1, V), "final_logits_bias is not zero"),
        # The paper's own order, which is not theirs.
        (positions, make(norm_order="pre").sinusoids, "holds other positions than the sinusoids"),
        ("lm_head.weight", torch.zeros(V, 24), "differs from model.shared.weight"),
        ("model.encoder.extra.weight", torch.zeros(2), "does not ask for: model.encoder.extra"),
    ):
        safetensors.torch.save_file({**stored, name: value.clone()}, path)
        with pytest.raises(RunError, match=r"does not fit config\.json") as caught:
            load_pretrained(tmp_path)
        assert message in str(caught.value)
    safetensors.torch.save_file(stored, path)
    assert_the_same(load_pretrained(tmp_path), theirs)


def test_the_command_translates_with_their_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    special = ["<pad>", "<unk>", "</s>"]
    words = special + [f"w{number}" for number in range(V - len(special))]
    vocab = {word: number for number, word in enumerate(words)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(special)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 2)]
    )
    names = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    names.save_pretrained(tmp_path)
    theirs = their_model("Pegasus")
    theirs.save_pretrained(tmp_path)
    found = theirs.generate(
        **names("w1 w5 w3", return_tensors="pt", return_token_type_ids=False), max_new_tokens=12
    )
    expected = names.decode(found[0, 1:])
    with pytest.raises(SystemExit) as caught:
        main(["generate", "--model", str(tmp_path), "w1 w5 w3"])
    assert not caught.value.code
    printed = capsys.readouterr().out.strip()
    assert printed == expected.removesuffix(" </s>")
    assert printed.startswith("w")
