"""`--init` and `--model`: weights that transformers wrote, trained and sampled from here."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_cli import TEXT

import toolkit
from toolkit.cli import main
from toolkit.errors import ToolkitError, UsageError
from toolkit.models import adapt_model, create_model
from toolkit.opening import open_model
from toolkit.pipeline import TrainingSession
from toolkit.run import write_huggingface_tokenizer
from toolkit.tokenizers import BPETokenizer
from toolkit.training import CheckpointSaved
from toolkit.training.evaluation import validation_loss

transformers = pytest.importorskip("transformers")

KINDS = ("gpt2", "llama", "qwen3")
END = 299
PADDED = 304  # tokens of the models; the tokenizer has 300
OPTIONS: dict[str, Any] = {"device": "cpu", "batch_size": 4, "dropout": 0.0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each kind as transformers saves it, with a byte-level BPE beside it."""
    base = tmp_path_factory.mktemp("folders")
    tokenizer = BPETokenizer.train([TEXT], vocab_size=END + 1, special_tokens=["<|endoftext|>"])
    ids = {"vocab_size": PADDED, "bos_token_id": END, "eos_token_id": END, "initializer_range": 0.2}
    shape = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 16,
    }  # fmt: skip
    configs = {
        "gpt2": transformers.GPT2Config(n_positions=16, n_embd=32, n_layer=2, n_head=2, **ids),
        "llama": transformers.LlamaConfig(**shape, **ids),
        "qwen3": transformers.Qwen3Config(**shape, head_dim=8, tie_word_embeddings=True, **ids),
    }
    for number, (kind, config) in enumerate(configs.items()):
        torch.manual_seed(number)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(base / kind)
        write_huggingface_tokenizer(tokenizer, base / kind, 16, {"eos_token_id": END})
    return base


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def start(init: Path | str, **options: Any) -> TrainingSession:
    corpus = toolkit.load_corpus("text.txt")
    return TrainingSession.start(corpus, init=init, **{**OPTIONS, **options})


@pytest.mark.parametrize("kind", KINDS)
def test_training_starts_at_the_loss_that_transformers_computes(folders: Path, kind: str) -> None:
    session = start(folders / kind, out="run", max_steps=20, eval_every=10, learning_rate=1e-3)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folders / kind).eval()
    ids = torch.from_numpy(session.trainer.dataset.tokens("val").astype("int64"))
    total, count = 0.0, 0
    with torch.inference_mode():
        for first in range(0, len(ids) - 1, 16):
            window = ids[first : first + 17]
            logits = theirs(window[None, :-1]).logits[0]
            total += float(torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum"))
            count += len(window) - 1
    before = validation_loss(session.model, session.trainer.dataset)
    # float32 in another order.
    assert before == pytest.approx(total / count, abs=1e-5)

    for _ in session.events():
        pass
    info = session.run.info
    assert info.result["best_val_loss"] < before - 0.05
    weights = (folders / kind / "model.safetensors").read_bytes()
    assert info.model["init"]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert info.model["config"]["vocab_size"] == PADDED
    assert info.model["preset"] == ("gpt2" if kind == "gpt2" else "modern")

    # The run opens everywhere as it is.
    saved = json.loads(Path("run/config.json").read_text())
    assert (saved["model_type"], saved["eos_token_id"], saved["bos_token_id"]) == (kind, END, END)
    run = toolkit.Run.open("run")
    again = transformers.AutoModelForCausalLM.from_pretrained("run").eval()
    x = ids[None, :16]
    # float32 in another order, on logits of a size near 1.
    torch.testing.assert_close(again(x).logits, run.model(x).logits, atol=1e-5, rtol=0)
    tokenizer = transformers.AutoTokenizer.from_pretrained("run")
    assert tokenizer.encode(TEXT[:200]) == run.tokenizer.encode(TEXT[:200])
    assert tokenizer.eos_token == "<|endoftext|>"


def test_a_resumed_fine_tuning_equals_an_uninterrupted_one(folders: Path) -> None:
    options = {"eval_every": 4, "max_steps": 8, "checkpoint_every": 4, "dropout": 0.1}
    for _ in start(folders / "gpt2", out="whole", **options).events():
        pass
    for event in start(folders / "gpt2", out="parts", **options).events():
        if isinstance(event, CheckpointSaved):
            break  # as if it were killed here
    toolkit.resume("parts")
    for name in ("checkpoint/model.safetensors", "model.safetensors", "config.json"):
        assert Path("whole", name).read_bytes() == Path("parts", name).read_bytes(), name


def test_a_run_goes_on_as_another() -> None:
    corpus = toolkit.load_corpus("text.txt")
    small = {"n_layer": 1, "n_embd": 16, "n_head": 2, "block_size": 16, **OPTIONS}
    first = toolkit.train(corpus, "char", out="runs/first", max_steps=2, **small)
    session = start("first", block_size=8)
    assert session.tokenizer.fingerprint() == first.tokenizer.fingerprint()
    assert session.model.block_size == 8
    x = torch.tensor([[1, 2, 3]])
    assert torch.equal(session.model.eval()(x).logits, first.model(x).logits)
    bigram = toolkit.train(corpus, "char", model="bigram", max_steps=1, device="cpu")
    again = TrainingSession.start(corpus, init=bigram.folder, device="cpu")
    assert (again.model.name, again.run.info.model["preset"]) == ("bigram", None)


def test_fine_tuning_takes_smaller_steps(folders: Path) -> None:
    config = start(folders / "gpt2").trainer.config
    # Narrower than every size, so as the narrowest: a tenth of nano's 3e-3.
    assert config.learning_rate == pytest.approx(3e-4)
    assert (config.max_steps, config.eval_every, config.warmup_steps) == (500, 100, 50)
    assert start(folders / "gpt2", learning_rate=0.5).trainer.config.learning_rate == 0.5
    assert start(folders / "gpt2", max_time=1.0).trainer.config.max_steps is None


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("gpt2", {"n_layer": 3}, "--n-layer 3 contradicts --init .* holds a model gpt2 .n_layer 2"),
        ("gpt2", {"preset": "modern"}, "--preset modern contradicts"),
        ("llama", {"preset": "gpt2"}, "--preset gpt2 contradicts --init .* a model llama"),
        ("gpt2", {"size": "nano"}, "--size nano contradicts"),
        ("gpt2", {"model": "bigram"}, "--model bigram contradicts"),
        ("gpt2", {"preset": "moden"}, "Did you mean 'modern'"),
        ("gpt2", {"block_size": 17}, "--block-size 17 is longer than the 16 positions"),
        ("gpt2", {"dropout": 2.0}, "--dropout 2.0 must be at least 0 and below 1"),
        ("gpt2", {"speedrun": 15.0}, "A speedrun starts from scratch"),
        ("gpt2", {"tokenizer": "bpe:310"}, "has 310 tokens and the model .* knows 304"),
        ("nowhere", {}, "No model folder at"),
    ],
)
def test_what_contradicts_the_weights_is_refused(
    folders: Path, kind: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ToolkitError, match=message) as caught:
        start(folders / kind, **options)
    assert "\n" not in str(caught.value)
    assert not Path("runs").exists()


