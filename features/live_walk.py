"""The online path at past moments: a cache that is told of things as they became known.

What may count at a moment is filtered here by its own words, not by the code under test.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.clock import SECOND_US, to_datetime
from contracts.errors import InvalidInput
from contracts.events import LOG_SCHEMA, EventType
from contracts.ids import UNKNOWN_ID
from features.caches import FeatureCache
from features.certificate import Asked, Halves
from features.event_arrays import EVENT_COLUMNS, int_column
from features.frames import FeatureFrames, before_erasure, replay
from features.slots import Bools, Ints
from features.views import FAMILY_FEATURES
from features.workspace import Workspace

_SCHEMA: Final = pa.schema([LOG_SCHEMA.field(name) for name in EVENT_COLUMNS])
_BESIDE: Final = 4
"""Posts asked about that the viewer acted on last before, and first after, the moment."""
_RECENT_EVENTS: Final = 2000
_FEWEST: Final = 10
"""Queries at least; where fewer people act, they ask again."""
_NOBODY: Final = np.zeros(0, np.int64)

ServeFrom = Callable[[FeatureFrames], FeatureCache]
"""Makes a cache of everything in frames, as a starting server does."""


def start_serving(frames: FeatureFrames) -> FeatureCache:
    """Make a cache as a server does that starts without a checkpoint."""
    return FeatureCache(replay(frames))


class Moments(NamedTuple):
    """The moments at which is compared, ascending, and the start of the walk before them."""

    start_us: int
    half_us: int
    """An event happened in this very microsecond: it must not count yet."""
    late_us: int
    """An event became known in this very microsecond: it counts."""
    end_us: int
    """Everything in log and catalog is known."""

    @classmethod
    def of(cls, frames: FeatureFrames) -> "Moments":
        """Choose them by shares of the log: 40, 50, 80 and 100 %."""
        happened = np.sort(int_column(frames.events, "event_time"))
        known = np.sort(_first_moments(frames.events))
        share = np.array([0.4, 0.5, 0.8]) * (len(known) - 1)
        at = share.astype(np.int64)
        entities = [
            _first_moments(frames.posts, "created", "known").max(initial=0),
            int_column(frames.follows, "since").max(initial=-1) + 1,
        ]
        half = int(happened[at[1]])
        late = max(int(known[at[2]]), half + SECOND_US)
        end = max(late, int(known[-1]), *(int(moment) for moment in entities))
        return cls(int(happened[at[0]]), half, late, end)


def known_at(frames: FeatureFrames, now_us: int) -> FeatureFrames:
    """Keep what happened before a moment and was known by then; people stay as they are.

    A post that something happened to is known, whatever its own time says.
    """
    events = frames.events.filter(pa.array(_known(frames.events, now_us)))
    met = np.isin(int_column(frames.posts, "post_id"), int_column(events, "post_id"))
    made = _known(frames.posts, now_us, "created", "known")
    return FeatureFrames(
        events,
        frames.posts.filter(pa.array(met | made)),
        frames.people,
        frames.follows.filter(pa.array(int_column(frames.follows, "since") < now_us)),
        frames.blocks.filter(pa.array(int_column(frames.blocks, "since") < now_us)),
    )


def walk(
    workspace: Workspace,
    frames: FeatureFrames,
    moments_us: list[int],
    serve: ServeFrom = start_serving,
) -> Iterator[FeatureCache]:
    """Start a cache at the first moment and patch it to each later one; gives it at those.

    It is the same cache each time: read it before going on.
    """
    frames = replace(frames, events=_without_erased(frames.events))
    told = _told(frames)
    cache = serve(known_at(frames, moments_us[0]))
    before = _known(told, moments_us[0])
    for now_us in moments_us[1:]:
        known = _known(told, now_us)
        cache.apply(told.filter(pa.array(known & ~before)), workspace)
        before = known
        yield cache


def served(cache: FeatureCache, asked: Asked) -> Halves:
    """Ask a cache as a request does, one viewer at a time; float16 [Q, C, F]."""
    rows = [
        cache.feature_matrix(int(viewer), cache.posts.slots_of(posts), asked.now_us, scores)
        for viewer, posts, scores in zip(asked.viewers, asked.posts, asked.scores, strict=True)
    ]
    return np.stack(rows).astype(np.float16)


def erased_people(frames: FeatureFrames) -> Ints:
    """Name the people who were erased."""
    gone = frames.events.column("type").to_numpy() == EventType.PERSON_ERASED
    return np.unique(int_column(frames.events, "viewer_id")[gone])


def met_too_early(frames: FeatureFrames) -> Bools:
    """Mark the posts that something happened to before they were made: no server can see that."""
    ids, met = int_column(frames.posts, "post_id"), int_column(frames.events, "post_id")
    order = np.argsort(ids)
    at = order[np.minimum(np.searchsorted(ids[order], met), len(ids) - 1)]
    early = _first_moments(frames.events) < _first_moments(frames.posts, "created", "known")[at]
    marked = np.zeros(len(ids), np.bool_)
    marked[at[early & (ids[at] == met)]] = True
    return marked


def choose(
    frames: FeatureFrames,
    now_us: int,
    queries: int,
    width: int,
    rng: np.random.Generator,
    without: Ints = _NOBODY,
) -> Asked:
    """Draw who asks, most of them about to act or just active, and posts near what they do.

    The last viewer is nobody. The first posts are those that the viewer acted on last, then those
    of the actions to come; the rest are what was active lately, and any. Left out are some
    people, and posts of theirs.
    """
    ids, authors = (int_column(frames.posts, name) for name in ("post_id", "author_id"))
    usable = _known(frames.posts, now_us, "created", "known")
    usable &= ~(np.isin(ids, without) | np.isin(authors, without))
    pool = ids[usable]
    if not len(pool):
        msg = f"no post to ask about was made before {to_datetime(now_us).isoformat()}"
        raise InvalidInput(msg, hint="look at the column `created` of the posts")
    viewers, posts = (int_column(frames.events, name) for name in ("viewer_id", "post_id"))
    moments = _first_moments(frames.events)
    alive = ~np.isin(viewers, np.r_[erased_people(frames), without]) & (posts >= 0)
    order = np.flatnonzero(alive)[np.argsort(moments[alive], kind="stable")]
    here = int((moments[order] <= now_us).sum())
    near = [viewers[order[here:]], viewers[order[:here]][::-1], viewers[order]]
    ahead, behind, anyone = (_first_distinct(part, queries, rng) for part in near)
    people = _first_distinct(np.concatenate([ahead[: queries // 2], behind, anyone]), queries)
    people = np.resize(people, max(len(people), _FEWEST))
    beside = _beside(viewers[order], posts[order], here, people)
    recent = posts[order[max(0, here - _RECENT_EVENTS) : here]]
    drawn = rng.choice(pool, (len(people), width))
    if len(recent):
        drawn[:, : 3 * width // 5] = rng.choice(recent, (len(people), 3 * width // 5))
    drawn[:, : beside.shape[1]] = np.where(beside >= 0, beside, drawn[:, : beside.shape[1]])
    unmade = ~np.isin(drawn, pool)
    drawn[unmade] = rng.choice(pool, int(unmade.sum()))
    people[-1] = max(viewers.max(), people.max()) + 1
    scores = rng.random((*drawn.shape, len(FAMILY_FEATURES)), dtype=np.float32)
    scores[rng.random(scores.shape) < 0.1] = np.nan
    return Asked(now_us, people, drawn, scores)


def _first_distinct(ids: Ints, most: int, rng: np.random.Generator | None = None) -> Ints:
    """Keep the first of each id, at most some of them; drawn at random where a source is given."""
    found, first = np.unique(ids, return_index=True)
    found = found[np.argsort(first, kind="stable")][: most if rng is None else 4 * most]
    return found if rng is None else rng.permutation(found)[:most]


def _beside(viewers: Ints, posts: Ints, here: int, people: Ints) -> Ints:
    """Find what people acted on around a place in events sorted by time: [Q, 8], -1 where none."""
    order = np.argsort(viewers, kind="stable")
    begin = np.searchsorted(viewers[order], people, side="left")
    end = np.searchsorted(viewers[order], people, side="right")
    before = np.r_[0, np.cumsum(order < here)]
    middle = begin + before[end] - before[begin]
    at = middle[:, None] + np.arange(-_BESIDE, _BESIDE)
    inside = (at >= begin[:, None]) & (at < end[:, None])
    return np.where(inside, posts[order[np.where(inside, at, 0)]], -1)


def _first_moments(
    table: pa.Table, happened: str = "event_time", known: str = "known_time"
) -> Ints:
    """Give the first microsecond after something happened at which it is known, [n]."""
    return np.maximum(int_column(table, happened) + 1, int_column(table, known))


def _known(
    table: pa.Table, now_us: int, happened: str = "event_time", known: str = "known_time"
) -> Bools:
    known_by_now: Bools = int_column(table, known) <= now_us
    return known_by_now & (int_column(table, happened) < now_us)


def _told(frames: FeatureFrames) -> pa.Table:
    """Give the log, with bulk loads as the events that a live platform would have told of them."""
    posts, follows = frames.posts, frames.follows
    made = int_column(posts, "created"), int_column(posts, "known")
    since = int_column(follows, "since")
    return pa.concat_tables([
        frames.events.select(EVENT_COLUMNS).cast(_SCHEMA),
        event_rows(EventType.POST_CREATED, UNKNOWN_ID, int_column(posts, "post_id"), None, made),
        event_rows(
            EventType.FOLLOW, int_column(follows, "follower_id"), None,
            int_column(follows, "followee_id"), (since, since),
        ),
    ])  # fmt: skip


def event_rows(
    types: NDArray[np.int8] | int,
    viewers: Ints | int,
    posts: Ints | None,
    targets: Ints | None,
    times_us: tuple[Ints, Ints],
    first_seq: int = 0,
) -> pa.Table:
    """Make rows of the log columns that features read; scalars are spread over the times."""
    n = len(times_us[0])
    nothing = pa.nulls(n, pa.int64())
    columns = {
        "seq": first_seq + np.arange(n) if first_seq else np.zeros(n, np.int64),
        "type": np.broadcast_to(np.asarray(types, np.int8), n),
        "viewer_id": np.broadcast_to(np.asarray(viewers, np.int64), n),
        "post_id": nothing if posts is None else posts,
        "target_id": nothing if targets is None else targets,
        "event_time": pa.array(times_us[0]).cast(_SCHEMA.field("event_time").type),
        "known_time": pa.array(times_us[1]).cast(_SCHEMA.field("known_time").type),
    }
    return pa.table(columns, schema=_SCHEMA)


def _without_erased(events: pa.Table) -> pa.Table:
    """Blank people in what was known of them before they were erased; what posts met stays."""
    erased = np.flatnonzero(events.column("type").to_numpy() == EventType.PERSON_ERASED)
    if erased.shape[0] == 0:
        return events
    places = np.empty(events.num_rows, np.int64)
    places[np.lexsort((int_column(events, "seq"), _first_moments(events)))] = np.arange(len(places))
    people = int_column(events, "viewer_id")[erased]
    for name in ("viewer_id", "target_id"):
        named = int_column(events, name)
        gone = before_erasure(named, places, people, places[erased])
        blanked = pa.array(np.where(gone, UNKNOWN_ID, named))
        events = events.set_column(events.column_names.index(name), _SCHEMA.field(name), blanked)
    return events
