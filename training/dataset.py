"""What training reads: posts, people and actions as arrays, cut at a moment without leakage."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from contracts.errors import InvalidInput, LeakageError
from features.columns import Columns
from models.base import (
    BoolArray,
    IntArray,
    Interactions,
    ItemHistories,
    PostContent,
    TrainingFrame,
)

HISTORY_ACTIONS: Final = 100
"""Actions of a history, as serving keeps them (`features.history.HISTORY_LENGTH`)."""
NEVER_US: Final = np.iinfo(np.int64).max

Protocol = Literal["time", "month", "order"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """One set: everything known, nothing cut yet."""

    name: str
    protocol: Protocol
    has_impressions: bool
    post_ids: IntArray
    """[n], ascending: the post of each item row."""
    viewer_ids: IntArray
    """[m], ascending: the person of each user row."""
    actions: Interactions
    """Positive actions, sorted by (user, time)."""
    undone_us: IntArray
    """[len(actions)]: when the action was taken back, `NEVER_US` where it was not."""
    dislikes: Interactions
    """Hides and reports, sorted by (user, time)."""
    content: PostContent
    up_to_seq: int = 0

    @property
    def n_items(self) -> int:
        """Count the posts."""
        return len(self.post_ids)

    @property
    def n_users(self) -> int:
        """Count the people."""
        return len(self.viewer_ids)

    def fingerprint(self) -> str:
        """Hash posts, people and actions: 16 hexadecimal digits, the same for the same data."""
        digest = blake2b(digest_size=8)
        actions = self.actions
        parts: tuple[NDArray[np.generic], ...] = (
            self.post_ids,
            self.viewer_ids,
            actions.user_rows,
            actions.item_rows,
            actions.times_us,
            actions.types,
        )
        for part in parts:
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def frame(self, train: BoolArray) -> TrainingFrame:
        """Cut out what a recipe may learn from: rows of a mask, less those taken back by then."""
        newest = self.actions.times_us[train].max(initial=0)
        train = train & (self.undone_us > newest)
        return TrainingFrame(self.post_ids, self.n_users, self.actions[train], self.content)

    def user_bounds(self) -> tuple[IntArray, IntArray]:
        """Give where each user's actions begin and end, two [m]."""
        users = np.arange(self.n_users)
        rows = self.actions.user_rows
        return (
            np.searchsorted(rows, users, side="left"),
            np.searchsorted(rows, users, side="right"),
        )


@dataclass(frozen=True, slots=True)
class Queries(Columns):
    """Moments at which somebody asks; a moment splits the person's actions into known and next."""

    user_rows: IntArray
    """[Q]; several moments of one person stand together."""
    now_us: IntArray
    """[Q]: the time of the first action to predict."""
    start: IntArray
    """[Q]: the person's first action, an index into the set's actions."""
    cut: IntArray
    """[Q]: the first action to predict; everything before it is known."""
    stop: IntArray
    """[Q]: one past the last action to predict."""


@dataclass(frozen=True, slots=True)
class Ragged:
    """A list of item rows a query: `values[offsets[q]:offsets[q + 1]]`."""

    values: IntArray
    offsets: IntArray

    @property
    def lengths(self) -> IntArray:
        """Count the items of each query, [Q]."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> IntArray:
        """Name the query of each value."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)

    def part(self, start: int, stop: int) -> "Ragged":
        """Cut out queries from start to stop."""
        first, last = self.offsets[start], self.offsets[stop]
        return Ragged(self.values[first:last], self.offsets[start : stop + 1] - first)

    def keep(self, mask: BoolArray) -> "Ragged":
        """Keep some values, each with its query."""
        counts = np.bincount(self.owners[mask], minlength=len(self.offsets) - 1)
        return Ragged(self.values[mask], np.concatenate([[0], np.cumsum(counts)]))


def spread(starts: IntArray, stops: IntArray) -> Ragged:
    """Spread index ranges [start, stop) into one ragged list of indices."""
    lengths = np.maximum(stops - starts, 0)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    return Ragged(np.repeat(starts, lengths) + within, offsets)


