"""What every request passes before anything else looks at it.

- Where only this machine may ask, the Host header must name it, so that a page of another site
  cannot reach the server through a name that it lets point here (DNS rebinding); and a page may
  only ask the server that it came from (the Origin header). Answers never allow other origins
  (CORS).
- With an API key, every request but those for open paths must have it.
- A body must not be larger than the limit.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toolkit.serving.refusals import ApiError


class Guard:
    """An ASGI app in front of another."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str] | None,
        api_key: str | None,
        open_paths: Collection[str],
        max_body: int,
    ) -> None:
        """Guard `app`.

        Args:
            hosts: the names that a Host header may have; None: any.
            api_key: what a client must know; None: nothing.
            open_paths: the paths for which it need not.
            max_body: bytes.
        """
        self._app = app
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._api_key, self._open_paths, self._max_body = api_key, open_paths, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_origin(headers)
            self._check_key(headers, scope["path"])
            self._check_length(headers)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        await self._app(scope, self._limited(receive), send)

    def _check_origin(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            raise ApiError(
                403,
                "The Host header names another machine: this server answers to "
                f"{', '.join(sorted(self._hosts))}. Allow more with --allow-host.",
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise ApiError(
                403, "Pages of other sites may not ask this server.", code="origin_not_allowed"
            )

    def _check_key(self, headers: Headers, path: str) -> None:
        if self._api_key is None or path in self._open_paths:
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        # In constant time: how long a comparison takes says nothing of the key.
        same = secrets.compare_digest(key.strip().encode(), self._api_key.encode())
        if scheme.lower() != "bearer" or not same:
            raise ApiError(
                401,
                "A wrong API key, or none: send it as 'Authorization: Bearer KEY'.",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._max_body:
            raise ApiError(413, self._too_long())

    def _too_long(self) -> str:
        return f"The request is too long: at most {self._max_body:,} bytes."

    def _limited(self, receive: Receive) -> Receive:
        """`receive` for a body whose length was not said, or not truly."""
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body:
                raise HTTPException(413, self._too_long())
            return message

        return limited


def _name_of(host: str) -> str:
    """The name of a Host header, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
