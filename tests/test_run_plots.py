"""Curves of runs: the numbers of metrics.jsonl, the figure made of them, and what is refused."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import toolkit
from toolkit.cli import main
from toolkit.errors import MissingExtraError, RunError, UnknownNameError, UsageError
from toolkit.reporting.run_curves import RunCurves, curves_figure
from toolkit.run import Run
from toolkit.run_plots import read_curves, write_training_curves

SMALL: dict[str, Any] = {
    "model": "bigram", "block_size": 8, "batch_size": 4, "eval_every": 4, "log_every": 2,
    "learning_rate": 0.1, "warmup_steps": 2, "device": "cpu", "sample_every": 0,
}  # fmt: skip

Train = Callable[..., Run]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    (tmp_path / "text.txt").write_text("she sells sea shells.\n" * 30, encoding="utf-8")
    return lambda name, **more: toolkit.train(
        "text.txt", "char", out=f"runs/{name}", **{**SMALL, "max_steps": 10, **more}
    )


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exited:
        main(list(arguments))
    return int(exited.value.code or 0)


def test_the_curves_are_the_numbers_of_metrics_jsonl(train: Train) -> None:
    run = train("one")
    rows = [json.loads(line) for line in Path("runs/one/metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["kind"] == "step"]
    evaluations = [row for row in rows if row["kind"] == "evaluation"]
    curves = read_curves(run)
    assert curves.step["step"] == [1, 2, 4, 6, 8, 10]
    for column in ("loss", "lr", "grad_norm", "tokens", "tokens_per_second"):
        assert curves.step[column] == [row[column] for row in steps]
    assert curves.evaluated["step"] == [4, 8, 10]
    assert curves.evaluated["loss"] == [row["val_loss"] for row in evaluations]
    assert curves.evaluated["tokens"] == [4 * 32, 8 * 32, 10 * 32]
    assert curves.best == curves.evaluated["loss"].index(min(curves.evaluated["loss"]))


def test_the_figure_shows_them(train: Train) -> None:
    train("one")
    plot = toolkit.plot_runs("one", out="a.png", smooth=1)
    loss, rate, norm = curves_figure(plot.curves, smooth=1).axes
    training, validation, best = (line.get_xydata().tolist() for line in loss.lines)
    (curves,) = plot.curves
    assert training == [list(p) for p in zip(*curves.logged("step", "loss"), strict=True)]
    assert validation == [list(p) for p in zip(*curves.evaluations("step", "loss"), strict=True)]
    assert best == [validation[curves.best or 0]]
    assert rate.lines[0].get_ydata().tolist() == curves.step["lr"]
    assert norm.lines[0].get_ydata().tolist() == curves.step["grad_norm"]
    (label,) = [t.get_text() for t in loss.figure.legends[0].get_texts() if "best" in t.get_text()]
    assert label == f"best {best[0][1]:.4f} at step {best[0][0]:g}"


@pytest.mark.parametrize(("best", "top"), [(0.01, 1.0), (1.5, 6.0)])
def test_beginnings_are_left_out_but_not_all(best: float, top: float) -> None:
    """Of a loss that falls to next to nothing, one sees more than its last steps."""
    rows = {"step": [1.0, 2.0, 3.0], "loss": [9.0, best + 0.2, best]}
    evaluated = {"step": [2.0, 3.0], "loss": [best + 0.3, best]}
    axes: Any = curves_figure([RunCurves("one", rows, evaluated)], y=("loss",)).axes[0]
    low, high = axes.get_ylim()
    assert high == pytest.approx(top)
    assert -0.1 * top < low <= best


def test_the_summary_is_what_run_json_says(train: Train) -> None:
    run = train("one")
    (summary,) = toolkit.plot_runs(run, out="a.svg").runs
    result = run.info.result
    assert (summary.status, summary.steps) == ("finished", 10)
    assert summary.best_val_loss == result["best_val_loss"]
    assert summary.best_step == result["best_step"]
    assert summary.best_bits_per_byte == result["best_bits_per_byte"]
    assert Path("a.svg").read_bytes().startswith(b"<?xml")


def test_many_runs_have_a_colour_and_a_name_each(train: Train) -> None:
    train("one")
    names = ["one", *(f"copy-{number}" for number in range(2, 13))]
    for name in names[1:]:
        shutil.copytree("runs/one", f"runs/{name}")
    plot = toolkit.plot_runs(names)
    assert plot.files == (Path("loss_curves.png"),)
    figure = curves_figure(plot.curves)
    assert [text.get_text().split(":")[0] for text in figure.legends[0].get_texts()] == names
    looks = {(h.get_color(), h.get_marker()) for h in figure.legends[0].get_lines()}
    assert len(looks) == 12
    # The legend is inside of the picture and below the axes.
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    lowest = min(axes.get_tightbbox().y0 for axes in figure.axes)
    assert 0 <= legend.y0 < legend.y1 <= lowest
    assert 0 <= legend.x0 < legend.x1 <= figure.bbox.x1


def test_a_running_run_may_have_half_a_line(train: Train) -> None:
    run = train("one")
    whole = read_curves(run)
    with Path("runs/one/metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 12, "lo')
    assert read_curves(run) == whole
    run.update(status="running", result={})
    assert toolkit.plot_runs(run, out="a.png").runs[0].steps == 10


def test_a_finished_training_has_its_curves(train: Train) -> None:
    run = train("one")
    picture = Path("runs/one/training_curves.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    again = write_training_curves(run)
    assert again is not None
    assert again.read_bytes() == picture
    assert toolkit.plot_runs().files == (Path("runs/one/training_curves.png"),)


def test_without_matplotlib_training_says_nothing(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run = train("one")
    assert not Path("runs/one/training_curves.png").exists()
    with pytest.raises(MissingExtraError, match=r"toolkit\[plots\]"):
        toolkit.plot_runs(run)


def test_what_cannot_be_drawn(train: Train) -> None:
    run = train("one")
    for options in ({"x": "stpe"}, {"y": ["los"]}):
        with pytest.raises(UnknownNameError, match=r"Did you mean '(step|loss)'"):
            toolkit.plot_runs(run, **options)
    with pytest.raises(UsageError, match="one or more different names"):
        toolkit.plot_runs(run, y=["loss", "loss"])
    with pytest.raises(UsageError, match="--smooth 0 must be at least 1"):
        toolkit.plot_runs(run, smooth=0)
    with pytest.raises(UsageError, match=r"--out a.pdf: figures are .png or .svg"):
        toolkit.plot_runs(run, out="a.pdf")
    with pytest.raises(UsageError, match="name at least one run"):
        toolkit.plot_runs([])
    metrics = Path("runs/one/metrics.jsonl")
    metrics.write_text('{"kind": "step", "step": 1}\n')
    with pytest.raises(RunError, match="is damaged: KeyError 'loss'"):
        toolkit.plot_runs(run)
    metrics.unlink()
    with pytest.raises(RunError, match="has measured nothing yet"):
        toolkit.plot_runs(run)


def test_the_command(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    train("one")
    train("two", learning_rate=0.01)
    assert command("plot", "one", "runs/two", "--x", "tokens", "--y", "loss,tokens_per_second") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["run", "status", "steps", "best"]
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["one", "finished", "10"],
        ["two", "finished", "10"],
    ]
    assert lines[3] == "Figure  loss_curves.png"
    assert command("plot", "one", "--out", "figures", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["files"] == ["figures/training_curves.png", "figures/training_curves.svg"]
    assert shown["runs"][0]["name"] == "one"
    assert command("plot", "-q") == 0
    assert capsys.readouterr().out == "runs/two/training_curves.png\n"
    for arguments, message in [
        (["nothing"], "No run at nothing"),
        (["--y", "loss,,lr"], "--y 'loss,,lr'"),
        (["--x", "time"], "No x axis 'time'"),
    ]:
        assert command("plot", *arguments) in (1, 2)
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
