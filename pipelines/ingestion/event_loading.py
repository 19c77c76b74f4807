"""Loading rows of events into the event log, and what they do to the catalog."""

from itertools import chain
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.events import EVENT_SCHEMA, NEEDS_POST, NEEDS_TARGET, EventType
from contracts.ids import UNKNOWN_ID, Namespace
from contracts.tables import BLOCKS_SCHEMA, FOLLOWS_SCHEMA
from features.event_log import EventLog
from features.identity import event_ids_of
from features.segments import integers_of
from features.workspace import Workspace
from pipelines.ingestion.event_keys import made_event_ids
from pipelines.ingestion.fields import Fields, column_ids, mask_of, nullable_ids, nullable_times
from pipelines.ingestion.loading import EARLIEST_EVENT_US, FileState, Ids, Loading
from pipelines.ingestion.pairs import PAIR_EVENTS, NewestOfPairs
from pipelines.ingestion.rejects import RowCheck
from pipelines.ingestion.rows import RowBatch
from pipelines.ingestion.times import ABSENT_US

_EXPOSURES: Final = [
    int(t) for t in (EventType.SERVED, EventType.IMPRESSION, EventType.VIEW, EventType.DWELL)
]
_CHANGES: Final = [
    int(t) for t in (*chain(*PAIR_EVENTS.values()), EventType.POST_DELETED, EventType.PERSON_ERASED)
]


def load_events(loading: Loading, state: FileState, batch: RowBatch) -> RowCheck:
    """Append events to sealed segments; rows that do not fit are rejected, the rest kept."""
    fields = Fields(batch, state.time_reader)
    types = fields.event_types(state.source.words)
    viewers = fields.ids("viewer_id", required=True)
    posts = _needed(fields, "post_id", types, NEEDS_POST)
    targets = _needed(fields, "target_id", types, NEEDS_TARGET)
    happened, known = _times(fields)
    value, position = fields.numbers("value"), fields.positions("position")
    feeds, given = fields.feed_ids("feed_id"), fields.ids("event_id")
    ids = loading.workspace.ids
    if not loading.bare_posts:
        found = column_ids(ids.lookup, Namespace.POST, posts)
        unknown = mask_of(posts.is_valid()) & ~loading.posts.has(found)
        fields.check.reject(unknown, "post_id is not among the posts")
    good = fields.check.good
    keep = pa.array(good)
    viewer_ids = column_ids(ids.intern, Namespace.PERSON, viewers.filter(keep))
    target_ids = column_ids(ids.intern, Namespace.PERSON, targets.filter(keep))
    post_ids = column_ids(ids.intern, Namespace.POST, posts.filter(keep))
    types, happened, known = types[good], happened[good], known[good]
    loading.ensure_people(np.concatenate((viewer_ids, target_ids)))
    if loading.bare_posts:
        _make_posts(loading.workspace, post_ids, happened)
        loading.posts.add(post_ids)
    made = made_event_ids(
        state.occurrences, [viewer_ids, post_ids, target_ids, types.astype(np.int64), happened]
    )
    assumed = known == ABSENT_US
    columns = [
        pa.array(_event_ids(given.filter(keep), made)),
        pa.array(types),
        pa.array(viewer_ids),
        nullable_ids(post_ids),
        nullable_ids(target_ids),
        nullable_times(happened),
        nullable_times(np.where(assumed, happened, known)),
        pa.array(assumed),
        value.filter(keep),
        feeds.filter(keep),
        position.filter(keep),
    ]
    events = pa.table(columns, schema=EVENT_SCHEMA)
    with loading.workspace.atomic():
        # Not what the log holds already: what has changed since then must not come back.
        changes = _fresh_changes(loading.workspace.log, events)
        appended = loading.workspace.log.append_bulk(events)
        if changes.num_rows:
            _apply_to_catalog(loading, changes)
    state.accepted += appended.accepted
    loading.accepted_events += appended.accepted
    state.duplicates += appended.duplicates
    loading.exposure_events += int(np.isin(types, _EXPOSURES).sum())
    return fields.check


def _fresh_changes(log: EventLog, events: pa.Table) -> pa.Table:
    """Pick the rows that change the catalog and that the log will take."""
    changes = np.isin(integers_of(events, "type"), _CHANGES)
    if changes.any():
        changes &= log.takes(integers_of(events, "event_id"))
    return events.filter(pa.array(changes))


