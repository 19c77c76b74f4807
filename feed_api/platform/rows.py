"""Rows of the log and of the catalog, as the Arrow tables that `Workspace.write` takes."""

import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, cast

import pyarrow as pa

from contracts.events import EVENT_SCHEMA, EventType
from contracts.tables import BLOCKS_SCHEMA, FOLLOWS_SCHEMA, PEOPLE_SCHEMA, POSTS_SCHEMA
from features.workspace import EntityChanges
from feed_api.platform.queries import StoredPerson, StoredPost

EDGE_OF: Final[Mapping[EventType, tuple[str, bool]]] = {
    EventType.FOLLOW: ("follow", True),
    EventType.UNFOLLOW: ("follow", False),
    EventType.BLOCK: ("block", True),
    EventType.UNBLOCK: ("block", False),
    EventType.MUTE: ("mute", True),
    EventType.UNMUTE: ("mute", False),
}
"""Event -> the kind of edge that it speaks of, and whether the edge stands after it."""

EVENT_OF: Final = {edge: kind for kind, edge in EDGE_OF.items()}

Edges = Mapping[tuple[int, int, str], tuple[bool, int]]
"""Who, to whom and of which kind -> whether it stands, since when."""


class EventRow(NamedTuple):
    """One event, in the order of EVENT_SCHEMA; times in microseconds since 1970 UTC."""

    event_id: int
    type: EventType
    viewer_id: int
    post_id: int | None
    target_id: int | None
    event_us: int
    known_us: int
    known_assumed: bool = False
    """The known time was given by the arrival, never assumed."""
    value: float | None = None
    feed_id: int | None = None
    position: int | None = None


def event_table(rows: Sequence[EventRow]) -> pa.Table:
    """Write events as EVENT_SCHEMA."""
    return _table(rows, EVENT_SCHEMA)


def own_event(
    kind: EventType, viewer_id: int, now_us: int, *, post: int | None = None, to: int | None = None
) -> pa.Table:
    """Write one event that the server itself reports, under a random event id."""
    return event_table([EventRow(secrets.randbits(63), kind, viewer_id, post, to, now_us, now_us)])


def edge_changes(edges: Edges) -> EntityChanges:
    """Write follows, blocks and mutes as the changes that bring them about."""
    rows: defaultdict[str, list[tuple[object, ...]]] = defaultdict(list)
    for (source, target, kind), (holds, since_us) in edges.items():
        change = "added" if holds else "removed"
        if kind == "follow":
            rows[f"follows_{change}"].append((source, target, since_us))
        else:
            rows[f"blocks_{change}"].append((source, target, kind, since_us))
    schemas = {"follows": FOLLOWS_SCHEMA, "blocks": BLOCKS_SCHEMA}
    changes = {name: _table(held, schemas[name.split("_")[0]]) for name, held in rows.items()}
    return cast(EntityChanges, changes)


def post_table(post_id: int, post: StoredPost, known_us: int) -> pa.Table:
    """Write one post as POSTS_SCHEMA."""
    return _table([(post_id, *post[:-1], known_us, post.deleted)], POSTS_SCHEMA)


def person_table(person_id: int, person: StoredPerson) -> pa.Table:
    """Write one person as PEOPLE_SCHEMA."""
    return _table([(person_id, *person)], PEOPLE_SCHEMA)


def _table(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)
