"""The look of figures, their files, and that nothing outside is needed or changed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import MissingExtraError
from toolkit.reporting.figures import (
    new_figure,
    paper_style,
    render,
    require_plots,
    save_figure,
    series_style,
    svg_for_page,
)
from toolkit.reporting.labels import label_points


def drawing(label: str = "a line") -> Any:
    with paper_style():
        figure = new_figure(2.0)
        axes: Any = figure.subplots()
        axes.plot([1, 2, 3], [1, 4, 9], label=label)
        axes.legend()
    return figure


def test_save_figure_writes_both_formats(tmp_path: Path) -> None:
    paths = save_figure(drawing(), tmp_path / "new", "curve")
    assert [path.name for path in paths] == ["curve.png", "curve.svg"]
    png, svg = (path.read_bytes() for path in paths)
    assert png.startswith(b"\x89PNG")
    # The header gives the size: 3.5 x 2 inches at 200 dots each.
    assert [int.from_bytes(png[i : i + 4], "big") for i in (16, 20)] == [700, 400]
    assert b'width="252pt" height="144pt"' in svg
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["curve.png", "curve.svg"]


@pytest.mark.parametrize("file_format", ["png", "svg"])
def test_the_same_figure_gives_the_same_bytes(file_format: str) -> None:
    figure = drawing()
    first = render(figure, file_format)
    assert first == render(figure, file_format) == render(drawing(), file_format)
    assert b"Date" not in first
    assert b"dc:date" not in first


def test_settings_of_the_caller_neither_matter_nor_change() -> None:
    import matplotlib

    expected = render(drawing(), "svg")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "text.usetex": True}):
        assert render(drawing(), "svg") == expected
        assert matplotlib.rcParams["font.size"] == 30
    assert matplotlib.rcParams["svg.hashsalt"] is None


def test_matplotlib_is_imported_to_draw_and_pyplot_never() -> None:
    # In a process of its own: other tests may have imported either.
    script = """
import sys
from toolkit.reporting import VocabReport, vocab_report, vocab_pictures
from toolkit.reporting.figures import new_figure, paper_style, render
assert "matplotlib" not in sys.modules
with paper_style():
    figure = new_figure(1.0)
render(figure, "png")
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = r"^drawing figures needs an optional package: pip install 'toolkit\[plots\]'$"
    with pytest.raises(MissingExtraError, match=message):
        require_plots()
    with pytest.raises(MissingExtraError, match=message), paper_style():
        pass


def test_series_can_be_told_apart_without_colour() -> None:
    looks = [series_style(number) for number in range(12)]
    assert len({look.marker for look in looks}) == 12
    assert len({(look.color, look.hatch) for look in looks}) == 12
    assert len({(look.color, str(look.line)) for look in looks}) == 12


def test_svg_for_page_stands_alone_and_keeps_ids_apart() -> None:
    svg = svg_for_page(drawing(), "growth", 'of "a" & <b>')
    assert svg.startswith("<svg")
    assert 'role="img" aria-label="of &quot;a&quot; &amp; &lt;b&gt;"' in svg
    assert "http" not in svg
    assert "<!--" not in svg
    ids = [part.split('"')[0] for part in svg.split(' id="')[1:]]
    assert ids
    assert all(name.startswith("growth-") for name in ids)
    used = [part.split('"')[0] for part in svg.split('href="#')[1:]]
    used += [part.split(")")[0] for part in svg.split("url(#")[1:]]
    assert used
    assert set(used) <= set(ids)


def test_labels_cover_neither_each_other_nor_points() -> None:
    points = [(x / 10, 1 + x / 50, f"tokenizer {x}") for x in range(6)] + [(5, 5, "far")]
    with paper_style():
        figure = new_figure(3.0)
        axes: Any = figure.subplots()
        for x, y, _ in points:
            axes.plot(x, y, "o")
        axes.set(xlim=(-2, 7), ylim=(0, 6))
        label_points(axes, points)
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.texts]
        assert [text.get_text() for text in axes.texts] == [text for _, _, text in points]
        for number, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[number + 1 :])
            for x, y, _ in points:
                assert not box.contains(*axes.transData.transform((x, y)))
            frame = axes.get_window_extent()
            assert frame.x0 <= box.x0 <= box.x1 <= frame.x1
