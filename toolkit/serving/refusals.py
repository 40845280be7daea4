"""Errors as HTTP responses, in OpenAI's form: {"error": {message, type, param, code}}."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from toolkit.errors import MissingExtraError, ToolkitError, UsageError
from toolkit.serving.api import CompletionRequest, ErrorResponse
from toolkit.serving.tickets import ClosingError, LeftError, QueueFullError, TooLateError

_INVALID = "invalid_request_error"
_RETRY = {"retry-after": "1"}
_OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)")


class ApiError(Exception):
    """A request that is answered with an error.

    Args:
        status: the HTTP status.
        message: one line.
        param: the field that is wrong.
        code: a word for programs.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers = dict(headers or {})

    def body(self) -> ErrorResponse:
        """What the client reads."""
        kind = {429: "rate_limit_error"}.get(self.status, _INVALID)
        if self.status >= 500:
            kind = "server_error"
        return {
            "error": {
                "message": str(self),
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> Response:
        """The whole response."""
        return json_response(self.body(), self.status, self.headers)


def encode_json(value: Any) -> bytes:
    """JSON in UTF-8; what no encoding has (half of a surrogate pair) becomes a question mark."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON as a response."""
    return Response(encode_json(value), status, headers, media_type="application/json")


def as_api_error(error: ToolkitError) -> ApiError:
    """What a client is told of an error of ours."""
    message = _OPTION.sub(_field_of, str(error))
    if isinstance(error, QueueFullError):
        return ApiError(429, message, code="queue_full", headers=_RETRY)
    if isinstance(error, ClosingError):
        return ApiError(503, message, code="shutting_down", headers=_RETRY)
    if isinstance(error, TooLateError):
        return ApiError(504, message, code="timeout", headers=_RETRY)
    if isinstance(error, LeftError):
        return ApiError(499, message, code="cancelled")
    if isinstance(error, UsageError | MissingExtraError):
        return ApiError(400, message)
    return ApiError(500, message)


def _field_of(option: re.Match[str]) -> str:
    """An option of the command line as the field of a request, where it is one."""
    name = option[1].replace("-", "_")
    name = {"max_new_tokens": "max_tokens"}.get(name, name)
    return f"'{name}'" if name in CompletionRequest.model_fields else option[0]


def install(app: FastAPI) -> None:
    """Let an app answer every error in OpenAI's form."""

    @app.exception_handler(ApiError)
    async def of_ours(request: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(ToolkitError)
    async def of_the_library(request: Request, error: ToolkitError) -> Response:
        return as_api_error(error).response()

    @app.exception_handler(RequestValidationError)
    async def of_a_body(request: Request, error: RequestValidationError) -> Response:
        return _of_validation(error.errors()).response()

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        message = error.detail
        if error.status_code == 404:
            message = f"There is no {request.url.path}."
        return ApiError(error.status_code, message, headers=error.headers).response()

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return ApiError(500, "The server failed at this request; its log says why.").response()


def _of_validation(errors: Sequence[Any]) -> ApiError:
    """The first field that is wrong."""
    error = errors[0]
    # ("body", "stop", "list[…]", 0): the field, then ways into it, which have names of pydantic's.
    place = [str(part) for part in error["loc"][1:]]
    if error["type"] == "json_invalid":
        return ApiError(400, f"The body is not JSON: {error['ctx']['error']}.")
    if not place:
        return ApiError(400, "The body must be a JSON object, sent as application/json.")
    field = place[0]
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(field, CompletionRequest.model_fields, n=1)
        # A field of completions may be sent to another path.
        known = close and len(place) == 1 and close[0] != field
        advice = f" Did you mean '{close[0]}'?" if known else " Leave it out."
        return ApiError(400, f"Unknown field '{'.'.join(place)}'.{advice}", param=field)
    # pydantic has an error for each type that a field may have.
    messages = [each["msg"] for each in errors if each["loc"][1:2] == error["loc"][1:2]]
    return ApiError(400, f"'{field}': {'; or: '.join(dict.fromkeys(messages))}.", param=field)
