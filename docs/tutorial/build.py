"""The pages of the tutorial from their sources: run each one, and write what it prints.

    python docs/tutorial/build.py            # all pages and notebooks
    python docs/tutorial/build.py 4 5        # some
    python docs/tutorial/build.py --check    # is anything that the pages show stale?

A source, `4_averaging.py`, is a script in cells ("percent" format: `# %%` begins a cell). From it
come `4_averaging.md`, the page to read, with what each cell printed and drew, and
`4_averaging.ipynb`, the notebook, without outputs: there they come from running it.

`--check` asks for the same text, cell by cell. Two tags say where another machine may round
otherwise: in cells with the tag "trained" numbers may differ by TOLERANCE, and what "sampled" cells
print (text that a trained model writes) may be another one. Needs `pip install 'toolkit[dev]'`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jupytext
import nbformat

HERE = Path(__file__).parent
TOLERANCE = 0.05  # of a loss in nats, and relatively of larger numbers
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Cell:
    """A cell of a source: its kind ("markdown" or "code"), its text and its tags."""

    kind: str
    source: str
    tags: tuple[str, ...]


@dataclass
class Output:
    """What a cell printed, and the pictures that it drew, as PNG."""

    text: str = ""
    pictures: list[bytes] = field(default_factory=list)


def sources(pages: Sequence[str] = ()) -> list[Path]:
    """The sources of these pages, by number; of all without any."""
    found = sorted(HERE.glob("[0-9]_*.py"))
    return [path for path in found if not pages or path.name[0] in pages]


def read_cells(path: Path) -> list[Cell]:
    """The cells of a source."""
    notebook = jupytext.read(path, fmt="py:percent")
    return [
        Cell(cell.cell_type, cell.source, tuple(cell.metadata.get("tags", ())))
        for cell in notebook.cells
    ]


def run_cells(cells: Sequence[Cell], name: str) -> list[Output]:
    """Run the code of a page in an empty folder, one thread and no window."""
    import torch

    torch.set_num_threads(1)
    names: dict[str, object] = {"__name__": "__main__"}
    outputs = []
    with in_empty_folder():
        for number, cell in enumerate(cells):
            output = Output()
            if cell.kind == "code":
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile(cell.source, f"{name}, cell {number}", "exec"), names)
                output = Output(printed.getvalue().rstrip("\n"), drawn())
            outputs.append(output)
    return outputs


@contextlib.contextmanager
def in_empty_folder() -> Iterator[None]:
    """Pages write runs and files: not here."""
    home = os.environ.get("TOOLKIT_HOME")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["TOOLKIT_HOME"] = folder
        try:
            yield
        finally:
            del os.environ["TOOLKIT_HOME"]
            if home is not None:
                os.environ["TOOLKIT_HOME"] = home


def drawn() -> list[bytes]:
    """The figures that are open, as PNG; closes them."""
    if "matplotlib.pyplot" not in sys.modules:
        return []
    from matplotlib import pyplot

    pictures = []
    for number in pyplot.get_fignums():
        data = io.BytesIO()
        pyplot.figure(number).savefig(data, dpi=80, bbox_inches="tight", metadata={"Software": ""})
        pictures.append(data.getvalue())
    pyplot.close("all")
    return pictures


def picture_names(name: str, outputs: Sequence[Output]) -> list[list[str]]:
    """The file of each picture of each cell: 4_averaging_1.png, …"""
    names, count = [], 0
    for output in outputs:
        numbers = range(count + 1, count + 1 + len(output.pictures))
        names.append([f"{name}_{number}.png" for number in numbers])
        count += len(output.pictures)
    return names


def write_page(name: str, cells: Sequence[Cell], outputs: Sequence[Output]) -> str:
    """The page in Markdown."""
    parts = []
    files = picture_names(name, outputs)
    for cell, output, pictures in zip(cells, outputs, files, strict=True):
        if cell.kind == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        if output.text:
            parts.append(f"```text\n{output.text}\n```")
        parts.extend(f"![What the code above draws](images/{file})" for file in pictures)
    made = f"<!-- Made by build.py from {name}.py: change that file. -->"
    return "\n\n".join([made, *parts]) + "\n"


def write_notebook(cells: Sequence[Cell]) -> str:
    """The notebook, without outputs; the same cells give the same text."""
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    made = [make[cell.kind](cell.source, id=f"cell-{number}") for number, cell in enumerate(cells)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel})
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


# -- is it stale? -----------------------------------------------------------------------------


def shown_outputs(page: str, cells: Sequence[Cell]) -> list[str]:
    """What a page says that each of its cells prints, in the order of the cells.

    Raises:
        ValueError: its code is not that of the cells.
    """
    shown, place = [], 0
    for number, cell in enumerate(cells):
        wanted = cell.source if cell.kind == "markdown" else f"```python\n{cell.source}\n```"
        found = page.find(wanted, place)
        if found < 0:
            raise ValueError(f"cell {number} is not on the page: {cell.source.splitlines()[0]}")
        place = found + len(wanted)
        text = ""
        if cell.kind == "code" and page.startswith("\n\n```text\n", place):
            end = page.index("\n```", place + len("\n\n```text"))
            text = page[place + len("\n\n```text\n") : end]
            place = end
        shown.append(text)
    return shown


def alike(shown: str, printed: str, tags: Sequence[str]) -> bool:
    """Whether what a cell prints is what the page shows, as far as its tags ask."""
    if "sampled" in tags:
        return bool(shown) == bool(printed)
    if "trained" not in tags:
        return shown == printed
    if _NUMBER.sub("#", shown).split() != _NUMBER.sub("#", printed).split():
        return False
    both = zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=True)
    return all(
        abs(float(left) - float(right)) <= TOLERANCE * max(1.0, abs(float(left)))
        for left, right in both
    )


def stale(path: Path) -> list[str]:
    """What the committed page and notebook of a source show that is no longer so, a line each."""
    page = path.with_suffix(".md")
    cells = read_cells(path)
    committed = page.read_text("utf-8")
    try:
        shown = shown_outputs(committed, cells)
    except ValueError as error:
        return [f"{page.name}: {error}"]
    outputs = run_cells(cells, path.name)
    found = [
        f"{page.name}, cell {number} shows\n{left}\nand prints\n{output.text}"
        for number, (cell, left, output) in enumerate(zip(cells, shown, outputs, strict=True))
        if not alike(left, output.text, cell.tags)
    ]
    as_shown = [Output(text, out.pictures) for text, out in zip(shown, outputs, strict=True)]
    if not found and write_page(path.stem, cells, as_shown) != committed:
        found.append(f"{page.name} is not what build.py writes")
    if path.with_suffix(".ipynb").read_text("utf-8") != write_notebook(cells):
        found.append(f"{path.stem}.ipynb is not what build.py writes")
    files = [file for of_cell in picture_names(path.stem, outputs) for file in of_cell]
    return found + [f"images/{f} is missing" for f in files if not (HERE / "images" / f).exists()]


def build(path: Path) -> None:
    """Write the page, its pictures and the notebook of a source."""
    from toolkit.files import write_bytes, write_text

    cells = read_cells(path)
    outputs = run_cells(cells, path.name)
    write_text(path.with_suffix(".md"), write_page(path.stem, cells, outputs))
    write_text(path.with_suffix(".ipynb"), write_notebook(cells))
    for old in (HERE / "images").glob(f"{path.stem}_*.png"):
        old.unlink()
    for files, output in zip(picture_names(path.stem, outputs), outputs, strict=True):
        for file, picture in zip(files, output.pictures, strict=True):
            write_bytes(HERE / "images" / file, picture)


def main() -> int:
    """Build or check; exits with 1 where something is stale."""
    parser = argparse.ArgumentParser(description="Write or check the pages of the tutorial.")
    parser.add_argument("pages", nargs="*", metavar="N", help="their numbers; default all")
    parser.add_argument("--check", action="store_true", help="write nothing, say what is stale")
    options = parser.parse_args()
    found = []
    for path in sources(options.pages):
        if options.check:
            found += stale(path)
        else:
            build(path)
            print(f"wrote {path.stem}.md and .ipynb")
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "Agg"
    sys.exit(main())