def test_what_agrees_with_the_weights_is_taken(folders: Path) -> None:
    start(folders / "gpt2", preset="gpt2", model="gpt", n_layer=2)
    assert start(folders / "qwen3", preset="modern", block_size=40).model.block_size == 40
    assert start(folders / "gpt2", block_size=10).model.block_size == 10


def test_a_cropped_context_keeps_its_first_positions() -> None:
    model = create_model("gpt", 9, preset="gpt2", size="nano", seed=1, dropout=0.1)
    short = adapt_model(model, block_size=5, dropout=0.0).eval()
    x = torch.tensor([[1, 2, 3, 4, 5]])
    assert torch.equal(short(x).logits, model.eval()(x).logits)
    assert (model.block_size, short.block_size) == (64, 5)
    with pytest.raises(UsageError, match="n_embd is fixed in the weights"):
        adapt_model(model, n_embd=5)
    rotary = create_model("gpt", 9, size="nano", seed=1).eval()
    longer = adapt_model(rotary, block_size=100)
    assert torch.equal(longer(x).logits, rotary(x).logits)
    assert longer(torch.zeros(1, 100, dtype=torch.long)).logits.shape == (1, 100, 9)


def test_a_folder_without_a_tokenizer_says_to_give_one(folders: Path, work: Path) -> None:
    opened = open_model(folders / "gpt2")
    model = transformers.AutoModelForCausalLM.from_pretrained(folders / "gpt2")
    model.save_pretrained(work / "bare")
    with pytest.raises(UsageError, match=r"bare has no tokenizer .*--tokenizer"):
        start(work / "bare")
    opened.tokenizer.save(work / "saved")
    session = start(work / "bare", tokenizer=f"{work / 'saved'}/")
    assert session.tokenizer.fingerprint() == opened.tokenizer.fingerprint()


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_text_is_that_of_transformers(folders: Path, kind: str) -> None:
    opened = open_model(folders / kind)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folders / kind).eval()
    generator = toolkit.Generator(opened.model, opened.tokenizer, end_ids=opened.end_ids)
    for prompt in ("ROMEO", "the sun", "J"):
        ids = opened.tokenizer.encode(prompt)
        new = 16 - len(ids)  # within the context
        # Only ids that the tokenizer has are drawn here.
        expected = theirs.generate(
            torch.tensor([ids]), max_new_tokens=new, do_sample=False, pad_token_id=END,
            suppress_tokens=list(range(END + 1, PADDED)),
        )[0, len(ids) :].tolist()  # fmt: skip
        completion = generator.generate(prompt, max_new_tokens=new, strategy="greedy")
        drawn = [*completion.ids, END] if completion.finish_reason == "eos" else completion.ids
        assert list(drawn) == expected
    # Whatever id config.json says ends texts ends ours.
    (first,) = generator.generate_ids(ids, max_new_tokens=1, strategy="greedy")
    ended = toolkit.Generator(opened.model, opened.tokenizer, end_ids=[first])
    completion = ended.generate(prompt, strategy="greedy")
    assert (completion.text, completion.finish_reason) == ("", "eos")


def test_the_commands(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(line: str, code: int = 0) -> tuple[str, str]:
        with pytest.raises(SystemExit) as exit:
            main(line.split())
        printed = capsys.readouterr()
        assert exit.value.code == code, printed.err
        return printed.out, printed.err

    qwen3 = folders / "qwen3"
    run(f"train --init {qwen3} -c text.txt --max-steps 2 --out r --device cpu -q")
    options = "--strategy greedy --max-new-tokens 5 --json"
    by_path = json.loads(run(f"generate the --model r {options}")[0])
    by_run = json.loads(run(f"generate the --run r {options}")[0])
    assert by_path["samples"][0]["ids"] == by_run["samples"][0]["ids"]
    assert (by_path["model"], by_run["run"]) == ("r", "r")
    assert "exclude each other" in run("generate x --model r --run r", 2)[1]
    assert "--tokenizer is for a --model" in run("generate x --run r -t char", 2)[1]
    refused = run(f"train --resume --out r --init {qwen3}", 2)[1]
    assert "--init cannot be given with --resume" in refused
