"""The HTTP interface: OpenAI's completions, the models, health and metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

import toolkit
from toolkit.errors import ToolkitError, UsageError
from toolkit.generation import Generator
from toolkit.serving import refusals
from toolkit.serving.api import (
    Choice,
    CompletionRequest,
    CompletionResponse,
    ErrorResponse,
    Health,
    ModelCard,
    ModelList,
)
from toolkit.serving.completions import Completions, read_prompts
from toolkit.serving.guard import Guard
from toolkit.serving.limits import Limits
from toolkit.serving.metrics import Metrics
from toolkit.serving.playground import page_paths, playground_router
from toolkit.serving.refusals import ApiError, as_api_error, encode_json, json_response
from toolkit.serving.scheduler import Scheduler
from toolkit.serving.tickets import ClosingError, Event, Grown, Ticket
from toolkit.tokenizers import Tokenizer

# The names of this machine that nobody else can claim.
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
# What is answered without an API key.
OPEN_PATHS = ("/health", *page_paths())
# After its time a stream has so many seconds until the last of it is read.
_READING_SECONDS = 30.0

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": description}
    for status, description in {
        400: "The request is wrong.",
        401: "The API key is wrong.",
        403: "The host or the origin is not allowed.",
        404: "There is no such model.",
        413: "The request is too long.",
        429: "Too many requests wait.",
        503: "The server is shutting down.",
        504: "The request waited too long.",
    }.items()
}


def make_app(
    generator: Generator,
    *,
    name: str,
    limits: Limits | None = None,
    api_key: str | None = None,
    hosts: Collection[str] | None = LOOPBACK_HOSTS,
    saved_tokenizers: Mapping[str, Path | Tokenizer] | None = None,
) -> FastAPI:
    """A server for one model, as an ASGI app; its scheduler is `app.state.scheduler`.

    Args:
        generator: the model and its tokenizer.
        name: what clients call the model.
        limits: what requests may ask for.
        api_key: what clients must know; None: nothing.
        hosts: the names by which clients may reach it; None: any.
        saved_tokenizers: more tokenizers that its page shows, by the name to show: open ones, or
            their folders.

    Raises:
        UsageError: an empty API key, or a generator that cannot be served.
    """
    if api_key is not None and (not api_key or not api_key.isascii() or " " in api_key):
        raise UsageError("--api-key must be letters, digits and signs of ASCII, without spaces")
    limits = Limits() if limits is None else limits
    metrics = Metrics()
    scheduler = Scheduler(generator, limits, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        scheduler.start()
        yield
        scheduler.close()
        await asyncio.to_thread(scheduler.join)

    app = FastAPI(
        title="toolkit",
        version=toolkit.__version__,
        lifespan=lifespan,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
    )
    app.state.scheduler = scheduler
    app.add_middleware(
        Guard, hosts=hosts, api_key=api_key, open_paths=OPEN_PATHS, max_body=limits.max_body
    )
    refusals.install(app)
    _add_routes(app, generator, scheduler, metrics, name)
    app.include_router(playground_router(generator, name=name, saved=saved_tokenizers))
    return app


def _add_routes(
    app: FastAPI, generator: Generator, scheduler: Scheduler, metrics: Metrics, name: str
) -> None:
    card = ModelCard(id=name, object="model", created=int(time.time()), owned_by="toolkit")

    @app.get("/health", responses=_only(503))
    async def health() -> Health:
        """Whether requests are taken."""
        if scheduler.is_open:
            return {"status": "ok", "model": name}
        raise as_api_error(ClosingError("The server is shutting down."))

    @app.get("/metrics", response_class=Response, responses=_only(401, 403))
    async def prometheus() -> Response:
        """Numbers for Prometheus."""
        return Response(metrics.render(), media_type=metrics.content_type)

    @app.get("/v1/models", responses=_only(401, 403))
    async def models() -> ModelList:
        """The models that are served: one."""
        return {"object": "list", "data": [card]}

    @app.get("/v1/models/{model:path}", responses=_only(401, 403, 404))
    async def model(model: str) -> ModelCard:
        """One model."""
        _check_model(model, name)
        return card

    @app.post(
        "/v1/completions",
        response_model=None,
        responses={**_ERRORS, 200: _COMPLETION},
    )
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Continue prompts, as OpenAI's endpoint of this name does."""
        if body.model is not None:
            _check_model(body.model, name)
        prompts = await asyncio.to_thread(read_prompts, body, generator, scheduler.limits)
        work = Completions(
            body,
            prompts,
            model=name,
            tokenizer=generator.tokenizer,
            limits=scheduler.limits,
        )
        ticket = scheduler.submit(work.jobs())
        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            return _CompletionStream(work, ticket, scheduler, with_usage=usage)
        async with _while_client_stays(request.receive, ticket, scheduler):
            pieces: list[Choice] = []
            async for event in ticket.events():
                pieces += work.choices(event)
        return json_response(work.whole(pieces))

    original = app.openapi

    def openapi() -> dict[str, Any]:
        """FastAPI's description, without the 422 that this app never gives."""
        schema = original()
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # how FastAPI's manual says to change it


