"""The public door of one worker among several: what belongs to another one is passed on to it.

Writes go to the one worker that writes. What a viewer reads is answered by one worker, so that
snapshots and what was served a moment ago are exact; while that one is away, any other answers.
The door stands at the public socket alone: what comes through a private socket is answered there,
so that a request is passed on once at most, and no header says so that somebody could fake.
"""

import asyncio
from typing import Final

import orjson
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.errors import HeadwaterError, Unavailable
from contracts.feed import Feeds
from feed_api.edge import MAX_BODY_BYTES, Edge
from feed_api.merging import merged_metrics
from feed_api.peers import Answer, Peer, give, plain_request, request_bytes
from feed_api.problems import TooLarge, problem_response
from feed_api.seats import RANK_PATH, WRITER, Seat, asks_why
from feed_api.state import APPLIED_SECONDS, ApiState, applied
from serving.breakers import Breaker

READ_SECONDS: Final = 2.0
"""A worker that lets a reader wait longer is left alone: another answers."""
WRITE_SECONDS: Final = 15.0
APPLIED_PATH: Final = "/applied"
_BREAKER: Final = (3, 1.0)
_READS: Final = ("GET", "HEAD", "OPTIONS")


class Forward:
    """Wraps the app of a worker at the public socket."""

    def __init__(self, app: ASGIApp, state: ApiState, seat: Seat) -> None:
        self._app = app
        self._state = state
        self._seat = seat
        self._peers = {k: Peer(seat.socket_path(k)) for k in seat.others}
        self._breakers = {k: Breaker(f"worker {k}", *_BREAKER) for k in seat.others}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if scope["method"] in _READS:
                await self._read(scope, receive, send)
            elif scope["path"] == RANK_PATH:
                await self._rank(scope, receive, send)
            else:
                await self._write(scope, receive, send)
        except ClientDisconnect:
            return
        except HeadwaterError as error:
            await self._refuse(error, scope, receive, send)

    def close(self) -> None:
        """Close the connections to the other workers."""
        for peer in self._peers.values():
            peer.close()

    async def _read(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["method"] != "GET":
            await self._app(scope, receive, send)
        elif path == "/readyz":
            await give(await self._readiness(await self._here(scope, receive)), send)
        elif path == "/metrics":
            await give(await self._metrics(await self._here(scope, receive)), send)
        elif asks_why(path):
            await give(await self._first_known(scope, receive), send)
        else:
            owner = self._seat.owner_of_read(path, scope["query_string"])
            if not await self._passed_on(owner, scope, b"", send):
                await self._app(scope, receive, send)

    async def _rank(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(scope, receive)
        if not await self._passed_on(self._seat.owner_of_rank(body), scope, body, send):
            await self._app(scope, _replayed(body, receive), send)

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        waits = b"wait=applied" in scope["query_string"]
        if self._seat.index == WRITER and not waits:
            await self._app(scope, receive, send)
            return
        if self._seat.index == WRITER:
            answer = await self._here(scope, receive)
        else:
            body = await _body(scope, receive)
            asked = await self._ask(WRITER, request_bytes(scope, body), WRITE_SECONDS)
            if asked is None:
                raise Unavailable("the worker that writes is away", hint="try again in a second")
            answer = asked
        await give(await self._known_everywhere(answer) if waits else answer, send)

    async def _passed_on(self, owner: int, scope: Scope, body: bytes, send: Send) -> bool:
        """Have the owner answer a read; False where that is here, or the owner is away."""
        if owner == self._seat.index:
            return False
        answer = await self._ask(owner, request_bytes(scope, body), READ_SECONDS)
        if answer is not None:
            await give(answer, send)
        return answer is not None

    async def _first_known(self, scope: Scope, receive: Receive) -> Answer:
        """Answer from here; where nothing is known here, from the first that knows."""
        answer = await self._here(scope, receive)
        for other in self._seat.others:
            if answer.status != 404:
                break
            answer = await self._ask(other, request_bytes(scope), READ_SECONDS) or answer
        return answer

    async def _known_everywhere(self, answer: Answer) -> Answer:
        """Let `Headwater-Applied` speak of all workers: the writer alone knows of itself."""
        seq = answer.header(b"headwater-seq")
        if seq is None or answer.header(b"headwater-applied") != b"true":
            return answer
        known = await asyncio.gather(
            *(self._has_applied(k, int(seq)) for k in range(self._seat.count) if k != WRITER)
        )
        if all(known):
            return answer
        name = b"headwater-applied"
        headers = [(key, b"false" if key == name else value) for key, value in answer.headers]
        return answer._replace(headers=headers)

    async def _has_applied(self, worker: int, seq: int) -> bool:
        if worker == self._seat.index:
            return await applied(self._state.feeds, seq)
        request = plain_request(f"{APPLIED_PATH}?{seq}")
        try:
            answer = await self._peers[worker].ask(request, APPLIED_SECONDS + 0.1)
        except (ConnectionError, FileNotFoundError):
            return True  # it is away, and will read the whole log before it answers anybody
        except OSError:  # too late, or it takes no more
            return False
        return answer.status == 200

    async def _readiness(self, own: Answer) -> Answer:
        """Be ready when all workers are."""
        asked = [self._ask(k, plain_request("/readyz"), READ_SECONDS) for k in self._seat.others]
        answers = await asyncio.gather(*asked)
        everyone = all(answer is not None and answer.status == 200 for answer in answers)
        body = orjson.loads(own.body)
        if "checks" not in body:
            return own
        body["checks"]["workers"] = everyone
        body["ready"] = body["ready"] and everyone
        return _with_body(own, 200 if body["ready"] else 503, orjson.dumps(body))

    async def _metrics(self, own: Answer) -> Answer:
        asked = [self._ask(k, plain_request("/metrics"), READ_SECONDS) for k in self._seat.others]
        answers = dict(zip(self._seat.others, await asyncio.gather(*asked), strict=True))
        texts = {
            k: answer.body.decode() if answer is not None and answer.status == 200 else None
            for k, answer in sorted({**answers, self._seat.index: own}.items())
        }
        return _with_body(own, 200, merged_metrics(texts).encode())

    async def _ask(self, worker: int, request: bytes, seconds: float) -> Answer | None:
        """Ask another worker; None where it is away, or was too slow several times just now."""
        breaker = self._breakers[worker]
        if breaker.refuses:
            return None
        try:
            answer = await self._peers[worker].ask(request, seconds)
        except TimeoutError:
            breaker.failed()
            return None
        except OSError:  # found out at once, every time: no need to remember it
            return None
        if not breaker.calm:
            breaker.succeeded()
        return answer

    async def _here(self, scope: Scope, receive: Receive) -> Answer:
        """Answer a request here, and keep the answer."""
        parts: list[Message] = []

        async def keep(message: Message) -> None:
            parts.append(message)

        await self._app(scope, receive, keep)
        start, *rest = parts
        body = b"".join(part.get("body", b"") for part in rest)
        return Answer(start["status"], [(k.lower(), v) for k, v in start["headers"]], body)

    async def _refuse(
        self, error: HeadwaterError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer with an error from the door, counted and logged like any other."""

        async def refusal(scope: Scope, receive: Receive, send: Send) -> None:
            await problem_response(error, Request(scope))(scope, receive, send)

        await Edge(refusal, self._state.metrics, self._state.logger)(scope, receive, send)


class PrivateDoor:
    """Wraps the app of a worker at its private socket: nothing is passed on from there."""

    def __init__(self, app: ASGIApp, feeds: Feeds) -> None:
        self._app = app
        self._feeds = feeds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; `/applied?SEQ` is for the other workers alone."""
        if _asks_applied(scope):
            known = await applied(self._feeds, int(scope["query_string"]))
            await give(Answer(200 if known else 503, [(b"content-length", b"0")], b""), send)
        else:
            await self._app(scope, receive, send)


def _asks_applied(scope: Scope) -> bool:
    """Tell the question of another worker from a request that the public door has passed on.

    The door passes on no GET of this path.
    """
    if scope["type"] != "http" or (scope["method"], scope["path"]) != ("GET", APPLIED_PATH):
        return False
    seq: bytes = scope["query_string"]
    return seq.isdigit()


async def _body(scope: Scope, receive: Receive) -> bytes:
    """Read the whole body; TooLarge beyond the limit, ClientDisconnect where it never comes."""
    declared = Headers(scope=scope).get("content-length", "0")
    body = bytearray()
    more = True
    while more:
        if int(declared) > MAX_BODY_BYTES or len(body) > MAX_BODY_BYTES:
            raise TooLarge(f"the body is over {MAX_BODY_BYTES} bytes")
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read once more, then whatever comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return first.pop() if first else await receive()

    return receive_again


def _with_body(answer: Answer, status: int, body: bytes) -> Answer:
    headers = [header for header in answer.headers if header[0] != b"content-length"]
    return Answer(status, [*headers, (b"content-length", b"%d" % len(body))], body)
