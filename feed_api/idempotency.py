"""`Idempotency-Key`: the same POST twice has one effect and one answer for 24 hours.

Answers lie in the API's own database, so they can not share a transaction with the event log. The
gap is closed from the other side: a row without an event id gets one made from caller, key, body
and place, so that a retry after a crash finds its events in the log and adds nothing.
"""

import re
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from time import monotonic
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Engine, Row, and_, delete, insert, select
from starlette.responses import Response

from contracts.clock import HOUR_US, now_us
from contracts.errors import InvalidInput
from feed_api.database import STORED_ANSWERS
from feed_api.lanes import Lane
from feed_api.problems import KeyReused, RequestInFlight

KEEP_US: Final = 24 * HOUR_US
REPLAYED: Final = "Idempotency-Replayed"
"""Header of an answer that was given before."""
_PURGE_SECONDS: Final = 600.0
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


class RequestName(NamedTuple):
    """What makes two requests the same one."""

    caller: str
    operation: str
    idempotency_key: str


class AnswerStore:
    """Keeps the answers of POSTs that came with an Idempotency-Key. For one event loop."""

    def __init__(self, engine: Engine, lane: Lane) -> None:
        self._engine = engine
        self._lane = lane
        self._in_flight: set[RequestName] = set()
        self._purged_at = float("-inf")

    async def answer_once(
        self, name: RequestName, body: bytes, work: Callable[[], Awaitable[Response]]
    ) -> Response:
        """Do the work and store its answer, or give the stored one.

        KeyReused where the key came with another body, RequestInFlight where the same request is
        being worked on. Only answers that say success are stored.
        """
        if not _KEY.fullmatch(name.idempotency_key):
            raise InvalidInput("Idempotency-Key: 1 to 255 visible ASCII characters without a space")
        if name in self._in_flight:
            msg = "a request with this Idempotency-Key is being worked on"
            raise RequestInFlight(msg, hint="ask again in a second")
        self._in_flight.add(name)
        try:
            stored = await self._lane.run(self._load, name)
            if stored is not None:
                return _replay(stored, body)
            response = await work()
            if response.status_code < 300:
                await self._lane.run(self._save, name, _request_hash(body), response)
            return response
        finally:
            self._in_flight.discard(name)

    def _load(self, name: RequestName) -> Row[Any, Any, Any] | None:
        columns = STORED_ANSWERS.c
        query = select(columns.request_hash, columns.status, columns.body).where(
            _is_named(name), columns.created_us > now_us() - KEEP_US
        )
        with self._engine.connect() as connection:
            return connection.execute(query).first()

    def _save(self, name: RequestName, request_hash: bytes, response: Response) -> None:
        row = {
            **name._asdict(),
            "request_hash": request_hash,
            "status": response.status_code,
            "body": bytes(response.body),
            "created_us": now_us(),
        }
        with self._engine.begin() as connection:
            if monotonic() - self._purged_at > _PURGE_SECONDS:
                old = STORED_ANSWERS.c.created_us <= now_us() - KEEP_US
                connection.execute(delete(STORED_ANSWERS).where(old))
                self._purged_at = monotonic()
            connection.execute(delete(STORED_ANSWERS).where(_is_named(name)))
            connection.execute(insert(STORED_ANSWERS).values(row))


def _is_named(name: RequestName) -> ColumnElement[bool]:
    return and_(*(STORED_ANSWERS.c[column] == value for column, value in name._asdict().items()))


def _request_hash(body: bytes) -> bytes:
    return blake2b(body, digest_size=32).digest()


def _replay(stored: Row[Any, Any, Any], body: bytes) -> Response:
    if stored.request_hash != _request_hash(body):
        msg = "this Idempotency-Key came with another body before"
        raise KeyReused(msg, hint="a new request needs a new key")
    return Response(
        stored.body,
        status_code=stored.status,
        media_type="application/json",
        headers={REPLAYED: "true"},
    )
