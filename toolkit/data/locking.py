"""A lock between processes, held through an open file.

The operating system frees it when its holder dies, however it dies, so no stale lock can stay
behind. Leaves out shared (reader) locks.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from toolkit.errors import RunError

_POLL_SECONDS = 0.05


@contextlib.contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock at `path` during the block; wait while another process or thread has it.

    The file is made where it is missing and removed in the end.

    Raises:
        RunError: the file cannot be made, or its file system has no locks.
    """
    descriptor = _acquire(path)
    try:
        yield
    finally:
        # Removed while still locked: whoever waits on the removed file notices (see _acquire).
        # Windows refuses to remove an open file; there the empty file stays.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path) -> int:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise RunError(f"Could not make {path}: {error.strerror}.") from error
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise RunError(
                f"Could not lock {path}: {error.strerror}. Choose a folder on a local disk."
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        try:
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        # The former holder removed the file while we waited: lock the one that is there now.
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        while True:
            try:
                return msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            except PermissionError:
                time.sleep(_POLL_SECONDS)

else:
    import errno
    import fcntl

    def _lock(descriptor: int) -> None:
        # Polled rather than blocking: Ctrl-C then works in every thread.
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                    raise
            time.sleep(_POLL_SECONDS)
