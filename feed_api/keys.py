"""API keys: made once, shown once, stored as a hash; checked in memory, revoked within seconds.

A secret is 256 random bits, so one fast hash (BLAKE2b) protects a stolen table: there is no word
list to try. Argon2 is for secrets that people choose, and would cost 144 ms a request.
"""

import asyncio
import hmac
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from time import monotonic
from typing import Final, NamedTuple

from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from contracts.errors import InvalidInput, NotFound, Unauthorized, Unavailable
from feed_api.database import API_KEYS
from feed_api.lanes import Lane


class Scope(StrEnum):
    """What a key may do; `admin` may do everything."""

    FEED_READ = "feed:read"
    RANK = "rank"
    EVENTS_WRITE = "events:write"
    POSTS_WRITE = "posts:write"
    PEOPLE_WRITE = "people:write"
    GRAPH_WRITE = "graph:write"
    EXPLAIN_READ = "explain:read"
    ADMIN = "admin"


REFRESH_SECONDS: Final = 2.0
STALE_SECONDS: Final = 4.5
"""A table of keys older than this lets nobody in: a revocation holds within 5 s or nothing does."""
_MISS_SECONDS: Final = 0.25
_UNREADABLE: Final = "API keys can not be read"
_AGAIN: Final = "try again in a second"

_TOKEN: Final = re.compile(r"hw_([0-9a-f]{16})_([0-9A-Za-z_-]{43})")
_NAME: Final = re.compile(r"[\w .:@/-]{1,64}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: one API key."""

    key_id: str
    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Tell whether the key has a scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class NewKey(NamedTuple):
    """A key just made; the token can not be had again."""

    key_id: str
    token: str


class KeyRow(NamedTuple):
    """A key as it can be listed."""

    key_id: str
    name: str
    scopes: tuple[str, ...]
    created_us: int
    revoked_us: int | None


class _Known(NamedTuple):
    secret_hash: bytes
    caller: Caller


def parse_scopes(words: Collection[str]) -> frozenset[Scope]:
    """Read scope words; InvalidInput on an unknown one or none at all."""
    unknown = sorted(set(words) - {s.value for s in Scope})
    known = ", ".join(s.value for s in Scope)
    if unknown:
        raise InvalidInput(f"scopes are {known}; got {', '.join(unknown)}")
    if not words:
        raise InvalidInput(f"a key needs at least one scope of {known}")
    return frozenset(Scope(word) for word in words)


def create_key(engine: Engine, name: str, scopes: Collection[str], now_us: int) -> NewKey:
    """Make and store a key; the answer holds its token, which is stored nowhere."""
    if not _NAME.fullmatch(name):
        msg = f"a key's name is 1 to 64 letters, digits, spaces or ._:@/-, got {name!r}"
        raise InvalidInput(msg)
    wanted = parse_scopes(scopes)
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    row = {
        "key_id": key_id,
        "name": name,
        "secret_hash": _hash(secret),
        "scopes": " ".join(sorted(wanted)),
        "created_us": now_us,
    }
    with engine.begin() as connection:
        connection.execute(insert(API_KEYS).values(row))
    return NewKey(key_id, f"hw_{key_id}_{secret}")


def revoke_key(engine: Engine, key_id: str, now_us: int) -> None:
    """Revoke a key for good; running servers follow within 5 s. NotFound where there is none."""
    with engine.begin() as connection:
        found = connection.execute(select(API_KEYS).where(API_KEYS.c.key_id == key_id)).first()
        if found is None:
            raise NotFound(f"there is no key {key_id!r}", hint="`headwater keys list` shows all")
        connection.execute(
            update(API_KEYS)
            .where(API_KEYS.c.key_id == key_id, API_KEYS.c.revoked_us.is_(None))
            .values(revoked_us=now_us)
        )


def list_keys(engine: Engine) -> list[KeyRow]:
    """List all keys, the oldest first; never anything that lets someone in."""
    columns = API_KEYS.c
    query = select(
        columns.key_id, columns.name, columns.scopes, columns.created_us, columns.revoked_us
    ).order_by(columns.created_us, columns.key_id)
    with engine.connect() as connection:
        return [
            KeyRow(key_id, name, tuple(scopes.split()), created, revoked)
            for key_id, name, scopes, created, revoked in connection.execute(query)
        ]


class KeyRing:
    """All keys that hold, in memory: a check costs microseconds and no query."""

    def __init__(self, engine: Engine, lane: Lane) -> None:
        self._engine = engine
        self._lane = lane
        self._known: Mapping[str, _Known] = {}
        self._read_at = self._failed_at = float("-inf")
        self._refreshing = asyncio.Lock()

    @property
    def age_seconds(self) -> float:
        """How old the table in memory is."""
        return monotonic() - self._read_at

    async def check(self, authorization: str | None) -> Caller:
        """Give the caller behind an Authorization header; Unauthorized where there is none."""
        scheme, _, token = (authorization or "").partition(" ")
        match = _TOKEN.fullmatch(token.strip())
        if scheme.lower() != "bearer" or match is None:
            msg = "the request has no API key" if not authorization else "this is no API key"
            raise Unauthorized(msg, hint="send `Authorization: Bearer hw_...`")
        if self.age_seconds > STALE_SECONDS:
            await self.refresh(STALE_SECONDS)
        key_id, secret = match.groups()
        if key_id not in self._known and self.age_seconds > _MISS_SECONDS:
            await self.refresh(_MISS_SECONDS)  # it may have been made a moment ago
        known = self._known.get(key_id)
        if known is None or not hmac.compare_digest(known.secret_hash, _hash(secret)):
            raise Unauthorized("the API key is not known or was revoked")
        return known.caller

    async def refresh(self, older_than_seconds: float = 0.0) -> None:
        """Read the table again, once for all who ask at the same time; they fail together too."""
        asked = monotonic()
        async with self._refreshing:
            if self.age_seconds < older_than_seconds:
                return
            if self._failed_at > asked:
                raise Unavailable(_UNREADABLE, hint=_AGAIN)
            started = monotonic()
            try:
                self._known = await self._lane.run(_read_keys, self._engine)
            except SQLAlchemyError as error:
                self._failed_at = monotonic()
                raise Unavailable(_UNREADABLE, hint=_AGAIN) from error
            self._read_at = started


def _read_keys(engine: Engine) -> dict[str, _Known]:
    query = select(API_KEYS).where(API_KEYS.c.revoked_us.is_(None))
    with engine.connect() as connection:
        return {
            key.key_id: _Known(
                key.secret_hash,
                Caller(key.key_id, key.name, frozenset(Scope(word) for word in key.scopes.split())),
            )
            for key in connection.execute(query)
        }


def _hash(secret: str) -> bytes:
    return blake2b(secret.encode(), digest_size=32, person=b"headwater-key").digest()
