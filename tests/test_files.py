"""Files are replaced whole or not at all, also when the disk is full."""

import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from toolkit import files
from toolkit.errors import ToolkitError


def test_write_bytes_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file.bin"
    files.write_bytes(path, b"old")
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]


def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_text(path, "x")
    plain = tmp_path / "plain"
    plain.write_text("x")
    assert path.stat().st_mode == plain.stat().st_mode


def test_replace_folder_keeps_the_old_one_when_the_block_fails(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    with files.replace_folder(folder) as new:
        (new / "weights").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), files.replace_folder(folder) as new:
        (new / str(1 // 0)).write_bytes(b"new")
    assert (folder / "weights").read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]


def test_replace_folder_drops_files_of_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    with files.replace_folder(folder) as new:
        (new / "a").write_bytes(b"1")
    with files.replace_folder(folder) as new:
        (new / "b").write_bytes(b"2")
    assert [entry.name for entry in folder.iterdir()] == ["b"]


def test_recover_folder_undoes_a_crash_between_the_renames(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    old = tmp_path / ".checkpoint.old"
    old.mkdir()
    (old / "weights").write_bytes(b"old")
    files.recover_folder(folder)
    assert (folder / "weights").read_bytes() == b"old"


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs POSIX file size limits")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_disk_that_refuses_more_bytes_leaves_the_old_content(tmp_path: Path, kind: str) -> None:
    script = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        from toolkit import files
        from toolkit.errors import ToolkitError
        path, kind = Path(sys.argv[1]), sys.argv[2]
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            if kind == "file":
                files.write_bytes(path, b"n" * 5000)
            else:
                with files.replace_folder(path) as new:
                    (new / "weights").write_bytes(b"n" * 5000)
        except ToolkitError as error:
            print(error)
            sys.exit(7)
        """
    )
    path = tmp_path / "target"
    if kind == "file":
        path.write_bytes(b"old")
    else:
        path.mkdir()
        (path / "weights").write_bytes(b"old")
    command = [sys.executable, "-c", script, str(path), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "Could not write" in done.stdout
    assert "unchanged" in done.stdout
    kept = path if kind == "file" else path / "weights"
    assert kept.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]


def test_a_folder_in_the_way_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ToolkitError, match="Could not write"):
        files.write_text(tmp_path / "file" / "below", "x")


def test_replace_link_points_to_the_newest(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        files.replace_link(tmp_path / "latest", Path(name))
    assert (tmp_path / "latest").readlink() == Path("two")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["latest", "one", "two"]
