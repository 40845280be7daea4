"""Curves as text: a line chart drawn in Braille dots, two by four to a character.

Nothing here knows what it draws; the result is plain text that any terminal of any width shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

# The bit of each dot in a Braille character, by column (2) and row (4); Unicode chapter 21.1.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BLANK = 0x2800


def line_chart(
    x: Sequence[float],
    y: Sequence[float],
    *,
    width: int = 60,
    height: int = 8,
    log_x: bool = False,
    log_y: bool = False,
) -> list[str]:
    """A curve through the points (x, y), as `height` lines of text plus one for the x axis.

    `width` counts characters without the labels of the y axis. Points that are not finite are
    left out, and on a logarithmic axis those that are not positive; fewer than two points that can
    be drawn give no lines.

    >>> for line in line_chart([0, 1, 2, 3], [0, 1, 2, 3], width=4, height=2):
    ...     print(line)
    3 ┤  ⡠⠊
    0 ┤⡠⠊
      └────
       0  3
    """
    points = [
        (float(a), float(b))
        for a, b in zip(x, y, strict=True)
        if math.isfinite(a + b) and (a > 0 or not log_x) and (b > 0 or not log_y)
    ]
    if len(points) < 2:
        return []
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    columns, rows = 2 * width, 4 * height
    across = _places([math.log(a) for a in xs] if log_x else xs, columns)
    up = _places([math.log(b) for b in ys] if log_y else ys, rows)
    dots = list(zip(across, up, strict=True))
    cells = [[0] * width for _ in range(height)]
    for (column, row), (next_column, next_row) in pairwise(dots):
        steps = max(abs(next_column - column), abs(next_row - row), 1)
        for step in range(steps + 1):
            c = column + round(step * (next_column - column) / steps)
            r = rows - 1 - (row + round(step * (next_row - row) / steps))
            cells[r // 4][c // 2] |= _DOTS[c % 2][r % 4]
    top, bottom = format_number(max(ys)), format_number(min(ys))
    margin = max(len(top), len(bottom))
    lines = []
    for number, cell_row in enumerate(cells):
        label = top if number == 0 else bottom if number == height - 1 else ""
        curve = "".join(chr(_BLANK + cell) if cell else " " for cell in cell_row).rstrip()
        lines.append(f"{label:>{margin}} ┤{curve}".rstrip())
    left, right = format_number(min(xs)), format_number(max(xs))
    lines.append(" " * margin + " └" + "─" * width)
    lines.append(" " * (margin + 2) + left + right.rjust(width - len(left)))
    return lines


def format_number(value: float) -> str:
    """A short label: 1234567 is "1.23M", 0.01234 is "0.0123".

    >>> format_number(1234567), format_number(1352.7), format_number(0.012345)
    ('1.23M', '1353', '0.0123')
    """
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _places(values: Sequence[float], dots: int) -> list[int]:
    """Where each value comes to lie on a line of so many dots."""
    low, high = min(values), max(values)
    if high == low:
        return [dots // 2] * len(values)
    return [round((value - low) / (high - low) * (dots - 1)) for value in values]
