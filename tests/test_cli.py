"""The command line as a user meets it: each command end to end, mostly in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import toolkit
from toolkit.cli import main

TEXT = "".join(
    f"{name}:\nthe {noun} is {word}, and so are we.\n\n"
    for name in ("ROMEO", "JULIET", "NURSE", "PARIS")
    for noun in ("sun", "moon", "night", "day", "rose", "sword", "ring", "tomb")
    for word in ("bright", "pale", "long", "short", "red", "sharp", "round", "dark")
)
SMALL = [
    "--size=nano",
    "--n-layer=1",
    "--n-embd=16",
    "--block-size=16",
    "--batch-size=4",
    "--device=cpu",
]


class Shell:
    """A folder to work in, a cache of its own, and one command at a time."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "TOOLKIT_HOME": str(home), "TOOLKIT_CORPORA": ""}

    def popen(self, *arguments: str, stdin: int | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "toolkit", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=stdin,
        )

    def run(
        self, *arguments: str, stdin: str = "", code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        process = self.popen(*arguments, stdin=subprocess.PIPE)
        out, err = process.communicate(stdin, timeout=200)
        assert process.returncode == code, f"{arguments}\n{out}\n{err}"
        assert "Traceback" not in err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


class Here:
    """Commands in this process, where a second one needs no start of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        printed = self._capsys.readouterr()
        assert ended.value.code == code, printed.err
        return subprocess.CompletedProcess(arguments, code, printed.out, printed.err)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell in a folder with a text and a run named first."""
    folder, home = tmp_path_factory.mktemp("cli"), tmp_path_factory.mktemp("home")
    (folder / "text.txt").write_text(TEXT)
    shell = Shell(folder, home)
    shell.run(
        "train", "--corpus", "text.txt", "--tokenizer", "bpe:300", *SMALL, "--max-steps", "30",
        "--eval-every", "10", "--sample-every", "30", "--out", "runs/first", "--seed", "1",
    )  # fmt: skip
    return shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "text.txt").write_text(TEXT)
    return Shell(folder, tmp_path / "home")


