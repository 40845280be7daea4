"""The learner's file: written with stubs to fill in, and read again."""

from __future__ import annotations

import sys
import textwrap
import traceback
from pathlib import Path
from types import ModuleType

from toolkit import files
from toolkit.errors import UsageError
from toolkit.learning.exercise import Exercise
from toolkit.learning.pages import Page, exercises_of, find_page


def default_file(page: int | str) -> Path:
    """Where the answers of a page are unless told otherwise: `page_4.py`."""
    return Path(f"page_{find_page(page).number}.py")


def stubs(page: int | str) -> str:
    """A Python file with a function to write for each exercise of a page.

    Raises:
        UnknownNameError: there is no such page.
    """
    found = find_page(page)
    exercises = exercises_of(page)
    signatures = "".join(exercise.signature for exercise in exercises)
    imports = [
        text
        for name, text in (
            ("Callable", "from collections.abc import Callable\n"),
            ("Tensor", "import torch\nfrom torch import Tensor\n"),
        )
        if name in signatures
    ]
    head = [_heading(found), *imports]
    return "\n\n".join(["\n".join(head), *map(_stub, exercises)])


def _heading(page: Page) -> str:
    return (
        f'"""Page {page.number}, {page.name}: {page.summary}.\n\n'
        f"Check it with: toolkit learn check {page.number}\n"
        f'"""\n\nfrom __future__ import annotations\n'
    )


def _stub(exercise: Exercise) -> str:
    task = textwrap.indent(f'"""{exercise.task}\n"""', "    ", lambda line: bool(line.strip()))
    return f"{exercise.heading}\n{task}\n    raise NotImplementedError\n"


def write_stubs(page: int | str, path: Path | None = None) -> Path:
    """Write `stubs` to a file that is not there yet (`page_4.py`), and say which.

    Raises:
        UsageError: no such page, or the file exists: nobody's work is overwritten.
    """
    path = default_file(page) if path is None else path
    if path.exists():
        raise UsageError(f"{path} exists and stays as it is; give another name with --out.")
    files.write_text(path, stubs(page))
    return path


def load_answers(path: Path) -> ModuleType:
    """The learner's file as a module; it is run, as by `import`.

    Raises:
        UsageError: no such file, or Python cannot run it; the message names the line.
    """
    try:
        text = path.read_text("utf-8-sig")  # Windows editors may begin a file with a mark
    except FileNotFoundError:
        raise UsageError(
            f"There is no file {path}. Write one with: toolkit learn start N"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    module = ModuleType(f"answers_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # a dataclass looks its module up there
    before, folder = sys.path.copy(), str(path.resolve().parent)
    sys.path.insert(0, folder)  # so that page_5.py can import from page_4.py beside it
    try:
        exec(compile(text, str(path), "exec", dont_inherit=True), vars(module))
    except SyntaxError as error:
        shown = (error.text or "").strip()
        raise UsageError(f"{path}, line {error.lineno}: {error.msg}: {shown}") from error
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        raise UsageError(f"{path}{where}: {type(error).__name__}: {error}") from error
    finally:
        sys.path[:] = before
    return module
