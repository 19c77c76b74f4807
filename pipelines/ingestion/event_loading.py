"""Loading rows of events into the event log."""

from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.events import EVENT_SCHEMA, NEEDS_POST, NEEDS_TARGET, EventType
from contracts.ids import UNKNOWN_ID, Namespace
from features.identity import event_ids_of
from features.workspace import Workspace
from pipelines.ingestion.event_effects import apply_to_catalog
from pipelines.ingestion.event_keys import made_event_ids
from pipelines.ingestion.fields import (
    Fields,
    intern_column,
    lookup_column,
    nullable_ids,
    nullable_times,
)
from pipelines.ingestion.loading import EARLIEST_EVENT_US, FileState, Loading
from pipelines.ingestion.rejects import RowCheck
from pipelines.ingestion.rows import RowBatch
from pipelines.ingestion.times import ABSENT_US

Ids = NDArray[np.int64]

_EXPOSURES: Final = [
    int(t) for t in (EventType.SERVED, EventType.IMPRESSION, EventType.VIEW, EventType.DWELL)
]


def load_events(loading: Loading, state: FileState, batch: RowBatch) -> RowCheck:
    """Append events to sealed segments; rows that do not fit are rejected, the rest kept."""
    fields = Fields(batch)
    types = fields.event_types(state.source.words)
    viewers = fields.ids("viewer_id", required=True)
    posts = _needed(fields, "post_id", types, NEEDS_POST)
    targets = _needed(fields, "target_id", types, NEEDS_TARGET)
    happened, known = _times(fields, state)
    value, position = fields.numbers("value"), fields.positions("position")
    feeds, given = fields.feed_ids("feed_id"), fields.ids("event_id")
    if not loading.bare_posts:
        _reject_unknown_posts(loading, fields, posts)
    good = fields.check.good
    keep = pa.array(good)
    ids = loading.workspace.ids
    viewer_ids = intern_column(ids, Namespace.PERSON, viewers.filter(keep))
    target_ids = intern_column(ids, Namespace.PERSON, targets.filter(keep))
    post_ids = intern_column(ids, Namespace.POST, posts.filter(keep))
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
        appended = loading.workspace.log.append_bulk(events)
        # Not on a repeated ingest: what has changed since then must not come back.
        if appended.accepted:
            apply_to_catalog(loading.workspace.catalog, events)
    state.accepted += appended.accepted
    state.duplicates += appended.duplicates
    loading.exposure_events += int(np.isin(types, _EXPOSURES).sum())
    return fields.check


def _needed(
    fields: Fields, name: str, types: NDArray[np.int8], needing: frozenset[EventType]
) -> pa.Array:
    column = fields.ids(name)
    missing = column.is_null().to_numpy(zero_copy_only=False)
    needs = np.isin(types, [int(t) for t in needing])
    fields.check.reject(missing & needs, f"{name} is missing, this event type needs it")
    return column


def _times(fields: Fields, state: FileState) -> tuple[Ids, Ids]:
    """Give event time and known time; known time is ABSENT_US where the file has none."""
    happened, known = (
        fields.times(name, state.time_reader(name), earliest_us=EARLIEST_EVENT_US)
        for name in ("event_time", "known_time")
    )
    fields.check.reject(happened == ABSENT_US, "event_time is missing")
    early = (known != ABSENT_US) & (known < happened)
    fields.check.reject(early, "known_time is before event_time")
    return happened, known


def _reject_unknown_posts(loading: Loading, fields: Fields, posts: pa.Array) -> None:
    found = lookup_column(loading.workspace.ids, Namespace.POST, posts)
    given = ~posts.is_null().to_numpy(zero_copy_only=False)
    fields.check.reject(given & ~loading.posts.has(found), "post_id is not among the posts")


def _make_posts(workspace: Workspace, post_ids: Ids, happened: Ids) -> None:
    """Make bare posts, created at the first event that names them."""
    named = post_ids != UNKNOWN_ID
    order = np.lexsort((happened[named], post_ids[named]))
    ids, times = post_ids[named][order], happened[named][order]
    unique, first = np.unique(ids, return_index=True)
    workspace.catalog.ensure_posts(unique, times[first])


def _event_ids(given: pa.Array, made: Ids) -> Ids:
    """Hash the file's own event ids; rows without one take the made id."""
    has_one = ~given.is_null().to_numpy(zero_copy_only=False)
    if not has_one.any():
        return made
    ids = made.copy()
    ids[has_one] = event_ids_of(given.filter(pa.array(has_one)).to_pylist())
    return ids
