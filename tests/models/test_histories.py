"""Histories: one action an item, whatever the padding."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from contracts.events import EventType
from models.base import ACTION_STRENGTH, STRENGTH, ItemHistories, PostContent, dot_scores

TYPES = list(ACTION_STRENGTH)
CLICK, LIKE, SHARE = EventType.CLICK, EventType.LIKE, EventType.SHARE


def history(rows: list[int], types: list[EventType]) -> ItemHistories:
    return ItemHistories(
        np.array([rows], np.int64),
        np.array([[int(t) for t in types]], np.int8),
        np.arange(len(rows), dtype=np.int64)[None, :],
        np.array([100], np.int64),
    )


def test_a_click_and_its_like_are_one_like() -> None:
    found = history([4, 4, 7, 5], [CLICK, LIKE, CLICK, CLICK]).distinct()
    assert found.rows.tolist() == [[-1, 4, 7, 5]]
    assert found.types[0, 1] == LIKE


def test_the_newest_place_stays_with_the_strongest_type() -> None:
    found = history([4, 7, 4], [SHARE, CLICK, CLICK]).distinct()
    assert found.rows.tolist() == [[-1, 7, 4]]
    assert found.types[0, 2] == SHARE


@given(st.lists(st.tuples(st.integers(-1, 5), st.sampled_from(TYPES)), min_size=1, max_size=12))
def test_distinct_equals_the_loop(actions: list[tuple[int, EventType]]) -> None:
    found = history([a for a, _ in actions], [t for _, t in actions]).distinct()
    expected: dict[int, float] = {}
    for row, kind in actions:
        if row >= 0:
            expected[row] = max(expected.pop(row, 0.0), ACTION_STRENGTH[kind])
    kept = found.rows[0] >= 0
    assert found.rows[0][kept].tolist() == list(expected)
    assert STRENGTH[found.types[0][kept]].tolist() == list(expected.values())
    again = found.distinct()
    np.testing.assert_array_equal(again.rows, found.rows)


def test_empty_histories_hold_nothing() -> None:
    found = ItemHistories.empty(3, 5)
    assert (found.rows == -1).all()
    assert found.now_us.tolist() == [5, 5, 5]


def test_take_keeps_what_was_disliked() -> None:
    whole = ItemHistories.empty(2)
    marked = ItemHistories(
        whole.rows, whole.types, whole.times_us, whole.now_us, np.array([[1], [2]])
    )
    assert marked.take(np.array([1])).disliked is not None
    assert marked.take(np.array([1])).disliked.tolist() == [[2]]  # type: ignore[union-attr]


def test_content_takes_rows_of_every_field() -> None:
    content = PostContent(["a", "b"], [[1], [2, 3]], np.array([-1, 4]), np.array([7, 8]))
    part = content.take(np.array([1]))
    assert (part.texts, part.topics) == (["b"], [[2, 3]])
    assert (part.author_ids.tolist(), part.created_us.tolist()) == ([4], [8])


def test_a_missing_vector_is_a_missing_score() -> None:
    items = np.array([[1.0, 0.0], [np.nan, np.nan]], np.float32)
    scores = dot_scores(np.array([[2.0, 1.0], [np.nan, np.nan]], np.float32), items)
    assert scores[0, 0] == 2.0
    assert np.isnan([scores[0, 1], *scores[1]]).all()