def _needed(
    fields: Fields, name: str, types: NDArray[np.int8], needing: frozenset[EventType]
) -> pa.Array:
    column = fields.ids(name)
    needs = np.isin(types, [int(t) for t in needing])
    fields.check.reject(
        needs & ~mask_of(column.is_valid()), f"{name} is missing, this event type needs it"
    )
    return column


def _times(fields: Fields) -> tuple[Ids, Ids]:
    """Give event time and known time; known time is ABSENT_US where the file has none."""
    happened = fields.times("event_time", EARLIEST_EVENT_US)
    known = fields.times("known_time", EARLIEST_EVENT_US)
    fields.check.reject(happened == ABSENT_US, "event_time is missing")
    early = (known != ABSENT_US) & (known < happened)
    fields.check.reject(early, "known_time is before event_time")
    return happened, known


def _make_posts(workspace: Workspace, post_ids: Ids, happened: Ids) -> None:
    """Make bare posts, created at the first event that names them."""
    named = post_ids != UNKNOWN_ID
    order = np.lexsort((happened[named], post_ids[named]))
    ids, times = post_ids[named][order], happened[named][order]
    unique, first = np.unique(ids, return_index=True)
    workspace.catalog.ensure_posts(unique, times[first])


def _event_ids(given: pa.Array, made: Ids) -> Ids:
    """Hash the file's own event ids; rows without one take the made id."""
    ids = made.copy()
    ids[mask_of(given.is_valid())] = event_ids_of(given.drop_null().to_pylist())
    return ids


def _apply_to_catalog(loading: Loading, events: pa.Table) -> None:
    """Bring the catalog to the state after EVENT_SCHEMA rows; the last event of a pair counts.

    The last by its time, of all that the log holds: files need not be in order.
    """
    catalog, types = loading.workspace.catalog, integers_of(events, "type")
    follow = _last_of_pairs(loading.newest, events, types, "follow")
    if follow is not None:
        on, off, since = follow
        catalog.remove_follows(off[:, 0], off[:, 1])
        columns = [pa.array(on[:, 0]), pa.array(on[:, 1]), nullable_times(since)]
        catalog.set_follows(pa.table(columns, schema=FOLLOWS_SCHEMA))
    for kind in ("block", "mute"):
        block = _last_of_pairs(loading.newest, events, types, kind)
        if block is not None:
            on, off, since = block
            catalog.remove_blocks(off[:, 0], off[:, 1], kind)
            kinds = pa.array([kind] * len(on), pa.string())
            columns = [pa.array(on[:, 0]), pa.array(on[:, 1]), kinds, nullable_times(since)]
            catalog.set_blocks(pa.table(columns, schema=BLOCKS_SCHEMA))
    deleted = events.filter(pa.array(types == EventType.POST_DELETED))
    if deleted.num_rows:
        at_us = int(integers_of(deleted, "event_time").max())
        catalog.delete_posts(integers_of(deleted, "post_id"), at_us)
    erased = events.filter(pa.array(types == EventType.PERSON_ERASED))
    if erased.num_rows:
        catalog.erase_people(integers_of(erased, "viewer_id"))


def _last_of_pairs(
    newest_of: NewestOfPairs, events: pa.Table, types: NDArray[np.int64], kind: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None:
    """Give pairs [n, 2] that end switched on, those that end off, and the times of the first.

    Pairs of which a later event is known are left out.
    """
    mask = np.isin(types, [int(t) for t in PAIR_EVENTS[kind]])
    if not mask.any():
        return None
    chosen = events.filter(pa.array(mask))
    times = integers_of(chosen, "event_time")
    pairs = np.stack((integers_of(chosen, "viewer_id"), integers_of(chosen, "target_id")), axis=1)
    # Newest first, so that the first of each pair is its last event.
    newest = np.lexsort((np.arange(len(times)), times))[::-1]
    _, first = np.unique(pairs[newest], axis=0, return_index=True)
    last = newest[first]
    last = last[newest_of.advance(kind, pairs[last], times[last])]
    is_on = integers_of(chosen, "type")[last] == PAIR_EVENTS[kind][0]
    return pairs[last[is_on]], pairs[last[~is_on]], times[last[is_on]]
