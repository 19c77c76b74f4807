"""What each viewer did last: live rings of recent actions, and the same as of any past time.

A history is the viewer's last 100 positive actions, less those undone since, newest last. `seen`
is the last 500 impressions, views and actions; `shown` the last 48 impressions with their times;
`controls` the last 32 wishes to see more or fewer of something. All count by order of arrival, so
that a ring and a look into the past agree entry by entry.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.events import CONTROLS, NEGATIVE_ACTIONS, POSITIVE_ACTIONS, UNDO_OF, EventType
from features.columns import Columns
from features.rings import ActionRing
from features.slots import Bools, Ints, Slots, grown

HISTORY_LENGTH: Final = 100
SEEN_LENGTH: Final = 500
SHOWN_LENGTH: Final = 48
CONTROLS_LENGTH: Final = 32
_CHUNK: Final = 8192
_TYPE_COUNT: Final = max(EventType) + 1


def type_mask(types: tuple[EventType, ...]) -> Bools:
    """Make a table [types] that is true at the given event types."""
    mask = np.zeros(_TYPE_COUNT, np.bool_)
    mask[list(types)] = True
    return mask


IS_ACTION: Final = type_mask(POSITIVE_ACTIONS)
IS_UNDO: Final = type_mask(tuple(u for u, done in UNDO_OF.items() if done in POSITIVE_ACTIONS))
IS_SEEN: Final = type_mask(
    (EventType.IMPRESSION, EventType.VIEW, EventType.DWELL, *POSITIVE_ACTIONS, *NEGATIVE_ACTIONS)
)
_IS_CONTROL: Final = type_mask(CONTROLS)
_DONE: Final = np.array(
    [int(UNDO_OF.get(EventType(t), t)) if t else 0 for t in range(_TYPE_COUNT)], np.int8
)
"""Event type -> the type that it does or undoes."""


@dataclass(frozen=True, slots=True)
class Histories(Columns):
    """Recent actions of Q viewers, padded in front, newest last; every array is [Q, H].

    `posts` holds slots of a `PostTable` (or whatever post code was put in), -1 where empty;
    `types` is 0 and `times_us` is -1 there.
    """

    post_slots: Slots
    types: NDArray[np.int8]
    times_us: Ints


class HistoryStore:
    """Live histories and seen posts of viewer slots, patched from the log."""

    def __init__(self, rows: int = 0) -> None:
        self.actions = ActionRing(HISTORY_LENGTH, rows)
        self.seen = ActionRing(SEEN_LENGTH, rows, timed=False)
        self.shown = ActionRing(SHOWN_LENGTH, rows)
        self.controls = ActionRing(CONTROLS_LENGTH, rows, timed=False)
        self._rings = (self.actions, self.seen, self.shown, self.controls)
        self.versions: Ints = np.zeros(rows, np.int64)

    def ensure(self, rows: int) -> None:
        """Grow to at least this many viewers."""
        for ring in self._rings:
            ring.ensure(rows)
        self.versions = grown(self.versions, rows)

    def apply(self, viewers: Slots, posts: Slots, types: NDArray[np.int8], times_us: Ints) -> None:
        """Apply events [E] in their order; those without viewer or post pass."""
        known = (viewers >= 0) & (posts >= 0)
        kept = known & (IS_ACTION[types] | IS_UNDO[types])
        if kept.any():
            self._apply_actions(viewers[kept], posts[kept], types[kept], times_us[kept])
        for ring, wanted in (
            (self.seen, IS_SEEN[types]),
            (self.shown, types == EventType.IMPRESSION),
        ):
            kept = known & wanted
            ring.append(viewers[kept], posts[kept], types[kept], times_us[kept])
        self._apply_controls(viewers, posts, types, times_us)
        np.add.at(self.versions, viewers[known], 1)

    def _apply_actions(
        self, viewers: Slots, posts: Slots, types: NDArray[np.int8], times_us: Ints
    ) -> None:
        undo = IS_UNDO[types]
        if not undo.any():
            self.actions.append(viewers, posts, types, times_us)
            return
        done = _DONE[types]
        next_undo = _next_undo(viewers, posts, done, undo)
        self.actions.remove(viewers[undo], posts[undo], done[undo])
        survives = np.where(next_undo < 0, posts, -1)
        act = ~undo
        self.actions.append(viewers[act], survives[act], done[act], times_us[act])

    def _apply_controls(
        self, viewers: Slots, posts: Slots, types: NDArray[np.int8], times_us: Ints
    ) -> None:
        kept = (viewers >= 0) & (posts >= 0) & _IS_CONTROL[types]
        ends = np.flatnonzero((types == EventType.RESET_CONTROLS) & (viewers >= 0))
        start = 0
        for stop in (*ends.tolist(), len(types)):  # resets are rare: one or no turn as a rule
            at = np.flatnonzero(kept[start:stop]) + start
            self.controls.append(viewers[at], posts[at], types[at], times_us[at])
            if stop < len(types):
                self.controls.forget(int(viewers[stop]))
            start = stop

    def get(self, viewers: Slots) -> Histories:
        """Read the histories of viewer slots [Q]; slot -1 has none."""
        ring = self.actions
        if ring.rows() == 0:
            return empty_histories(viewers.shape[0])
        places, valid = ring.places(viewers)
        at = (viewers[:, None], places)
        times = ring.times_us
        assert times is not None  # noqa: S101 - the action ring is built with times
        return _newest_last(ring.posts[at].astype(np.int64), ring.types[at], times[at], valid)

    def version(self, viewer: int) -> int:
        """Count the events applied to one viewer slot; 0 for slot -1."""
        return int(self.versions[viewer]) if 0 <= viewer < self.versions.shape[0] else 0

    def seen_posts(self, viewer: int) -> tuple[Slots, NDArray[np.int8]]:
        """Read the post slots and event types last seen by one viewer slot, in no order."""
        return self.seen.latest(viewer)[:2]

    def shown_posts(self, viewer: int) -> tuple[Slots, Ints]:
        """Read the post slots of a viewer slot's last impressions, and their times."""
        posts, _, times_us = self.shown.latest(viewer)
        return posts, times_us

    def wishes(self, viewer: int) -> tuple[Slots, NDArray[np.int8]]:
        """Read the post slots and event types of a viewer slot's controls, oldest first."""
        return self.controls.latest(viewer)[:2]

    def forget(self, viewer: int) -> None:
        """Erase what one viewer did, saw and wished."""
        for ring in self._rings:
            ring.forget(viewer)
        self.versions[viewer] += 1


