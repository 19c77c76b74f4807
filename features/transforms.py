"""The only implementation of every feature: how events change state, how state becomes features.

Training replays the log through `count_events` and finishes blocks of past queries; serving patches
the same state with each new event and finishes one query. Both call `finish`, on [Q, C] posts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.clock import HOUR_US
from contracts.events import EventType
from features.counters import CounterState
from features.entities import PersonTable, PostTable
from features.event_arrays import EventArrays
from features.history import Histories
from features.slots import Float32s, Float64s, Ints, Slots
from features.views import (
    AFFINITY_HALF_LIFE_US,
    AUTHOR_FEATURES,
    AUTHOR_POSTS_COLUMN,
    AUTHOR_VIEW,
    CROSS_FEATURES,
    FEATURES,
    PERSON_VIEW,
    POST_FEATURES,
    POST_VIEW,
    RATE_PRIOR_ACTIONS,
    RATE_PRIOR_IMPRESSIONS,
    RATE_PRIOR_POSITIVE,
    TEXT_STATS,
    VIEWER_FEATURES,
    View,
    counted_types,
)

_NAN: Final = np.float32(np.nan)
_ONE: Final = np.float32(1.0)


def _routes(view: View) -> Float64s:
    """Tabulate the weight of each event type on each counter: [types, K]."""
    table = np.zeros((max(EventType) + 1, len(view.counters)))
    for event_type, targets in counted_types(view).items():
        for column, weight in targets:
            table[event_type, column] = weight
    return table


_POST_ROUTES: Final = _routes(POST_VIEW)
_AUTHOR_ROUTES: Final = _routes(AUTHOR_VIEW)
_PERSON_ROUTES: Final = _routes(PERSON_VIEW)
_POST_COLUMN: Final = {c.name: k for k, c in enumerate(POST_VIEW.counters)}
_POSITIVE_7D: Final = slice(_POST_COLUMN["click_7d"], _POST_COLUMN["save_7d"] + 1)
_TOPIC_COUNT: Final = TEXT_STATS.index("topics")


def count_events(posts: PostTable, people: PersonTable, events: EventArrays) -> None:
    """Fold events into the counters of their posts, authors and viewers, in any batch size."""
    on_post = events.posts >= 0
    _count(posts.counters, _POST_ROUTES, events, events.posts, on_post)
    positive = np.flatnonzero(on_post & (_POST_ROUTES[events.types, 0] != 0))
    posts.window.update(
        events.posts[positive], _POST_ROUTES[events.types[positive], 0], events.times_us[positive]
    )
    if on_post.any():
        authors = np.where(on_post, posts.author_slot[events.posts * on_post], -1)
        _count(people.as_author, _AUTHOR_ROUTES, events, authors, authors >= 0)
    _count(people.as_viewer, _PERSON_ROUTES, events, events.viewers, events.viewers >= 0)


def _count(
    state: CounterState,
    routes: Float64s,
    events: EventArrays,
    slots: Slots,
    usable: NDArray[np.bool_],
) -> None:
    counted: NDArray[np.bool_] = np.any(routes != 0.0, axis=1)
    at = np.flatnonzero(usable & counted[events.types])
    state.update(slots[at], routes.T[:, events.types[at]], events.times_us[at])


def count_posts(people: PersonTable, authors: Slots, created_us: Ints) -> None:
    """Fold new posts [m] into their authors' counters."""
    known = authors >= 0
    weights = np.zeros((len(AUTHOR_VIEW.counters), int(known.sum())))
    weights[AUTHOR_POSTS_COLUMN] = 1.0
    people.as_author.update(authors[known], weights, created_us[known])


@dataclass(frozen=True, slots=True)
class QueryBlock:
    """Who asks and when, with what belongs to the viewer: Q queries."""

    viewers: Slots
    """Person slots [Q]; -1 for a viewer who is not known."""
    now_us: Ints
    histories: Histories
    followees: Sequence[NDArray[np.int32]]
    """For each query the slots of the people followed."""
    follows: NDArray[np.int32]
    """Number of people followed, [Q]."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The state that features are finished from."""

    posts: PostTable
    people: PersonTable
    followers: NDArray[np.int32]
    """Followers by person slot."""