def go_to(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be where the shell is."""
    monkeypatch.chdir(shell.folder)
    for name in ("TOOLKIT_HOME", "TOOLKIT_CORPORA"):
        monkeypatch.setenv(name, shell.environment[name])


@pytest.fixture
def here(shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    go_to(shell, monkeypatch)
    return Here(capsys)


@pytest.fixture
def beside_a_run(
    trained: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    go_to(trained, monkeypatch)
    return Here(capsys)


def test_training_writes_a_whole_run_folder(trained: Shell) -> None:
    run = trained.folder / "runs" / "first"
    for name in ("config.json", "model.safetensors", "run.json", "metrics.jsonl", "samples.txt"):
        assert (run / name).is_file(), name
    info = json.loads((run / "run.json").read_text())
    assert info["status"] == "finished"
    assert info["result"]["steps"] == 30
    assert info["training"]["seed"] == 1
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [row["val_loss"] for row in rows if row["kind"] == "evaluation"]
    assert len(losses) == 3
    assert losses[0] > losses[-1]
    assert (trained.folder / "runs" / "latest").readlink() == Path("first")


def test_a_run_opens_in_transformers(trained: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    import torch

    from toolkit.run import Run

    folder = trained.folder / "runs" / "first"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    run = Run.open(folder)
    text = "ROMEO:\nthe sun is bright."
    ids = run.tokenizer.encode(text)
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == text
    x = torch.tensor([ids[:16]])
    # float32 in another order of operations.
    torch.testing.assert_close(model(x).logits, run.model(x).logits, atol=1e-5, rtol=0)


def test_generate_streams_and_repeats(
    trained: Shell, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.folder)
    one = trained.run("generate", "ROMEO:", "--seed", "3", "--max-new-tokens", "20")
    same = here.run("generate", "ROMEO:", "--seed", "3", "--max-new-tokens", "20")
    assert one.stdout == same.stdout
    assert one.stdout.startswith("ROMEO:")
    from_stdin = trained.run(
        "generate", "-", "--seed", "3", "--max-new-tokens", "20", stdin="ROMEO:"
    )
    assert from_stdin.stdout == one.stdout
    reply = json.loads(
        here.run(
            "generate", "ROMEO:", "--seed", "3", "--max-new-tokens", "20", "--num-samples", "2",
            "--json", "--run", "first",
        ).stdout
    )  # fmt: skip
    assert "ROMEO:" + reply["samples"][0]["text"] + "\n" == one.stdout
    assert len(reply["samples"]) == 2
    # More text than the context of 16 tokens is handled.
    long = here.run("generate", TEXT[:300], "--seed", "1", "--max-new-tokens", "30")
    assert long.stdout.startswith(TEXT[:300])


def test_generate_with_other_weights_and_engines(
    trained: Shell, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.folder)

    def text(*options: str) -> str:
        fixed = ("generate", "ROMEO:", "--seed", "3", "--max-new-tokens", "30", *options)
        return here.run(*fixed).stdout

    assert text("--engine", "torch") == text("--dtype", "float32") == text()
    # What they hold is for the library's tests.
    for options in (("--dtype", "bfloat16"), ("--quantize", "int8")):
        assert text(*options).startswith("ROMEO:")
        assert len(text(*options)) > len("ROMEO:") + 30
    fits = ("--context-policy", "error", "--max-new-tokens", "11")
    assert here.run("generate", "ROMEO:", *fits).stdout.startswith("ROMEO:")


def test_vocab_stats_counts_what_python_counts(trained: Shell) -> None:
    reply = json.loads(trained.run("vocab-stats", "-c", "text.txt", "-t", "char", "--json").stdout)
    seen = TEXT[: int(len(TEXT) * 0.9)]
    assert reply["stats"]["num_tokens"] == len(seen)
    assert reply["stats"]["vocab_size"] == len(set(seen))
    assert reply["stats"]["unknown_rate"] == 0.0
    growth = json.loads(
        trained.run(
            "vocab-stats", "-c", "text.txt", "-t", "bpe:270", "--every", "5", "--json"
        ).stdout
    )["growth"]["rows"]
    assert [row["merges"] for row in growth] == [0, 5, 10, 14]
    assert growth[0]["num_tokens"] == len(seen)
    assert growth[0]["symbols_in_use"] == len(set(seen))
    shown = trained.run("vocab-stats", "-c", "text.txt", "-t", "bpe:270").stdout
    assert "symbols in use against merges" in shown
    assert "tokens per word" in shown


def test_tokenize_runs_and_corpora(trained: Shell) -> None:
    reply = json.loads(trained.run("tokenize", "the sun é", "--json").stdout)
    assert bytes.fromhex("".join(t["bytes"] for t in reply["tokens"])).decode() == "the sun é"
    plain = trained.run("tokenize", "ab", "-t", "byte").stdout
    assert "97" in plain
    assert "2 tokens, 2 bytes" in plain
    listed = json.loads(trained.run("runs", "--json").stdout)
    assert [run["name"] for run in listed["runs"]] == ["first"]
    assert listed["latest"] == "first"
    assert "first" in trained.run("runs").stdout
    names = [corpus["name"] for corpus in json.loads(trained.run("corpora", "--json").stdout)]
    assert names[0] == "shakespeare"
    assert set(names) == {"shakespeare", "tiny-shakespeare", "python-help"}
    assert "tiny-shakespeare" in trained.run("corpora").stdout


def test_tokenize_explains_each_merge(trained: Shell) -> None:
    tokenizer = toolkit.load_tokenizer(trained.folder / "runs" / "first")
    assert isinstance(tokenizer, toolkit.BPETokenizer)
    reply = json.loads(trained.run("tokenize", "the sun", "--explain", "--json").stdout)
    assert [word["word"] for word in reply["words"]] == ["the", " sun"]
    ids = [token_id for word in reply["words"] for token_id in word["ids"]]
    assert ids == tokenizer.encode("the sun")
    first = reply["words"][0]["merges"][0]
    assert tokenizer.merges[first["rank"]] == (first["left"].encode(), first["right"].encode())
    lines = trained.run("tokenize", "the sun", "--explain").stdout.splitlines()
    assert lines[0].split() == ["word", "rank", "merge", "symbols", "ids"]
    assert lines[1].split() == ["the", "t", "h", "e"]
    assert lines[2].split()[:4] == [str(first["rank"]), first["left"], "+", first["right"]]
    refused = trained.run("tokenize", "x", "--explain", "-t", "byte", code=2)
    assert refused.stderr.startswith("Error: --explain shows merges")


def test_corpora_tokenize_writes_token_files_and_their_tokenizer(shell: Shell) -> None:
    options = ("corpora", "tokenize", "-c", "text.txt", "-t", "bpe:300", "--out", "tokens")
    reply = json.loads(shell.run(*options, "--shard-tokens", "500", "--json").stdout)
    dataset = toolkit.TokenDataset.open(shell.folder / "tokens")
    assert len(dataset.shards("train")) > 2
    tokenizer = toolkit.load_tokenizer(shell.folder / "tokens" / "tokenizer")
    split = len(TEXT) * 9 // 10
    assert dataset.tokens("train").tolist() == tokenizer.encode(TEXT[:split])
    assert dataset.tokens("val").tolist() == tokenizer.encode(TEXT[split:])
    assert reply["train_tokens"] == dataset.num_tokens("train")
    assert reply["num_bytes"] == len(TEXT)
    assert "bytes per token" in shell.run(*options).stdout
    refused = shell.run(*options, "--shard-tokens", "0", code=2)
    assert "shard_tokens 0 must be at least 1" in refused.stderr
    assert len(toolkit.TokenDataset.open(shell.folder / "tokens").shards("train")) == 1


@pytest.mark.slow
def test_corpora_tokenize_goes_on_after_a_kill(shell: Shell) -> None:
    documents = [{"text": f"{number}: {TEXT[number % 90 :][:3000]}"} for number in range(6000)]
    (shell.folder / "many.jsonl").write_text("\n".join(json.dumps(d) for d in documents))
    options = ("corpora", "tokenize", "-c", "many.jsonl", "-t", "byte", "--shard-tokens", "200000")
    shell.run(*options, "--out", "whole")
    process = shell.popen(*options, "--out", "parts")
    work = shell.folder / ".parts.part"
    while process.poll() is None and len(list(work.glob("train-*.bin"))) < 10:
        pass
    process.kill()
    process.communicate()
    kept = {path.name: path.stat().st_mtime_ns for path in work.glob("train-*.bin")}
    assert len(kept) >= 10
    shell.run(*options, "--out", "parts")
    whole, parts = shell.folder / "whole", shell.folder / "parts"
    names = sorted(path.name for path in whole.glob("*.bin"))
    assert names == sorted(path.name for path in parts.glob("*.bin"))
    for name in names:
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    # All but perhaps the one that was being recorded are the very files of the first attempt.
    again = sum((parts / name).stat().st_mtime_ns != when for name, when in kept.items())
    assert again <= 1


def test_wrong_sizes_of_memory(here: Here) -> None:
    for size in ("much", "-3GB", "0", "3XB", "1e99GB"):
        done = here.run("train", "-c", "text.txt", f"--max-memory={size}", code=2)
        assert done.stderr.startswith(f"Error: --max-memory '{size}' is not a size")
    small = here.run("train", "-c", "text.txt", "--max-memory", "1MB", code=2)
    assert "must be at least 33554432 bytes" in small.stderr


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_goes_on(shell: Shell) -> None:
    options = ("-c", "text.txt", "-t", "char", *SMALL, "--eval-every", "50", "--seed", "2")
    options = (*options, "--max-steps", "200")
    shell.run("train", *options, "--out", "whole")
    process = shell.popen("train", *options, "--out", "parts", "--json")
    assert process.stdout is not None
    for line in process.stdout:
        if '"event": "StepDone", "step": 20' in line:
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    info = json.loads((shell.folder / "parts" / "run.json").read_text())
    if info["status"] == "interrupted":
        assert info["result"]["steps"] < 200
        shell.run("train", "--resume", "--out", "parts")
    for name in ("checkpoint/model.safetensors", "model.safetensors"):
        whole, parts = (shell.folder / run / name for run in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes(), name


def test_options_from_a_file_and_the_command_line_wins(shell: Shell) -> None:
    (shell.folder / "c.toml").write_text(
        'corpus = "text.txt"\ntokenizer = "char"\nmax-steps = 3\nn_layer = 1\nn_embd = 16\n'
        'block_size = 8\nsize = "nano"\ndropout = 0.25\n'
    )
    shell.run("train", "--config", "c.toml", "--max-steps", "2", "--out", "run", "-q")
    info = json.loads((shell.folder / "run" / "run.json").read_text())
    assert info["training"]["max_steps"] == 2
    assert info["model"]["config"]["dropout"] == 0.25
    (shell.folder / "c.toml").write_text("max_stepz = 3\n")
    done = shell.run("train", "--config", "c.toml", code=2)
    assert "Did you mean 'max_steps'" in done.stderr


@pytest.mark.parametrize("tokenizer", ["char", "bpe:280"])
def test_the_newest_run_generates(here: Here, tokenizer: str) -> None:
    for model in ("bigram", "gpt"):
        size = SMALL if model == "gpt" else ["--block-size", "16", "--device", "cpu"]
        here.run(
            "train", "-c", "text.txt", "-t", tokenizer, "--model", model, *size, "--max-steps", "2",
            "-q",
        )  # fmt: skip
        written = here.run("generate", "ROMEO:", "--seed", "1", "--max-new-tokens", "5").stdout
        assert written.startswith("ROMEO:")
        assert model in toolkit.Run.open().model.name


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("average-loop", []),
        ("average-matmul", ["--position", "learned"]),
        ("average-softmax", []),
        ("single-head", ["--head-dim", "4"]),
    ],
)
def test_every_model_between_bigram_and_gpt_trains_and_generates(
    here: Here, model: str, options: list[str]
) -> None:
    here.run(
        "train", "-c", "text.txt", "-t", "char", "--model", model, *options, "--n-embd", "16",
        "--block-size", "16", "--device", "cpu", "--max-steps", "2", "--out", "run", "-q",
    )  # fmt: skip
    config = json.loads(Path("run/config.json").read_text())
    assert config["model_type"] == f"toolkit-{model}"
    assert (config.get("head_dim"), config["position"]) == {
        "average-loop": (None, "none"),
        "average-matmul": (None, "learned"),
        "average-softmax": (None, "none"),
        "single-head": (4, "learned"),
    }[model]
    written = here.run("generate", "ROMEO:", "--run", "run", "--max-new-tokens", "5").stdout
    assert written.startswith("ROMEO:")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("train -c nowhere.txt", 2, "No corpus 'nowhere.txt'"),
        ("train -c empty.txt", 2, "is empty"),
        ("train -c short.txt -t char", 2, "a window takes --block-size"),
        ("train -c bad.txt", 2, "byte 0xff at offset 2"),
        ("train -t bep", 2, "No tokenizer 'bep'. Did you mean 'bpe'"),
        ("train --model gtp", 2, "No model 'gtp'. Did you mean 'gpt'"),
        ("train -c text.txt --model average-loop --n-head 2", 2, "average-loop has no --n-head"),
        ("train -c text.txt --model single-head --position rotary", 2, "No position 'rotary'"),
        ("train --preset moden", 2, "Did you mean 'modern'"),
        ("train -c text.txt --n-embd 100 --n-head 6", 2, "--n-embd 100 must be divisible by"),
        ("train -c text.txt --learning-rate 0", 2, "--learning-rate 0.0 must be above 0"),
        ("train -c text.txt --device tpu", 2, "No device 'tpu'"),
        ("train --bogus", 2, "No such option: --bogus"),
        ("train --resume --out nowhere", 1, "No run at nowhere"),
        ("frobnicate", 2, "No such command 'frobnicate'"),
        ("generate x --run nowhere", 1, "No run at nowhere. Runs under runs/: "),
        ("generate x", 1, "Make one with: toolkit train"),
        ("tokenize x --tokenizer char --run y", 2, "exclude each other"),
        ("vocab-stats -t bpe:10 -c text.txt", 2, "vocab_size 10 must be at least 256"),
    ],
)
def test_misuse_is_one_clear_line(
    shell: Shell, here: Here, arguments: str, code: int, message: str
) -> None:
    (shell.folder / "empty.txt").write_bytes(b"")
    (shell.folder / "short.txt").write_text("short")
    (shell.folder / "bad.txt").write_bytes(b"ab\xffcd")
    done = here.run(*arguments.split(), code=code)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--top-k 0", "--top-k 0 must be at least 1"),
        ("--temperature -1", "--temperature -1 must be above 0"),
        ("--strategy gredy", "Did you mean 'greedy'"),
        ("--strategy greedy --top-p 0.5", "greedy does not take --top-p"),
        ("--num-samples 0", "--num-samples 0 must be at least 1"),
        ("--max-new-tokens -3", "--max-new-tokens -3 must not be negative"),
        ("--seed -1", "--seed -1"),
        ("--quantize int4", "No quantization 'int4'. Did you mean 'int8'"),
        ("--dtype bf16", "No dtype 'bf16'. Did you mean 'bfloat16'"),
        ("--quantize int8 --dtype float32", "--dtype and --quantize exclude each other"),
        ("--context-policy cut", "No context policy 'cut'"),
        ("--context-policy error", "do not fit into the model's --block-size 16"),
        ("--engine fast", "No engine 'fast'"),
    ],
)
def test_wrong_sampling_options(beside_a_run: Here, arguments: str, message: str) -> None:
    done = beside_a_run.run("generate", "x", *arguments.split(), code=2)
    assert message in done.stderr
    assert done.stdout == ""


def test_a_character_outside_the_vocabulary(here: Here) -> None:
    here.run("train", "-c", "text.txt", "-t", "char", *SMALL, "--max-steps", "2", "-q")
    done = here.run("generate", "the é", code=2)
    assert "'é'" in done.stderr
    assert "U+00E9" in done.stderr
    assert "4" in done.stderr


@pytest.mark.parametrize("damage", ["no run.json", "newer", "no weights", "tokenizer", "weights"])
def test_run_folders_that_are_not_whole(shell: Shell, here: Here, damage: str) -> None:
    here.run(
        "train", "-c", "text.txt", "-t", "char", *SMALL, "--max-steps", "2", "--out", "r", "-q"
    )
    run = shell.folder / "r"
    expected = {
        "no run.json": "run.json is missing",
        "newer": "written by a newer toolkit",
        "no weights": "no weights yet",
        "tokenizer": "is not the one that this run was trained with",
        "weights": "damaged",
    }[damage]
    if damage == "no run.json":
        (run / "run.json").unlink()
    elif damage == "newer":
        content = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**content, "format": 99}))
    elif damage == "no weights":
        (run / "config.json").unlink()
    elif damage == "tokenizer":
        from toolkit.tokenizers import CharTokenizer

        CharTokenizer.train(["abcdefghijkl"]).save(run / "tokenizer")
    else:
        data = (run / "model.safetensors").read_bytes()
        (run / "model.safetensors").write_bytes(data[: len(data) // 2])
    done = here.run("generate", "the", "--run", "r", code=1)
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom toolkit.cli import _run\n"
        "try:\n    _run(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'numba', 'transformers', 'regex'} & set(sys.modules)\n"
        "sys.exit(','.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for command in ("train", "generate", "vocab-stats", "corpora", "tokenize", "runs"):
        assert command in done.stdout


def test_a_reader_that_goes_away_is_no_error(trained: Shell) -> None:
    process = trained.popen("vocab-stats", "-c", "text.txt", "-t", "bpe:300", "--every", "1")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.wait(timeout=60)
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_a_warning_is_printed_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn_again_and_again(**_: object) -> None:
        for text in ("no letter a", "no letter b", "no letter a"):
            warnings.warn(text, stacklevel=1)

    monkeypatch.setattr(toolkit.cli, "app", warn_again_and_again)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.raises(SystemExit):
            main([])
    assert capsys.readouterr().err == "Warning: no letter a\nWarning: no letter b\n"
