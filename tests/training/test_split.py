"""Cuts in time, by month, by order; and no training row that sees what is to be predicted."""

from datetime import UTC
from typing import Any

import numpy as np
import pytest

from contracts.clock import DAY_US, to_us
from contracts.errors import InvalidInput, LeakageError
from contracts.events import LOG_SCHEMA, EventType
from contracts.tables import POSTS_SCHEMA
from features.frames import FeatureFrames
from training.config import small_config
from training.dataset import (
    Queries,
    histories,
    refuse_future,
    refuse_leakage,
    seen_items,
    spread,
    target_items,
)
from training.ranking import validation_exam
from training.reading import FeatureSource, TrainingData
from training.split import SplitConfig, later_moments, make_split

CLICK, LIKE = EventType.CLICK, EventType.LIKE
HALVES = SplitConfig(fit_share=0.5, known_share=0.75)


def steady(users: int = 4, actions: int = 12) -> list[tuple[int, int, int, EventType]]:
    return [(u, i, i * DAY_US + u, CLICK) for u in range(users) for i in range(actions)]


def test_time_cuts_are_global(dataset_of: Any) -> None:
    data = dataset_of(steady())
    split = make_split(data, HALVES)
    assert split.cuts_us is not None
    first, second = split.cuts_us
    times = data.actions.times_us
    assert times[split.fit].max() < first <= times[~split.fit].min()
    assert times[split.refit].max() < second <= times[~split.refit].min()
    assert (times[split.test.cut] >= second).all()
    assert (split.validation.stop == split.test.cut).all()


def test_somebody_new_is_known_by_the_first_half(dataset_of: Any) -> None:
    rows = steady() + [(4, i, 100 * DAY_US + i, CLICK) for i in range(6)]
    data = dataset_of(rows)
    split = make_split(data, HALVES)
    row = split.test.user_rows.tolist().index(4)
    assert split.test.cut[row] - split.test.start[row] == 3
    assert split.test.stop[row] - split.test.cut[row] == 3
    assert not split.refit[data.actions.user_rows == 4].any()


def test_month_cuts_fall_on_the_first(dataset_of: Any) -> None:
    data = dataset_of(steady(actions=200), protocol="month")
    split = make_split(data, HALVES)
    assert split.cuts_us == (to_us(np_month(4)), to_us(np_month(5)))


def np_month(month: int) -> Any:
    return np.datetime64(f"1970-0{month}-01T00:00:00").astype(object).replace(tzinfo=UTC)


def test_order_holds_each_persons_last_actions(dataset_of: Any) -> None:
    data = dataset_of(steady(users=3, actions=20), protocol="order")
    split = make_split(data, SplitConfig())
    assert (split.test.stop - split.test.cut).tolist() == [2, 2, 2]
    assert (split.validation.stop - split.validation.cut).tolist() == [2, 2, 2]
    assert split.fit.sum() == 3 * 16
    assert split.refit.sum() == 3 * 18
    assert split.cuts_us is None


def test_a_cut_never_parts_a_click_from_its_like(dataset_of: Any) -> None:
    rows = [(u, i, i * DAY_US, t) for u in range(2) for i in range(20) for t in (CLICK, LIKE)]
    data = dataset_of(rows, protocol="order")
    split = make_split(data, SplitConfig(order_share=0.12))
    actions = data.actions
    for queries in (split.validation, split.test):
        assert (actions.times_us[queries.cut - 1] < actions.times_us[queries.cut]).all()


def test_later_moments_lie_inside_the_window_and_know_what_came_before(dataset_of: Any) -> None:
    one_time = [(4, i, min(i, 7) * DAY_US, CLICK) for i in range(12)]
    data = dataset_of(steady(actions=16) + one_time)
    first = make_split(data, HALVES).validation
    second, third = later_moments(data, first, 3)
    assert later_moments(data, first, 1) == []
    bounds = {u: (c, s) for u, c, s in zip(first.user_rows, first.cut, first.stop, strict=True)}
    for later in (second, third):
        assert set(later.user_rows.tolist()) == {0, 1, 2, 3}  # nobody twice at one time
        for user, cut, stop in zip(later.user_rows, later.cut, later.stop, strict=True):
            assert bounds[user][0] < cut < bounds[user][1] == stop
        assert (data.actions.times_us[later.cut] == later.now_us).all()
        assert (data.actions.times_us[later.cut - 1] < later.now_us).all()
    assert (third.cut > second.cut).all()


