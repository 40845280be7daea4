"""What the pages show is what happens."""

import ast
import dataclasses
import re
import shlex
from pathlib import Path

import pytest
import torch

import toolkit
import toolkit.models
from toolkit.cli import main
from toolkit.tokenizers import BPETokenizer

DOCS = Path(__file__).parents[1] / "docs"
README = DOCS.parent / "README.md"
SHAKESPEARE = DOCS.parents[1] / "shared" / "corpora" / "tiny_shakespeare.txt"


def blocks(page: Path, language: str) -> list[str]:
    parts = page.read_text("utf-8").split(f"```{language}\n")[1:]
    return [part.split("\n```")[0] for part in parts]


def statements(block: str) -> list[str]:
    """The lines of a block, those of one statement together."""
    lines = block.splitlines()
    spans: list[tuple[int, int]] = []
    for node in ast.parse(block).body:
        if not spans or node.lineno > spans[-1][1]:
            spans.append((node.lineno, node.end_lineno or node.lineno))
    return ["\n".join(lines[start - 1 : end]) for start, end in spans]


@pytest.mark.parametrize(
    ("page", "values"),
    [
        ("bpe.md", 6),
        ("compare.md", 6),
        ("encoder-decoder.md", 15),
        ("experiments.md", 5),
        ("export.md", 3),
        ("fixtures.md", 4),
        ("generation-speed.md", 7),
        ("generation.md", 12),
        ("inspection.md", 12),
        ("ladder.md", 21),
        ("models.md", 9),
        ("tokenizers.md", 11),
        ("training.md", 4),
        ("vocab-stats.md", 7),
    ],
)
def test_python_on_the_pages(
    page: str, values: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each statement is run, and where a comment shows a value, that is what comes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    names: dict[str, object] = {}
    checked = 0
    # The page on bpe opens files that nobody has in its second block.
    for block in blocks(DOCS / page, "python")[: 1 if page == "bpe.md" else None]:
        for statement in statements(block):
            code, _, comment = statement.partition("  # ")
            if comment:
                assert eval(code, names) == ast.literal_eval(comment), code
                checked += 1
            else:
                exec(code, names)
    assert checked == values


def commands(page: Path) -> list[tuple[str, str]]:
    """The commands of a page whose output is shown and whose text everybody can have."""
    found = []
    for block in blocks(page, "console"):
        command, _, output = block.partition("\n")
        if command.startswith("$ toolkit") and "-c tiny-shakespeare" in command:
            found.append((command.removeprefix("$ toolkit "), output))
    return found


SHOWN = [case for name in ("tokenizers.md", "vocab-stats.md") for case in commands(DOCS / name)]


def test_there_are_commands_on_the_pages() -> None:
    assert len(SHOWN) == 7


@pytest.mark.skipif(not SHAKESPEARE.exists(), reason="needs tiny Shakespeare in shared/corpora")
@pytest.mark.parametrize(("command", "output"), SHOWN)
def test_the_output_on_the_pages(
    command: str,
    output: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TOOLKIT_CORPORA", str(SHAKESPEARE.parent))
    with pytest.raises(SystemExit):
        main(shlex.split(command))
    printed = capsys.readouterr()
    lines = [without_speed(line) for line in (printed.out + printed.err).splitlines()]
    expected = [without_speed(line) for line in output.splitlines()]
    # A page may show a part of what is printed, but all lines of the part.
    start = lines.index(expected[0])
    assert lines[start : start + len(expected)] == expected


def without_speed(line: str) -> str:
    """A line without trailing spaces, and without a time: the last column of the comparison."""
    line = line.rstrip().removesuffix("*")
    return re.sub(r"^(\S+ +[\d,]+ .*%.*?) +[\d.,]+$", r"\1", line)


def test_the_python_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is printed, but for a corpus that needs no network and a model that trains at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    code = next(block for block in blocks(README, "python") if "toolkit.train(" in block)
    tiny = "max_steps=2, n_layer=1, n_head=1, n_embd=16, block_size=16, batch_size=2"
    assert code.count("max_steps=1000") == code.count('load_corpus("shakespeare")') == 1
    code = code.replace('load_corpus("shakespeare")', 'load_corpus("python-help")')
    names: dict[str, object] = {}
    exec(code.replace("max_steps=1000", tiny), names)
    batch, tokenizer = names["batch"], names["tokenizer"]
    assert isinstance(tokenizer, BPETokenizer)
    assert isinstance(batch, toolkit.TokenBatch)
    assert tokenizer.decode(batch[0]) == "To be, or not to be"
    assert (tmp_path / "runs" / "first" / "run.json").exists()


def test_the_explanation_on_the_page_on_bpe() -> None:
    # The table of the page, taken at its word: merges with these ranks lead to these ids.
    page = (DOCS / "bpe.md").read_text("utf-8")
    rows = [line.split() for line in page.split("symbols        ids")[1].splitlines()]
    merges = [row for row in rows[: rows.index(["```"])] if len(row) > 3 and row[0].isdigit()]
    assert [row[:4] for row in merges] == [
        ["16", "e", "+", "r"],
        ["41", "o", "+", "w"],
        ["22", "e", "+", "s"],
        ["24", "·", "+", "n"],
        ["122", "es", "+", "t"],
        ["166", "·n", "+", "e"],
    ]
    if not SHAKESPEARE.exists():
        return
    text = SHAKESPEARE.read_text("utf-8")
    words = BPETokenizer.train([text], vocab_size=512).explain("lower newest")
    steps = [
        [str(m.rank), m.left.decode(), "+", m.right.decode()] for word in words for m in word.merges
    ]
    assert [[part.replace(" ", "·") for part in step] for step in steps] == [
        row[:4] for row in merges
    ]
    assert [list(word.ids) for word in words] == [[108, 297, 272], [422, 119, 378]]


def table_of_models(header: str) -> dict[str, list[str]]:
    """The rows of the table with this header in docs/models.md, by their first cell."""
    table = (DOCS / "models.md").read_text("utf-8").split(f"| {header} |")[1].split("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {row[0].strip("`"): [cell.strip("`") for cell in row[1:]] for row in rows}


def test_the_sizes_on_the_page_on_models() -> None:
    sizes = table_of_models("size")
    assert list(sizes) == list(toolkit.models.SIZES)
    for size, row in sizes.items():
        for preset, shown in zip(("gpt2", "modern"), row[4:], strict=True):
            config = toolkit.models.make_config("gpt", 50257, preset=preset, size=size)
            with torch.device("meta"):
                model = toolkit.models.build_model(config, init=False)
            assert shown == f"{model.num_params():,}", size
            numbers = ("n_layer", "n_head", "n_embd", "block_size")
            assert row[:4] == [f"{getattr(config, number):,}" for number in numbers], size


def test_the_fields_on_the_page_on_models() -> None:
    """All that are no number of a size or of an equation, with what the presets set."""
    rows = table_of_models("field")
    elsewhere = {"vocab_size", "norm_eps", "rope_theta", "head_dim", *toolkit.models.SIZES["nano"]}
    fields = {field.name: field.default for field in dataclasses.fields(toolkit.models.GPTConfig)}
    assert rows.keys() == fields.keys() - elsewhere
    for name, (_, *shown) in rows.items():
        for preset, cell in zip(("modern", "gpt2"), shown, strict=True):
            value = toolkit.models.PRESETS[preset].get(name, fields[name])
            assert cell == (f"{value:g}" if name == "dropout" else str(value).lower()), name


def ladder_table() -> dict[str, list[str]]:
    """The rows that docs/ladder.md shows of `toolkit ladder`, by model."""
    (output,) = blocks(DOCS / "ladder.md", "console")
    return {row[0]: row[1:] for row in (line.split() for line in output.splitlines()[2:])}


def test_the_parameters_on_the_page_on_the_ladder() -> None:
    rows = ladder_table()
    assert list(rows) == toolkit.models.available_models()
    for name, row in rows.items():
        shape = {"block_size": 32} if name == "bigram" else {"block_size": 32, "n_embd": 64}
        model = toolkit.create_model(name, 65, size="nano", **shape)
        assert row[0] == f"{model.num_params():,}", name


@pytest.mark.slow
@pytest.mark.skipif(not SHAKESPEARE.exists(), reason="needs tiny Shakespeare in shared/corpora")
def test_the_losses_on_the_page_on_the_ladder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    text = toolkit.load_corpus(str(SHAKESPEARE))
    # The quick ones; a thousand steps on another machine round differently.
    ladder = toolkit.climb(text, models=["bigram", "average-matmul"], device="cpu")
    for rung in ladder.rungs:
        assert rung.val_loss == pytest.approx(float(ladder_table()[rung.name][3]), abs=0.005)
