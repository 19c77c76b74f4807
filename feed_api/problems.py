"""Every error answer: RFC 9457 problem details, with a `type` from one closed list."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from contracts import errors as shared
from contracts.errors import (
    Conflict,
    HeadwaterError,
    InvalidInput,
    NotFound,
    Unavailable,
    Unprocessable,
)

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
MAX_ERRORS: Final = 20
"""How many single errors an answer lists at most."""


class MalformedBody(InvalidInput):
    type, title = "malformed-body", "The body is not JSON"


class MethodNotAllowed(HeadwaterError):
    status, type, title = 405, "method-not-allowed", "This path does not know the method"


class TooLarge(HeadwaterError):
    status, type, title = 413, "too-large", "The body is too large"


class UnsupportedMediaType(HeadwaterError):
    status, type, title = 415, "unsupported-media-type", "The body has to be JSON"


class KeyReused(Unprocessable):
    type, title = "idempotency-key-reused", "The Idempotency-Key came with another request"


class RequestInFlight(Conflict):
    type, title = "request-in-flight", "The same request is still being worked on"


class Overloaded(Unavailable):
    type, title = "overloaded", "Too many requests wait"


_OF_HTTP: Final = (
    MalformedBody, MethodNotAllowed, TooLarge, UnsupportedMediaType, KeyReused, RequestInFlight,
    Overloaded,
)  # fmt: skip

PROBLEM_TYPES: Final[Mapping[str, type[HeadwaterError]]] = {
    error.type: error
    for error in (*vars(shared).values(), *_OF_HTTP)
    if isinstance(error, type) and issubclass(error, HeadwaterError)
}
"""The closed list: the word in `type` -> the error of `contracts.errors` or of HTTP."""

_BY_STATUS: Final[Mapping[int, tuple[type[HeadwaterError], str]]] = {
    400: (MalformedBody, "the body could not be read as JSON"),
    404: (NotFound, "there is nothing here for you"),
    405: (MethodNotAllowed, "this path does not know the method"),
    413: (TooLarge, "the body is too large"),
}

_HEADERS: Final[Mapping[int, Mapping[str, str]]] = {
    401: {"WWW-Authenticate": 'Bearer realm="headwater"'},
    **{status: {"Retry-After": "1"} for status in (409, 429, 503)},
}


def problem_body(error: HeadwaterError, request_id: str, instance: str) -> dict[str, Any]:
    """Write an error as problem details; what failed inside is not told to the outside."""
    inside = error.status >= 500 and not isinstance(error, Unavailable)
    return {
        "type": error.type,
        "title": error.title,
        "status": error.status,
        "detail": f"the log has it under request id {request_id}" if inside else str(error),
        "instance": instance,
        "request_id": request_id,
        "errors": [],
    }


def path_of(request: Request) -> str:
    """Give the path that was asked, quoted; never by way of the Host header, which may be wrong."""
    return quote(request.scope["path"])


def problem_response(
    error: HeadwaterError,
    request: Request,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer a request with an error."""
    body = problem_body(error, request.state.request_id, path_of(request))
    body["errors"] = list(errors)
    return Response(
        orjson.dumps(body),
        status_code=error.status,
        media_type=PROBLEM_MEDIA_TYPE,
        headers={**_HEADERS.get(error.status, {}), **(headers or {})},
    )


async def handle_error(request: Request, error: Exception) -> Response:
    """Turn what a handler raised into its answer: the one error handler of the API."""
    if isinstance(error, RequestValidationError):
        return _validation_response(request, error)
    if isinstance(error, HTTPException):
        kind, detail = _BY_STATUS.get(error.status_code, (HeadwaterError, str(error.detail)))
        return problem_response(kind(detail), request, headers=error.headers)
    if isinstance(error, HeadwaterError):
        request.state.failure = error
        return problem_response(error, request)
    raise error


def _validation_response(request: Request, error: RequestValidationError) -> Response:
    found = error.errors()
    if found and found[0]["type"] == "json_invalid":
        position = found[0]["loc"][-1]
        return problem_response(MalformedBody(f"no JSON at character {position}"), request)
    listed = [_field_error(e) for e in found[:MAX_ERRORS]]
    first = listed[0]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    detail = f"{first['field']}: {first['message']}{more}"
    return problem_response(InvalidInput(detail), request, errors=listed)


def _field_error(error: Mapping[str, Any]) -> dict[str, str]:
    """Name place and fault; never the value that was sent: it may be a secret."""
    place = ".".join(str(part) for part in error["loc"])
    return {"field": clean_text(place), "message": clean_text(str(error["msg"]))}


def clean_text(text: str, limit: int = 200) -> str:
    """Make text from outside safe to answer and to log: valid UTF-8, bounded in length."""
    short = text if len(text) <= limit else text[:limit] + "…"
    return short.encode("utf-8", "replace").decode("utf-8")