def test_planted_leak_is_refused(dataset_of: Any) -> None:
    data = dataset_of(steady())
    split = make_split(data, HALVES)
    leaky = split.refit.copy()
    leaky[split.test.cut[0]] = True
    with pytest.raises(LeakageError, match="1 training rows lie after the moment"):
        refuse_leakage(data, leaky, split.test)
    with pytest.raises(LeakageError, match="1 training rows are at or after the cut"):
        refuse_future(data, leaky, (split.cuts_us or (0, 0))[1])


def test_nobody_to_test_is_said(dataset_of: Any) -> None:
    rows = [(u, u, 5, CLICK) for u in range(8)]
    with pytest.raises(InvalidInput, match="nobody acts both before and after"):
        make_split(dataset_of(rows), HALVES)


def test_people_who_only_come_back_to_posts_cannot_be_measured(dataset_of: Any) -> None:
    rows = [(u, i % 2, i * DAY_US + u, CLICK) for u in range(4) for i in range(12)]
    frames = FeatureFrames(LOG_SCHEMA.empty_table(), POSTS_SCHEMA.empty_table())
    data = TrainingData(dataset_of(rows), FeatureSource(frames), None)
    with pytest.raises(InvalidInput, match="nobody acts for the first time on a post"):
        validation_exam(data, small_config())


def one_query(now_us: int, cut: int, stop: int) -> Queries:
    def one(value: int) -> np.ndarray:
        return np.array([value], dtype=np.int64)

    return Queries(one(0), one(now_us), one(0), one(cut), one(stop))


def test_targets_are_new_and_made_by_then(dataset_of: Any) -> None:
    rows = [(0, 1, 1, CLICK), (0, 2, 2, CLICK), (0, 1, 3, LIKE), (0, 3, 4, CLICK), (0, 3, 5, LIKE),
            (0, 4, 6, CLICK)]  # fmt: skip
    data = dataset_of(rows, created_us=[0, 0, 0, 0, 9])
    assert target_items(data, one_query(3, 2, 6)).values.tolist() == [3]
    assert seen_items(data, one_query(3, 2, 6)).values.tolist() == [1, 2]


def test_history_ends_before_the_moment_and_forgets_what_was_taken_back(dataset_of: Any) -> None:
    rows = [(0, i, i, CLICK) for i in range(6)]
    data = dataset_of(rows, undone={1: 3, 2: 50})
    found = histories(data, one_query(4, 4, 6), length=5)
    assert found.rows.tolist() == [[-1, 0, -1, 2, 3]]
    assert found.times_us[0, -1] == 3


def test_frame_leaves_out_what_was_taken_back_by_then(dataset_of: Any) -> None:
    data = dataset_of([(0, i, i, CLICK) for i in range(6)], undone={1: 3, 2: 50})
    frame = data.frame(data.actions.times_us < 5)
    assert frame.interactions.item_rows.tolist() == [0, 2, 3, 4]


def test_fingerprint_tells_data_apart(dataset_of: Any) -> None:
    assert dataset_of(steady()).fingerprint() == dataset_of(steady()).fingerprint()
    assert dataset_of(steady()).fingerprint() != dataset_of(steady(actions=11)).fingerprint()


def test_spread() -> None:
    found = spread(np.array([3, 7, 7]), np.array([5, 7, 8]))
    assert found.values.tolist() == [3, 4, 7]
    assert found.lengths.tolist() == [2, 0, 1]
    assert found.owners.tolist() == [0, 0, 2]
    assert found.part(1, 3).values.tolist() == [7]
    assert found.keep(found.values != 4).lengths.tolist() == [1, 0, 1]
