"""The report of a pair: what is at which axis, what is in the page, and the command."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy_encoder_decoder import NumpyEncoderDecoder

import toolkit
from toolkit.cli import main
from toolkit.errors import UsageError
from toolkit.inspection import PairInspector
from toolkit.inspection.pair_figures import PairTokens, pair_attention_figure, pair_tokens
from toolkit.inspection.pairs import ATTENTIONS
from toolkit.models import EncoderDecoderConfig, EncoderDecoderModel
from toolkit.reporting.page import Markup
from toolkit.tokenizers import CharTokenizer

pytest.importorskip("matplotlib")

from toolkit.inspection.pair_page import pair_page
from toolkit.inspection.pair_pictures import PairTraining, pair_pictures
from toolkit.inspection.pair_report import PairAnalysis, analyse_pair

# As long as each other, so that swapped axes would have the right shape.
LETTERS = CharTokenizer("<ab/cdet>")
SOURCE, TARGET = "abcd", "dc<a"
END = 9


@pytest.fixture(scope="module")
def model() -> EncoderDecoderModel:
    config = EncoderDecoderConfig(12, n_layer=2, n_encoder_layer=1, n_head=2, n_embd=16)
    made = EncoderDecoderModel(config, torch.Generator().manual_seed(1)).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # so that attention is far from even
            parameter.mul_(1.5)
    return made


@pytest.fixture(scope="module")
def inspector(model: EncoderDecoderModel) -> PairInspector:
    return PairInspector(model, [*LETTERS.encode(SOURCE), END], LETTERS.encode(TARGET))


@pytest.fixture(scope="module")
def tokens(inspector: PairInspector) -> PairTokens:
    return pair_tokens(LETTERS, LETTERS, inspector.source_ids, inspector.target_ids)


@pytest.fixture(scope="module")
def analysis(inspector: PairInspector, tokens: PairTokens) -> PairAnalysis:
    return analyse_pair(inspector, tokens, str, name="tiny", step=7)


@pytest.fixture(scope="module")
def oracle(model: EncoderDecoderModel) -> dict[str, Any]:
    computed = NumpyEncoderDecoder(model, n_head=2)
    computed([END + 1, *LETTERS.encode(TARGET)], [*LETTERS.encode(SOURCE), END])
    return computed.weights


def labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


ROWS = {"encoder": [*SOURCE, "end"], "decoder": [*TARGET, "end"], "cross": [*TARGET, "end"]}
COLUMNS = {"encoder": [*SOURCE, "end"], "decoder": ["begin", *TARGET], "cross": [*SOURCE, "end"]}


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_source_and_target_are_at_their_axes(
    kind: str, inspector: PairInspector, tokens: PairTokens, oracle: dict[str, Any]
) -> None:
    layers = [inspector.attention(kind, layer) for layer in range(inspector.n_layer(kind))]
    drawn = pair_attention_figure(layers, tokens.axes(kind))
    panels: Any = [axes for axes in drawn.axes if axes.images][: 2 * len(layers)]
    for number, panel in enumerate(panels):
        layer, head = divmod(number, 2)
        assert panel.get_title() == f"layer {layer}, head {head}"
        expected = oracle[ATTENTIONS[kind].replace("*", str(layer))][head]
        shown = np.asarray(panel.images[0].get_array())
        assert np.abs(shown - expected).max() < 2e-6
        # Were rows and columns swapped, one would see it: nothing here is symmetric.
        assert np.abs(shown - expected.T).max() > 0.02
    # Rows go down and columns across.
    first_of_last = panels[2 * (len(layers) - 1)]
    assert labels(first_of_last.yaxis) == ROWS[kind]
    assert labels(first_of_last.xaxis) == COLUMNS[kind]
    assert first_of_last.get_ylim() == (4.5, -0.5)
    figure: Any = drawn
    downwards, across = figure._supylabel.get_text(), figure._supxlabel.get_text()
    assert across.endswith("source's token that is read") == (kind != "decoder")
    assert (downwards == "what is written") == (kind != "encoder")


def test_the_weights_in_the_page(
    analysis: PairAnalysis, inspector: PairInspector, tokens: PairTokens, oracle: dict[str, Any]
) -> None:
    drawn = [("Attention", Markup("drawn")), ("Heads compared", Markup("drawn"))]
    content = pair_page(analysis, tokens, weights_of(inspector), drawn)
    data = json.loads(re.findall(r'id="attention-data">(.*?)</script>', content)[0])
    numbers = np.frombuffer(base64.b64decode(data["weights"]), np.uint8) / 255
    seen = 0
    for kind, found in data["kinds"].items():
        assert (found["rows"], found["columns"]) == (ROWS[kind], COLUMNS[kind])
        shape = (found["layers"], found["heads"], len(found["rows"]), len(found["columns"]))
        own = numbers[found["start"] :][: np.prod(shape)].reshape(shape)
        for layer in range(found["layers"]):
            expected = oracle[ATTENTIONS[kind].replace("*", str(layer))]
            assert np.abs(own[layer] - expected).max() <= 0.5 / 255 + 1e-5
        seen += own.size
    assert seen == len(numbers)
    # The "<" of the target is text, everywhere.
    assert "<code>&lt;</code>" in content
    assert "cross 1.1" in content


def weights_of(inspector: PairInspector) -> dict[str, list[torch.Tensor]]:
    return {
        kind: [inspector.attention(kind, layer) for layer in range(inspector.n_layer(kind))]
        for kind in ATTENTIONS
    }


def test_the_page_can_be_explored(
    analysis: PairAnalysis, inspector: PairInspector, tokens: PairTokens, oracle: dict[str, Any],
    tmp_path: Path, browser: Any,
) -> None:  # fmt: skip
    page_file = tmp_path / "report.html"
    page_file.write_text(
        pair_page(analysis, tokens, weights_of(inspector), [("Attention", Markup("drawn"))])
    )
    page = browser.new_page(viewport={"width": 360, "height": 700})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(page_file.as_uri())
    page.locator("#layer").select_option("1")
    page.locator("#head").select_option("1")
    weights = oracle["decoder.blocks.1.cross.weights"][1]
    # The largest weight of all is that of its row and of its column.
    row, column = np.unravel_index(weights.argmax(), weights.shape)
    for which, place, best in (("rows", row, column), ("columns", column, row)):
        page.locator(f"#{which} button").nth(place).hover()
        others = COLUMNS["cross"] if which == "rows" else ROWS["cross"]
        verb = "reads" if which == "rows" else "is read by"
        own = (ROWS if which == "rows" else COLUMNS)["cross"][place]
        said = page.locator("#reads").text_content()
        share = round(weights.max() * 255) / 255  # a byte each
        expected = f"“{own}” at {place} {verb} “{others[best]}” at {best} ({share:.0%})"
        assert said.startswith(expected)
    page.locator("#kind").select_option("encoder")
    assert page.locator("#layer option").all_text_contents() == ["0"]
    assert page.locator("#rows button").all_text_contents() == ROWS["encoder"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.close()
    assert problems == []


def test_every_picture_has_its_place(
    analysis: PairAnalysis, inspector: PairInspector, tokens: PairTokens
) -> None:
    drawn = list(pair_pictures(analysis, inspector, tokens, PairTraining(tokens)))
    paths = [picture.path for picture in drawn]
    assert len(set(paths)) == len(paths) == 21
    for kind in ATTENTIONS:
        assert f"{kind}_attention" in paths
        for name in ("attention/entropy", "attention/received", "qkv/qkv_statistics"):
            assert f"{name}_{kind}" in paths
    sections = {picture.section for picture in drawn}
    assert sections == {
        "Attention", "Heads compared", "Queries, keys, values", "Layers", "Gradients",
    }  # fmt: skip
    by_path = {picture.path: picture.figure for picture in drawn}
    received: Any = by_path["attention/received_cross"].axes[0]
    assert labels(received.xaxis) == COLUMNS["cross"]
    entropy: Any = by_path["attention/entropy_cross"].axes[0]
    points = next(line for line in entropy.lines if line.get_label() == "a head")
    assert points.get_ydata().tolist() == [head.entropy for head in analysis.heads["cross"]]


def test_the_json_is_documented(analysis: PairAnalysis, inspector: PairInspector) -> None:
    report = analysis.to_json()
    assert report["heads"]["cross"][3]["head"] == 1
    assert report["loss"] == inspector.loss()
    assert report["target_tokens"] == [*TARGET, "end"]
    json.dumps(report)
    page = (Path(__file__).parents[2] / "docs" / "inspection.md").read_text("utf-8")
    schema = page.split("## analysis_report.json")[1]
    for key, value in report.items():
        assert f"`{key}`" in schema, key
        by_kind = value if isinstance(value, dict) and "cross" in value else {}
        first = next(iter(by_kind.values()), value)
        first = first[0] if isinstance(first, list) and first else first
        if isinstance(first, dict) and key != "vocabulary":
            assert all(f"`{name}`" in schema for name in first), key


# -- the command ------------------------------------------------------------------------------


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> toolkit.Run:
    folder = tmp_path_factory.mktemp("run")
    shape: dict[str, Any] = {"n_layer": 1, "n_head": 1, "n_embd": 8, "device": "cpu"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where runs/latest is written
        patch.setenv("TOOLKIT_HOME", str(folder / "home"))
        patch.setattr("toolkit.pipeline.draw_if_tracked", lambda run: [])  # another test draws
        tracked: dict[str, Any] = {"track_internals": 2, "track_text": "bed"}
        return toolkit.train(task="copy:4", max_steps=2, out=folder / "r", **shape, **tracked)


class Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(dict(attrs))


@pytest.mark.slow
def test_the_report_of_a_run(
    run: toolkit.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "seen"
    options = ["--run", str(run.folder), "--target", "ab", "--out", str(folder), "--json"]
    assert call("inspect", "abc", *options) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["source"], shown["target"]) == ("abc", "ab")
    report = json.loads((folder / "analysis_report.json").read_text("utf-8"))
    assert {key: shown[key] for key in report} == report
    assert report["source_tokens"] == ["a", "b", "c", "end"]
    assert report["step"] == 2
    written = json.loads((folder / "attention.json").read_text())
    assert written["source"]["tokens"] == ["a", "b", "c", "end"]
    assert written["target"]["tokens"] == ["a", "b", "end"]
    inspector = PairInspector(run.model, [0, 1, 2, 26], [0, 1])
    for kind, pattern in ATTENTIONS.items():
        values = torch.tensor(written["weights"][pattern.replace("*", "0")])
        torch.testing.assert_close(values, inspector.attention(kind, 0), rtol=0, atol=1e-6)
    names = [
        "cross_attention", "encoder_attention", "decoder_attention", "training_curves",
        "qkv/gradient_flow", "attention/attention_evolution_cross", "qkv/logit_lens",
    ]  # fmt: skip
    for name in names:
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (folder / f"{name}.svg").read_text("utf-8").count("<svg") == 1
    content = (folder / "report.html").read_text("utf-8")
    tags = Tags(content).found
    for attributes in tags:
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("#", "data:"))
    ids = [attributes["id"] for attributes in tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert "http" not in content.replace("http://www.w3.org", "")
    assert content.count("data:image/gif;base64,") == 1
    assert "prefers-color-scheme: dark" in content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--probe", "position"], "--probe is for models that continue texts; this run translates"),
        (["--every-head"], "--every-head is for models that continue texts; this run translates"),
        (["--target", "ß"], "'ß'"),
        (["--target", "a" * 64], "A target of 65 tokens (with its end) is longer"),
        (["--out", __file__], "is a file; expected a folder"),
    ],
)
def test_misuse_is_explained_in_a_line(
    arguments: list[str], message: str, run: toolkit.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("inspect", "abc", "--run", str(run.folder), *arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (run.folder / "report").exists()


def test_a_text_has_no_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    Path("text.txt").write_text("the sun is red. " * 20)
    text = toolkit.load_corpus("text.txt")
    toolkit.train(text, "char", model="bigram", max_steps=1, device="cpu", out="t")
    for command in ("inspect", "trace"):
        assert call(command, "the sun", "--run", "t", "--target", "a") == 2
    with pytest.raises(UsageError, match="use a Generator"):
        toolkit.inspect_translation("the", "t")
