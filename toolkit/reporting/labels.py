"""Texts at the points of a figure that cover neither each other nor the points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from toolkit.reporting.figures import GREY, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]  # left, bottom, right, top

_TIED_FROM = 5  # points: a text farther away needs a line to show what it belongs to

# Where a label may go, in steps from its point: beside it first, then farther away.
_DIRECTIONS: tuple[Point, ...] = (
    (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1),
    (0.5, 1), (-0.5, 1), (0.5, -1), (-0.5, -1),
)  # fmt: skip
_DISTANCES = (5, 9, 14, 20, 28, 38, 50, 64)


def label_points(
    axes: Axes,
    labels: Sequence[tuple[float, float, str]],
    *,
    avoid: Sequence[tuple[float, float]] = (),
    colors: Sequence[str] | None = None,
) -> None:
    """Write a text at each point (x, y, text) so that it covers no other text and no point.

    A text that had to go farther away is tied to its point by a line. The axes must have their
    final limits.

    Args:
        avoid: more places, in the units of the axes, where no text should be.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # settles where the axes are
    pixels = figure.dpi / 72
    to_pixels = axes.transData.transform
    points: list[Point] = [tuple(to_pixels((x, y)).tolist()) for x, y, _ in labels]
    kept_off = to_pixels(list(avoid)).tolist() if avoid else []
    taken = [_around(x, y, 2.5 * pixels) for x, y in kept_off]
    own = len(taken)
    # Wide enough that a text does not seem to belong to the wrong point.
    taken += [_around(x, y, 6 * pixels) for x, y in points]
    frame = list(axes.get_window_extent().extents)
    for number, (x, y, text) in enumerate(labels):
        color = colors[number] if colors else "black"
        note = axes.annotate(
            plain(text), (x, y), (0, 0), textcoords="offset points", fontsize=7, color=color
        )
        note.set_in_layout(False)
        size = note.get_window_extent()
        best: tuple[float, Box, int] | None = None
        for distance in _DISTANCES:
            for preference, (right, up) in enumerate(_DIRECTIONS):
                px, py = points[number]
                step = distance * pixels * (0.75 if right and up else 1.0)
                left = px + right * step - size.width * (1 - right) / 2
                bottom = py + up * step - size.height * (1 - up) / 2
                box = (left, bottom, left + size.width, bottom + size.height)
                others = [other for i, other in enumerate(taken) if i != own + number]
                own_point = _around(px, py, 3 * pixels)
                cost = 1000.0 * sum(_overlap(box, other) for other in [*others, own_point])
                cost += 1e6 * _outside(box, frame) + distance * 10 + preference
                if distance > _TIED_FROM:  # its line may cross a curve, but no text or point
                    tie = _between(points[number], _nearest(box, px, py))
                    crossed = others[own:]
                    cost += 100.0 * sum(_overlap(at, other) for at in tie for other in crossed)
                if best is None or cost < best[0]:
                    best = (cost, box, distance)
        assert best is not None
        _, box, distance = best
        px, py = points[number]
        note.set_position(((box[0] - px) / pixels, (box[1] - py) / pixels))
        if distance > _TIED_FROM:
            end = axes.transData.inverted().transform(_nearest(box, px, py))
            axes.plot(
                [x, end[0]], [y, end[1]], color=GREY, linewidth=0.5, zorder=1, label="_leader"
            )
        taken.append(box)


def _around(x: float, y: float, radius: float) -> Box:
    return (x - radius, y - radius, x + radius, y + radius)


def _nearest(box: Box, x: float, y: float) -> Point:
    """The point of a box that is nearest to (x, y)."""
    return (min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3]))


def _between(start: Point, end: Point) -> list[Box]:
    """Places along a straight line."""
    steps = [step / 12 for step in range(1, 13)]
    places = [
        (start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t) for t in steps
    ]
    return [(x, y, x, y) for x, y in places]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _outside(box: Box, frame: Sequence[float]) -> bool:
    inside = box[0] >= frame[0] and box[2] <= frame[2]
    return not (inside and box[1] >= frame[1] and box[3] <= frame[3])
