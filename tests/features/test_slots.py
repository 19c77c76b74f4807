"""Slots of ids, growing arrays, and the lists of recent posts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.recent_posts import NEWEST, PER_AUTHOR, RecentPosts
from features.slots import SlotIndex, grown, run_lengths, run_starts


def of_author(recent: RecentPosts, author: int) -> list[int]:
    return recent.of_authors(np.array([author], np.int32)).tolist()


near = st.integers(0, 500)
far = st.integers(0, 2**62)


@given(st.lists(st.lists(st.one_of(near, far), max_size=8), max_size=8))
def test_slots_follow_the_order_of_arrival(batches: list[list[int]]) -> None:
    index, expected = SlotIndex(), {}
    for batch in batches:
        slots = index.add(np.array(batch, np.int64))
        for one in batch:
            expected.setdefault(one, len(expected))
        assert slots.tolist() == [expected[one] for one in batch]
    assert index.ids.tolist() == list(expected)
    for probe in (3, 499, 2**61, -1, -7):
        assert index.slot_of(probe) == expected.get(probe, -1)
        assert index.slots_of(np.array([[probe]])).tolist() == [[expected.get(probe, -1)]]


def test_null_ids_get_no_slot() -> None:
    index = SlotIndex()
    assert index.add(np.array([-1, 5, -1])).tolist() == [-1, 0, -1]
    assert len(index) == 1


def test_growing_keeps_rows_and_fills_the_rest() -> None:
    array = grown(np.ones((3, 2)), 5, fill=7)
    assert array.shape[0] >= 5
    assert array[:3].tolist() == [[1, 1]] * 3
    assert np.all(array[3:] == 7)
    assert grown(array, 4) is array


@given(st.lists(st.integers(0, 5)).map(sorted))
def test_runs_cover_a_sorted_array(values: list[int]) -> None:
    array = np.array(values, np.int64)
    starts = run_starts(array)
    lengths = run_lengths(starts, len(array))
    assert np.repeat(array[starts], lengths).tolist() == values
    assert len(starts) == len(set(values))


@given(
    st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 50)), max_size=60),
    st.integers(1, 60),
    st.sets(st.integers(0, 59)),
)
def test_recent_posts_are_the_newest_first(
    posts: list[tuple[int, int]], size: int, removed: set[int]
) -> None:
    authors = np.array([a for a, _ in posts], np.int32)
    created = np.array([t for _, t in posts], np.int64)
    recent = RecentPosts()
    for start in range(0, len(posts), size):
        slots = np.arange(start, min(start + size, len(posts)))
        recent.add(slots, authors[slots], created)
    gone = np.array(sorted(r for r in removed if r < len(posts)), np.int64)
    recent.remove(gone, authors, created, np.isin(np.arange(len(posts)), gone))
    kept = [s for s in range(len(posts)) if s not in removed]
    newest = sorted(kept, key=lambda s: (-created[s], -s))
    assert recent.newest.tolist() == newest
    for author in range(4):
        assert of_author(recent, author) == [s for s in newest if authors[s] == author]
    two = recent.of_authors(np.array([2, 0, 9], np.int32), per_author=1)
    assert two.tolist() == [s for a in (2, 0) for s in [s for s in newest if authors[s] == a][:1]]


def test_recent_posts_are_bounded() -> None:
    n = NEWEST + 10
    recent = RecentPosts()
    recent.add(np.arange(n), np.zeros(n, np.int32), np.arange(n))
    assert recent.newest.shape == (NEWEST,)
    assert of_author(recent, 0) == list(range(n - 1, n - 1 - PER_AUTHOR, -1))
    recent.add(np.array([n]), np.zeros(1, np.int32), np.arange(n + 1))
    assert recent.newest[0] == of_author(recent, 0)[0] == n
    assert len(of_author(recent, 0)) == PER_AUTHOR


def test_older_posts_take_the_places_of_those_removed() -> None:
    n = NEWEST + 60
    recent, authors, created = RecentPosts(), np.zeros(n, np.int32), np.arange(n)
    recent.add(np.arange(n), authors, created)
    gone = np.arange(n - 55, n)
    recent.remove(gone, authors, created, created >= n - 55)
    assert recent.newest.tolist() == list(range(n - 56, n - 56 - NEWEST, -1))
    assert of_author(recent, 0) == list(range(n - 56, n - 56 - PER_AUTHOR, -1))
    rest = np.arange(7, n - 55)
    recent.remove(rest, authors, created, created >= 7)
    assert recent.newest.tolist() == of_author(recent, 0) == list(range(6, -1, -1))


@pytest.mark.parametrize("first", [0, 2**60])
def test_a_million_near_ids_stay_addressable(first: int) -> None:
    index = SlotIndex()
    ids = first + np.arange(0, 3_000_000, 3)
    assert np.array_equal(index.add(ids), np.arange(1_000_000))
    assert index.slots_of(ids[::1000] + 1).max() == -1
