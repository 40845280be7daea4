"""The one folder where toolkit keeps what it can fetch or compute again.

Texts, token files, compiled kernels: nothing in it is precious, deleting it costs a download or a
rebuild. Like `errors` and `files`, this sits below everything else.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from toolkit.errors import UsageError


def toolkit_home() -> Path:
    """`$TOOLKIT_HOME`, or `toolkit` in the platform's cache folder. It may not exist yet.

    The cache folder is `$XDG_CACHE_HOME` or `~/.cache` on Linux and other Unixes,
    `~/Library/Caches` on macOS, `%LOCALAPPDATA%` on Windows.

    Raises:
        UsageError: `TOOLKIT_HOME` is not set and the user has no home folder.
    """
    chosen = os.environ.get("TOOLKIT_HOME")
    try:
        return Path(chosen).expanduser() if chosen else _cache_folder() / "toolkit"
    except RuntimeError:
        # What pathlib raises where neither $HOME nor the user database names a home folder.
        raise UsageError(
            "There is no home folder to keep a cache in: set TOOLKIT_HOME to a folder."
        ) from None


def _cache_folder() -> Path:
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    # The XDG base directory specification says to ignore a relative path.
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".cache"
