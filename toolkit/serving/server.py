"""A server as a process: a socket, uvicorn, and an orderly end."""

from __future__ import annotations

import ipaddress
import math
import os
import socket
from collections.abc import Callable, Sequence
from types import FrameType

import uvicorn
from fastapi import FastAPI

from toolkit.errors import ServingError, UsageError
from toolkit.serving.app import LOOPBACK_HOSTS
from toolkit.serving.scheduler import Scheduler

# How long uvicorn waits for connections after the texts' own time is over.
_CLOSING_SECONDS = 2


def listen(host: str, port: int) -> socket.socket:
    """A socket that clients can connect to.

    Args:
        host: a name or an address of this machine.
        port: 0 takes one that is free.

    Raises:
        UsageError: a port that cannot be, or a host that nobody knows.
        ServingError: the port is taken, or must not be used.
    """
    if not 0 <= port < 2**16:
        raise UsageError(f"--port {port} must be between 0 and {2**16 - 1}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host}: no such address.") from error
    made = socket.socket(family, kind, protocol)
    if os.name == "posix":  # else two servers could have the same port
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(address)
        made.listen()
    except OSError as error:
        made.close()
        raise ServingError(
            f"Port {port} of {host} cannot be used: {error.strerror}. Choose another by --port."
        ) from error
    return made


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server at `host`.

    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def hosts_of(host: str, allowed: Sequence[str]) -> list[str] | None:
    """The names that clients of a server at `host` may use: this machine's and the allowed ones;
    any, where others may reach it and none are said.

    >>> hosts_of("127.0.0.2", []), hosts_of("0.0.0.0", [])
    (['localhost', '127.0.0.1', '::1', '127.0.0.2'], None)
    """
    if not allowed and not is_loopback(host):
        return None
    return [*LOOPBACK_HOSTS, host, *allowed]


def url_of(listening: socket.socket) -> str:
    """Where a browser finds a server."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_server(
    app: FastAPI, listening: socket.socket, *, on_ready: Callable[[], None] | None = None
) -> None:
    """Serve an app of `make_app` until the process is told to stop (SIGINT, SIGTERM).

    Then nothing more is taken, and texts have `limits.grace` seconds to end; a second signal ends
    them at once.

    Args:
        on_ready: called when the server answers.
    """
    Server(app, on_ready=on_ready).run(sockets=[listening])


class Server(uvicorn.Server):
    """uvicorn, with an end that open streams are told of. It stops when `should_exit` is set."""

    def __init__(self, app: FastAPI, *, on_ready: Callable[[], None] | None = None) -> None:
        self._scheduler: Scheduler = app.state.scheduler
        self._on_ready = on_ready
        grace = math.ceil(self._scheduler.limits.grace) + _CLOSING_SECONDS
        super().__init__(
            uvicorn.Config(app, access_log=False, log_config=None, timeout_graceful_shutdown=grace)
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_ready is not None:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._scheduler.close()  # open streams are told, or uvicorn would wait for their end
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not uvicorn's own: that raises the signal again when all is closed, as if the process had
        # failed. Whoever stops a server wants it to end well.
        self.force_exit = self.should_exit
        self.should_exit = True
