"""How a report gets into a folder: figures, an animation, analysis_report.json and report.html."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from toolkit.files import write_bytes, write_json, write_text
from toolkit.inspection.evolution import GIF_FILE, SECTION
from toolkit.inspection.page import animation_for_page, picture_for_page
from toolkit.inspection.pictures import Picture
from toolkit.reporting.page import Markup

REPORT_FILE = "analysis_report.json"
PAGE_FILE = "report.html"


def write_report(
    folder: Path,
    findings: dict[str, Any],
    pictures: Iterable[Picture],
    animation: bytes | None,
    make_page: Callable[[list[tuple[str, Markup]]], str],
) -> list[Path]:
    """Write the report.

    Args:
        findings: for the JSON.
        pictures: drawn when they are asked for, one at a time: those of long texts are large.
        animation: a GIF; None: there is none.
        make_page: of what is on the page, each with its section.

    Returns:
        The files.

    Raises:
        ToolkitError: a file could not be written.
    """
    written: list[Path] = []
    on_page: list[tuple[str, Markup]] = []
    for picture in pictures:
        png, svg = picture.save(folder)
        written += [png, svg]
        if picture.section:
            drawing = picture_for_page(picture, svg.read_text("utf-8"))
            on_page.append((picture.section, drawing))
    if animation is not None:
        write_bytes(folder / GIF_FILE, animation)
        written.append(folder / GIF_FILE)
        on_page.append((SECTION, animation_for_page(animation)))
    write_json(folder / REPORT_FILE, findings)
    write_text(folder / PAGE_FILE, make_page(on_page))
    return [*written, folder / REPORT_FILE, folder / PAGE_FILE]
