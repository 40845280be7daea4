"""`toolkit generate` and `toolkit perplexity` as a user meets them, in this process."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import toolkit
from toolkit.cli import main
from toolkit.generation import Generator, sample_seed, score_text

TEXT = "ROMEO:\nthe sun is bright, and so are we.\n\nJULIET:\nthe moon is pale.\n\n" * 20

Run = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs of one tokenizer, and one of another."""
    work = tmp_path_factory.mktemp("generate")
    (work / "text.txt").write_text(TEXT)
    corpus = toolkit.load_corpus(str(work / "text.txt"))
    for name, tokenizer, layers in (("run", "char", 1), ("other", "byte", 1), ("draft", "char", 2)):
        toolkit.train(
            corpus,
            toolkit.load_tokenizer(tokenizer, corpus),
            out=work / name,
            max_steps=3,
            n_layer=layers,
            n_head=1,
            n_embd=16,
            block_size=16,
            batch_size=2,
            seed=1,
        )
    return work


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in the folder: what it printed and what it said."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: str, code: int = 0, stdin: str = "") -> tuple[str, str]:
        source = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        monkeypatch.setattr("sys.stdin", source)
        with pytest.raises(SystemExit) as caught:
            main([arguments[0], "--device", "cpu", *arguments[1:]])
        printed = capsys.readouterr()
        assert caught.value.code == code, printed.err
        return printed.out, printed.err

    return command


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    opened = toolkit.Run.open(folder / "run")
    return Generator(opened.model, opened.tokenizer)


def test_options_reach_the_generator(run: Run, generator: Generator) -> None:
    command = "--run run --seed 3 --max-new-tokens 20 --min-p 0.1 --repetition-penalty 1.5"
    out, _ = run("generate", "the", *command.split(), "--logit-bias", "so=4", "--forbid", "r")
    ids = generator.tokenizer.encode
    sample = generator.generate(
        "the",
        seed=3,
        max_new_tokens=20,
        min_p=0.1,
        repetition_penalty=1.5,
        logit_bias={tuple(ids("so")): 4.0},
        forbid=[tuple(ids("r"))],
    )
    assert out == "the" + sample.text + "\n"
    assert "r" not in sample.text


def test_a_sampler_in_an_order_of_ones_own(run: Run, generator: Generator) -> None:
    spec = "top-k=3,temperature=2,presence-penalty=1"
    out, _ = run("generate", "the", "--run", "run", "--seed", "3", "--sampler", spec)
    expected = generator.generate("the", seed=3, sampler=toolkit.generation.parse_sampler(spec))
    assert out == "the" + expected.text + "\n"


def test_prompts_from_a_file_as_lines_of_json(run: Run, generator: Generator, folder: Path) -> None:
    (folder / "prompts.txt").write_text("the sun\nROMEO:\n")
    command = "--run run --prompts prompts.txt --num-samples 2 --seed 5 --max-new-tokens 9"
    out, _ = run("generate", *command.split(), "--temperature", "1", "--logprobs", "2", "--jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    expected = [
        generator.generate(
            prompt, seed=sample_seed(5, number), max_new_tokens=9, temperature=1.0, logprobs=2
        )
        for prompt in ("the sun", "ROMEO:")
        for number in range(2)
    ]
    assert [row["text"] for row in rows] == [each.text for each in expected]
    for row, sample in zip(rows, expected, strict=True):
        assert sample.logprobs is not None
        assert [each["id"] for each in row["logprobs"]] == list(sample.ids)
        assert "".join(each["token"] for each in row["logprobs"]) == sample.text
        assert all(len(each["top"]) == 2 for each in row["logprobs"])


def test_texts_of_several_prompts_for_people(run: Run, folder: Path) -> None:
    (folder / "prompts.jsonl").write_text('{"prompt": "the"}\n"so"\n')
    command = "--run run --prompts prompts.jsonl --seed 5 --max-new-tokens 4"
    out, _ = run("generate", *command.split())
    first, second = re.split("─+\n", out)
    assert (first[:3], len(first)) == ("the", 3 + 4 + 1)
    assert (second[:2], len(second)) == ("so", 2 + 4 + 1)


def test_probabilities(run: Run, generator: Generator) -> None:
    out, _ = run("generate", "the", "--run", "run", "--seed", "1", "--max-new-tokens", "5",
                 "--temperature", "1", "--show", "probs")  # fmt: skip
    sample = generator.generate("the", seed=1, max_new_tokens=5, temperature=1.0, logprobs=3)
    assert sample.logprobs is not None
    lines = out.rstrip("\n").split("\n")[-5:]
    for line, each in zip(lines, sample.logprobs, strict=True):
        best = each.top[0]
        assert line.split()[1] == f"{2.718281828459045**each.logprob:.3f}"
        assert f"{2.718281828459045**best.logprob:.3f}" in line.split()[2:]


