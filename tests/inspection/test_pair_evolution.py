"""What is drawn of an encoder–decoder that was followed while it trained."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import toolkit
from toolkit.cli import main
from toolkit.errors import RunError
from toolkit.inspection import PairSnapshot
from toolkit.inspection.findings import ParameterGradient, VectorStatistics
from toolkit.inspection.pair_figures import PairTokens
from toolkit.inspection.pair_snapshots import AttentionSnapshot

pytest.importorskip("matplotlib")

from PIL import Image

from toolkit.inspection.pair_evolution import (
    of_kind,
    pair_evolution_figure,
    pair_evolution_pictures,
    pair_head_forming,
)

TOKENS = PairTokens(("a", "b", "c", "d", "end"), ("x", "y", "end"))
STEPS = range(0, 50, 10)


def attention(step: int, rows: int, columns: int, learning: tuple[int, int]) -> AttentionSnapshot:
    """Two layers of two heads, of which one learns to read the last column."""
    weights = torch.full((2, 2, rows, columns), 1 / columns)
    last = torch.zeros(rows, columns)
    last[:, -1] = 1.0
    share = step / STEPS[-1]
    weights[learning] = (1 - share) * weights[learning] + share * last
    qkv = [
        VectorStatistics(layer, head, which, 0.0, 1.0, -1.0, 1.0, 10 * layer + head + step)
        for layer in range(2)
        for which in "qkv"
        for head in range(2)
    ]
    entropy = ((1.0, 0.9), (1.0 - share, 1.0))
    return AttentionSnapshot(step, entropy, 1.1, tuple(qkv), (weights * 255).round().byte())


def made(step: int) -> PairSnapshot:
    kinds = {
        "encoder": attention(step, 5, 5, (0, 0)),
        "decoder": attention(step, 3, 3, (0, 1)),
        "cross": attention(step, 3, 5, (1, 1)),
    }
    gradient = ParameterGradient("w", (2, 2), 1.0, 2.0, 0.5, "")
    return PairSnapshot(step, (0, 1, 2, 3, 9), (4, 5), 1.0, kinds, {}, (gradient,))


SNAPSHOTS = tuple(made(step) for step in STEPS)


def labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize(
    ("kind", "head", "rows", "columns"),
    [
        ("encoder", (0, 0), TOKENS.source, TOKENS.source),
        ("decoder", (0, 1), TOKENS.target, ("begin", "x", "y")),
        ("cross", (1, 1), TOKENS.target, TOKENS.source),
    ],
)
def test_attention_from_step_to_step(
    kind: str, head: tuple[int, int], rows: tuple[str, ...], columns: tuple[str, ...]
) -> None:
    snapshots = of_kind(SNAPSHOTS, kind)
    drawn = pair_evolution_figure(snapshots, TOKENS.axes(kind))
    panels: Any = [axes for axes in drawn.axes if axes.images][:20]
    assert [axes.get_title() for axes in panels[:5]] == [f"step {step}" for step in STEPS]
    # The head that changed most comes first.
    assert panels[0].get_ylabel() == f"head {head[0]}.{head[1]}"
    for panel, snapshot in zip(panels[:5], snapshots, strict=True):
        assert np.array_equal(panel.images[0].get_array(), snapshot.weights(*head).numpy())
    assert labels(panels[15].yaxis) == list(rows)
    assert labels(panels[15].xaxis) == list(columns)
    assert all(not labels(panel.yaxis) for panel in panels[16:])


def test_curves_are_those_of_their_kind() -> None:
    drawn = {picture.path: picture.figure for picture in pair_evolution_pictures(SNAPSHOTS, TOKENS)}
    names = ("attention/attention_evolution", "attention/entropy_evolution", "qkv/qkv_evolution")
    kinds = ("cross", "encoder", "decoder")
    assert list(drawn) == [f"{name}_{kind}" for name in names for kind in kinds]
    axes: Any = drawn["attention/entropy_evolution_cross"].axes[0]
    even, *lines = axes.lines
    assert set(even.get_ydata()) == {1.1}
    expected = [s.attentions["cross"].entropy[1][0] for s in SNAPSHOTS]
    assert lines[2].get_ydata().tolist() == expected
    panels: Any = drawn["qkv/qkv_evolution_cross"].axes
    # The mean of the two heads: 10 · layer + 0.5 + step.
    assert panels[1].lines[1].get_ydata().tolist() == [10.5 + step for step in STEPS]


def test_the_animation_shows_the_head_forming() -> None:
    image: Any = Image.open(io.BytesIO(pair_head_forming(SNAPSHOTS, TOKENS)))
    assert image.n_frames == len(STEPS)
    sizes, frames = set(), []
    for frame in range(image.n_frames):
        image.seek(frame)
        sizes.add(image.size)
        frames.append(np.asarray(image.convert("L"), dtype=float))
    assert len(sizes) == 1
    # Step by step further from where it began.
    far = [np.abs(frame - frames[0]).mean() for frame in frames]
    assert far == sorted(far)
    assert far[-1] > 1


# -- the command ------------------------------------------------------------------------------


def named(figure: Any, folder: Path, name: str) -> list[Path]:
    """The files that `save_figure` writes, empty: drawing them is for the test of the report."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.png", folder / f"{name}.svg"]
    for file in files:
        file.touch()
    return files


def test_both_backends_draw_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers", reason="of the extra 'hf'")
    pytest.importorskip("accelerate", reason="of the extra 'hf'")
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("toolkit.inspection.pair_evolution.save_figure", named)
    shape = "--n-layer 1 --n-head 1 --n-embd 8 --batch-size 4 --max-steps 1 --device cpu"
    drawn = []
    for backend in ("toolkit", "huggingface"):
        command = ["train", "--task", "sort:3", "--backend", backend, "--out", backend]
        command += ["--track-internals", "1", "--track-text", "cab", *shape.split()]
        with pytest.raises(SystemExit) as caught:
            main(command)
        assert not caught.value.code
        report = Path(backend, "report")
        assert f"Seen from inside     13 figures in {report}" in capsys.readouterr().out
        drawn.append(sorted(str(file.relative_to(report)) for file in report.rglob("*.*")))
        assert (report / "attention/head_forming.gif").read_bytes()[:6] == b"GIF89a"
    assert drawn[0] == drawn[1]
    assert "attention/attention_step_1_cross.png" in drawn[0]
    assert "qkv/gradient_flow.svg" in drawn[0]
    assert len(drawn[0]) == 25
    monkeypatch.setattr("toolkit.internals.load_snapshots", lambda run: SNAPSHOTS[:1])
    with pytest.raises(RunError, match="has 1 snapshots of its inside, and nothing to compare"):
        toolkit.draw_evolution(toolkit.Run.open("toolkit"))
