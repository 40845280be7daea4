"""The look of every figure, and how it gets into a file.

A figure is as wide as a column of a paper, so that it goes in unscaled and its text has the size of
a caption. Series differ in colour (Okabe and Ito 2008, "Color universal design"), in marker and in
line style, so that they can be told apart by everyone and in grey.

Figures are matplotlib `Figure` objects without pyplot: no display is needed, nothing is kept alive
in the background, and the settings of the caller's matplotlib neither change nor matter. matplotlib
is an extra and is imported only when something is drawn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import MissingExtraError
from toolkit.files import write_bytes
from toolkit.terminal_plot import format_number

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH = 3.5  # inches: one column of a two-column page
PNG_DPI = 200

# Okabe–Ito without its yellow, which does not show as a line on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#595959"
_MARKERS = "os^DvP*X<>hp"
_LINES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
_HATCHES = ("", "////", "....", "xxxx")

_STYLE = {
    "axes.grid": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure on every machine
    "font.size": 7.5,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "svg.fonttype": "path",  # a paper's reader need not have the font
    "svg.hashsalt": "toolkit",  # otherwise ids are random
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
    "ytick.minor.size": 0,
}


@dataclass(frozen=True)
class SeriesStyle:
    """How one of several series is drawn everywhere in a report."""

    color: str
    marker: str
    line: Any
    hatch: str


def series_style(number: int) -> SeriesStyle:
    """The look of the series `number`, counted from 0. The first 12 have markers of their own."""
    return SeriesStyle(
        color=PALETTE[number % len(PALETTE)],
        marker=_MARKERS[number % len(_MARKERS)],
        line=_LINES[number % len(_LINES)],
        hatch=_HATCHES[number // len(PALETTE) % len(_HATCHES)],
    )


def require_plots() -> None:
    """Check that figures can be drawn; worth asking before hours of work.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401 (whether it is there is all that is asked)
    except ImportError as error:
        raise MissingExtraError("plots", "drawing figures") from error


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw and save in here: matplotlib's own defaults, then ours, whatever the caller has set.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require_plots()
    from matplotlib import style

    with style.context(["default", _STYLE]):
        yield


def new_figure(height: float, *, width: float = WIDTH) -> Figure:
    """An empty figure of so many inches, whose parts make room for each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


# -- files ------------------------------------------------------------------------------------


def render(figure: Figure, file_format: str) -> bytes:
    """The bytes of a "png" or "svg" file: the same for the same figure, without a date.

    `Figure.savefig` draws all of it twice where there is a layout, the first time for the layout
    alone. Each canvas makes the layout as well, before it draws, so it is asked for its file here.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    data = io.BytesIO()
    canvas, dpi = figure.canvas, figure.dpi
    try:
        with paper_style():
            figure.set_dpi(PNG_DPI)
            if file_format == "svg":
                svg: Any = FigureCanvasSVG(figure)
                svg.print_svg(data, metadata={"Date": None})
            else:
                png: Any = FigureCanvasAgg(figure)
                png.print_png(data, metadata={"Software": None})
    finally:
        figure.set_canvas(canvas)
        figure.set_dpi(dpi)
    return data.getvalue()


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name`.png and `name`.svg into `folder`, each in one step.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ToolkitError: a file could not be written.
    """
    paths = []
    layout = figure.get_layout_engine()
    try:
        for file_format in ("png", "svg"):
            path = folder / f"{name}.{file_format}"
            write_bytes(path, render(figure, file_format))
            paths.append(path)
            figure.set_layout_engine("none")  # what was found for the first file does for the next
    finally:
        figure.set_layout_engine(layout)
    return paths


def svg_for_page(figure: Figure, name: str, label: str) -> str:
    """The figure as an `<svg>` element to be put into a page; see `svg_in_page`."""
    return svg_in_page(render(figure, "svg").decode("utf-8"), name, label)


def svg_in_page(svg: str, name: str, label: str) -> str:
    """The content of an SVG file as an element to be put into a page.

    Args:
        name: precedes its ids, so that several figures fit into a page; letters and hyphens.
        label: what it shows, for those who do not see it; without markup.
    """
    from html import escape

    svg = svg[svg.index("<svg") :]
    for part in (r"<!--.*?-->\s*", r"<metadata>.*?</metadata>\s*", r' xmlns(:\w+)?="[^"]*"'):
        svg = re.sub(part, "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    # The page says how wide; the height follows from the viewBox.
    opening = re.sub(r' (width|height)="[^"]*"', "", svg[: svg.index(">")])
    return f'{opening} role="img" aria-label="{escape(label)}"{svg[svg.index(">") :]}'.strip()


# -- text -------------------------------------------------------------------------------------


def plain(text: str, *, most: int = 34) -> str:
    r"""Text that matplotlib shows as it is, without its middle where it is too long for a column.

    >>> plain("a$b$")  # "$" would begin a formula
    'a\\$b\\$'
    >>> plain("hf:/a/very/long/path/tokenizer.json", most=24)
    'hf:/a/ver…tokenizer.json'
    """
    if len(text) > most:
        start = (most - 1) * 2 // 5
        text = f"{text[:start]}…{text[start + 1 - most :]}"
    text = text.replace("$", r"\$")
    # matplotlib leaves names that begin with "_" out of a legend.
    return f" {text}" if text.startswith("_") else text


def number_label(value: float) -> str:
    """A number at an axis or a point.

    >>> number_label(12000), number_label(250_000), number_label(0.25)
    ('12,000', '250k', '0.25')
    """
    if abs(value) < 1e5 and value == int(value):
        return f"{int(value):,}"
    return format_number(value)


def plain_numbers(axis: Axis, *, most: int | None = None, whole: bool = False) -> None:
    """Label an axis with `number_label`; on a linear one with about `most` ticks.

    `whole` is for counts: no tick between two whole numbers.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_formatter(FuncFormatter(lambda value, _: number_label(value)))
    if most is not None:
        axis.set_major_locator(MaxNLocator(most, integer=whole, steps=[1, 2, 2.5, 5, 10]))


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """A legend under the axes, where it hides nothing, in two columns if they fit."""
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    columns = 2 if longest <= 21 and len(handles) > 1 else 1
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def legend_height(labels: Iterable[str]) -> float:
    """About how many inches `legend_below` takes."""
    shown = list(labels)
    columns = 2 if max(map(len, shown), default=0) <= 21 else 1
    return 0.15 * -(-len(shown) // columns) + 0.1