def empty_histories(queries: int) -> Histories:
    """Make histories without entries."""
    shape = (queries, HISTORY_LENGTH)
    return Histories(
        np.full(shape, -1, np.int64), np.zeros(shape, np.int8), np.full(shape, -1, np.int64)
    )


def _newest_last(posts: Slots, types: NDArray[np.int8], times_us: Ints, valid: Bools) -> Histories:
    """Blank what is not valid and order each row by time, blanks first; all [Q, H]."""
    times = np.where(valid, times_us, -1)
    if not np.all(times[:, 1:] >= times[:, :-1]):
        order = np.argsort(times, axis=1, kind="stable")
        times = np.take_along_axis(times, order, axis=1)
        posts = np.take_along_axis(posts, order, axis=1)
        types = np.take_along_axis(types, order, axis=1)
        valid = np.take_along_axis(valid, order, axis=1)
    return Histories(np.where(valid, posts, -1), np.where(valid, types, 0).astype(np.int8), times)


def _next_undo(viewers: Slots, posts: Slots, done: NDArray[np.int8], undo: Bools) -> Ints:
    """Find for each event [E] the place of the next undo of the same triple; -1 where none."""
    place = np.arange(viewers.shape[0])
    order = np.lexsort((place, done, posts, viewers))
    ordered = np.stack([viewers[order], posts[order], done[order].astype(np.int64)])
    group = np.cumsum(np.r_[False, np.any(ordered[:, 1:] != ordered[:, :-1], axis=0)])
    marked = np.where(undo[order], place, place.shape[0])
    following = np.minimum.accumulate(marked[::-1])[::-1]
    inside = following < place.shape[0]
    inside[inside] = group[following[inside]] == group[inside]
    result = np.full(place.shape[0], -1, np.int64)
    result[order[inside]] = order[following[inside]]
    return result


@dataclass(frozen=True, slots=True)
class ActionLog:
    """Positive actions sorted by viewer and time of being known, for looks into the past."""

    posts: Slots
    types: NDArray[np.int8]
    times_us: Ints
    keys: Ints
    """Viewer code and rank of time in one sortable number."""
    moments_us: Ints
    """Distinct times at which something becomes known, sorted."""
    dead_us: Ints
    """When the action is undone; the greatest int64 where never."""
    viewers: Ints
    """Distinct viewers, sorted."""

    @classmethod
    def of(
        cls, viewers: Ints, posts: Ints, types: NDArray[np.int8], times_us: Ints, visible_us: Ints
    ) -> "ActionLog":
        """Sort events [E], given in order of arrival among equal times; other types are left out.

        `visible_us` is the first time at which a query may know the event (`visible_from`).
        """
        kept = np.flatnonzero((IS_ACTION[types] | IS_UNDO[types]) & (viewers >= 0) & (posts >= 0))
        kept = kept[np.argsort(visible_us[kept], kind="stable")]
        undo, done = IS_UNDO[types[kept]], _DONE[types[kept]]
        undone_at = _next_undo(viewers[kept], posts[kept], done, undo)
        visible = visible_us[kept]
        dead = np.where(undone_at < 0, np.iinfo(np.int64).max, visible[undone_at])
        act = ~undo
        kept, dead, visible = kept[act], dead[act], visible[act]
        people, codes = np.unique(viewers[kept], return_inverse=True)
        moments = np.unique(visible)
        keys = codes * (moments.shape[0] + 1) + np.searchsorted(moments, visible)
        order = np.argsort(keys, kind="stable")
        at = kept[order]
        return cls(posts[at], types[at], times_us[at], keys[order], moments, dead[order], people)


def histories_as_of(log: ActionLog, viewers: Ints, times_us: Ints) -> Histories:
    """Read histories of viewers [Q] as of times [Q]: only what was known before each time."""
    parts = [
        _as_of_chunk(log, viewers[i : i + _CHUNK], times_us[i : i + _CHUNK])
        for i in range(0, viewers.shape[0], _CHUNK)
    ]
    return Histories.merged(parts) if parts else empty_histories(0)


def _as_of_chunk(log: ActionLog, viewers: Ints, times_us: Ints) -> Histories:
    if log.viewers.shape[0] == 0:
        return empty_histories(viewers.shape[0])
    code = np.minimum(np.searchsorted(log.viewers, viewers), log.viewers.shape[0] - 1)
    known = log.viewers[code] == viewers
    base = code * (log.moments_us.shape[0] + 1)
    rank = np.searchsorted(log.moments_us, times_us, side="right")
    start, stop = np.searchsorted(log.keys, base), np.searchsorted(log.keys, base + rank)
    at = stop[:, None] - HISTORY_LENGTH + np.arange(HISTORY_LENGTH)
    valid = (at >= start[:, None]) & known[:, None]
    at = np.where(valid, at, 0)
    valid &= log.dead_us[at] > times_us[:, None]
    return _newest_last(log.posts[at], log.types[at], log.times_us[at], valid)
