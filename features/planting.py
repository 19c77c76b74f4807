"""Rows that know the label, planted where a join could find them too early.

Planted events and snapshots say what a viewer does next. A join that lets one of them arrive
before its known time, or loses one that is known, gives other values than the walk or the plain
definition beside it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.clock import DAY_US, HOUR_US, to_datetime
from contracts.events import NEGATIVE_ACTIONS, POSITIVE_ACTIONS, UNDO_OF, UTC_US, EventType
from features.certificate import Asked, Check
from features.event_arrays import EVENT_COLUMNS, int_column
from features.frames import FeatureFrames
from features.live_walk import erased_people, event_rows
from features.materialize import snapshot_schema
from features.offline import asof_join
from features.slots import Bools, Float64s, Ints
from features.views import View

SCENARIOS: Final = (
    "happened before the moment, known after it",
    "happened at the moment itself",
    "happened after the moment",
    "done and undone before the moment",
    "happened and known just in time",
)
_LATE, _AT, _AFTER, _UNDONE, _JUST = range(len(SCENARIOS))
HIDDEN: Final = (_LATE, _AT, _AFTER)
"""Scenarios of which nothing may arrive at the moment."""
_TYPES: Final = (*POSITIVE_ACTIONS, *NEGATIVE_ACTIONS, EventType.IMPRESSION, EventType.FOLLOW)
_UNDO: Final = np.zeros(max(EventType) + 1, np.int8)
_UNDO[list(UNDO_OF.values())] = list(UNDO_OF)
_STRANGERS: Final = 2
_ROOM_US: Final = 10
"""Age of a post that leaves room for something before the moment."""

AsofJoin = Callable[..., Float64s]
"""Like `asof_join`."""


class Planted(NamedTuple):
    """Frames with planted events; each query [Q] has one scenario."""

    frames: FeatureFrames
    scenarios: Ints
    labels: Bools
    """[Q, C]: the posts that events are planted on."""


def plant(frames: FeatureFrames, asked: Asked, until_us: int, rng: np.random.Generator) -> Planted:
    """Plant what each viewer and two others do with the viewer's posts, a scenario a query.

    A post's label is a coin: events are planted on posts of label 1 alone. All of them are known
    by `until_us`, none of a hidden scenario at the moment asked about.
    """
    scenarios = np.arange(len(asked.viewers)) % len(SCENARIOS)
    authors, made_us = _facts(frames, asked.posts)
    labels = rng.random(asked.posts.shape) < 0.5
    labels &= made_us < asked.now_us - _ROOM_US
    query, place = np.nonzero(labels)
    gone = erased_people(frames)
    people = np.setdiff1d(int_column(frames.events, "viewer_id"), gone)
    authors[np.isin(authors, gone)] = -1
    actors = np.column_stack([asked.viewers[query], rng.choice(people, (len(query), _STRANGERS))])
    # One row a label, actor and type: [L, A, T].
    shape = (*actors.shape, len(_TYPES))
    types = np.broadcast_to(np.array(_TYPES, np.int8), shape).reshape(-1)
    viewers = np.broadcast_to(actors[:, :, None], shape).reshape(-1)
    posts = np.broadcast_to(asked.posts[query, place][:, None, None], shape).reshape(-1)
    targets = np.broadcast_to(authors[query, place][:, None, None], shape).reshape(-1)
    kinds = np.broadcast_to(scenarios[query][:, None, None], shape).reshape(-1)
    since = np.broadcast_to(made_us[query, place][:, None, None], shape).reshape(-1)
    happened, known = _times(kinds, since, (asked.now_us, until_us), rng)
    first = int(int_column(frames.events, "seq").max(initial=0)) + 1
    done = _rows(types, viewers, posts, targets, (happened, known), first)
    back = (kinds == _UNDONE) & (_UNDO[types] > 0)
    later = happened[back] + 1
    undone = _rows(
        _UNDO[types[back]], viewers[back], posts[back], targets[back], (later, later),
        first + len(types),
    )  # fmt: skip
    events = pa.concat_tables([frames.events.select(EVENT_COLUMNS), done, undone])
    return Planted(replace(frames, events=events), scenarios, labels)


def _rows(
    types: NDArray[np.int8],
    viewers: Ints,
    posts: Ints,
    targets: Ints,
    times_us: tuple[Ints, Ints],
    seq: int,
) -> pa.Table:
    """Make planted rows: follows name the author and no post, everything else a post."""
    social = np.isin(types, (EventType.FOLLOW, EventType.UNFOLLOW))
    return event_rows(
        types, viewers, np.where(social, -1, posts), np.where(social, targets, -1), times_us, seq
    )


def _times(
    kinds: Ints, since_us: Ints, moments_us: tuple[int, int], rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Draw when planted events [n] happen, after their posts, and become known, by scenario."""
    n = len(kinds)
    now_us, until_us = moments_us
    before = rng.integers(np.maximum(since_us + 1, now_us - 2 * DAY_US), now_us - 2, n)
    after = rng.integers(now_us + 1, until_us, n)
    happened = np.choose(kinds, [before, np.full(n, now_us), after, before, np.full(n, now_us - 1)])
    known = np.where(kinds == _LATE, after, happened)
    return happened, np.where(kinds == _JUST, now_us, known)


