"""The order of DESIGN: imports only go down, and never into another folder's private names."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "toolkit"

# Lowest first; names on one line do not import each other, except inside one folder.
LAYERS = [
    ["errors"],
    [
        "files",
        "home",
        "jit",
        "jsonable",
        "smoothing",
        "speedrun",
        "terminal_plot",
        "tokenizer_options",
    ],
    ["learning", "tokenizers", "models"],
    ["corpora", "shown", "tasks"],
    ["data", "reporting"],
    ["training", "generation"],
    ["fixtures", "inspection"],
    ["run"],
    ["opening", "pair_recipes", "recipes"],
    [
        "exporting",
        "fine_tuning",
        "internals",
        "run_plots",
        "serving",
        "token_files",
        "tracking",
    ],
    ["materials"],
    ["planning"],
    ["preparing"],
    ["pipeline"],
    ["comparing", "ladder", "learning_rate", "sweep_plan"],
    ["sweeping"],
    ["vocabularies"],
    ["console"],
    ["inspecting"],
    ["inspecting_pairs"],
    [
        "comparing_view",
        "fixtures_view",
        "generation_repl",
        "generation_view",
        "inspect_view",
        "ladder_view",
        "learning_view",
        "range_view",
        "run_view",
        "sweep_view",
        "token_view",
        "trace_view",
        "vocab_view",
    ],
    ["display"],
    ["commands"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> list[tuple[str, list[str]]]:
    """Each import of toolkit's own modules in `path`: (module, imported names), lazy ones too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which folder is meant"
            found.append((node.module or "", [alias.name for alias in node.names]))
        elif isinstance(node, ast.Import):
            found.extend((alias.name, []) for alias in node.names)
    return [(module, names) for module, names in found if module.split(".")[0] == "toolkit"]


def part(module: str) -> str | None:
    """The folder or file right below the package that a module belongs to."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else None


def test_every_part_has_a_layer() -> None:
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert parts - {"__init__"} == set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return  # the public names, all imported lazily
    for module, names in imports(path):
        # `from toolkit import files` names parts; `import toolkit` is for the version.
        others = [part(module)] if part(module) else [n for n in names if n != "__version__"]
        for other in others:
            if other == own:
                continue
            assert LEVEL[other] < LEVEL[own], f"{own} must not import {other} ({path})"
            private = [name for name in [*module.split("."), *names] if name.startswith("_")]
            assert not private, f"{path} takes private names from {other}: {private}"
