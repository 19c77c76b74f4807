"""The in-process feature cache of serving: loaded from the materialised state, patched live.

One thread applies log batches, any number reads. Counters, histories and features are read and
patched under one lock, held for at most 2,000 events or one request's rows; neighbour lists and
lists of recent posts are replaced whole, so that they are read without it. Tables grow before the
lock is taken, so that nobody waits for a copy, nor meets a slot that has no row yet.
"""

from collections.abc import Iterable
from threading import RLock
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.events import EventType
from contracts.order import largest
from features.checkpoint import read_checkpoint
from features.event_arrays import EVENT_COLUMNS, EventArrays, int_column
from features.frames import FeatureFrames, replay
from features.slots import Float32s, Float64s, Slots
from features.state import FeatureState
from features.views import HALF_LIFE_6H_US, POST_VIEW
from features.workspace import Workspace

_LOCKED_EVENTS: Final = 2000
_TAIL_ROWS: Final = 100_000
_OF_POSTS: Final = (EventType.POST_CREATED, EventType.POST_EDITED, EventType.POST_DELETED)
_EVER: Final = [
    [counter.name for counter in POST_VIEW.counters].index(name)
    for name in ("click_all", "like_all", "impression_all")
]
_FRESH_LOG2: Final = -6.0
"""A new post counts like 1/64 of an action when trends are ranked."""


class FeatureCache:
    """Features and candidates' state of one process."""

    def __init__(self, state: FeatureState, *, applied_seq: int = 0) -> None:
        self.state = state
        self.posts, self.people = state.posts, state.people
        self.histories, self.graph = state.histories, state.graph
        self._lock = RLock()
        self.applied_seq = applied_seq
        """Place in the log up to which the cache is patched."""
        self.version = 0
        """Goes up with each applied batch."""

    @classmethod
    def load(cls, workspace: Workspace, *, up_to_seq: int | None = None) -> "FeatureCache":
        """Load the newest materialised state and the log after it; replay all where there is none.

        `up_to_seq` stops at a place in the log; a materialised state beyond it is not used.
        """
        held = read_checkpoint(workspace, up_to_seq=up_to_seq)
        if held is None:
            last = workspace.log.last_seq if up_to_seq is None else up_to_seq
            frames = FeatureFrames.read(workspace, up_to_seq=last)
            return cls(replay(frames), applied_seq=last)
        cache = cls(held.state, applied_seq=held.seq)
        for tail in _tails(workspace, held.seq, up_to_seq):
            cache.apply(tail, workspace)
        return cache

    def apply(self, events: pa.Table, workspace: Workspace) -> None:
        """Patch the cache with rows of LOG_SCHEMA that follow what is applied."""
        if events.num_rows == 0:
            return
        self._learn_entities(events, workspace)
        with self._lock:
            arrays = EventArrays.of(events, self.people.index, self.posts.index)
        for start in range(0, len(arrays), _LOCKED_EVENTS):
            with self._lock:
                self.state.apply(arrays[start : start + _LOCKED_EVENTS])
        self.version += 1
        self.applied_seq = max(self.applied_seq, int(int_column(events, "seq").max()))

    def feature_matrix(
        self, viewer_id: int, post_slots: Slots, now_us: int, family_scores: Float32s
    ) -> Float32s:
        """Compute one viewer's features: post slots [n], scores [n, 4] -> [n, F]."""
        with self._lock:
            viewers = np.array([self.viewer_slot(viewer_id)])
            now = np.array([now_us])
            block = self.state.block(viewers, now, self.histories.get(viewers))
            slots = post_slots.astype(np.int64, copy=False)
            rows: Float32s = self.state.features(block, slots[None, :], family_scores[None])[0]
            return rows

    def viewer_slot(self, viewer_id: int) -> int:
        """Give a person's slot; -1 where not known."""
        return self.people.index.slot_of(viewer_id)

    def recent_by_authors(self, authors: NDArray[np.int32], per_author: int = 20) -> Slots:
        """Gather the newest posts of author slots, newest first within each author."""
        return self.state.recent.of_authors(authors, per_author)

    def newest(self, limit: int) -> Slots:
        """Give the slots of the newest posts, newest first; at most 5,000."""
        return self.state.recent.newest[:limit].astype(np.int64)

    def velocity(self, now_us: int) -> Float64s:
        """Give log2 of each post's trend, [n]: decayed positive actions (6 h) and newness.

        In logarithms nothing underflows, so that the order also holds long after the last event.
        """
        posts = self.posts
        with self._lock:
            n = len(posts)
            values, last_us = posts.counters.values[:n, 0].copy(), posts.counters.last_us[:n].copy()
        acted = np.log2(np.maximum(values, 1e-300)) - (now_us - last_us) / HALF_LIFE_6H_US
        fresh = _FRESH_LOG2 - (now_us - posts.created_us[:n]) / HALF_LIFE_6H_US
        return np.maximum(acted, fresh)

    def trending(self, now_us: int, limit: int) -> Slots:
        """Give the slots of the posts with the highest velocity, best first; none deleted."""
        velocity = self.velocity(now_us)
        n = velocity.shape[0]
        velocity[self.posts.deleted[:n] | (self.posts.created_us[:n] > now_us)] = -np.inf
        best = largest(velocity, limit)
        return best[np.isfinite(velocity[best])]

    def reception(self, post_slots: Slots) -> tuple[Float32s, Float32s]:
        """Give impressions, and clicks and likes, that posts ever had: [n] -> [n], [n].

        As every reading, at least 0: an undo may be known without what it undoes.
        """
        values = self.posts.counters.values.take(post_slots, axis=0)[:, _EVER]
        counts = np.maximum(values, 0.0).astype(np.float32)
        return counts[:, 2], counts[:, 0] + counts[:, 1]

    def _learn_entities(self, events: pa.Table, workspace: Workspace) -> None:
        """Bring in posts and people that events tell of."""
        types = events.column("type").to_numpy()
        posts, viewers = int_column(events, "post_id"), int_column(events, "viewer_id")
        changed = np.isin(types, _OF_POSTS)
        wanted = posts[(changed | (self.posts.slots_of(posts) < 0)) & (posts >= 0)]
        fetched = workspace.catalog.posts_by_id(np.unique(wanted)) if wanted.shape[0] else None
        updated = viewers[types == EventType.PERSON_UPDATED]
        people = workspace.catalog.people_by_id(np.unique(updated)) if updated.shape[0] else None
        targets = int_column(events, "target_id")
        named = [viewers, targets]
        if fetched is not None:
            named.append(int_column(fetched, "author_id"))
        new_people = np.count_nonzero(self.people.slots_of(np.unique(np.concatenate(named))) < 0)
        self.state.reserve(int(new_people), 0 if fetched is None else fetched.num_rows)
        with self._lock:
            if fetched is not None:
                self.state.add_posts(fetched)
            if people is not None:
                self.state.add_people(people)
            self.state.ensure_people(viewers)
            self.state.ensure_people(targets)
            if fetched is not None:  # what was deleted may have come back since
                self.state.delete_posts(int_column(fetched.filter(fetched["deleted"]), "post_id"))


def _tails(workspace: Workspace, after: int, up_to_seq: int | None) -> Iterable[pa.Table]:
    while True:
        tail = workspace.log.tail(after, _TAIL_ROWS).select(EVENT_COLUMNS)
        if up_to_seq is not None:
            tail = tail.filter(pa.array(int_column(tail, "seq") <= up_to_seq))
        if tail.num_rows == 0:
            return
        yield tail
        after = int(int_column(tail, "seq").max())