def histories(data: Dataset, queries: Queries, length: int = HISTORY_ACTIONS) -> ItemHistories:
    """Give each query's newest known actions, newest last: [Q, length], -1 padded on the left.

    An action that was taken back before the moment is left out; hides and reports come along.
    """
    actions = data.actions
    index = queries.cut[:, None] - np.arange(length, 0, -1)[None, :]  # [Q, length]
    there = index >= queries.start[:, None]
    safe = np.where(there, index, 0)
    if not len(actions):
        return ItemHistories.empty(len(queries))
    there &= data.undone_us[safe] > queries.now_us[:, None]
    return ItemHistories(
        np.where(there, actions.item_rows[safe], -1),
        np.where(there, actions.types[safe], 0).astype(np.int8),
        np.where(there, actions.times_us[safe], 0),
        queries.now_us,
        _disliked(data.dislikes, queries),
    )


def seen_items(data: Dataset, queries: Queries) -> Ragged:
    """Give the items each person has acted on before the moment, repeats included."""
    known = spread(queries.start, queries.cut)
    return Ragged(data.actions.item_rows[known.values], known.offsets)


def target_items(data: Dataset, queries: Queries) -> Ragged:
    """Give distinct items to predict a query, ascending.

    Left out: what the person had acted on already, and posts not yet made at the moment.
    """
    n = max(data.n_items, 1)
    ahead = spread(queries.cut, queries.stop)
    keys = np.unique(ahead.owners * n + data.actions.item_rows[ahead.values])
    seen = seen_items(data, queries)
    fresh = ~np.isin(keys, np.unique(seen.owners * n + seen.values))
    fresh &= data.content.created_us[keys % n] <= queries.now_us[keys // n]
    keys = keys[fresh]
    counts = np.bincount(keys // n, minlength=len(queries))
    return Ragged(keys % n, np.concatenate([[0], np.cumsum(counts)]))


def refuse_leakage(data: Dataset, train: BoolArray, queries: Queries) -> None:
    """Raise LeakageError where a training row is an action to predict, or later than one.

    Held for each person: nothing that the person did from the moment on may be trained on.
    """
    first = np.full(data.n_users, len(data.actions), dtype=np.int64)
    np.minimum.at(first, queries.user_rows, queries.cut)
    rows = np.flatnonzero(train)
    late = rows[rows >= first[data.actions.user_rows[rows]]]
    if len(late):
        person = data.viewer_ids[data.actions.user_rows[late[0]]]
        msg = f"{len(late)} training rows lie after the moment to predict, first of person {person}"
        raise LeakageError(msg, hint="cut the training rows before the queries")


def refuse_future(data: Dataset, train: BoolArray, cut_us: int) -> None:
    """Raise LeakageError where any training row is at or after a global cut."""
    late = train & (data.actions.times_us >= cut_us)
    if late.any():
        newest = int(data.actions.times_us[late].max())
        msg = f"{int(late.sum())} training rows are at or after the cut {cut_us}, up to {newest}"
        raise LeakageError(msg, hint="cut the training rows by time")


def require_actions(name: str, actions: int, people: int, posts: int, minimum: int = 20) -> None:
    """Raise InvalidInput where there is too little to learn from."""
    if actions < minimum or people < 2 or posts < 2:
        msg = (
            f"{name} has {actions} positive actions by {people} people on {posts} posts; training "
            f"needs at least {minimum} actions, 2 people, 2 posts"
        )
        raise InvalidInput(msg, hint="ingest events of the types click, like, comment or share")


def _disliked(dislikes: Interactions, queries: Queries, most: int = 50) -> IntArray | None:
    if not len(dislikes):
        return None
    starts = np.searchsorted(dislikes.user_rows, queries.user_rows, side="left")
    ends = np.searchsorted(dislikes.user_rows, queries.user_rows, side="right")
    index = ends[:, None] - np.arange(most, 0, -1)[None, :]
    safe = np.maximum(index, 0)
    there = (index >= starts[:, None]) & (dislikes.times_us[safe] < queries.now_us[:, None])
    return np.where(there, dislikes.item_rows[safe], -1)
