"""Point-in-time joins and training features: nothing from the future, nothing lost."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.clock import DAY_US, HOUR_US
from contracts.errors import SchemaMismatch
from contracts.events import UTC_US, EventType
from contracts.policy import FAMILIES
from features.caches import FeatureCache
from features.event_arrays import int_column, visible_from
from features.frames import FeatureFrames, replay
from features.offline import asof_join, training_features
from features.views import FEATURES

stamp = st.integers(0, 20)
snapshot = st.tuples(st.integers(1, 3), stamp, st.integers(0, 8))
label = st.tuples(st.integers(1, 4), st.integers(0, 24))


def snapshot_table(rows: list[tuple[int, int, int]]):
    ids, events, lags = zip(*rows, strict=True) if rows else ((), (), ())
    events = np.array(events, np.int64)
    return pa.table(
        {
            "key": pa.array(ids, pa.int64()),
            "event_timestamp": pa.array(events).cast(UTC_US),
            "created_timestamp": pa.array(events + np.array(lags, np.int64)).cast(UTC_US),
            "value": pa.array(np.arange(len(rows), dtype=float)),
        }
    )


def brute_force(rows: list[tuple[int, int, int]], who: int, now: int, ttl: int | None):
    known = [
        (event, event + lag, value)
        for value, (entity, event, lag) in enumerate(rows)
        if entity == who and event <= now and event + lag <= now
        and (ttl is None or event + ttl >= now)
    ]  # fmt: skip
    return max(known)[2] if known else np.nan


@settings(max_examples=200)
@given(
    st.lists(snapshot, max_size=25, unique_by=lambda r: (r[0], r[1], r[2])),
    st.lists(label, max_size=20),
    st.one_of(st.none(), st.integers(0, 10)),
)
def test_asof_join_equals_the_definition(
    rows: list[tuple[int, int, int]], labels: list[tuple[int, int]], ttl: int | None
) -> None:
    ids = np.array([i for i, _ in labels], np.int64)
    times = np.array([t for _, t in labels], np.int64)
    got = asof_join(ids, times, snapshot_table(rows), ["value"], key="key", ttl_us=ttl)
    assert got.shape == (len(labels), 1)
    want = [brute_force(rows, who, now, ttl) for who, now in labels]
    assert got[:, 0] == pytest.approx(want, nan_ok=True)


def test_asof_join_keeps_the_order_of_rows_and_columns() -> None:
    """Columns of any number type, in chunks, with a null of their own; or no snapshot at all."""
    first = snapshot_table([(1, 0, 0), (2, 0, 0)]).append_column("count", pa.array([10, 20]))
    second = snapshot_table([(1, 5, 0)]).append_column("count", pa.array([None], pa.int64()))
    snapshots = pa.concat_tables([first, second])
    ids, times = np.array([2, 9, 1, 1]), np.array([3, 3, 9, 0])
    got = asof_join(ids, times, snapshots, ["count", "value"], key="key")
    want = [[20, 1], [np.nan, np.nan], [np.nan, 0], [10, 0]]
    assert np.array_equal(got, want, equal_nan=True)
    none = asof_join(ids, times, snapshots.slice(0, 0), ["count", "value"], key="key")
    assert none.shape == (4, 2)
    assert np.isnan(none).all()


def test_asof_join_names_missing_columns() -> None:
    with pytest.raises(SchemaMismatch, match="lack the columns \\['other'\\]"):
        asof_join(np.array([1]), np.array([1]), snapshot_table([]), ["other"], key="key")


def queries_of(frames: FeatureFrames, seed: int, n: int = 25, width: int = 6):
    rng = np.random.default_rng(seed)
    times = int_column(frames.events, "event_time")
    viewers = rng.choice(int_column(frames.people, "person_id"), n)
    now = rng.integers(times.min(), times.max(), n)
    posts = rng.choice(int_column(frames.posts, "post_id"), (n, width))
    posts[rng.random((n, width)) < 0.1] = -1
    return viewers, now, posts, rng.random((n, width, len(FAMILIES)), dtype=np.float32)


def known_at(frames: FeatureFrames, now: int):
    """Cut frames to what a query at `now` may know."""
    visible = visible_from(
        int_column(frames.events, "event_time"), int_column(frames.events, "known_time")
    )
    since = int_column(frames.follows, "since")
    return FeatureFrames(
        frames.events.filter(pa.array(visible <= now)),
        frames.posts.filter(pa.array(int_column(frames.posts, "created") < now)),
        frames.people,
        frames.follows.filter(pa.array(since < now)),
    )


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_training_equals_serving_at_that_time(
    world: Callable[..., FeatureFrames], seed: int
) -> None:
    """One query a block: what training computes is what a server would have computed then."""
    frames = world(seed, events=250)
    viewer, now, posts, scores = queries_of(frames, seed, n=1)
    got = training_features(frames, viewer, now, posts, scores)
    cache = FeatureCache(replay(known_at(frames, int(now[0]))))
    slots = cache.posts.slots_of(posts[0])
    served = cache.feature_matrix(int(viewer[0]), slots, int(now[0]), scores[0])
    # A post not made yet is unknown to the server; training leaves it to the caller.
    made = slots >= 0
    assert got[0][made] == pytest.approx(served[made], rel=1e-5, abs=1e-6, nan_ok=True)
    assert np.isnan(got[0][posts[0] < 0]).all()


def test_blocks_give_nearly_what_single_queries_give(world: Callable[..., FeatureFrames]) -> None:
    """Within an hour only counters may lag; what comes from histories is exact."""
    frames = world(3, events=600)
    queries = queries_of(frames, 3, n=40)
    together = training_features(frames, *queries)
    exact = [FEATURES.index(f) for f in FEATURES if f.startswith(("author_a", "topic", "author_s"))]
    for q in range(40):
        one = slice(q, q + 1)
        single = training_features(frames, *(part[one] for part in queries))
        assert np.array_equal(single[0][:, exact], together[q][:, exact], equal_nan=True)


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_the_future_changes_nothing(world: Callable[..., FeatureFrames], seed: int) -> None:
    frames = world(seed)
    queries = queries_of(frames, seed)
    before = training_features(frames, *queries)
    future = int(queries[1].max())
    visible = visible_from(
        int_column(frames.events, "event_time"), int_column(frames.events, "known_time")
    )
    cut = FeatureFrames(
        frames.events.filter(pa.array(visible <= future)), frames.posts, frames.people,
        frames.follows,
    )  # fmt: skip
    assert np.array_equal(before, training_features(cut, *queries), equal_nan=True)


def test_the_label_itself_is_never_in_its_features(
    t0: int,
    log_of: Callable[..., pa.Table],
    posts_of: Callable[..., pa.Table],
    people_of: Callable[..., pa.Table],
) -> None:
    like = log_of([(EventType.LIKE, 1, 11, None, t0 + DAY_US, t0 + DAY_US)])
    frames = FeatureFrames(like, posts_of([11], [2], [[5]], [t0]), people_of([1, 2]))
    times = np.array([t0 + DAY_US, t0 + DAY_US + 1])
    scores = np.zeros((2, 1, len(FAMILIES)), np.float32)
    got = training_features(frames, np.array([1, 1]), times, np.array([[11], [11]]), scores)
    history = [FEATURES.index(f) for f in ("author_seen_count", "topic_affinity")]
    assert np.all(got[0, 0, history] == 0.0)
    assert np.all(got[1, 0, history] > 0.5)
    assert got[0, 0, FEATURES.index("post_like_all")] == 0.0


def test_late_events_count_from_when_they_were_known(
    t0: int,
    log_of: Callable[..., pa.Table],
    posts_of: Callable[..., pa.Table],
    people_of: Callable[..., pa.Table],
) -> None:
    late = t0 + 10 * HOUR_US
    like = log_of([(EventType.LIKE, 3, 11, None, t0 + HOUR_US, late)])
    frames = FeatureFrames(like, posts_of([11], [2], [[5]], [t0]), people_of([1, 2, 3]))
    times = np.array([late - 1, late])
    for q, liked in enumerate((0.0, np.log(2))):
        got = training_features(
            frames, np.array([1]), times[q : q + 1], np.array([[11]]),
            np.zeros((1, 1, len(FAMILIES)), np.float32),
        )  # fmt: skip
        assert got[0, 0, FEATURES.index("post_like_all")] == pytest.approx(liked)


def test_progress_and_row_order(world: Callable[..., FeatureFrames]) -> None:
    frames = world(9)
    queries = queries_of(frames, 9)
    calls = []
    forward = training_features(frames, *queries, progress=lambda d, t: calls.append((d, t)))
    assert calls[-1] == (25, 25)
    back = training_features(frames, *(part[::-1].copy() for part in queries))
    assert np.array_equal(forward, back[::-1], equal_nan=True)


def test_no_queries_give_no_rows(world: Callable[..., FeatureFrames]) -> None:
    empty = training_features(
        world(1), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 5), np.int64),
        np.zeros((0, 5, len(FAMILIES)), np.float32),
    )  # fmt: skip
    assert empty.shape == (0, 5, len(FEATURES))
