"""All state behind the features in one object: replayed in training, patched in serving."""

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.events import EventType
from features.entities import UNKNOWN_LANGUAGE, LanguageCodes, PersonTable, PostTable
from features.event_arrays import EventArrays
from features.graph import EdgeChanges, Graph
from features.history import Histories, HistoryStore
from features.recent_posts import RecentPosts
from features.slots import Float32s, Float64s, Ints, SlotIndex, Slots
from features.transforms import QueryBlock, Tables, count_events, count_posts, finish
from features.views import AUTHOR_VIEW, FEATURES, POST_VIEW, View

_BLOCK_BYTES: Final = 32 << 20
"""Bound of the address tables of one `finish` call."""


class FeatureState:
    """Posts, people, histories and graph. Not safe for threads by itself."""

    def __init__(self) -> None:
        languages = LanguageCodes()
        self.people = PersonTable(languages)
        self.posts = PostTable(self.people, languages)
        self.histories = HistoryStore()
        self.graph = Graph()
        self.recent = RecentPosts()
        self._grow()

    def reserve(self, people: int, posts: int) -> None:
        """Make room for so many more people and posts: adding them then copies no table.

        Each table is copied, and the copy takes its place: readers need not be kept out.
        """
        self._grow(len(self.people) + people)
        self.posts.ensure_rows(len(self.posts) + posts)

    def add_people(self, people: pa.Table) -> None:
        """Add or update rows of PEOPLE_SCHEMA."""
        self.people.add_people(people)
        self._grow()

    def ensure_people(self, person_ids: Ints) -> None:
        """Give people slots, known or not; null (-1) gets none."""
        self.people.ensure(person_ids)
        self._grow()

    def add_posts(self, posts: pa.Table, *, count: bool = True) -> None:
        """Add or update rows of POSTS_SCHEMA.

        A new post counts as made by its author now, unless `count` is false (a replay counts it in
        its turn).
        """
        before = len(self.posts)
        slots = self.posts.add_posts(posts)
        self._grow()
        authors, created_us = self.posts.author_slot, self.posts.created_us
        shown = slots[~self.posts.deleted[slots]]
        self.recent.add(shown, authors[shown], created_us)
        if count:
            new = np.unique(slots[slots >= before])
            count_posts(self.people, authors[new].astype(np.int64), created_us[new])

    def delete_posts(self, post_ids: Ints) -> None:
        """Mark posts as gone and take them from the lists of recent ones."""
        slots, posts = self.posts.mark_deleted(post_ids), self.posts
        self.recent.remove(slots, posts.author_slot, posts.created_us, posts.deleted)

    def apply(self, events: EventArrays) -> None:
        """Fold events, whose posts and people are known, into counters, histories and graph.

        Who is erased is forgotten in turn: what comes later stays.
        """
        erased = (events.types == EventType.PERSON_ERASED) & (events.viewers >= 0)
        start = 0
        for at in np.flatnonzero(erased).tolist():
            self._fold(events[start : at + 1])
            self.forget(int(events.viewers[at]))
            start = at + 1
        self._fold(events[start:])

    def _fold(self, events: EventArrays) -> None:
        self.count(events)
        self.graph.apply(EdgeChanges.of(events))

    def count(self, events: EventArrays, *, histories: bool = True) -> None:
        """Fold events into counters, and into histories where wanted."""
        count_events(self.posts, self.people, events)
        if histories:
            self.histories.apply(events.viewers, events.posts, events.types, events.times_us)

    def forget(self, person: int) -> None:
        """Drop what is held about one person: history, counters as viewer, language, edges."""
        self.histories.forget(person)
        self.people.as_viewer.values[person] = 0.0
        self.people.language[person] = UNKNOWN_LANGUAGE
        self.graph.forget(person)

    def block(self, viewers: Slots, now_us: Ints, histories: Histories) -> QueryBlock:
        """Gather what queries of viewer slots [Q] need."""
        followees = [self.graph.followees(v) for v in viewers.tolist()]
        follows = np.array([f.shape[0] for f in followees], np.int32)
        return QueryBlock(viewers, now_us, histories, followees, follows)

    def features(self, block: QueryBlock, slots: Slots, family_scores: Float32s) -> Float32s:
        """Finish features: post slots [Q, C], scores [Q, C, 4] -> [Q, C, F]."""
        if len(self.posts) == 0:
            return np.full((*slots.shape, len(FEATURES)), np.nan, np.float32)
        tables = Tables(self.posts, self.people, self.graph.followers)
        bytes_a_query = 6 * (len(self.people) + 1) + 12 * (len(self.posts.topics_index) + 1)
        step = max(1, _BLOCK_BYTES // bytes_a_query)
        if slots.shape[0] <= step:
            return finish(tables, block, slots, family_scores)
        steps = [slice(start, start + step) for start in range(0, slots.shape[0], step)]
        return np.concatenate(
            [finish(tables, block[at], slots[at], family_scores[at]) for at in steps]
        )

    def index_of(self, view: View) -> SlotIndex:
        """Give the slots of a view's entities."""
        return self.posts.index if view is POST_VIEW else self.people.index

    def stored(self, view: View, slots: Slots, now_us: int) -> Float64s:
        """Read a view's columns, unfloored, as of now: slots [n] -> [n, columns]."""
        extra: NDArray[Any]
        if view is POST_VIEW:
            counters, extra = self.posts.counters, self.posts.window.read(slots, now_us)
        elif view is AUTHOR_VIEW:
            counters, extra = self.people.as_author, self.graph.followers[slots]
        else:
            counters, extra = self.people.as_viewer, self.graph.follows[slots]
        return np.column_stack([counters.exact(slots, now_us), extra.astype(np.float64)])

    def _grow(self, rows: int = 0) -> None:
        rows = max(1, rows, len(self.people))
        self.people.ensure_rows(rows)
        self.histories.ensure(rows)
        self.graph.ensure(rows)
