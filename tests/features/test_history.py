"""Histories: live rings, and the same as of any past time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.events import UNDO_OF, EventType
from features.event_arrays import visible_from
from features.history import (
    HISTORY_LENGTH,
    IS_ACTION,
    IS_UNDO,
    SEEN_LENGTH,
    ActionLog,
    Histories,
    HistoryStore,
    histories_as_of,
)
from features.rings import ActionRing

VIEWERS, POSTS = 3, 4
TYPES = [EventType.LIKE, EventType.LIKE, EventType.UNLIKE, EventType.CLICK, EventType.SAVE,
         EventType.UNSAVE, EventType.IMPRESSION]  # fmt: skip
row = st.tuples(st.integers(0, VIEWERS - 1), st.integers(0, POSTS - 1), st.sampled_from(TYPES))
rows = st.lists(row, max_size=60)


def columns(batch: list[tuple[int, int, int]]):
    viewers, posts, types = zip(*batch, strict=True) if batch else ((), (), ())
    times = np.arange(len(batch), dtype=np.int64) * 10 + 100
    return (
        np.array(viewers, np.int64), np.array(posts, np.int64), np.array(types, np.int8), times,
    )  # fmt: skip


def expected_history(batch: list[tuple[int, int, int]], viewer: int, before_us: int):
    """Follow the definition entry by entry: the last 100 actions, less those undone since."""
    held = []
    for place, (who, post, kind) in enumerate(batch):
        time = place * 10 + 100
        if who != viewer or time >= before_us:
            continue
        if IS_UNDO[kind]:
            held = [(None if h and h[:2] == (post, UNDO_OF[kind]) else h) for h in held]
        elif IS_ACTION[kind]:
            held.append((post, kind, time))
    return [h for h in held[-HISTORY_LENGTH:] if h]


def entries(histories: Histories, query: int):
    held = histories.post_slots[query] >= 0
    assert not np.any(np.diff(held.astype(int)) < 0), "entries stand at the end"
    return list(
        zip(
            histories.post_slots[query][held].tolist(), histories.types[query][held].tolist(),
            histories.times_us[query][held].tolist(), strict=True,
        )
    )  # fmt: skip


def store_of(batch: list[tuple[int, int, int]], size: int):
    store = HistoryStore(VIEWERS)
    for start in range(0, len(batch), size):
        store.apply(*(c[start : start + size] for c in columns(batch)))
    return store


@given(rows, st.integers(1, 60))
def test_live_rings_follow_the_definition_in_any_batch_size(
    batch: list[tuple[int, int, int]], size: int
) -> None:
    got = store_of(batch, size).get(np.arange(VIEWERS))
    for viewer in range(VIEWERS):
        assert entries(got, viewer) == expected_history(batch, viewer, 10**9)


@given(rows, st.integers(90, 760))
def test_as_of_sees_only_what_was_before(batch: list[tuple[int, int, int]], now: int) -> None:
    viewers, posts, types, times = columns(batch)
    log = ActionLog.of(viewers, posts, types, times, visible_from(times, times))
    got = histories_as_of(log, np.arange(VIEWERS), np.full(VIEWERS, now))
    for viewer in range(VIEWERS):
        assert entries(got, viewer) == expected_history(batch, viewer, now)


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 400))
def test_long_histories_keep_the_last_hundred(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    batch = [
        (int(v), int(p), TYPES[k])
        for v, p, k in zip(
            rng.integers(0, VIEWERS, 700), rng.integers(0, POSTS, 700),
            rng.choice([0, 3, 3, 3, 4, 2], 700), strict=True,
        )
    ]  # fmt: skip
    viewers, posts, types, times = columns(batch)
    log = ActionLog.of(viewers, posts, types, times, times + 1)
    past = histories_as_of(log, np.arange(VIEWERS), np.full(VIEWERS, 10**9))
    live = store_of(batch, size).get(np.arange(VIEWERS))
    for viewer in range(VIEWERS):
        assert entries(live, viewer) == expected_history(batch, viewer, 10**9)
        assert entries(past, viewer) == entries(live, viewer)


def test_what_became_known_late_is_not_seen_before() -> None:
    arrays = (np.array([0]), np.array([1]), np.array([EventType.LIKE], np.int8), np.array([100]))
    log = ActionLog.of(*arrays, visible_from(arrays[3], np.array([500])))
    got = histories_as_of(log, np.zeros(3, np.int64), np.array([101, 499, 500]))
    assert [len(entries(got, q)) for q in range(3)] == [0, 0, 1]


def test_an_undo_known_late_removes_late() -> None:
    types = np.array([EventType.LIKE, EventType.UNLIKE], np.int8)
    log = ActionLog.of(
        np.zeros(2, np.int64), np.ones(2, np.int64), types, np.array([100, 200]),
        np.array([101, 900]),
    )  # fmt: skip
    got = histories_as_of(log, np.zeros(3, np.int64), np.array([150, 899, 900]))
    assert [len(entries(got, q)) for q in range(3)] == [1, 1, 0]


def test_unknown_viewers_have_no_history() -> None:
    store = store_of([(0, 1, EventType.LIKE)], 1)
    assert entries(store.get(np.array([-1])), 0) == []
    assert HistoryStore().get(np.array([-1])).post_slots.shape == (1, HISTORY_LENGTH)
    assert store.version(-1) == 0
    assert store.seen_posts(-1)[0].shape == (0,)


def test_seen_keeps_the_last_five_hundred_of_impressions_views_and_actions() -> None:
    batch = [(0, k, EventType.IMPRESSION) for k in range(600)] + [(0, 7, EventType.LIKE)]
    store = store_of(batch, 50)
    posts, types = store.seen_posts(0)
    assert len(posts) == SEEN_LENGTH
    assert set(posts.tolist()) == {*range(101, 600), 7}
    assert (types == EventType.LIKE).sum() == 1


def test_version_goes_up_with_each_event_on_a_post() -> None:
    store = store_of([(1, 1, EventType.LIKE), (1, 1, EventType.UNLIKE), (0, 2, EventType.VIEW)], 3)
    assert [store.version(v) for v in range(3)] == [1, 2, 0]


def test_forgetting_leaves_nothing() -> None:
    store = store_of([(1, 1, EventType.LIKE), (1, 2, EventType.CLICK)], 2)
    store.forget(1)
    assert entries(store.get(np.array([1])), 0) == []
    assert len(store.seen_posts(1)[0]) == 0


@given(rows, st.integers(1, 9))
def test_a_ring_survives_storing(batch: list[tuple[int, int, int]], length: int) -> None:
    ring, copy = ActionRing(length, VIEWERS), ActionRing(length, VIEWERS)
    ring.append(*columns(batch))
    copy.restore(np.arange(VIEWERS), ring.dump(VIEWERS))
    more = columns(batch[:3])
    for one in (ring, copy):
        one.append(*more)
    places, valid = ring.places(np.arange(VIEWERS))
    other, other_valid = copy.places(np.arange(VIEWERS))
    assert np.array_equal(valid, other_valid)
    at, same = np.nonzero(valid)[0], np.nonzero(other_valid)[0]
    assert ring.posts[at, places[valid]] == pytest.approx(copy.posts[same, other[other_valid]])
    assert np.array_equal(ring.counts, copy.counts)
