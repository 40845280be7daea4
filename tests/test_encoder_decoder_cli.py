"""Encoder–decoders from the command line and from Python: train, go on, translate, wrong input."""

import json
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import toolkit
from toolkit.cli import main
from toolkit.errors import RunError, UsageError
from toolkit.generation import Translator
from toolkit.generation.translation_scores import bleu_and_chrf
from toolkit.materials import PairMaterials
from toolkit.models import EncoderDecoderModel
from toolkit.tasks import load_task

TINY = ["--n-layer", "1", "--n-head", "2", "--n-embd", "16", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert call(*arguments) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    return error


def write_pairs(path: Path, count: int = 200) -> Path:
    words = ["red", "green", "blue", "big", "small"]
    colours = {"red": "rot", "green": "grün", "blue": "blau", "big": "groß", "small": "klein"}
    lines = []
    for number in range(count):
        chosen = [words[number // 5**place % 5] for place in range(4)]
        lines.append(" ".join(chosen) + "\t" + " ".join(colours[word] for word in chosen))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_task_from_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    steps = ["--max-steps", "12", "--eval-every", "6"]
    assert call("train", "--task", "reverse:4", *steps, *TINY, "--out", "run") == 0
    shown = capsys.readouterr().out
    assert "reverse:4, pairs without end, 1,000 held out" in shown
    assert "char, 26 tokens for both sides" in shown
    assert "Held-out pairs       exact match" in shown
    info = json.loads(Path("run/run.json").read_text())
    assert info["corpus"]["kind"] == "pairs"
    assert info["corpus"]["spec"] == "reverse:4"
    assert info["model"]["name"] == "encoder-decoder"
    assert info["training"]["optimizer"] == "muon"
    assert info["result"]["scores"].keys() == {"exact_match", "token_accuracy"}
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert all("exact_match" in row for row in rows if row["kind"] == "evaluation")

    run = toolkit.Run.open("run")
    assert isinstance(run.model, EncoderDecoderModel)
    translator = Translator(run.model, run.tokenizer, run.source_tokenizer)
    expected = translator.generate("abcd", strategy="greedy").text
    capsys.readouterr()
    assert call("generate", "--run", "run", "abcd", "--device", "cpu") == 0
    assert capsys.readouterr().out == expected + "\n"
    assert call("generate", "--run", "run", "abcd", "--strategy", "beam", "--json") == 0
    (sample,) = json.loads(capsys.readouterr().out)["samples"]
    assert sample["text"] == translator.generate("abcd", strategy="beam").text
    Path("sources.txt").write_text("abc\nd\n")
    assert call("generate", "--run", "run", "--prompts", "sources.txt") == 0
    assert capsys.readouterr().out.splitlines() == translator.translate(["abc", "d"])


@pytest.mark.slow
def test_an_interrupted_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {
        "n_layer": 1, "n_head": 1, "n_embd": 8, "device": "cpu", "eval_every": 4, "dropout": 0.1,
        "schedule": "inverse-sqrt",  # which does not ask when the end is
    }  # fmt: skip
    toolkit.train(task="sort:5", out="a", max_steps=10, **options)
    toolkit.train(task="sort:5", out="b", max_steps=6, **options)
    assert call("train", "--resume", "--out", "b", "--max-steps", "10", "-q") == 0
    whole, again = (load_file(f"{name}/checkpoint/model.safetensors") for name in ("a", "b"))
    assert whole.keys() == again.keys()
    assert all(tensor.equal(again[name]) for name, tensor in whole.items())
    losses = []
    for name in ("a", "b"):
        rows = [json.loads(line) for line in Path(name, "metrics.jsonl").read_text().splitlines()]
        losses.append({row["step"]: row["val_loss"] for row in rows if row["kind"] == "evaluation"})
    assert losses[0].items() <= losses[1].items()
    assert list(losses[0]) == [4, 8, 10]


def test_a_file_of_pairs_with_two_tokenizers(capsys: pytest.CaptureFixture[str]) -> None:
    path = write_pairs(Path("colours.tsv"))
    tokenizers = ["--src-tokenizer", "word", "--tgt-tokenizer", "char"]
    steps = ["--max-steps", "6", "--eval-every", "3", "--held-out", "0.3"]
    assert call("train", "--task", str(path), *tokenizers, *steps, *TINY, "--out", "run") == 0
    shown = capsys.readouterr().out
    assert "source  word" in shown
    assert "target  char" in shown
    run = toolkit.Run.open("run")
    assert (run.source_tokenizer.name, run.tokenizer.name) == ("word", "char")
    assert run.info.training["schedule"] == "inverse-sqrt"
    assert run.info.training["label_smoothing"] == 0.1
    scores = run.info.result["scores"]
    assert scores.keys() >= {"exact_match", "token_accuracy"}
    held_out = load_task(str(path), held_out=0.3).held_out
    assert run.info.corpus["num_held_out"] == len(held_out) > 40
    assert PairMaterials.reopen(run).task.held_out == held_out
    if scores.keys() > {"exact_match", "token_accuracy"}:
        translator = Translator(run.model, run.tokenizer, run.source_tokenizer)
        written = translator.translate(pair.source for pair in held_out)
        expected = bleu_and_chrf(written, [pair.target for pair in held_out])
        assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert call("generate", "--run", "run", "red big blue small") == 0

    # What a run began with must be there, as it was, for it to go on.
    path.write_text("red\trot\n" * 2 + path.read_text())
    with pytest.raises(RunError, match="have changed since run was started"):
        toolkit.resume("run", max_steps=8)
    path.unlink()
    with pytest.raises(RunError, match="cannot be read again"):
        toolkit.resume("run", max_steps=8)


def test_a_vocabulary_of_characters_knows_those_of_held_out_pairs() -> None:
    """Each is in one pair alone, so that some are in no pair that is trained on."""
    lines = [f"{chr(0x4E00 + n)}\t{chr(0x5E00 + n)}" for n in range(60)]
    Path("signs.tsv").write_text("\n".join(lines), encoding="utf-8")
    tiny: dict[str, Any] = {"max_steps": 1, "n_layer": 1, "n_head": 1, "n_embd": 8, "device": "cpu"}
    run = toolkit.train(task="signs.tsv", tokenizer="char", out="a", **tiny)
    assert run.tokenizer.vocab_size == 120
    run = toolkit.train(
        task="signs.tsv", src_tokenizer="char", tgt_tokenizer="char", out="b", **tiny
    )
    assert (run.source_tokenizer.vocab_size, run.tokenizer.vocab_size) == (60, 60)
    assert run.source_tokenizer.encode(chr(0x4E00)) != []


def test_pairs_in_one_bpe_and_in_python(capsys: pytest.CaptureFixture[str]) -> None:
    path = write_pairs(Path("colours.tsv"), 60)
    run = toolkit.train(
        task=str(path), tokenizer="bpe:270", max_steps=2, n_layer=1, n_head=1, n_embd=8,
        block_size=8, device="cpu", out="run",
    )  # fmt: skip
    assert run.source_tokenizer is run.tokenizer
    assert run.tokenizer.vocab_size == 270
    assert run.model.config.vocab_size == 273
    task = load_task("copy:3")
    again = toolkit.train(
        task=task, tokenizer="byte", max_steps=2, n_layer=1, n_head=1, n_embd=8, device="cpu"
    )
    assert again.info.tokenizer["spec"] == "byte"
    assert again.folder.name == "copy-byte-encoder-decoder-1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "encoder-decoder"], "give --task copy|reverse|sort|add|date|FILE.tsv"),
        (["--task", "revers"], "Did you mean 'reverse'?"),
        (["--task", "reverse", "--model", "gpt"], "The model gpt continues a text"),
        (["--task", "reverse", "-c", "shakespeare"], "--corpus and --task exclude each other"),
        (["--task", "reverse", "--text-field", "a"], "--text-field and --task exclude each other"),
        (["--task", "reverse", "-O", "size=4"], "No option of the tokenizer char 'size'"),
        (["--task", "reverse", "--preset", "gpt2"], "--preset and --task exclude each other"),
        (["--task", "reverse", "--speedrun"], "--speedrun and --task exclude each other"),
        (["--task", "reverse", "--position", "rotary"], "encoder-decoder has no --position"),
        (["--task", "reverse", "-t", "char", "--src-tokenizer", "byte"], "of both sides"),
        (["--task", "reverse", "--src-tokenizer", "bite"], "Did you mean 'byte'?"),
        (["--src-tokenizer", "byte"], "are for a --task"),
        (["--task", "reverse", "--block-size", "9"], "longer than --block-size 9"),
        (
            ["--task", "date", "--track-internals", "5", "--track-text", "soon"],
            "the task date knows no target of it",
        ),
        (["--task", "missing.tsv"], "missing.tsv cannot be read"),
        (["--task", "reverse", "--resume"], "--task cannot be given with --resume"),
        (["--task", "reverse", "--held-out", "0"], "must be above 0 and below 1 for pairs"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, "train", "--device", "cpu", *arguments)


def test_it_translates_line_by_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toolkit.train(
        task="copy:3", max_steps=3, n_layer=1, n_head=1, n_embd=8, device="cpu", out="r"
    )
    translator = Translator(run.model, run.tokenizer)
    lines = [
        "abc",
        "ß",
        "de",
        "/again",
        "/set strategy beam",
        "/set num-beams 2",
        "abc",
        "/set num-beams",
        "/set strategy contrastive",
        "/undo",
        "/set temperature x",
        "",
        "/help",
        "/quit",
        "no",
    ]
    monkeypatch.setattr("sys.stdin", StringIO("\n".join(lines)))
    capsys.readouterr()
    assert call("generate", "--run", "r", "-i", "--max-new-tokens", "5", "--seed", "1") == 0
    shown = capsys.readouterr()
    greedy = [
        translator.generate(text, strategy="greedy", max_new_tokens=5).text
        for text in ("abc", "de", "de")
    ]
    beam = translator.generate("abc", strategy="beam", num_beams=2, max_new_tokens=5).text
    assert [line for line in shown.out.split("\n") if line] == [*greedy, beam]
    errors = [line for line in shown.err.split("\n") if line.startswith("Error")]
    for error, expected in zip(
        errors,
        ("'ß'", "for models that continue texts", "/undo", "needs a number", "no source"),
        strict=True,
    ):
        assert expected in error
    assert "Write a source" in shown.err
    assert "/again" in shown.err
    assert "/new" not in shown.err


def test_what_a_translator_has_not(capsys: pytest.CaptureFixture[str]) -> None:
    toolkit.train(task="copy:3", max_steps=1, n_layer=1, n_head=1, n_embd=8, device="cpu", out="r")
    for option in ("--draft=r", "--engine=torch", "--context-policy=error"):
        error = refused(capsys, "generate", "--run", "r", option, "abc")
        assert "is for models that continue texts; this run translates" in error
    assert "no source to translate" in refused(capsys, "generate", "--run", "r")
    assert "'ß'" in refused(capsys, "generate", "--run", "r", "ß")
    assert "A source of 65 tokens" in refused(capsys, "generate", "--run", "r", "a" * 64)
    with pytest.raises(UsageError, match=r"llama.cpp has no Marian and no Pegasus"):
        toolkit.export("r", "gguf", "out.gguf")
    Path("text.txt").write_text("abc\n")
    for command in (["perplexity", "text.txt", "--run", "r"], ["serve", "r", "--port", "0"]):
        error = refused(capsys, *command)
        assert "is for models that continue texts" in error
        assert "translates" in error


def test_a_source_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line's end that `echo` writes is no part of it; any other character is."""
    toolkit.train(task="copy:3", max_steps=1, n_layer=1, n_head=1, n_embd=8, device="cpu", out="r")
    for written, exit_code in ((b"abc", 0), (b"abc\n", 0), (b"abc\n\n", 2), (b"\n", 2)):
        monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(written)))
        capsys.readouterr()
        assert call("generate", "--run", "r", "-", "--json") == exit_code
        if exit_code == 0:
            assert json.loads(capsys.readouterr().out)["samples"][0]["prompt"] == "abc"
