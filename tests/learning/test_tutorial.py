"""The pages of docs/tutorial show what their sources print."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from toolkit.learning import PAGES, exercises_of

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial"


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    pytest.importorskip("jupytext")
    spec = importlib.util.spec_from_file_location("tutorial_build", TUTORIAL / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "Agg")


def page_names() -> list[str]:
    return sorted(path.stem for path in TUTORIAL.glob("[0-9]_*.py"))


def test_there_is_a_page_for_each_set_of_exercises() -> None:
    assert page_names() == [f"{page.number}_{page.name}" for page in PAGES]


@pytest.mark.slow
@pytest.mark.parametrize("name", page_names())
def test_nothing_shown_is_stale(builder: ModuleType, name: str) -> None:
    assert builder.stale(TUTORIAL / f"{name}.py") == []


@pytest.mark.parametrize("name", page_names())
def test_a_page_names_its_exercises_and_links_to_what_is_there(name: str) -> None:
    page = (TUTORIAL / f"{name}.md").read_text("utf-8")
    for exercise in exercises_of(name[0]):
        first, _, _ = exercise.signature.partition(") ->")
        names = ", ".join(part.split(":")[0] for part in first[1:].split(", ") if ":" in part)
        assert f"`{exercise.name}({names})`" in page
    for link in re.findall(r"\]\(([^)]+)\)", page):
        assert (TUTORIAL / link).exists(), link


def test_a_page_is_a_script_that_runs_as_it_is(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, TUTORIAL / "4_averaging.py"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(TUTORIAL.parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "[2., 0.],\n        [3., 3.]," in done.stdout


def test_what_is_stale_is_found(
    builder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "HERE", tmp_path)
    source = tmp_path / "1_sums.py"
    cells = (
        "# %% [markdown]\n# # Sums\n\n# %%\nprint(1 + 1)\n\n"
        '# %% tags=["trained"]\nprint("loss 2.31")\n'
    )
    source.write_text(cells)
    builder.build(source)
    assert builder.stale(source) == []
    page = source.with_suffix(".md")
    assert page.read_text("utf-8").endswith("```text\nloss 2.31\n```\n")

    source.write_text(cells.replace("2.31", "2.34"))  # the code on the page is another one
    assert "is not on the page" in builder.stale(source)[0]
    source.write_text(cells)
    page.write_text(page.read_text("utf-8").replace("```text\n2\n", "```text\n3\n"), "utf-8")
    assert builder.stale(source) == ["1_sums.md, cell 1 shows\n3\nand prints\n2"]
    builder.build(source)
    source.with_suffix(".ipynb").write_text("{}")
    assert builder.stale(source) == ["1_sums.ipynb is not what build.py writes"]


@pytest.mark.parametrize(
    ("shown", "printed", "tags", "alike"),
    [
        ("loss 2.31", "loss 2.32", (), False),
        ("loss 2.31", "loss 2.32", ("trained",), True),
        ("loss 2.31", "loss 2.61", ("trained",), False),
        ("loss 2.31", "step 2.31", ("trained",), False),
        ("1 2", "1 2 3", ("trained",), False),
        ("a text", "another", ("sampled",), True),
        ("a text", "", ("sampled",), False),
    ],
)
def test_what_training_changes_may_differ(
    builder: ModuleType, shown: str, printed: str, tags: tuple[str, ...], alike: bool
) -> None:
    assert builder.alike(shown, printed, tags) is alike
