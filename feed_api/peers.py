"""How one worker asks another: HTTP/1.1 over its private unix socket, connections kept alive.

A client of our own because a forwarded feed pays for it: it takes a sixth of the CPU time that
httpx takes (`docs/decisions/0012-workers.md`). Both ends are this code, so it knows no redirects,
no cookies, no TLS.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple, cast

from httptools import HttpParserError, HttpResponseParser
from starlette.types import Scope, Send

Header = tuple[bytes, bytes]

_OF_ONE_CONNECTION: Final = frozenset(
    [b"connection", b"expect", b"keep-alive", b"proxy-connection", b"te", b"trailer",
     b"transfer-encoding", b"upgrade"]
)  # fmt: skip
"""Headers that are not passed on (RFC 9110, 7.6.1); our own edge has dealt with `expect`."""


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: list[Header]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """Find a header by its name in small letters."""
        return next((value for key, value in self.headers if key == name), None)


class Peer:
    """One other worker; for one event loop."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._idle: list[_Wire] = []

    async def ask(self, request: bytes, seconds: float) -> Answer:
        """Send a request and wait for its answer.

        ConnectionError or OSError where the worker is not there or goes away, TimeoutError where
        it takes too long.
        """
        async with asyncio.timeout(seconds):
            wire = await self._wire()
            try:
                answer = await wire.ask(request)
            finally:
                if wire.free:
                    self._idle.append(wire)
                else:
                    wire.close()
        return answer

    def close(self) -> None:
        """Close the connections that are not in use."""
        for wire in self._idle:
            wire.close()
        self._idle.clear()

    async def _wire(self) -> "_Wire":
        while self._idle:
            wire = self._idle.pop()
            if wire.free:
                return wire
        _, made = await asyncio.get_running_loop().create_unix_connection(_Wire, self._path)
        return made


class _Wire(asyncio.Protocol):
    """One connection: one request at a time."""

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self._headers: list[Header] = []
        self._body: list[bytes] = []
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def free(self) -> bool:
        """Whether it stands, and no answer is on its way."""
        return self._transport is not None and self._answer is None

    async def ask(self, request: bytes) -> Answer:
        if self._transport is None:
            raise ConnectionResetError("the worker has closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the worker went away"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        answer = Answer(self._parser.get_status_code(), self._headers, b"".join(self._body))
        waiting, self._answer, self._headers, self._body = self._answer, None, [], []
        if not self._parser.should_keep_alive():
            self.close()
            self._transport = None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)


def request_bytes(scope: Scope, body: bytes = b"") -> bytes:
    """Write a request as it came, headers and all, but for what concerns its connection alone."""
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    head = [scope["method"].encode() + b" " + target + b" HTTP/1.1"]
    head += [
        name + b": " + value
        for name, value in _passed_on(scope["headers"])
        if name != b"content-length"
    ]
    if body or scope["method"] not in ("GET", "HEAD"):
        head.append(b"content-length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def plain_request(path: str) -> bytes:
    """Write a GET of our own."""
    return f"GET {path} HTTP/1.1\r\nhost: worker\r\n\r\n".encode()


async def give(answer: Answer, send: Send) -> None:
    """Send a whole answer."""
    headers = list(_passed_on(answer.headers))
    if len(headers) < len(answer.headers) and answer.header(b"content-length") is None:
        headers.append((b"content-length", b"%d" % len(answer.body)))  # it came in chunks
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _passed_on(headers: Iterable[Header]) -> Iterable[Header]:
    return (header for header in headers if header[0] not in _OF_ONE_CONNECTION)