def _facts(frames: FeatureFrames, posts: Ints) -> tuple[Ints, Ints]:
    """Give authors and the times from which posts [...] are known, both [...]."""
    ids = int_column(frames.posts, "post_id")
    order = np.argsort(ids)
    at = order[np.searchsorted(ids[order], posts)]
    made = np.maximum(int_column(frames.posts, "created"), int_column(frames.posts, "known"))
    return int_column(frames.posts, "author_id")[at], made[at]


def check_join(
    view: View,
    entities: Ints,
    now_us: int,
    join: AsofJoin = asof_join,
    *,
    rows: int = 3000,
    labels: int = 400,
    rng: np.random.Generator,
) -> Check:
    """Plant a column that numbers its row into snapshots, and join it as training would.

    Labels stand on, between and around the rows, some twice, some of unknown entities; some rows
    are known days after their time, some stand twice. The right row is found by the definition.
    """
    times = now_us + rng.integers(-8, 9, rows) * HOUR_US + rng.integers(-1, 2, rows)
    known = times + rng.choice([0, 0, 1, HOUR_US, 3 * DAY_US], rows)
    drawn = np.unique(np.stack([rng.choice(entities, rows), times, known]), axis=1)
    whose, times, known = rng.permutation(drawn, axis=1)
    table = _snapshots(view, whose, times, known)
    asked = rng.choice(np.r_[entities, entities.max() + 1], labels)
    moments = rng.choice(np.r_[times, known], labels) + rng.integers(-1, 2, labels)
    asked, moments = np.r_[asked, asked[:20]], np.r_[moments, moments[:20]]
    found = join(asked, moments, table, (view.columns[0],), key=view.key)
    name = f"as-of join of {view.name}"
    if found.shape != (len(asked), 1):
        why = f"{len(asked)} labels went in, {found.shape[0]} rows came out: the join fans out"
        return Check(name, len(asked), abs(found.shape[0] - len(asked)), why)
    right = newest_known((whose, times, known), (asked, moments))
    got = np.nan_to_num(found[:, 0], nan=-1.0).astype(np.int64)
    wrong = np.flatnonzero(got != right)
    if not len(wrong):
        return Check(name, len(asked), 0)
    at = int(wrong[0])
    return Check(name, len(asked), len(wrong), _blame(
        (whose, times, known), int(got[at]), int(right[at]),
        (view, int(asked[at]), int(moments[at])),
    ))  # fmt: skip


def newest_known(rows: tuple[Ints, Ints, Ints], labels: tuple[Ints, Ints]) -> Ints:
    """Find by the definition alone the row of each label: of those of its entity that happened
    and were known by its time the newest, at equal times the last known; [n], -1 for none.
    """
    whose, times, known = rows
    order = np.lexsort((known, times))
    allowed: Bools = (whose[order] == labels[0][:, None]) & (times[order] <= labels[1][:, None])
    allowed &= known[order] <= labels[1][:, None]
    last = allowed.shape[1] - 1 - allowed[:, ::-1].argmax(axis=1)
    return np.where(allowed.any(axis=1), order[last], -1)


def _snapshots(view: View, whose: Ints, times: Ints, known: Ints) -> pa.Table:
    """Make snapshot rows whose values number them, every tenth of them twice."""
    again = np.r_[np.arange(len(whose)), np.arange(0, len(whose), 10)]
    columns = [
        pa.array(whose[again]), pa.array(times[again]).cast(UTC_US),
        pa.array(known[again]).cast(UTC_US), *(pa.array(again.astype(float)) for _ in view.columns),
    ]  # fmt: skip
    return pa.table(columns, schema=snapshot_schema(view))


def _blame(
    rows: tuple[Ints, Ints, Ints], got: int, right: int, label: tuple[View, int, int]
) -> str:
    """Say in words what a join did to one label."""
    whose, times, known = rows
    view, entity, moment = label
    who = f"{view.key} {entity} at {to_datetime(moment).isoformat()}"
    if got < 0:
        return f"{who}: no row arrives, though one was known"
    if whose[got] != entity:
        return f"{who}: a row of {view.key} {whose[got]} arrives"
    if times[got] > moment:
        return f"{who}: a row of {(times[got] - moment) / HOUR_US:.4g} h later arrives"
    if known[got] > moment:
        return f"{who}: a row arrives {(known[got] - moment) / HOUR_US:.4g} h before it was known"
    if right < 0:
        return f"{who}: a row arrives where none is right"
    return f"{who}: a row {(times[right] - times[got]) / HOUR_US:.4g} h older than the newest known"
