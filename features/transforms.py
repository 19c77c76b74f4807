"""The only implementation of every feature: how events change state, how state becomes features.

Training replays the log through `count_events` and finishes blocks of past queries; serving patches
the same state with each new event and finishes one query. Both call `finish`, on [Q, C] posts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contracts.clock import HOUR_US
from contracts.events import EventType
from features.columns import Columns
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
    FAMILY_FEATURES,
    FEATURES,
    PERSON_VIEW,
    POST_FEATURES,
    POST_VIEW,
    RATE_PRIOR_ACTIONS,
    RATE_PRIOR_IMPRESSIONS,
    RATE_PRIOR_POSITIVE,
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


_GROUPS: Final = (POST_FEATURES, AUTHOR_FEATURES, VIEWER_FEATURES, CROSS_FEATURES, FAMILY_FEATURES)
_EDGES: Final = (0, *accumulate(len(group) for group in _GROUPS))
_POST, _AUTHOR, _VIEWER, _CROSS, _FAMILY = (slice(a, b) for a, b in pairwise(_EDGES))
_RATE: Final = FEATURES.index("post_positive_rate")


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
class QueryBlock(Columns):
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
    """Compute the ranker's features: post slots [Q, C], scores [Q, C, 4] -> [Q, C, F].

    Rows of slot -1 are all NaN. One implementation for one query online and many offline. Columns
    are built first-axis-first, [F, Q, C], and turned once at the end.
    """
    columns = np.empty((len(FEATURES), *slots.shape), np.float32)
    posts = tables.posts.rows(slots)
    authors = np.ascontiguousarray(posts["author_slot"])
    now = block.now_us[:, None]
    post_features(columns[_POST], tables.posts, posts, slots, now)
    author_features(columns[_AUTHOR], tables, authors, now)
    columns[_VIEWER] = viewer_features(tables.people, block)[:, :, None]
    cross_features(columns[_CROSS], tables, block, posts, authors)
    columns[_FAMILY] = family_scores.transpose(2, 0, 1)
    features = np.ascontiguousarray(columns.transpose(1, 2, 0))
    if slots.size and slots.min() < 0:
        features[slots < 0] = _NAN
    return features


def post_features(
    out: Float32s, table: PostTable, posts: NDArray[np.void], slots: Slots, now_us: Ints
) -> None:
    """Write the post features of slots [Q, C] as of times [Q, 1] into out [19, Q, C]."""
    counts = table.counters.read(slots, now_us)
    positive = np.add.reduce(counts[_POSITIVE_7D], axis=0)
    rate = out[_RATE]
    np.add(positive, RATE_PRIOR_POSITIVE, out=rate)
    rate /= counts[_POST_COLUMN["impression_7d"]] + RATE_PRIOR_IMPRESSIONS
    rate[counts[_POST_COLUMN["impression_all"]] <= 0.0] = _NAN
    out[0] = _hours(now_us - posts["created_us"])
    out[1 : _RATE - 1] = counts
    out[_RATE - 1] = table.window.read(slots, now_us)
    _log1p(out[:_RATE], out[:_RATE])
    out[_RATE + 1 :] = posts["text_stats"].transpose(2, 0, 1)


def author_features(
    out: Float32s, tables: Tables, authors: NDArray[np.int32], now_us: Ints
) -> None:
    """Write the author features of author slots [Q, C] (-1: none) into out [4, Q, C]."""
    positive, negative, made = tables.people.as_author.read(authors, now_us)
    out[0] = tables.followers.take(authors)
    out[1], out[2], out[3] = positive, 0.0, made
    _log1p(out, out)
    np.divide(negative, positive + negative + RATE_PRIOR_ACTIONS, out=out[2])
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
    posts: NDArray[np.void],
    authors: NDArray[np.int32],
) -> None:
    """Write the features of viewer and post together: post rows [Q, C] into out [7, Q, C]."""
    history, people = block.histories, len(tables.people)
    acted = tables.posts.rows(history.post_slots)
    empty = history.post_slots < 0
    age = np.maximum(block.now_us[:, None] - history.times_us, 0)
    weights = np.exp2(age / -AFFINITY_HALF_LIFE_US)
    weights[empty] = 0.0
    acted_authors = np.where(empty, -1, acted["author_slot"])

    own = _row_starts(authors, people + 1) + authors
    out[0] = _follow_mask(block.followees, people).take(own)
    place, found = _author_cross(acted_authors, weights, age, people)
    at = place.take(own) + _row_starts(authors, found.shape[2])
    out[1:4] = found.reshape(3, -1).take(at, axis=1)
    acted_topics = np.where(empty[:, :, None], -1, acted["topics"])
    by_topic = _topic_weights(acted_topics, weights, len(tables.posts.topics_index))
    _topic_cross(out[4:6], by_topic, weights, posts)
    out[6] = _same_language(tables, block.viewers, posts["language"])


def _row_starts(queries: NDArray[Any], width: int) -> Ints:
    """Give where each query's row begins in a flattened table of this width: [Q, 1].

    Tables a query keep a last column for "none": key -1 then hits the last column of the row
    before, or of the last row, which holds the same.
    """
    return np.arange(len(queries))[:, None] * width


def _follow_mask(followees: Sequence[NDArray[np.int32]], people: int) -> NDArray[np.bool_]:
    """Mark for each query whom its viewer follows: [Q, people + 1], false for no author."""
    mask = np.zeros((len(followees), people + 1), np.bool_)
    for row, followed in zip(mask, followees, strict=True):
        row[followed] = True
    return mask


def _author_cross(
    acted_authors: NDArray[np.int32], weights: Float64s, age_us: Ints, people: int
) -> tuple[NDArray[np.int16], Float32s]:
    """Finish affinity, hours and count of the authors in histories [Q, H] (-1: none).

    Gives the place of each author [Q, people + 1] and values by place [3, Q, H + 2]: an author
    stands at the place of the newest action; H is an author without one, H + 1 no author at all.
    A history is short, so that 16 bits hold its places.
    """
    queries, length = acted_authors.shape
    rows = np.arange(queries)[:, None]
    place = np.full((queries, people + 1), length, np.int16)
    # Of one author's entries the last assignment stays, which is the newest entry.
    place[rows, acted_authors] = np.arange(length, dtype=np.int16)
    place[:, -1] = length + 1
    at = (rows * (length + 2) + place[rows, acted_authors]).reshape(-1)
    size = queries * (length + 2)
    values = np.empty((3, queries, length + 2), np.float32)
    _log1p(np.bincount(at, weights.reshape(-1), size).reshape(queries, -1), values[0])
    _log1p(_hours(age_us), values[1, :, :length])
    values[1, :, length] = _NAN
    _log1p(np.bincount(at, minlength=size).reshape(queries, -1), values[2])
    values[:, :, length + 1] = _NAN
    return place, values


def _topic_weights(acted_topics: NDArray[np.int32], weights: Float64s, topics: int) -> Float32s:
    """Sum weights [Q, H] by the topics of the acted posts [Q, H, 4] (-1: none): [Q, topics + 1]."""
    queries, _, per_post = acted_topics.shape
    keys = np.arange(queries)[:, None] * (topics + 1) + acted_topics.reshape(queries, -1)
    keys[acted_topics.reshape(queries, -1) < 0] = topics  # swept out below
    repeated = np.repeat(weights.reshape(-1), per_post)
    sums = np.bincount(keys.reshape(-1), repeated, queries * (topics + 1))
    by_topic = sums.astype(np.float32).reshape(queries, -1)
    by_topic[:, -1] = 0.0
    return by_topic


def _topic_cross(
    out: Float32s, by_topic: Float32s, weights: Float64s, posts: NDArray[np.void]
) -> None:
    """Write topic affinity and topic share of post rows [Q, C] into out [2, Q, C]."""
    topics = np.ascontiguousarray(posts["topics"].transpose(2, 0, 1))
    on_topic = by_topic.take(topics + _row_starts(by_topic, by_topic.shape[1]))
    counts = np.add.reduce(topics >= 0, axis=0, dtype=np.float32)
    total = weights.sum(axis=1, dtype=np.float32)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        _log1p(np.add.reduce(on_topic, axis=0) / counts, out[0])
        np.divide(np.maximum.reduce(on_topic, axis=0), total, out=out[1])
    out[1][counts == 0.0] = _NAN


def _same_language(tables: Tables, viewers: Slots, languages: NDArray[np.int16]) -> Float32s:
    if len(tables.people) == 0:
        return np.full(languages.shape, _NAN)
    theirs = np.where(viewers >= 0, tables.people.language[viewers], -1)[:, None]
    same: Float32s = (languages == theirs).astype(np.float32)
    same[(languages < 0) | (theirs < 0)] = _NAN
    return same


def _hours(elapsed_us: Ints) -> Float32s:
    return np.maximum(elapsed_us, 0).astype(np.float32) * np.float32(1.0 / HOUR_US)


def _log1p(values: NDArray[np.floating | np.integer], out: Float32s | None = None) -> Float32s:
    """log(1 + x) in float32: several times faster than log1p, and far finer than float16 needs."""
    shifted = np.add(values, _ONE, out=out, dtype=np.float32, casting="unsafe")
    logs: Float32s = np.log(shifted, out=shifted)
    return logs
