"""Who follows, blocks and mutes whom: live adjacency by slot, and the same as of a past time.

Neighbour arrays are replaced, never written in place: a reader keeps a consistent one.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.events import EventType
from features.columns import Columns
from features.event_arrays import EventArrays
from features.slots import Bools, Ints, Slots, grown, last_of_each, run_lengths, run_starts

_NONE: Final = np.zeros(0, np.int32)
_NONE.setflags(write=False)

Neighbours = NDArray[np.int32]


class EdgeKind(IntEnum):
    """What an edge between two people means."""

    FOLLOW = 0
    BLOCK = 1
    MUTE = 2


CHANGES: Final = {
    EventType.FOLLOW: (EdgeKind.FOLLOW, True),
    EventType.BLOCK: (EdgeKind.BLOCK, True),
    EventType.MUTE: (EdgeKind.MUTE, True),
    EventType.UNFOLLOW: (EdgeKind.FOLLOW, False),
    EventType.UNBLOCK: (EdgeKind.BLOCK, False),
    EventType.UNMUTE: (EdgeKind.MUTE, False),
}
"""Event -> the kind of edge, and whether it opens or closes it."""


@dataclass(frozen=True, slots=True)
class EdgeChanges(Columns):
    """Edges that opened and closed [E], sorted by the time from which that may be known."""

    sources: Slots
    targets: Slots
    kinds: NDArray[np.int8]
    opens: Bools
    visible_us: Ints

    @classmethod
    def of(cls, events: EventArrays) -> "EdgeChanges":
        """Pick the changes of the graph out of events; unknown people and self-loops drop out."""
        rows, kinds, opens = [], [], []
        usable = (events.viewers >= 0) & (events.targets >= 0) & (events.viewers != events.targets)
        for event_type, (kind, opening) in CHANGES.items():
            found = np.flatnonzero((events.types == event_type) & usable)
            rows.append(found)
            kinds.append(np.full(found.shape, kind, np.int8))
            opens.append(np.full(found.shape, opening))
        at = np.concatenate(rows)
        order = np.argsort(at, kind="stable")  # events come sorted by visibility
        at = at[order]
        return cls(
            events.viewers[at], events.targets[at], np.concatenate(kinds)[order],
            np.concatenate(opens)[order], events.visible_us[at],
        )  # fmt: skip

    @classmethod
    def since(cls, sources: Slots, targets: Slots, kind: EdgeKind, since_us: Ints) -> "EdgeChanges":
        """Make openings [E] of one kind; an edge counts from the moment after `since`."""
        kept = (sources >= 0) & (targets >= 0) & (sources != targets)
        return cls(
            sources[kept], targets[kept], np.full(int(kept.sum()), kind, np.int8),
            np.ones(int(kept.sum()), np.bool_), since_us[kept] + 1,
        )  # fmt: skip

    @classmethod
    def in_order(cls, parts: "list[EdgeChanges]") -> "EdgeChanges":
        """Merge changes; of two at one moment, that of the earlier part comes first."""
        changes = cls.merged(parts)
        return changes[np.argsort(changes.visible_us, kind="stable")]

    def latest(self) -> "EdgeChanges":
        """Give the last change of each edge, ordered by edge."""
        if len(self) == 0:
            return self
        width = int(max(self.sources.max(), self.targets.max())) + 1
        keys = (self.kinds.astype(np.int64) * width + self.sources) * width + self.targets
        return self[last_of_each(keys)]

    def open_at_end(self) -> "EdgeChanges":
        """Give each edge that is open after all changes, once."""
        last = self.latest()
        return last[np.flatnonzero(last.opens)]


class Graph:
    """Live edges between person slots, by kind, both directions where someone asks."""

    def __init__(self, rows: int = 0) -> None:
        self._out: dict[EdgeKind, dict[int, Neighbours]] = {kind: {} for kind in EdgeKind}
        self._blocked_by: dict[int, Neighbours] = {}
        self.follows = np.zeros(rows, np.int32)
        """People followed, by slot; at least as long as the person table."""
        self.followers = np.zeros(rows, np.int32)
        """Followers, by slot; at least as long as the person table."""

    def ensure(self, rows: int) -> None:
        """Grow to at least this many people."""
        self.follows = grown(self.follows, rows)
        self.followers = grown(self.followers, rows)

    def followees(self, viewer: int) -> Neighbours:
        """Slots of the people whom a viewer follows, in no order; read only."""
        return self._out[EdgeKind.FOLLOW].get(viewer, _NONE)

    def blocked(self, viewer: int) -> Neighbours:
        """Slots of the people whom a viewer blocks."""
        return self._out[EdgeKind.BLOCK].get(viewer, _NONE)

    def blocked_by(self, viewer: int) -> Neighbours:
        """Slots of the people who block a viewer."""
        return self._blocked_by.get(viewer, _NONE)

    def muted(self, viewer: int) -> Neighbours:
        """Slots of the people whom a viewer mutes."""
        return self._out[EdgeKind.MUTE].get(viewer, _NONE)

    def fill(self, edges: EdgeChanges) -> None:
        """Fill an empty graph with distinct open edges at once."""
        for kind in EdgeKind:
            chosen = edges.kinds == kind
            sources, targets = edges.sources[chosen], edges.targets[chosen]
            self._out[kind] = _grouped(sources, targets)
            if kind is EdgeKind.FOLLOW:
                self.follows += _counts(sources, self.follows.shape[0])
                self.followers += _counts(targets, self.followers.shape[0])
            if kind is EdgeKind.BLOCK:
                self._blocked_by = _grouped(targets, sources)

    def apply(self, changes: EdgeChanges) -> None:
        """Apply changes in order; opening an open edge or closing a closed one does nothing."""
        for kind in (EdgeKind(k) for k in np.unique(changes.kinds)):
            part = changes[np.flatnonzero(changes.kinds == kind)]
            sources, before, after = _replace(self._out[kind], part.sources, part.targets, part)
            if kind is EdgeKind.FOLLOW:
                for source in sources:
                    self.follows[source] = self.followees(source).shape[0]
                np.subtract.at(self.followers, before, 1)
                np.add.at(self.followers, after, 1)
            if kind is EdgeKind.BLOCK:
                _replace(self._blocked_by, part.targets, part.sources, part)

    def _followers_of(self, person: int) -> list[int]:
        return _keys_of(self._out[EdgeKind.FOLLOW], person) if self.followers[person] else []

    def forget(self, person: int) -> None:
        """Close every edge from and to a person."""
        sources_of = {
            EdgeKind.FOLLOW: self._followers_of(person),
            EdgeKind.BLOCK: self.blocked_by(person).tolist(),
            EdgeKind.MUTE: _keys_of(self._out[EdgeKind.MUTE], person),
        }
        pairs = []
        for kind, out in self._out.items():
            pairs += [(person, target, kind) for target in out.get(person, _NONE).tolist()]
            pairs += [(source, person, kind) for source in sources_of[kind]]
        if pairs:
            sources, targets, kinds = np.array(pairs, np.int64).T
            closed = np.zeros(len(pairs), np.bool_)
            zeros = np.zeros(len(pairs), np.int64)
            self.apply(EdgeChanges(sources, targets, kinds.astype(np.int8), closed, zeros))


def _keys_of(adjacency: dict[int, Neighbours], value: int) -> list[int]:
    """Find whose neighbours hold a value."""
    if not adjacency:
        return []
    lengths = np.fromiter(map(len, adjacency.values()), np.int64, len(adjacency))
    found = np.flatnonzero(np.concatenate(list(adjacency.values())) == value)
    keys = np.fromiter(adjacency, np.int64, len(adjacency))
    owners: list[int] = keys[np.searchsorted(np.cumsum(lengths), found, side="right")].tolist()
    return owners


def _replace(
    adjacency: dict[int, Neighbours], keys: Slots, values: Slots, changes: EdgeChanges
) -> tuple[list[int], Slots, Slots]:
    """Replace the neighbours of the keys [E] that changes touch.

    Gives those keys, and all values that they held before and hold after.
    """
    touched = np.unique(keys).tolist()
    held = [adjacency.get(key, _NONE) for key in touched]
    before = np.concatenate(held).astype(np.int64)
    all_keys = np.concatenate([np.repeat(touched, [h.shape[0] for h in held]), keys])
    all_values = np.concatenate([before, values])
    opens = np.concatenate([np.ones(before.shape, np.bool_), changes.opens])
    last = last_of_each(all_keys * (int(all_values.max()) + 1) + all_values)
    kept = last[opens[last]]
    grouped = _grouped(all_keys[kept], all_values[kept])
    adjacency.update({key: grouped.get(key, _NONE) for key in touched})
    return touched, before, all_values[kept]


def _counts(slots: Slots, size: int) -> NDArray[np.int32]:
    return np.bincount(slots, minlength=size).astype(np.int32)


def _grouped(keys: Slots, values: Slots) -> dict[int, Neighbours]:
    order = np.lexsort((values, keys))
    keys, sorted_values = keys[order], values[order].astype(np.int32)
    starts = run_starts(keys)
    stops = starts + run_lengths(starts, keys.shape[0])
    # Copies, so that replacing one neighbour array frees its memory.
    return {
        key: sorted_values[start:stop].copy()
        for key, start, stop in zip(
            keys[starts].tolist(), starts.tolist(), stops.tolist(), strict=True
        )
    }