def test_searches_drafts_and_patterns(run: Run, generator: Generator, folder: Path) -> None:
    common = ["--run", "run", "--max-new-tokens", "8"]
    out, _ = run("generate", "the", *common, "--strategy", "beam", "--num-samples", "2")
    samples = generator.generate_samples("the", 2, strategy="beam", max_new_tokens=8)
    assert [part.rstrip("\n") for part in re.split("─+\n", out)] == [
        "the" + each.text.rstrip("\n") for each in samples
    ]
    beams = ["--strategy", "beam", "--num-beams", "2", "--early-stopping"]
    for word, value in (("true", True), ("never", "never")):
        out, _ = run("generate", "the", *common, *beams, word)
        expected = generator.generate(
            "the", strategy="beam", num_beams=2, max_new_tokens=8, early_stopping=value
        )
        assert out == "the" + expected.text + "\n"
    out, _ = run("generate", "the", *common, "--strategy", "greedy")
    drafted, _ = run("generate", "the", *common, "--strategy", "greedy", "--draft", "draft")
    assert drafted == out
    pytest.importorskip("llguidance")
    out, _ = run("generate", "the", *common, "--regex", "[a-d]{3}")
    assert re.fullmatch("the[a-d]{3}\n", out)
    (folder / "schema.json").write_text('{"type": "boolean"}')
    with_schema = ["--run", "other", "--json-schema", "schema.json", "--json"]
    out, _ = run("generate", "the", *with_schema)
    assert json.loads(out)["samples"][0]["text"] in ("true", "false")


def test_writing_in_turns(run: Run, generator: Generator) -> None:
    lines = ["the", "/set temperature 0.5", "/set top-q 1", "so", "/undo", "/again", "/options",
             "/set regex [", "/new", "/undo", "/text", "/nothing", "/quit", "after"]  # fmt: skip
    out, err = run("generate", "-i", "--run", "run", "--seed", "7", "--max-new-tokens", "6",
                   stdin="\n".join(lines) + "\n")  # fmt: skip

    def text(prompt: str, number: int, temperature: float) -> str:
        seed = sample_seed(7, number)
        return generator.generate(prompt, seed=seed, max_new_tokens=6, temperature=temperature).text

    first = text("the", 0, 0.7)
    second = text(f"the{first}so", 1, 0.5)
    again = text("the", 1000, 0.5)
    assert out == f"{first}\n{second}\nthe{first}\n{again}\n\n"
    said = err.splitlines()
    assert "No option 'top-q'. Did you mean 'top-p'" in err
    assert said.count("max-new-tokens 6, seed 7, temperature 0.5") == 2
    assert "There is no turn yet: write something first." in err
    assert "No command '/nothing'" in err
    assert err.count("Error:") == 4


def test_perplexity(run: Run, generator: Generator, folder: Path) -> None:
    score = score_text(generator.model, generator.tokenizer, TEXT[:90], stride=4)
    (folder / "short.txt").write_text(TEXT[:90])
    out, err = run("perplexity", "short.txt", "--run", "run", "--stride", "4")
    assert out.splitlines() == [
        f"         loss  {score.loss:.4f} nats per token",
        f"   perplexity  {score.perplexity:,.2f}",
        f"bits per byte  {score.bits_per_byte:.4f}",
    ]
    assert err == "89 tokens, 89 bytes; windows of 16 tokens, 4 apart\n"
    out, _ = run("perplexity", "-", "--run", "run", "--stride", "4", "--json", "--tokens",
                 stdin=TEXT[:90])  # fmt: skip
    values = json.loads(out)
    assert values["loss"] == score.loss
    assert values["tokens"][0] == {"id": score.tokens[0].id, "token": "R", "logprob": None}
    assert len(values["tokens"]) == 90
    out, _ = run("perplexity", "short.txt", "--run", "run", "--tokens", "--quiet")
    assert len(out.splitlines()) == 1 + 90 + 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("generate x --show logits", "No view 'logits'. Available: probs."),
        ("generate x --logprobs 3", "--logprobs is for --json and --jsonl"),
        ("generate x --json --jsonl", "--json and --jsonl exclude each other"),
        ("generate x --prompts p.txt", "PROMPT and --prompts exclude each other"),
        ("generate --prompts p.txt", "--prompts p.txt cannot be read: No such file"),
        ("generate -i --num-samples 2", "--interactive shows one text"),
        ("generate x -i", "PROMPT and --interactive exclude each other"),
        ("generate x --sampler topk=3", "No processor 'topk'. Did you mean 'top-k'?"),
        ("generate x --sampler top-k=3 --top-p 1", "sampler says how to draw: leave top_p out."),
        ("generate x --logit-bias so", "--logit-bias 'so': expected TEXT=BIAS"),
        ("generate x --early-stopping no", "--early-stopping no must be true, false or never."),
        ("generate x --early-stopping true", "multinomial does not take --early-stopping"),
        ("generate x --draft other", "--draft other has another tokenizer than"),
        ("generate x --json-schema p.json", "p.json cannot be read"),
        (
            "generate the --strategy beam --num-samples 5",
            "--num-samples 5 is more than --num-beams",
        ),
        ("perplexity nowhere.txt", "nowhere.txt cannot be read: No such file or directory."),
        ("perplexity text.txt --stride 20", "--stride 20 must be at most the context 16."),
        ("perplexity text.txt --tokenizer char", "--tokenizer is for a --model"),
    ],
)
def test_misuse_is_one_clear_line(run: Run, arguments: str, message: str) -> None:
    command, *rest = arguments.split()
    out, err = run(command, "--run", "run", *rest, code=2)
    assert message in err
    assert err.count("\n") == 1
    assert out == ""
