"""The log played forward in time, for training queries and for stored snapshots."""

from typing import NamedTuple

import numpy as np

from features.event_arrays import EventArrays, int_column, visible_from
from features.frames import FeatureFrames, catalog_edges
from features.graph import EdgeChanges
from features.slots import Ints, Slots
from features.state import FeatureState
from features.transforms import count_posts


class Advanced(NamedTuple):
    """What one step forward brought in."""

    events: EventArrays
    edges: EdgeChanges
    posts: Slots


class Replay:
    """Move counters and graph of a state forward to chosen times; the graph begins empty."""

    def __init__(self, state: FeatureState, frames: FeatureFrames, events: EventArrays) -> None:
        self._state = state
        self._events = events
        self._edges = EdgeChanges.in_order([catalog_edges(frames, state), EdgeChanges.of(events)])
        visible = visible_from(
            int_column(frames.posts, "created"), int_column(frames.posts, "known")
        )
        order = np.argsort(visible, kind="stable")
        self._posts = state.posts.slots_of(int_column(frames.posts, "post_id"))[order]
        self._posts_visible_us = visible[order]
        self._at = (0, 0, 0)

    @property
    def moments_us(self) -> Ints:
        """Times from which something becomes visible, in no order."""
        return np.concatenate(
            [self._events.visible_us, self._edges.visible_us, self._posts_visible_us]
        )

    def advance(self, now_us: int, *, histories: bool = False) -> Advanced:
        """Fold in everything that is visible at `now_us`, into the histories only where asked."""
        state = self._state
        before = self._at
        self._at = (
            _reached(self._events.visible_us, now_us),
            _reached(self._edges.visible_us, now_us),
            _reached(self._posts_visible_us, now_us),
        )
        events = self._events[before[0] : self._at[0]]
        edges = self._edges[before[1] : self._at[1]]
        posts = self._posts[before[2] : self._at[2]]
        authors = state.posts.author_slot[posts].astype(np.int64)
        count_posts(state.people, authors, state.posts.created_us[posts])
        if len(events):
            state.count(events, histories=histories)
        if before[1] == 0:
            state.graph.fill(edges.open_at_end())
        else:
            state.graph.apply(edges)
        return Advanced(events, edges, posts)


def _reached(visible_us: Ints, now_us: int) -> int:
    return int(np.searchsorted(visible_us, now_us, side="right"))
