"""Kernels are compiled once, and it is said once: with the smallest kernel there can be."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

KERNEL = """
    from pathlib import Path

    from toolkit.jit import KernelFolder, kernel


    @kernel
    def double(number):
        return FACTOR * number


    def prepare():
        folder = KernelFolder(Path(__file__).parent, "the code of the test")
        folder.prepare("doubling", [double], lambda: double(21))
        folder.prepare("doubling", [double], lambda: double(21))
        print(double(21), double.stats.cache_hits)
"""
SAID = "toolkit: compiling the code of the test for this machine, once (some seconds) …\n"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with one module, `doubling`."""
    folder = tmp_path / "sources"
    folder.mkdir()
    write(folder, factor=2)
    return folder


def write(folder: Path, factor: int) -> None:
    text = textwrap.dedent(KERNEL).replace("FACTOR", str(factor))
    (folder / "doubling.py").write_text(text)


def run(sources: Path, cache: Path | None, before: str = "") -> tuple[str, str]:
    """What a process prints that prepares the kernel twice and calls it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = str(cache)
    code = f"{before}import sys; sys.path.insert(0, {str(sources)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}import doubling; doubling.prepare()"],
        env=environment, capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr


def test_it_says_once_that_it_compiles_and_then_never_again(sources: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run(sources, cache) == ("42 Counter()\n", SAID)
    output, said = run(sources, cache)
    assert said == ""
    assert output.startswith("42 Counter({")  # read from the folder, not compiled
    # Of other sources it is compiled anew, and what was compiled before is gone.
    before = {path.name for path in cache.rglob("*-compiled-*")}
    write(sources, factor=3)
    assert run(sources, cache) == ("63 Counter()\n", SAID)
    after = {path.name for path in cache.rglob("*-compiled-*")}
    assert len(before) == len(after) == 1
    assert before != after


def test_without_a_folder_to_keep_code_in_it_works_and_says_so_once(sources: Path) -> None:
    # Numba looks for a folder through these classes; none of them finds one here.
    code = """
        import numba.core.caching as caching
        caching.CacheImpl._locator_classes = []
        for kind in caching.CacheImpl.__subclasses__():
            kind._locator_classes = []
    """
    output, said = run(sources, None, before=textwrap.dedent(code))
    assert output.startswith("42")
    assert said.count("nowhere to keep compiled code (NUMBA_CACHE_DIR can name a folder)") == 1
    assert said.count("\n") == 1


def test_where_nothing_is_compiled_nothing_is_said(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    code = "import doubling; print(doubling.double(21))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(sources), *sys.path])},
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("42\n", "")
