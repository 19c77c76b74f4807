"""Our join and our cache compared with Feast, value by value."""

from typing import Final, NamedTuple

import numpy as np

from contracts.clock import DAY_US, HOUR_US
from features.caches import FeatureCache
from features.event_arrays import int_column
from features.materialize import read_snapshots
from features.offline import asof_join
from features.slots import Float64s, Ints, last_of_each
from features.store import FeastStore
from features.views import POST_VIEW, VIEWS, View
from features.workspace import Workspace

_SHIFTS_US: Final = (0, -1, 1, HOUR_US, -5 * DAY_US, 40 * DAY_US)
"""Labels stand on, just before, just after, between and long after snapshots."""
_UNKNOWN_SHARE: Final = 0.1
_TOLERANCE: Final = 1e-9


class Parity(NamedTuple):
    """How many values of one view were compared, and how many differ."""

    rows: int
    values: int
    unequal: int


def historical_parity(
    workspace: Workspace, store: FeastStore, *, labels: int = 2000, seed: int = 0
) -> dict[str, Parity]:
    """Join drawn labels, some twice and some of unknown entities, both ways; by view."""
    found = {}
    for view in VIEWS:
        snapshots = read_snapshots(workspace.home, view)
        ids, times = draw_labels(
            int_column(snapshots, view.key), int_column(snapshots, "event_timestamp"), labels, seed
        )
        ours = asof_join(ids, times, snapshots, view.columns, key=view.key)
        found[view.name] = compared(ours, store.historical(view, ids, times), tolerance=0.0)
    return found


def online_parity(
    workspace: Workspace, store: FeastStore, *, entities: int = 2000, seed: int = 0
) -> dict[str, Parity]:
    """Read entities from the cache of the materialised state and from Feast online; by view.

    Feast keeps each row as of its last change, the cache reads as of now: both are compared as of
    the last snapshot. The windowed column cannot be moved in time, so where the row is older only
    its decayed columns count.
    """
    cache = FeatureCache.load(workspace)
    found = {}
    for view in VIEWS:
        snapshots = read_snapshots(workspace.home, view)
        ids, written = _last_rows(
            int_column(snapshots, view.key), int_column(snapshots, "event_timestamp")
        )
        now = int(int_column(snapshots, "event_timestamp").max(initial=0))
        chosen = np.random.default_rng(seed).permutation(len(ids))[:entities]
        ids, written = ids[chosen], written[chosen]
        if len(ids) == 0:  # as of authors, where no post has one
            found[view.name] = Parity(0, 0, 0)
            continue
        theirs = store.online_read(view, ids) * _decay(view, now - written)
        ours = cached_values(cache, view, ids, now)
        if view is POST_VIEW:
            older = written < now
            ours[older, -1] = theirs[older, -1]
        found[view.name] = compared(ours, theirs, tolerance=_TOLERANCE)
    return found


def draw_labels(ids: Ints, events_us: Ints, n: int, seed: int) -> tuple[Ints, Ints]:
    """Draw labels around snapshot rows: ids and times, the first tenth of them twice."""
    if len(ids) == 0:
        return ids, events_us
    rng = np.random.default_rng(seed)
    at = rng.integers(0, len(ids), n)
    who = np.where(rng.random(n) < _UNKNOWN_SHARE, ids.max() + 1, ids[at])
    times = events_us[at] + rng.choice(_SHIFTS_US, n)
    return np.r_[who, who[: n // 10]], np.r_[times, times[: n // 10]]


def cached_values(cache: FeatureCache, view: View, ids: Ints, now_us: int) -> Float64s:
    """Read a view's stored columns from the cache as of now: ids [n] -> [n, columns]."""
    slots = cache.state.index_of(view).slots_of(ids)
    return cache.state.stored(view, slots, now_us)


def compared(ours: Float64s, theirs: Float64s, *, tolerance: float) -> Parity:
    """Count values [n, columns] and those that differ; null equals null."""
    equal = np.isclose(ours, theirs, rtol=tolerance, atol=tolerance, equal_nan=True)
    return Parity(len(ours), int(equal.size), int(equal.size - equal.sum()))


def _last_rows(ids: Ints, events_us: Ints) -> tuple[Ints, Ints]:
    """Give each entity once, with the time of its last snapshot."""
    by_time = np.argsort(events_us, kind="stable")
    last = by_time[last_of_each(ids[by_time])]
    return ids[last], events_us[last]


def _decay(view: View, elapsed_us: Ints) -> Float64s:
    half_lives = [c.half_life_us for c in view.counters] + [np.inf] * len(view.extras)
    factors: Float64s = np.exp2(-elapsed_us[:, None] / np.array(half_lives))
    return factors
