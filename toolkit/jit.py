"""How the hot loops are compiled: Numba, without the GIL, kept on disk between runs.

`kernel` marks a function that Python calls, `inlined` a small one that kernels call, `machine` one
that is written in LLVM's own instructions. With NUMBA_DISABLE_JIT=1 nothing is compiled and
`COMPILED` is False: the callers then use their plain implementations, with the same results.

Numba keeps compiled kernels in `__pycache__` beside the source, or in the user's cache folder where
that cannot be written. It notices a change in a kernel's own file but not in the files of what is
compiled into it. So the kernels that share parts lie in one folder, and `KernelFolder.prepare`
keeps a mark with a digest of all its files, and removes what was compiled from others.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from llvmlite.binding import get_host_cpu_name
from numba.extending import intrinsic

logger = logging.getLogger("toolkit")

F = TypeVar("F", bound=Callable[..., Any])

COMPILED = not cast(Any, numba).config.DISABLE_JIT


class _Notices:
    """What was said already: each of it is said once in a process."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            logger.warning(message)


_notices = _Notices()


def kernel(function: F) -> F:
    """Compile `function` when it is first called; it runs without the GIL."""
    if not COMPILED:
        return function
    try:
        return cast(F, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # Numba found no folder that it can write to
        return cast(F, numba.njit(nogil=True)(function))


def part(function: F) -> F:
    """Compile `function` for the kernels that call it; Python never does."""
    if not COMPILED:
        return function
    options: dict[str, Any] = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(F, numba.njit(**options)(function))


def inlined(function: F) -> F:
    """Compile `function` into the kernels that call it."""
    return cast(F, numba.njit(inline="always")(function)) if COMPILED else function


def machine(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make `function`, which returns a signature and a generator of LLVM code, callable in kernels.

    Its first argument is Numba's, not the caller's.
    """
    return cast(Callable[..., Any], intrinsic(function))


class _Helpers:
    """The processes that compile something, by what it is."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, what: str, call: Callable[[], Any]) -> None:
        """Begin; where no process can be started, nothing happens."""
        root = str(Path(__file__).parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        code = f"from {call.__module__} import {call.__name__}; {call.__name__}()"
        try:
            self._running[what] = subprocess.Popen(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            logger.debug("toolkit: no process to compile in: %s", error)

    def wait_for(self, what: str) -> None:
        """Wait until it has compiled, for a minute at most."""
        process = self._running.pop(what, None)
        if process is not None:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


_helpers = _Helpers()


def _touch(mark: Path) -> None:
    try:
        mark.touch()
    except OSError:  # it will be compiled again, that is all
        logger.debug("toolkit: %s could not be written", mark)


def _cache_folder(function: Callable[..., Any]) -> Path | None:
    path = function.stats.cache_path  # type: ignore[attr-defined]  # of a Numba dispatcher
    return None if path is None else Path(path)


class KernelFolder:
    """The kernels of one folder, and what was compiled from it."""

    def __init__(self, sources: Path, name: str) -> None:
        """Name them.

        Args:
            sources: the folder of all files whose code is compiled together.
            name: what a person calls them ("the BPE code").
        """
        self._sources, self._name = sources, name
        self._mark = f"{sources.name}-compiled-"
        self._digest: str | None = None

    def prepare(
        self, what: str, kernels: Sequence[Callable[..., Any]], run: Callable[[], object]
    ) -> None:
        """Have some kernels compiled by a small run, with a line that says so if it will take long.

        Args:
            what: what they are for ("training").
            kernels: those that Python calls.
            run: calls each of them with the types that it will be called with.
        """
        folder = _cache_folder(kernels[0])
        if folder is None:
            _notices.say(
                "toolkit: nowhere to keep compiled code (NUMBA_CACHE_DIR can name a folder): it is "
                "compiled anew each time, which takes some seconds"
            )
            run()
            return
        mark = folder / self._mark_of(what)
        _helpers.wait_for(what)
        if mark.exists():
            run()
            return
        if not any(folder.glob(self._mark_of("*"))):
            self._forget(folder)
        _notices.say(f"toolkit: compiling {self._name} for this machine, once (some seconds) …")
        run()
        _touch(mark)

    def prepare_beside(
        self, what: str, kernels: Sequence[Callable[..., Any]], call: Callable[[], Any]
    ) -> None:
        """Let a process of its own compile what will be needed next, while this one compiles.

        Args:
            what, kernels: as for `prepare`, which waits for it.
            call: a function of a module that calls `prepare`.
        """
        folder = _cache_folder(kernels[0])
        if folder is None or (os.cpu_count() or 1) < 2 or (folder / self._mark_of(what)).exists():
            return
        if not any(folder.glob(self._mark_of("*"))):
            self._forget(folder)
        # Or the other process would forget what this one compiles.
        _touch(folder / self._mark_of("begun"))
        _helpers.start(what, call)

    def _mark_of(self, what: str) -> str:
        return f"{self._mark}{self._digest_of_sources()[:16]}-{what}"

    def _digest_of_sources(self) -> str:
        """Of all that compiled code depends on: our sources, Numba's release, the processor."""
        if self._digest is None:
            digest = hashlib.sha256(f"{numba.__version__} {get_host_cpu_name()}".encode())
            for path in [Path(__file__), *sorted(self._sources.glob("*.py"))]:
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
            self._digest = digest.hexdigest()
        return self._digest

    def _forget(self, folder: Path) -> None:
        """Remove kernels that were compiled from other sources, and their marks."""
        names = {path.stem for path in self._sources.glob("*.py")}
        compiled = [path for path in folder.glob("*.nb[ic]") if path.name.split(".")[0] in names]
        for path in [*compiled, *folder.glob(f"{self._mark}*")]:
            path.unlink(missing_ok=True)
