"""Rows of the log and of the catalog, as the Arrow tables that `Workspace.write` takes."""

import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from contracts.events import EVENT_SCHEMA, EventType
from contracts.tables import BLOCKS_SCHEMA, FOLLOWS_SCHEMA, PEOPLE_SCHEMA, POSTS_SCHEMA
from feed_api.platform.queries import StoredPerson, StoredPost


class EventRow(NamedTuple):
    """One event, as the log stores it; times in microseconds since 1970 UTC."""

    event_id: int
    type: EventType
    viewer_id: int
    post_id: int | None
    target_id: int | None
    event_us: int
    known_us: int
    value: float | None = None
    feed_id: int | None = None
    position: int | None = None


class FollowRow(NamedTuple):
    """One follow."""

    follower_id: int
    followee_id: int
    since_us: int


class BlockRow(NamedTuple):
    """One block or mute."""

    blocker_id: int
    blocked_id: int
    kind: str
    since_us: int


def event_table(rows: Sequence[EventRow]) -> pa.Table:
    """Write events as EVENT_SCHEMA; their known time was given by the arrival, never assumed."""
    columns = _columns(rows, len(EventRow._fields))
    columns.insert(EVENT_SCHEMA.get_field_index("known_assumed"), [False] * len(rows))
    return _table(columns, EVENT_SCHEMA)


def own_event(
    kind: EventType, viewer_id: int, now_us: int, *, post: int | None = None, to: int | None = None
) -> pa.Table:
    """Write one event that the server itself reports, under a random event id."""
    return event_table([EventRow(secrets.randbits(63), kind, viewer_id, post, to, now_us, now_us)])


def follow_table(rows: Sequence[FollowRow]) -> pa.Table:
    """Write follows as FOLLOWS_SCHEMA."""
    return _table(_columns(rows, len(FollowRow._fields)), FOLLOWS_SCHEMA)


def block_table(rows: Sequence[BlockRow]) -> pa.Table:
    """Write blocks and mutes as BLOCKS_SCHEMA."""
    return _table(_columns(rows, len(BlockRow._fields)), BLOCKS_SCHEMA)


def post_table(post_id: int, post: StoredPost, known_us: int) -> pa.Table:
    """Write one post as POSTS_SCHEMA."""
    row = {
        "post_id": post_id,
        "author_id": post.author_id,
        "text": post.text,
        "topics": list(post.topics),
        "language": post.language,
        "created": post.created_us,
        "known": known_us,
        "deleted": post.deleted,
    }
    return _single(row, POSTS_SCHEMA)


def person_table(person_id: int, person: StoredPerson) -> pa.Table:
    """Write one person as PEOPLE_SCHEMA."""
    row = {
        "person_id": person_id,
        "created": person.created_us,
        "language": person.language,
        "attributes": person.attributes,
    }
    return _single(row, PEOPLE_SCHEMA)


def _single(row: Mapping[str, object], schema: pa.Schema) -> pa.Table:
    return _table([[row[name]] for name in schema.names], schema)


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return (
        [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
    )


def _table(columns: Sequence[Sequence[object]], schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)
