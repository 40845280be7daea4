"""`toolkit trace` and `toolkit inspect` as a user meets them."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import toolkit
from toolkit.cli import main
from toolkit.run import Run

TEXT = "ROMEO: the sun is red.\nJULIET: the moon is <b>pale</b>.\n" * 20


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    (folder / "text.txt").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where runs/latest is written
        patch.setenv("TOOLKIT_HOME", str(folder / "home"))
        patch.setattr("toolkit.pipeline.draw_if_tracked", lambda run: [])  # another test draws
        return toolkit.train(
            toolkit.load_corpus(str(folder / "text.txt")),
            "char",
            max_steps=3,
            n_layer=2,
            n_head=2,
            n_embd=16,
            block_size=48,
            batch_size=4,
            track_internals=3,
            device="cpu",
            out=folder / "first",
        )


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    return int(exit_.value.code or 0)


def test_trace_tells_the_steps(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("trace", "the sun", "--run", str(run.folder), "--layer", "1") == 0
    page = capsys.readouterr().out
    assert "layer 1 · Attention weights   w = softmax(s)" in page
    assert "layer 0" not in page
    assert "(B, H, T, S) = 1 × 2 × 7 × 7" in page
    assert re.search(r"^3 +\d+ +· *$", page, re.MULTILINE)  # the space, so that it can be seen
    assert call("trace", "the sun", "--run", str(run.folder), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [token["token"] for token in document["tokens"]] == list("the·sun")
    mask = next(step for step in document["steps"] if step["title"] == "Mask")
    assert mask["outputs"][0]["excerpt"][0][1] is None
    weights = next(step for step in document["steps"] if step["title"] == "Attention weights")
    assert weights["outputs"][0]["excerpt"][0][:2] == [1.0, 0.0]
    assert [step["number"] for step in document["steps"]] == list(range(1, 33))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trace", "sun", "--layer", "2"], "--layer 2: this model has 2 in all, from 0."),
        (["trace", ""], "There is nothing to trace: the text has no tokens."),
        (["trace", "s" * 49], "49 tokens is longer than the model's --block-size 48."),
        (["trace", "é"], "'é'"),
        (["inspect", "s"], "An analysis needs at least two tokens, one to predict; the text has 1"),
        (["inspect", "the sun", "--probe", "colour"], "No probe colour"),
        (["inspect", "the sun", "--probe", "position"], "A probe needs at least 16 tokens"),
        (["inspect", "the sun", "--probe", ","], "--probe ','"),
        (["trace", "sun", "--tokenizer", "char"], "--tokenizer is for a --model"),
        (["inspect", "sun", "--model", "x"], "--run and --model exclude each other"),
    ],
)
def test_misuse_is_explained_in_a_line(
    run: Run, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments, "--run", str(run.folder)) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (run.folder / "report").exists()


class Page(HTMLParser):
    """What a page refers to, and its parts."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.slow
def test_inspect_writes_a_report(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    text, out = "JULIET: <b>pale</b> sun", tmp_path / "out"
    arguments = ["--run", str(run.folder), "--out", str(out), "--probe", "position,token-class"]
    assert call("inspect", text, *arguments) == 0
    printed = capsys.readouterr()
    assert "23 tokens, loss" in printed.out
    step = run.info.result["best_step"]
    names = [
        "attention/attention_evolution", "attention/entropy_evolution", "qkv/qkv_evolution",
        f"attention/attention_step_{step}", "attention/multihead_comparison", "attention/layer_1",
        "qkv/layer_contributions", "qkv/gradient_flow", "training_curves", "embeddings/token",
    ]  # fmt: skip
    for name in names:
        assert (out / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (out / f"{name}.svg").read_text("utf-8").count("<svg") == 1

    report = json.loads((out / "analysis_report.json").read_text("utf-8"))
    ids = run.tokenizer.encode(text)
    assert report["ids"] == ids
    assert len(report["heads"]) == 4
    assert report["probes"][0]["asked"] == "position"
    inspector = toolkit.Inspector(run.model, ids)
    assert report["ablation"]["loss"] == pytest.approx(inspector.ablation().loss)
    documented = (Path(__file__).parents[2] / "docs" / "inspection.md").read_text("utf-8")
    schema = documented.split("## analysis_report.json")[1]
    for key, value in report.items():
        assert f"`{key}`" in schema, key
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, dict) and key != "vocabulary":
            assert all(f"`{name}`" in schema for name in first), key

    content = (out / "report.html").read_text("utf-8")
    page = Page(content)
    for _, attributes in page.tags:
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("#", "data:"))
    assert "http" not in re.sub(r"arXiv|http://www.w3.org", "", content)
    assert "<b>pale" not in content
    assert "&lt;" in content
    ids_used = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids_used) == len(set(ids_used))
    assert content.count("data:image/gif;base64,") == 1
    for words in ("came to be, from the start", "a line that falls is a head", "it is grey"):
        assert words in content
    # The weights in the page are those of the model, to a byte.
    data = json.loads(re.findall(r'id="attention-data">(.*?)</script>', content)[0])
    found = np.frombuffer(base64.b64decode(data["weights"]), np.uint8).reshape(2, 2, 23, 23) / 255
    for layer in range(2):
        expected = inspector.attention(layer).numpy()
        assert np.abs(found[layer] - expected).max() <= 0.5 / 255 + 1e-6
    assert data["tokens"] == report["tokens"]
