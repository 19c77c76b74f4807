"""Who follows, blocks and mutes whom: live adjacency by slot, and the same as of a past time.

Neighbour arrays are replaced, never written in place: a reader keeps a consistent one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.events import EventType
from features.event_arrays import EventArrays
from features.slots import Bools, Ints, Slots, grown

_NONE: Final = np.zeros(0, np.int32)
_NONE.setflags(write=False)

Neighbours = NDArray[np.int32]


class EdgeKind(IntEnum):
    """What an edge between two people means."""

    FOLLOW = 0
    BLOCK = 1
    MUTE = 2


_OPENS: Final = {
    EventType.FOLLOW: EdgeKind.FOLLOW,
    EventType.BLOCK: EdgeKind.BLOCK,
    EventType.MUTE: EdgeKind.MUTE,
}
_CLOSES: Final = {
    EventType.UNFOLLOW: (EdgeKind.FOLLOW,),
    # There is no event of its own for lifting a mute: unblocking lifts both.
    EventType.UNBLOCK: (EdgeKind.BLOCK, EdgeKind.MUTE),
}
GRAPH_TYPES: Final = (*_OPENS, *_CLOSES)


@dataclass(frozen=True, slots=True)
class EdgeChanges:
    """Edges that opened and closed [E], sorted by the time from which that may be known."""

    sources: Slots
    targets: Slots
    kinds: NDArray[np.int8]
    opens: Bools
    visible_us: Ints

    def __len__(self) -> int:
        return int(self.sources.shape[0])

    @classmethod
    def of(cls, events: EventArrays) -> "EdgeChanges":
        """Pick the changes of the graph out of events; unknown people and self-loops drop out."""
        rows, kinds, opens = [], [], []
        usable = (events.viewers >= 0) & (events.targets >= 0) & (events.viewers != events.targets)
        for event_type, kind in _OPENS.items():
            found = np.flatnonzero((events.types == event_type) & usable)
            rows.append(found)
            kinds.append(np.full(found.shape, kind, np.int8))
            opens.append(np.ones(found.shape, np.bool_))
        for event_type, closed in _CLOSES.items():
            found = np.flatnonzero((events.types == event_type) & usable)
            for kind in closed:
                rows.append(found)
                kinds.append(np.full(found.shape, kind, np.int8))
                opens.append(np.zeros(found.shape, np.bool_))
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
    def merged(cls, parts: "list[EdgeChanges]") -> "EdgeChanges":
        """Merge changes; of two at one moment, that of the earlier part comes first."""
        visible = np.concatenate([p.visible_us for p in parts])
        order = np.argsort(visible, kind="stable")
        return cls(
            np.concatenate([p.sources for p in parts])[order],
            np.concatenate([p.targets for p in parts])[order],
            np.concatenate([p.kinds for p in parts])[order],
            np.concatenate([p.opens for p in parts])[order],
            visible[order],
        )

    def take(self, at: Slots | slice) -> "EdgeChanges":
        """Give some of the changes."""
        return EdgeChanges(
            self.sources[at], self.targets[at], self.kinds[at], self.opens[at], self.visible_us[at]
        )

    def open_at_end(self) -> "EdgeChanges":
        """Give each edge that is open after all changes, once."""
        order = np.lexsort((np.arange(len(self)), self.targets, self.sources, self.kinds))
        keys = np.stack([self.kinds[order], self.sources[order], self.targets[order]])
        last = np.r_[np.any(keys[:, 1:] != keys[:, :-1], axis=0), [True] * min(1, len(self))]
        at = order[last.astype(np.bool_)]
        return self.take(at[self.opens[at]])


class Graph:
    """Live edges between person slots, by kind, both directions where someone asks."""

    def __init__(self, rows: int = 0) -> None:
        self._out: dict[EdgeKind, dict[int, Neighbours]] = {kind: {} for kind in EdgeKind}
        self._blocked_by: dict[int, Neighbours] = {}
        self._follows = np.zeros(rows, np.int32)
        self._followers = np.zeros(rows, np.int32)

    @property
    def follows(self) -> NDArray[np.int32]:
        """People followed, by slot; at least as long as the person table."""
        return self._follows

    @property
    def followers(self) -> NDArray[np.int32]:
        """Followers, by slot; at least as long as the person table."""
        return self._followers

    def ensure(self, rows: int) -> None:
        """Grow to at least this many people."""
        self._follows = grown(self._follows, rows)
        self._followers = grown(self._followers, rows)

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
                np.add.at(self._follows, sources, 1)
                np.add.at(self._followers, targets, 1)
            if kind is EdgeKind.BLOCK:
                self._blocked_by = _grouped(targets, sources)

    def apply(self, changes: EdgeChanges) -> None:
        """Apply changes one by one; opening an open edge or closing a closed one does nothing."""
        for source, target, kind, opens in zip(
            changes.sources.tolist(), changes.targets.tolist(), changes.kinds.tolist(),
            changes.opens.tolist(), strict=True,
        ):  # fmt: skip
            edit = _with if opens else _without
            changed = _edit(self._out[EdgeKind(kind)], source, target, edit)
            if changed and kind == EdgeKind.FOLLOW:
                self._follows[source] += changed
                self._followers[target] += changed
            if changed and kind == EdgeKind.BLOCK:
                _edit(self._blocked_by, target, source, edit)

    def forget(self, person: int) -> None:
        """Drop every edge from a person, and every follow and block of a person."""
        for followee in self.followees(person).tolist():
            self._followers[followee] -= 1
        followers = [s for s, out in self._out[EdgeKind.FOLLOW].items() if person in out]
        for kind in EdgeKind:
            self._out[kind].pop(person, None)
            for source in [s for s, out in self._out[kind].items() if person in out]:
                _edit(self._out[kind], source, person, _without)
        for source in followers:
            self._follows[source] -= source != person
        self._follows[person] = self._followers[person] = 0
        self._blocked_by.pop(person, None)
        for source in [s for s, by in self._blocked_by.items() if person in by]:
            _edit(self._blocked_by, source, person, _without)


def _grouped(keys: Slots, values: Slots) -> dict[int, Neighbours]:
    order = np.lexsort((values, keys))
    keys, sorted_values = keys[order], values[order].astype(np.int32)
    starts = np.flatnonzero(np.r_[[True] * min(1, keys.shape[0]), keys[1:] != keys[:-1]])
    stops = np.r_[starts[1:], keys.shape[0]].tolist()
    # Copies, so that replacing one neighbour array frees its memory.
    return {
        key: sorted_values[start:stop].copy()
        for key, start, stop in zip(keys[starts].tolist(), starts.tolist(), stops, strict=True)
    }


def _edit(
    adjacency: dict[int, Neighbours],
    source: int,
    target: int,
    edit: Callable[[Neighbours, int], Neighbours],
) -> int:
    """Replace one neighbour array; gives the change of its length."""
    before = adjacency.get(source, _NONE)
    after = edit(before, target)
    if after.shape[0] != before.shape[0]:
        adjacency[source] = after
    return int(after.shape[0] - before.shape[0])


def _with(neighbours: Neighbours, target: int) -> Neighbours:
    if (neighbours == target).any():
        return neighbours
    return np.append(neighbours, np.int32(target)).astype(np.int32, copy=False)


def _without(neighbours: Neighbours, target: int) -> Neighbours:
    kept: Neighbours = neighbours[neighbours != target]
    return kept
