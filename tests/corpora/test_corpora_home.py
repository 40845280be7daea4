"""Where the cache is: an explicit folder, else each platform's own place."""

import sys
from pathlib import Path

import pytest

from toolkit.errors import UsageError
from toolkit.home import toolkit_home


def test_an_explicit_folder_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "mine"))
    assert toolkit_home() == tmp_path / "mine"
    assert not toolkit_home().exists()


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "home/.cache/toolkit"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "home/.cache/toolkit"),
        ("linux", {"XDG_CACHE_HOME": "{tmp}/xdg"}, "xdg/toolkit"),
        ("darwin", {"XDG_CACHE_HOME": "{tmp}/xdg"}, "home/Library/Caches/toolkit"),
        ("win32", {"LOCALAPPDATA": "{tmp}/local"}, "local/toolkit"),
        ("win32", {}, "home/AppData/Local/toolkit"),
    ],
)
def test_platform_folders(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    platform: str,
    environment: dict[str, str],
    expected: str,
) -> None:
    for name in ("TOOLKIT_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    monkeypatch.setattr(sys, "platform", platform)
    assert toolkit_home() == tmp_path / expected


def test_no_home_folder_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_HOME", "~no-such-user-here/cache")
    with pytest.raises(UsageError, match="set TOOLKIT_HOME to a folder"):
        toolkit_home()
