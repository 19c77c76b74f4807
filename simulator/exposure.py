"""The logging policy: which posts were put before whom while the log was written.

Recent posts of followed authors, posts popular in the viewer's community, posts popular with all,
and random recent ones.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from contracts.clock import DAY_US
from simulator.population import FloatArray, IntArray, Posts

FOLLOWED_SHARE: Final = 0.4
NEARBY_SHARE: Final = 0.25  # popular in the viewer's community
POPULAR_SHARE: Final = 0.1  # popular with everybody
_POPULAR_POOL: Final = 300
_POPULAR_POWER: Final = 0.75  # below 1: the rich get richer, but not everything
_RECENT_DAYS: Final = 3.0
NONE: Final = -1


@dataclass(frozen=True, slots=True)
class Library:
    """Posts in two orders: by time (their own), and by author and time."""

    created_us: IntArray
    order: IntArray  # post rows sorted by (author, created)
    keys: IntArray  # author * span + time since origin, sorted
    first: IntArray  # [authors + 1], where each author's posts begin in `order`
    origin_us: int
    span: int

    @classmethod
    def of(cls, posts: Posts, n_people: int) -> "Library":
        """Sort the posts once."""
        origin = int(posts.created_us[0])
        span = int(posts.created_us[-1]) - origin + 60 * DAY_US
        order = np.lexsort((posts.created_us, posts.author))
        keys = posts.author[order] * span + posts.created_us[order] - origin
        first = np.searchsorted(posts.author[order], np.arange(n_people + 1))
        return cls(posts.created_us, order, keys, first.astype(np.int64), origin, span)

    def latest_by(self, author: IntArray, at_us: IntArray, back: IntArray) -> IntArray:
        """Find each author's post before a moment, `back` posts earlier; NONE where there is none.

        All arrays [n].
        """
        key = author * self.span + np.maximum(at_us - self.origin_us, 0)
        place = np.searchsorted(self.keys, key) - 1 - back
        found = place >= self.first[author]
        return np.where(found, self.order[np.maximum(place, 0)], NONE)

    def random_recent(self, at_us: IntArray, rng: np.random.Generator) -> IntArray:
        """Pick a post of about the last days before each moment; NONE before the first.

        The age is exponential, so that older posts are seen too.
        """
        newest = np.searchsorted(self.created_us, at_us) - 1
        a_day = len(self.created_us) * DAY_US / max(self.created_us[-1] - self.origin_us, DAY_US)
        back = rng.exponential(_RECENT_DAYS * a_day, len(at_us)).astype(np.int64)
        return np.where(back <= newest, newest - back, rng.integers(0, np.maximum(newest, 0) + 1))


@dataclass(frozen=True, slots=True)
class Graph:
    """Follows in compressed rows: followees of person p are `followee[first[p]:first[p + 1]]`."""

    first: IntArray
    followee: IntArray

    @classmethod
    def of(cls, keys: IntArray, n_people: int) -> "Graph":
        """Read sorted pair keys, follower * n_people + followee."""
        first = np.searchsorted(keys, np.arange(n_people + 1) * n_people)
        return cls(first.astype(np.int64), keys % n_people)

    def random_followee(self, person: IntArray, rng: np.random.Generator) -> IntArray:
        """Pick one followee a person, NONE for people who follow nobody; shape [n]."""
        degree = self.first[person + 1] - self.first[person]
        place = self.first[person] + (rng.random(len(person)) * degree).astype(np.int64)
        last = len(self.followee) - 1
        return np.where(degree > 0, self.followee[np.clip(place, 0, last)], NONE)


def choose_posts(
    person: IntArray,
    community: IntArray,
    at_us: IntArray,
    library: Library,
    graph: Graph,
    popularity: FloatArray,
    rng: np.random.Generator,
) -> IntArray:
    """Choose a post for each showing [n]; NONE only where nothing was posted yet.

    `community` is each viewer's, `popularity` [communities, posts] what was done of late.
    """
    post = library.random_recent(at_us, rng)
    source = rng.random(len(person))
    author = graph.random_followee(person, rng)
    back = rng.geometric(0.35, len(person)).astype(np.int64) - 1
    followed = library.latest_by(np.maximum(author, 0), at_us, back)
    post = np.where((source < FOLLOWED_SHARE) & (author >= 0) & (followed >= 0), followed, post)
    for place in range(len(popularity)):
        near = np.flatnonzero((source >= 1.0 - NEARBY_SHARE) & (community == place))
        _overwrite(post, near, popularity[place], rng)
    wide = (source >= 1.0 - NEARBY_SHARE - POPULAR_SHARE) & (source < 1.0 - NEARBY_SHARE)
    _overwrite(post, np.flatnonzero(wide), popularity.sum(axis=0), rng)
    return np.where(post < 0, NONE, post)


def _overwrite(
    post: IntArray, rows: IntArray, popularity: FloatArray, rng: np.random.Generator
) -> None:
    """Put popular posts in some rows, in place; nothing where nothing is popular yet."""
    top = np.argsort(-popularity, kind="stable")[:_POPULAR_POOL]
    weights = popularity[top] ** _POPULAR_POWER
    if weights.sum() > 0.0:
        post[rows] = rng.choice(top, len(rows), p=weights / weights.sum())
