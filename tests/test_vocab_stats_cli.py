"""`toolkit vocab-stats` as a user meets it: tables, files, and one line for each mistake."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from toolkit.cli import main

TEXT = "to be or not to be, that is the question.\nмир и война\n" * 40
WORDS = "the bank was banking on bankers who bank banks thanks to thankless tankers " * 3


class Cli:
    """Runs a command in a folder with two texts."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(["vocab-stats", *arguments])
        printed = self._capsys.readouterr()
        self.err = printed.err
        assert stopped.value.code == code, printed.out + printed.err
        return printed.out

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    Path("text.txt").write_text(TEXT, "utf-8")
    Path("words.txt").write_text(WORDS, "utf-8")
    return Cli(capsys)


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the table after a line that begins with `heading`."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(heading))
    rows = []
    for line in lines[start + 1 :]:
        if not line.strip() or line.startswith("*"):
            break
        rows.append(line.split())
    return rows


def test_one_tokenizer_in_full(cli: Cli) -> None:
    shown = cli("-c", "text.txt", "-t", "bpe:280")
    seen = TEXT[: len(TEXT) * 9 // 10]
    assert shown.startswith("bpe:280 on text")
    facts = {line[:27].strip(): line[27:].strip() for line in shown.splitlines()[1:13]}
    reply = cli.json("-c", "text.txt", "-t", "bpe:280")
    stats = reply["stats"]
    assert facts["tokens"] == f"{stats['num_tokens']:,}"
    assert facts["vocabulary size"] == "280"
    assert stats["num_bytes"] == len(seen.encode())
    assert reply["embedding_params"] == 280 * 768
    law = stats["heaps_law"]
    assert f"β = {law['exponent']:.3f}" in shown
    assert f"exponent = {stats['zipf_law']['exponent']:.3f}" in shown
    assert "symbols in use against merges" in shown
    merges = table(shown, "growth: what each merge")[1:]
    last = next(row for row in reversed(merges) if row[0] == "24")
    assert last[1] == "280"
    assert last[3] == f"{stats['num_tokens']:,}"


def test_growth_to_the_end_is_explained(cli: Cli) -> None:
    arguments = ["-c", "words.txt", "-O", "pattern=whitespace", "-O", "end_of_word=true"]
    shown = cli(*arguments, "--held-out", "0")
    assert "Nothing is left to merge: each of the 12 distinct words is a single symbol" in shown
    growth = cli.json(*arguments, "--held-out", "0", "--every", "1")["growth"]
    assert growth["complete"]
    assert growth["rows"][-1]["symbols_in_use"] == growth["distinct_words"] == 12
    assert growth["rows"][-1]["next_pair"] is None
    assert ["an", "k"] in [row["next_pair"] for row in growth["rows"]]
    assert any("</w>" in str(row["next_pair"]) for row in growth["rows"])
    assert growth["peak"]["symbols_in_use"] > 12
    assert cli.json("-c", "words.txt", "-t", "bpe:260")["growth"]["complete"] is False


def test_tokenizers_side_by_side(cli: Cli) -> None:
    shown = cli("-c", "text.txt", "--compare", "char,bpe:280,byte")
    rows = {row[0]: row[1:] for row in table(shown, "on text")[1:]}
    assert list(rows) == ["char", "bpe:280", "byte"]
    documents = cli.json("-c", "text.txt", "--compare", "char,bpe:280,byte")["rows"]
    for document in documents:
        tokens = f"{document['stats']['num_tokens']:,}"
        assert rows[document["tokenizer"]][1].rstrip("*") == tokens
    assert rows["bpe:280"][1].endswith("*")  # fewest tokens
    assert not rows["byte"][1].endswith("*")
    assert "* the best of its column" in shown


def test_texts_side_by_side_and_words_by_script(cli: Cli) -> None:
    shown = cli("-c", "text.txt", "-c", "words.txt", "-t", "byte", "--split-by", "script")
    assert "on text" in shown
    assert "on words" in shown
    scripts = table(shown[shown.index("words of text") :], "words of text")[1:]
    assert [row[0] for row in scripts] == ["Latin", "Cyrillic"]
    assert scripts[1][1] == "byte"
    documents = cli.json("-c", "text.txt", "-c", "words.txt", "-t", "byte")["rows"]
    assert [document["corpus"] for document in documents] == ["text.txt", "words.txt"]
    trained = cli.json("-c", "text.txt", "-t", "char", "--train-on", "words.txt")
    assert trained["stats"]["unknown_rate"] > 0.1


def test_the_suggestion_says_why(cli: Cli) -> None:
    shown = cli("-c", "text.txt", "--suggest")
    found = cli.json("-c", "text.txt", "--suggest")["suggestion"]
    assert f"suggested vocabulary size: {found['knee']['vocab_size']:,}" in shown
    assert f"{found['gain_share']:.0%} of what all" in shown
    assert f"saves {found['saved_after']:.1%}" in shown


def test_figures_and_page_are_written(cli: Cli) -> None:
    cli("-c", "text.txt", "-t", "bpe:280", "--out", "figures", "--html", "page/report.html")
    written = {path.name for path in Path("figures").iterdir()}
    for name in ("growth", "heaps", "zipf"):
        assert {f"{name}.png", f"{name}.svg", f"{name}.csv"} <= written
    document = json.loads(Path("figures/vocab_stats.json").read_text("utf-8"))
    assert len(document["growth"]["rows"]) == 25  # every merge
    assert len(Path("figures/growth.csv").read_text("utf-8").splitlines()) == 26
    assert "bpe:280" in Path("page/report.html").read_text("utf-8")
    assert "report.html" in cli.err
    cli("-c", "text.txt", "-t", "bpe:280", "--out", "again", "-q")
    assert cli.err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--compare char,bep", "No tokenizer 'bep'. Did you mean 'bpe'?"),
        ("--compare char,,byte", "expected different tokenizers"),
        ("--compare byte,byte", "expected different tokenizers"),
        ("--compare char -t byte", "--compare and --tokenizer exclude each other"),
        ("--split-by language -t byte", "No way for --split-by 'language'. Available: script."),
        ("--every 0", "--every 0 must be at least 1"),
        ("--top -1 -t byte", "--top -1 must not be negative"),
        ("--n-embd 0 -t byte", "--n-embd 0 must be at least 1"),
        ("-t char --suggest", "--suggest needs a tokenizer with merges"),
        ("-t byte -c words.txt --suggest", "--suggest looks at one tokenizer on one text"),
        ("-O rule", "--tokenizer-option 'rule' is not NAME=VALUE"),
        ("-t word -O rule=letters", "No rule for words 'letters'. Available: "),
        ("-t word -O min_count=few", "The option min_count is 'few'; expected a whole number"),
        ("-t sentencepiece:foo", "No SentencePiece model type 'foo'"),
        ("-t huggingface", "write hf:PATH/tokenizer.json"),
    ],
)
def test_mistakes_get_one_line(cli: Cli, arguments: str, message: str) -> None:
    cli("-c", "text.txt", *arguments.split(), code=2)
    assert message in cli.err.replace("\n", " ")
    assert cli.err.count("\n") == 1


def test_without_matplotlib_nothing_is_measured(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    cli("-c", "text.txt", "--out", "figures", code=1)
    assert "pip install 'toolkit[plots]'" in cli.err
    assert not Path("figures").exists()


def test_the_examples_of_the_help_are_specs() -> None:
    from toolkit.tokenizers.registry import class_of_spec

    for spec in [
        "char",
        "word",
        "bpe:1k",
        "bpe:4k",
        "tiktoken:cl100k_base",
        "sentencepiece:unigram:4k",
    ]:
        class_of_spec(spec)