# An event of a stream, as OpenAPI 3.2 describes them.
_EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string", "contentMediaType": "application/json"}},
}
_COMPLETION = {
    "model": CompletionResponse,
    "description": "The texts; with 'stream' a chunk an event, and [DONE] at the end.",
    "content": {"text/event-stream": {"itemSchema": _EVENT}},
}


def _only(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _ERRORS[status] for status in statuses}


def _check_model(asked: str, name: str) -> None:
    if asked != name:
        message = f"There is no model '{asked}' here, but '{name}'."
        raise ApiError(404, message, param="model", code="model_not_found")


@asynccontextmanager
async def _while_client_stays(
    receive: Receive, ticket: Ticket, scheduler: Scheduler
) -> AsyncIterator[None]:
    """Cancel the request when the client leaves, or the block is left in any way."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scheduler.cancel(ticket)

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        scheduler.cancel(ticket)


class _CompletionStream(Response):
    """The pieces of a response as server-sent events.

    The first token decides on the status: a request that fails before is answered with an error,
    one that fails later ends with an event that says so.
    """

    media_type = "text/event-stream"

    def __init__(
        self, work: Completions, ticket: Ticket, scheduler: Scheduler, *, with_usage: bool
    ) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._work, self._ticket, self._scheduler = work, ticket, scheduler
        self._with_usage = with_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = self._scheduler.limits.timeout + _READING_SECONDS
        async with _while_client_stays(receive, self._ticket, self._scheduler):
            events = self._ticket.events()
            first: list[Event] = []
            try:
                while not first or not isinstance(first[-1], Grown):
                    first.append(await anext(events))
            except ToolkitError as error:
                await as_api_error(error).response()(scope, receive, send)
                return
            # A client that does not read what it asked for is not waited for without end: the
            # connection is closed.
            with suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    await self._send(first, events, send)

    async def _send(self, first: Sequence[Event], events: AsyncIterator[Event], send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        try:
            for event in first:
                await self._send_choices(event, send)
            async for event in events:
                await self._send_choices(event, send)
            if self._with_usage:
                await _send_event(self._work.response([], self._work.usage()), send)
        except ToolkitError as error:
            await _send_event(as_api_error(error).body(), send)
        await _send_data(b"[DONE]", send, last=True)

    async def _send_choices(self, event: Event, send: Send) -> None:
        for choice in self._work.choices(event):
            await _send_event(self._work.response([choice], None), send)


async def _send_event(value: CompletionResponse | ErrorResponse, send: Send) -> None:
    await _send_data(encode_json(value), send)


async def _send_data(data: bytes, send: Send, *, last: bool = False) -> None:
    body = b"data: " + data + b"\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": not last})
