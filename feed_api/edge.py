"""The HTTP edge: request id, size limit, last catch, one log line and metrics a request."""

import re
import secrets
from time import perf_counter
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from contracts.errors import HeadwaterError
from feed_api.metrics import Metrics
from feed_api.problems import TooLarge, problem_response

MAX_BODY_BYTES: Final = 1 << 20
_REQUEST_ID: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")


class Edge:
    """The outermost layer: whatever happens inside, the client gets an answer with its id.

    This is the one place of the API that may catch any exception.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, logger: FilteringBoundLogger) -> None:
        self._app = app
        self._metrics = metrics
        self._logger = logger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; everything but HTTP passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        try:
            if exchange.declared_bytes > MAX_BODY_BYTES:
                await exchange.refuse(TooLarge(f"the body is over {MAX_BODY_BYTES} bytes"))
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            return  # nobody is there to be answered
        except Exception as error:
            exchange.failure = error
            if exchange.status is not None:
                raise  # the answer has begun: the server has to cut it off
            await exchange.refuse(HeadwaterError("the request failed"))
        finally:
            self._finish(exchange)

    def _finish(self, exchange: "_Exchange") -> None:
        seconds = perf_counter() - exchange.started
        route = getattr(exchange.scope.get("route"), "path", "unmatched")
        method = exchange.scope["method"] if route != "unmatched" else "any"
        status = exchange.status or 499
        self._metrics.request(route, method, status, seconds)
        log = self._logger.error if status >= 500 and status != 503 else self._logger.info
        log(
            "request",
            request_id=exchange.request_id,
            method=method,
            route=route,
            status=status,
            ms=round(seconds * 1000, 3),
            key=exchange.key_id,
            exc_info=exchange.cause,
        )


class _Exchange:
    """One request and its answer, as they pass the edge."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        length = headers.get("content-length", "")
        self.declared_bytes = int(length) if length.isascii() and length.isdigit() else 0
        self.started = perf_counter()
        self.status: int | None = None
        self.failure: BaseException | None = None
        self.scope = scope
        scope.setdefault("state", {})["request_id"] = self.request_id
        self._receive = receive
        self._send = send
        self._received_bytes = 0

    @property
    def key_id(self) -> str | None:
        """The id of the API key that asked, where one did."""
        return getattr(self.scope["state"].get("caller"), "key_id", None)

    @property
    def cause(self) -> BaseException | None:
        """What to log with its traceback: only what failed inside."""
        failure = self.failure or self.scope["state"].get("failure")
        inside = failure is not None and getattr(failure, "status", 500) == 500
        return failure if inside else None

    async def receive(self) -> Message:
        """Pass a part of the body on, as long as the sum stays within the limit."""
        message = await self._receive()
        self._received_bytes += len(message.get("body", b""))
        if self._received_bytes > MAX_BODY_BYTES:
            raise HTTPException(413)
        return message

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on, with the request id in its head."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            headers["X-Content-Type-Options"] = "nosniff"
        await self._send(message)

    async def refuse(self, error: HeadwaterError) -> None:
        """Answer with an error from here."""
        response = problem_response(error, Request(self.scope))
        await response(self.scope, self.receive, self.send)
