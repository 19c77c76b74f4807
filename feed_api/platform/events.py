"""Posted events: each row is taken or refused by itself; what is taken is durable on return."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from contracts.clock import SECOND_US, to_us
from contracts.events import EVENT_TYPE_BY_WORD, NEEDS_POST, NEEDS_TARGET, EventType
from contracts.ids import UNKNOWN_ID, Namespace, hash63, parse_feed_id
from features.identity import event_ids_of
from features.workspace import EntityChanges
from feed_api.platform import schemas
from feed_api.platform.queries import interned
from feed_api.platform.rows import EDGE_OF, EventRow, edge_changes, event_table
from feed_api.platform.schemas import CLIENT_TYPES, SERVER_TYPES, BadRow, EventIn
from feed_api.problems import clean_text
from feed_api.state import ApiState

MAX_AHEAD_US: Final = 300 * SECOND_US
"""How far a client's clock may be ahead; a smaller lead is taken as now."""


class _Taken(NamedTuple):
    """A row that fits, with its place in the batch from 0."""

    place: int
    type: EventType
    event: EventIn


def add_events(
    api: ApiState, rows: Sequence[EventIn | BadRow], request_name: bytes, now_us: int
) -> schemas.EventsOut:
    """Add the rows that fit to the log, and their follows and blocks to the graph, at once.

    `request_name` names the request: rows without an event id and a time get ids made from it.
    """
    taken, rejected = _sort_out(api, rows, now_us)
    if taken:
        events = _event_rows(api, taken, request_name, now_us)
        changes = _graph_changes(_fresh_graph_events(api, events))
        accepted, duplicates, seq = api.workspace.write(event_table(events), **changes)
    else:
        accepted, duplicates, seq = 0, 0, api.workspace.log.last_seq
    rejected.sort(key=lambda row: row.index)
    return schemas.EventsOut(accepted=accepted, duplicates=duplicates, rejected=rejected, seq=seq)


def _sort_out(
    api: ApiState, rows: Sequence[EventIn | BadRow], now_us: int
) -> tuple[list[_Taken], list[schemas.RejectedRow]]:
    """Split a batch into rows that can be stored and rows that can not, each with its reason."""
    taken: list[_Taken] = []
    rejected: list[schemas.RejectedRow] = []
    named = [row.post for row in rows if isinstance(row, EventIn) and row.post is not None]
    ids = api.workspace.ids.lookup(Namespace.POST, named).tolist()
    unknown = {post for post, number in zip(named, ids, strict=True) if number == UNKNOWN_ID}
    for index, row in enumerate(rows):
        reason = row.reason if isinstance(row, BadRow) else _fault(row, unknown, now_us)
        if reason is not None:
            rejected.append(schemas.RejectedRow(index=index, reason=clean_text(reason, 400)))
        elif isinstance(row, EventIn):
            taken.append(_Taken(index, EVENT_TYPE_BY_WORD[row.type], row))
    return taken, rejected


def _fault(row: EventIn, unknown_posts: set[str], now_us: int) -> str | None:
    """Say why a row can not be stored; None where it can."""
    kind = EVENT_TYPE_BY_WORD.get(row.type)
    if kind is None:
        return f"type: {row.type[:40]!r} is none of {', '.join(t.word for t in CLIENT_TYPES)}"
    for is_so, reason in _RULES:
        if is_so(row, kind):
            return reason.format(type=kind.word)
    if row.post in unknown_posts:
        return f"post: {row.post!r} is not known; PUT it first"
    if row.time is not None:
        moment = to_us(row.time)
        if moment > now_us + MAX_AHEAD_US:
            return "time: more than 5 minutes in the future"
        if moment < 0:
            return "time: before 1970"
    return None


_RULES: Final[tuple[tuple[Callable[[EventIn, EventType], bool], str], ...]] = (
    (lambda _row, kind: kind in SERVER_TYPES, "type: {type} is written by the server alone"),
    (lambda row, kind: kind in NEEDS_POST and row.post is None, "post: {type} needs one"),
    (lambda row, kind: kind in NEEDS_TARGET and row.target is None, "target: {type} needs one"),
    (
        lambda row, kind: kind in NEEDS_TARGET and row.target == row.viewer,
        "target: nobody can {type} themselves",
    ),
    (
        lambda row, kind: kind is EventType.DWELL and (row.value is None or row.value < 0),
        "value: dwell needs milliseconds, 0 or more",
    ),
)


def _event_rows(
    api: ApiState, taken: Sequence[_Taken], request_name: bytes, now_us: int
) -> list[EventRow]:
    """Turn rows into what the log stores; people who are new get an id, posts have one."""
    events = [row.event for row in taken]
    people = _distinct(name for event in events for name in (event.viewer, event.target))
    person_ids = dict(zip(people, interned(api.workspace, Namespace.PERSON, people), strict=True))
    posts = _distinct(event.post for event in events)
    found = api.workspace.ids.lookup(Namespace.POST, posts).tolist()
    post_ids = dict(zip(posts, found, strict=True))
    ids = _event_ids(taken, request_name)
    return [
        EventRow(
            event_id=event_id,
            type=row.type,
            viewer_id=person_ids[row.event.viewer],
            post_id=None if row.event.post is None else post_ids[row.event.post],
            target_id=None if row.event.target is None else person_ids[row.event.target],
            event_us=now_us if row.event.time is None else min(to_us(row.event.time), now_us),
            known_us=now_us,
            value=row.event.value,
            feed_id=None if row.event.feed_id is None else parse_feed_id(row.event.feed_id),
            position=row.event.position,
        )
        for row, event_id in zip(taken, ids, strict=True)
    ]


def _distinct(names: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name is not None))


def _event_ids(taken: Sequence[_Taken], request_name: bytes) -> list[int]:
    """Give each row its event id.

    The client's where there is one; else one made from what happened, when, and how often in this
    batch; else, without a time, from the request and the row's place in it.
    """
    ids: list[int] = []
    seen: dict[tuple[object, ...], int] = {}
    for place, kind, event in taken:
        if event.event_id is not None:
            ids.append(int(event_ids_of([event.event_id])[0]))
        elif event.time is not None:
            post, target = event.post or "", event.target or ""
            what = (event.viewer, post, target, kind.word, to_us(event.time))
            occurrence = seen[what] = seen.get(what, -1) + 1
            ids.append(hash63(*what, occurrence))
        else:
            ids.append(hash63("request", request_name, place))
    return ids


def _fresh_graph_events(api: ApiState, events: Sequence[EventRow]) -> list[EventRow]:
    """Keep follows and blocks that the log will take: a late retry must not redo what was undone.

    All writes go through one lane, so nothing comes between this look and the write.
    """
    if not any(event.type in EDGE_OF for event in events):
        return []
    ids = np.array([event.event_id for event in events], dtype=np.int64)
    takes = api.workspace.log.takes(ids).tolist()
    return [e for e, taken in zip(events, takes, strict=True) if taken and e.type in EDGE_OF]


def _graph_changes(events: Sequence[EventRow]) -> EntityChanges:
    """Give the follows and blocks that a batch leaves behind: the last word on each pair counts."""
    edges: dict[tuple[int, int, str], tuple[bool, int]] = {}
    for event in events:
        if event.target_id is not None:
            kind, holds = EDGE_OF[event.type]
            edges[event.viewer_id, event.target_id, kind] = (holds, event.event_us)
    return edge_changes(edges)
