"""Writing files so that nothing is ever half there: a temporary name, synced, then renamed.

Like `errors`, this sits below everything else and imports nothing else of toolkit's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut. A no-op where the OS cannot do it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Replace `path` by `data` in one step: readers see the old file or the new one, whole.

    Raises:
        ToolkitError: the file could not be written (disk full, no permission); the old one stays.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        _take_default_mode(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise ToolkitError(_could_not_write(path, error)) from error


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for text, in UTF-8 with the newlines as given."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` for a JSON value, indented by two, ending in a newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder; what is written there takes the place
    of `path` when the block succeeds. For writers that want a path rather than give bytes.

    Files that were written beside it (its data, in parts) come along, before it.

    Raises:
        ToolkitError: an OS error inside the block or while renaming (disk full, no permission).
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        yield temporary / path.name
        written = sorted(temporary.iterdir(), key=lambda file: (file.name == path.name, file.name))
        for file in written:
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
            _take_default_mode(file)
            file.replace(path.parent / file.name)
        sync_folder(path.parent)
    except OSError as error:
        raise ToolkitError(_could_not_write(path, error)) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that takes the place of `folder` when the block succeeds.

    If the block raises, the temporary folder goes and `folder` stays as it was. Between the two
    renames at the end the old folder is kept as `.<name>.old`, and `recover_folder` brings it
    back after a crash in that instant.

    Raises:
        ToolkitError: an OS error inside the block or while renaming (disk full, no permission).
    """
    temporary: Path | None = None
    old = folder.with_name(f".{folder.name}.old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        yield temporary
        for path in sorted(temporary.rglob("*")):
            if path.is_file():
                with path.open("rb+") as handle:
                    os.fsync(handle.fileno())
        temporary.chmod(0o777 & ~_umask())
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
        sync_folder(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException as error:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        recover_folder(folder)
        if isinstance(error, OSError):
            raise ToolkitError(_could_not_write(folder, error)) from error
        raise


def recover_folder(folder: Path) -> None:
    """Undo a crash between the two renames of `replace_folder`: bring the old folder back."""
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():
        old.rename(folder)


def _could_not_write(path: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"Could not write {path}: {reason}. What was there before is unchanged."


def _take_default_mode(path: Path) -> None:
    # mkstemp makes files that only their owner may read; ours are ordinary files.
    path.chmod(0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def replace_link(link: Path, target: Path) -> None:
    """Make `link` a symbolic link to `target` (relative to the link), replacing an older one.

    Where the OS refuses links (Windows without the privilege), `link` becomes a text file that
    holds the target.
    """
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(target, target_is_directory=True)
    except OSError:
        write_text(link, f"{target}\n")
        return
    temporary.replace(link)