def finish(tables: Tables, block: QueryBlock, slots: Slots, family_scores: Float32s) -> Float32s:
    """Compute the ranker's features: post slots [Q, C], scores [Q, C, 3] -> [Q, C, F].

    Rows of slot -1 are all NaN. One implementation for one query online and many offline. Columns
    are built first-axis-first, [F, Q, C], and turned once at the end.
    """
    columns = np.empty((len(FEATURES), *slots.shape), np.float32)
    groups = (POST_FEATURES, AUTHOR_FEATURES, VIEWER_FEATURES, CROSS_FEATURES, FAMILY_FEATURES)
    edges = np.cumsum([len(g) for g in groups])[:-1]
    post, author, viewer, cross, family = np.split(columns, edges)
    now = block.now_us[:, None]
    authors = tables.posts.author_slot[slots]
    post_features(post, tables.posts, slots, now)
    author_features(author, tables, authors, now)
    viewer[:] = viewer_features(tables.people, block)[:, :, None]
    cross_features(cross, tables, block, slots, authors)
    family[:] = np.moveaxis(family_scores, 2, 0)
    features = np.ascontiguousarray(np.moveaxis(columns, 0, 2))
    if slots.size and slots.min() < 0:
        features[slots < 0] = _NAN
    return features


def post_features(out: Float32s, posts: PostTable, slots: Slots, now_us: Ints) -> None:
    """Write the post features of slots [Q, C] as of times [Q, 1] into out [19, Q, C]."""
    counts = _read(posts.counters, slots, now_us)
    positive = counts[_POSITIVE_7D].sum(axis=0)
    rate = (RATE_PRIOR_POSITIVE + positive) / (
        RATE_PRIOR_IMPRESSIONS + counts[_POST_COLUMN["impression_7d"]]
    )
    n = counts.shape[0]
    out[0] = _log1p(_hours(now_us - posts.created_us[slots]))
    out[1 : n + 1] = _log1p(counts)
    flat_now = np.broadcast_to(now_us, slots.shape).reshape(-1)
    out[n + 1] = _log1p(posts.window.read(slots.reshape(-1), flat_now)).reshape(slots.shape)
    out[n + 2] = np.where(counts[_POST_COLUMN["impression_all"]] > 0, rate, _NAN)
    out[n + 3 :] = np.moveaxis(posts.text_stats[slots], 2, 0)


def author_features(
    out: Float32s, tables: Tables, authors: NDArray[np.int32], now_us: Ints
) -> None:
    """Write the author features of author slots [Q, C] (-1: none) into out [4, Q, C]."""
    counts = _read(tables.people.as_author, authors, now_us)
    positive, negative = counts[0], counts[1]
    out[0] = _log1p(tables.followers[authors].astype(np.float32))
    out[1] = _log1p(positive)
    out[2] = negative / (RATE_PRIOR_ACTIONS + positive + negative)
    out[3] = _log1p(counts[AUTHOR_POSTS_COLUMN])
    none = authors < 0
    if none.any():
        out[:, none] = _NAN


def viewer_features(people: PersonTable, block: QueryBlock) -> Float32s:
    """Compute the viewer features of Q queries: [7, Q]."""
    counts = people.as_viewer.read(block.viewers, block.now_us)
    counts[:, block.viewers < 0] = 0.0
    last_us = block.histories.times_us[:, -1]
    since = np.where(last_us >= 0, _log1p(_hours(block.now_us - last_us)), _NAN)
    return np.vstack([_log1p(counts), _log1p(block.follows.astype(np.float32)), since])


def cross_features(
    out: Float32s,
    tables: Tables,
    block: QueryBlock,
    slots: Slots,
    authors: NDArray[np.int32],
) -> None:
    """Write the features of viewer and post together: slots [Q, C] into out [7, Q, C]."""
    history = block.histories
    acted = history.post_slots >= 0
    age = np.maximum(block.now_us[:, None] - history.times_us, 0)
    weights = np.exp2(age / -AFFINITY_HALF_LIFE_US) * acted
    people = len(tables.people)
    out[0] = _follow_mask(block.followees, people, authors)
    out[1:4] = _author_cross(tables.posts, people, history, weights, age)[
        :, np.arange(len(slots))[:, None], authors
    ]
    out[4:6] = _topic_cross(tables.posts, history, weights, slots)
    out[6] = _same_language(tables, block.viewers, slots)


def _follow_mask(
    followees: Sequence[NDArray[np.int32]], people: int, authors: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Say for authors [Q, C] (-1: none) whether the query's viewer follows them."""
    mask = np.zeros((len(followees), people + 1), np.bool_)
    for row, followed in zip(mask, followees, strict=True):
        row[followed] = True
    mask[:, -1] = False
    return mask[np.arange(len(followees))[:, None], authors]
