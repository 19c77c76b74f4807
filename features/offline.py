"""Features as they were: the join of stored snapshots, and the ranker's training matrix.

Nothing that was not known counts: an event is visible to a query at t where it happened before t
and was known by t; a snapshot where its event and created times are at or before t.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from contracts.clock import HOUR_US
from contracts.errors import SchemaMismatch
from features.event_arrays import int_column
from features.frames import FeatureFrames, entity_state, event_arrays, without_erased
from features.history import ActionLog, histories_as_of
from features.replay import Replay
from features.slots import Float32s, Float64s, Ints, Slots, run_lengths, run_starts
from features.views import FEATURES

BLOCK_QUERIES: Final = 256
BLOCK_US: Final = HOUR_US

Progress = Callable[[int, int], None]
"""Called with queries done and queries in all."""


def asof_join(
    entity_ids: Ints,
    times_us: Ints,
    snapshots: pa.Table,
    columns: Sequence[str],
    *,
    key: str,
    ttl_us: int | None = None,
) -> Float64s:
    """Join labels [n] to the newest snapshot row that each could know: [n, columns].

    `snapshots` holds `key`, `event_timestamp`, `created_timestamp` and the columns. NaN where there
    is no row; a row older than `ttl_us` is none. Rows out are rows in, in their order.
    """
    missing = {key, "event_timestamp", "created_timestamp", *columns} - set(snapshots.column_names)
    if missing:
        raise SchemaMismatch(f"snapshots lack the columns {sorted(missing)}")
    ids = int_column(snapshots, key)
    events, created = (int_column(snapshots, f"{k}_timestamp") for k in ("event", "created"))
    order = np.lexsort((created, events, ids))
    at = _newest_known((ids[order], events[order], created[order]), (entity_ids, times_us), ttl_us)
    joined = np.empty((len(columns), entity_ids.shape[0]))
    if order.shape[0] == 0:
        joined.fill(np.nan)
        return joined.T
    unknown = np.flatnonzero(at < 0)
    rows = order.take(at, mode="clip")
    # Column by column: each is read and written in one piece, and no other copy is held.
    for values, name in zip(joined, columns, strict=True):
        snapshots.column(name).cast(pa.float64()).to_numpy().take(rows, out=values, mode="clip")
        values[unknown] = np.nan
    return joined.T


def _newest_known(
    rows: tuple[Ints, Ints, Ints], labels: tuple[Ints, Ints], ttl_us: int | None
) -> Ints:
    """Find for each label its row in (ids, event times, created times), sorted so; -1 for none."""
    ids, events, created = rows
    entity_ids, times_us = labels
    starts = run_starts(ids)
    if starts.shape[0] == 0:
        return np.full(entity_ids.shape, -1, np.int64)
    entities, moments = ids[starts], np.unique(events)
    width = moments.shape[0] + 1
    codes = np.repeat(np.arange(starts.shape[0]), run_lengths(starts, ids.shape[0]))
    keys = codes * width + np.searchsorted(moments, events)
    code = np.minimum(np.searchsorted(entities, entity_ids), entities.shape[0] - 1)
    wanted = code * width + np.searchsorted(moments, times_us, side="right")
    by_key = np.argsort(wanted)  # a search in the order of the keys is eight times faster
    at = np.empty(entity_ids.shape, np.int64)
    at[by_key] = np.searchsorted(keys, wanted[by_key]) - 1
    first = starts[code]
    at[entities[code] != entity_ids] = -1
    late = np.flatnonzero((at >= first) & (created[at] > times_us))
    while late.shape[0]:  # step back over what was not known yet
        at[late] -= 1
        late = late[(at[late] >= first[late]) & (created[at[late]] > times_us[late])]
    at[at < first] = -1
    if ttl_us is not None:
        at[(at >= 0) & (events[at] + ttl_us < times_us)] = -1
    return at


def training_features(
    frames: FeatureFrames,
    viewer_ids: Ints,
    times_us: Ints,
    post_ids: Ints,
    family_scores: Float32s,
    progress: Progress | None = None,
) -> Float32s:
    """Compute the ranker's features of past queries: [Q], [Q], [Q, C], [Q, C, 4] -> [Q, C, F].

    Post -1 pads: its row is NaN. Histories are exact as of each query. Counters and the graph stand
    as of the block that the query is in: at most 256 queries or one hour earlier, never later.
    """
    state = entity_state(frames, count_posts=False)
    events = without_erased(event_arrays(frames, state))
    actions = ActionLog.of(
        events.viewers, events.posts, events.types, events.times_us, events.visible_us
    )
    past = Replay(state, frames, events)
    viewers = state.people.slots_of(viewer_ids)
    slots = np.where(post_ids >= 0, state.posts.slots_of(post_ids), -1)
    out = np.empty((*post_ids.shape, len(FEATURES)), np.float32)
    order = np.argsort(times_us, kind="stable")
    done = 0
    for at in _blocks(order, times_us):
        past.advance(int(times_us[at[0]]))
        histories = histories_as_of(actions, viewers[at], times_us[at])
        block = state.block(viewers[at], times_us[at], histories)
        out[at] = state.features(block, slots[at], family_scores[at])
        done += at.shape[0]
        if progress is not None:
            progress(done, order.shape[0])
    return out


def _blocks(order: Slots, times_us: Ints) -> Iterator[Slots]:
    """Cut queries, in order of time, into blocks."""
    sorted_us = times_us[order]
    start = 0
    while start < order.shape[0]:
        within = int(np.searchsorted(sorted_us, sorted_us[start] + BLOCK_US, side="right"))
        stop = min(start + BLOCK_QUERIES, within)
        yield order[start:stop]
        start = stop
