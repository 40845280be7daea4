"""What is drawn of a training that was followed, and the command that follows it."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import toolkit
from toolkit.cli import main
from toolkit.errors import RunError
from toolkit.inspection import Snapshot
from toolkit.inspection.findings import ParameterGradient, VectorStatistics

pytest.importorskip("matplotlib")

from PIL import Image

from toolkit.inspection.evolution import changes, head_forming
from toolkit.inspection.evolution_figures import (
    attention_evolution_figure,
    entropy_evolution_figure,
    qkv_evolution_figure,
    spread_out,
)
from toolkit.inspection.layer_figures import gradient_figure

TOKENS = ["a", "b", "c", "d"]
STEPS = range(0, 50, 5)


def made(step: int) -> Snapshot:
    """Two layers of two heads: 1.0 learns to look back, 0.1 a little, the others stay even."""
    share = step / STEPS[-1]
    even = torch.ones(4, 4).tril() / torch.arange(1, 5)[:, None]
    back = torch.eye(4).roll(1, 0)
    back[0] = torch.eye(4)[0]
    weights = torch.stack([even, even, even, even]).view(2, 2, 4, 4)
    weights[1, 0] = (1 - share) * even + share * back
    weights[0, 1] = (1 - share / 4) * even + share / 4 * back
    qkv = [
        VectorStatistics(layer, head, which, 0.0, 1.0, -1.0, 1.0, 10 * layer + head + step)
        for layer in range(2)
        for which in "qkv"
        for head in range(2)
    ]
    entropy = ((1.0, 0.9), (1.0 - share, 1.0))
    gradient = ParameterGradient("w", (2, 2), 10.0 ** (-share), 2.0, 0.5, "")
    still = ParameterGradient("dead", (2,), 0.0, 1.0, 0.0, "dead")
    attention = (weights * 255).round().byte()
    return Snapshot(
        step, (0, 1, 2, 3), 1.0, entropy, 1.0, tuple(qkv), (), (gradient, still), attention
    )


SNAPSHOTS = tuple(made(step) for step in STEPS)


def test_the_head_that_changed_most_comes_first() -> None:
    assert changes(SNAPSHOTS)[:2] == [(1, 0), (0, 1)]
    assert set(changes(SNAPSHOTS)) == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_attention_from_step_to_step() -> None:
    drawn = attention_evolution_figure(SNAPSHOTS, TOKENS, [(1, 0), (0, 1)])
    panels: list[Any] = [axes for axes in drawn.axes if axes.images][:12]
    shown = spread_out(SNAPSHOTS)
    assert [s.step for s in shown] == [0, 10, 20, 25, 35, 45]
    assert [axes.get_title() for axes in panels[:6]] == [f"step {s.step}" for s in shown]
    assert [panels[0].get_ylabel(), panels[6].get_ylabel()] == ["head 1.0", "head 0.1"]
    for axes, snapshot in zip(panels, [*shown, *shown], strict=True):
        layer, head = (1, 0) if axes in panels[:6] else (0, 1)
        assert np.array_equal(axes.images[0].get_array(), snapshot.weights(layer, head).numpy())
        assert axes.images[0].get_clim() == (0, 1)


def test_curves_of_entropy_and_lengths() -> None:
    axes: Any = entropy_evolution_figure(SNAPSHOTS).axes[0]
    even, *lines = axes.lines
    assert set(even.get_ydata()) == {1.0}
    assert [line.get_label() for line in lines] == ["layer 0", "layer 0", "layer 1", "layer 1"]
    assert lines[2].get_xdata().tolist() == list(STEPS)
    assert lines[2].get_ydata().tolist() == [s.entropy[1][0] for s in SNAPSHOTS]
    panels: Any = qkv_evolution_figure(SNAPSHOTS).axes
    assert [axes.get_title() for axes in panels] == ["queries", "keys", "values"]
    for axes in panels:
        # The mean of the two heads: 10 · layer + 0.5 + step.
        assert axes.lines[1].get_ydata().tolist() == [10.5 + step for step in STEPS]


def test_gradients_over_the_training() -> None:
    drawn = gradient_figure(SNAPSHOTS[-1].gradients, SNAPSHOTS)
    axes: Any = next(axes for axes in drawn.axes if axes.images)
    values = np.ma.filled(axes.images[0].get_array().astype(float), np.nan)
    assert values[0].tolist() == pytest.approx([-step / 45 for step in STEPS])
    assert np.isnan(values[1]).all()  # without a gradient there is no logarithm
    names = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert names == ["w", "dead (dead)"]


def test_the_animation_shows_the_head_forming() -> None:
    image: Any = Image.open(io.BytesIO(head_forming(SNAPSHOTS, TOKENS)))
    assert image.n_frames == len(STEPS)
    sizes, durations, frames = set(), [], []
    for frame in range(image.n_frames):
        image.seek(frame)
        sizes.add(image.size)
        durations.append(image.info["duration"])
        frames.append(np.asarray(image.convert("L"), dtype=float))
    assert len(sizes) == 1
    assert durations[-1] > durations[0] > 0
    # Step by step further from where it began.
    far = [np.abs(frame - frames[0]).mean() for frame in frames]
    assert far == sorted(far)
    assert far[-1] > 1


# -- the command ------------------------------------------------------------------------------


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    return int(exit_.value.code or 0)


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("the sun is red, the moon is pale.\n" * 40)
    shape = "--n-layer 2 --n-head 2 --n-embd 16 --block-size 24 --batch-size 4 --device cpu"
    return ["train", "-c", "text.txt", "-t", "char", "--max-steps", "4", *shape.split()]


@pytest.mark.slow
def test_train_draws_what_it_followed(text: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    tracking = ["--track-internals", "4", "--track-text", "the moon is"]
    assert command(*text, *tracking, "--out", "run") == 0
    assert "Seen from inside     7 figures in run/report" in capsys.readouterr().out
    report = Path("run/report")
    names = [
        "attention/attention_evolution", "attention/entropy_evolution", "qkv/qkv_evolution",
        "qkv/gradient_flow", "attention/attention_step_0", "attention/attention_step_4",
    ]  # fmt: skip
    for name in names:
        assert (report / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (report / f"{name}.svg").read_text("utf-8").count("<svg") == 1
    assert (report / "attention/head_forming.gif").read_bytes()[:6] == b"GIF89a"


def test_debug_walks_through_the_next_step(
    text: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*text, "--debug", "--out", "first") == 0
    page = capsys.readouterr().out
    assert "The next step begins with these 16 tokens." in page
    assert "layer 1 · Attention weights   w = softmax(s)" in page
    assert "(B, H, T, S) = 1 × 2 × 16 × 16" in page
    assert page.index("What could come next") < page.index("Done after 4 steps")
    assert command(*text, "--out", "second") == 0
    first, second = (Path(name, "model.safetensors").read_bytes() for name in ("first", "second"))
    assert first == second
    capsys.readouterr()
    assert command(*text, "--debug", "--json", "--out", "third") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    walk = next(event for event in events if event["event"] == "Walk")
    run = toolkit.Run.open("third")
    # The first tokens of the first batch.
    dataset = toolkit.TokenDataset.open(run.info.corpus["tokens"])
    loader = toolkit.BatchLoader(dataset, batch_size=4, block_size=24, seed=0)
    expected = loader.next_batch()[0][0, :16].tolist()
    assert [token["id"] for token in walk["tokens"]] == expected


def test_nothing_to_draw(text: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*text, "--quiet", "--track-internals", "9", "--out", "run") == 0
    assert capsys.readouterr().out == "run\n"
    assert not Path("run/report").exists()
    with pytest.raises(RunError, match="has 1 snapshots of its inside, and nothing to compare"):
        toolkit.draw_evolution(toolkit.Run.open("run"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--track-text sun", "--track-text needs --track-internals N"),
        ("--track-internals 2 --track-text é", "'é'"),
        ("--track-internals 2 --find-lr", "--track-internals cannot be given with --find-lr"),
    ],
)
def test_misuse_is_explained_in_a_line(
    options: str, message: str, text: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*text, *options.split(), "--out", "run", "--quiet") == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not Path("run").exists()
