"""Decayed counters and the window of clock hours."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.clock import DAY_US, HOUR_US
from features.counters import CounterState, HourlyWindow
from features.views import FOREVER_US, HALF_LIFE_6H_US, HALF_LIFE_7D_US

HALF_LIVES = (HALF_LIFE_6H_US, HALF_LIFE_7D_US, HALF_LIFE_7D_US, FOREVER_US)
ROWS = 4
events = st.lists(
    st.tuples(
        st.integers(0, ROWS - 1),
        st.sampled_from([1.0, 1.0, -1.0, 0.0]),
        st.integers(0, 30 * DAY_US),
    ),
    max_size=40,
)


def filled_state(batch: list[tuple[int, float, int]], sizes: int) -> CounterState:
    state = CounterState(HALF_LIVES, ROWS)
    for start in range(0, len(batch), sizes):
        chunk = batch[start : start + sizes]
        slots, weights, times = (np.array(column) for column in zip(*chunk, strict=True))
        state.update(slots, np.tile(weights, (len(HALF_LIVES), 1)), times)
    return state


def window_of(batch: list[tuple[int, float, int]], sizes: int) -> HourlyWindow:
    window = HourlyWindow(ROWS)
    for start in range(0, len(batch), sizes):
        chunk = batch[start : start + sizes]
        slots, weights, times = (np.array(column) for column in zip(*chunk, strict=True))
        window.update(slots, weights, times)
    return window


def test_a_count_halves_in_a_half_life() -> None:
    state = CounterState(HALF_LIVES, 1)
    state.update(np.array([0]), np.ones((4, 1)), np.array([1_000]))
    later = state.read(np.array([0]), 1_000 + 7 * DAY_US)[:, 0]
    assert later == pytest.approx([2.0**-28, 0.5, 0.5, 1.0], rel=1e-5)


def test_a_row_without_events_reads_zero() -> None:
    state = CounterState(HALF_LIVES, 2)
    assert np.all(state.read(np.array([1]), 10**16) == 0.0)


@given(events, st.integers(1, 40))
def test_batch_equals_stream(batch: list[tuple[int, float, int]], size: int) -> None:
    stream, together = filled_state(batch, 1), filled_state(batch, size)
    now = 40 * DAY_US
    everyone = np.arange(ROWS)
    assert stream.exact(everyone, now) == pytest.approx(together.exact(everyone, now), abs=1e-9)


@given(events, st.randoms(use_true_random=False))
def test_order_of_arrival_does_not_matter(
    batch: list[tuple[int, float, int]], random: Random
) -> None:
    shuffled = batch.copy()
    random.shuffle(shuffled)
    now = 31 * DAY_US
    one, other = (filled_state(b, 7).exact(np.arange(ROWS), now) for b in (batch, shuffled))
    assert one == pytest.approx(other, abs=1e-9)


@given(events)
def test_counts_equal_the_formula(batch: list[tuple[int, float, int]]) -> None:
    now = 35 * DAY_US
    expected = np.zeros((ROWS, len(HALF_LIVES)))
    for slot, weight, time in batch:
        expected[slot] += weight * np.exp2(-(now - time) / np.array(HALF_LIVES))
    state = filled_state(batch, 5)
    assert state.exact(np.arange(ROWS), now) == pytest.approx(expected, abs=1e-9)
    read = state.read(np.arange(ROWS), now).T
    assert read == pytest.approx(np.maximum(expected, 0.0), abs=1e-4)


@given(events)
def test_undoing_at_once_leaves_nothing(batch: list[tuple[int, float, int]]) -> None:
    undone = [*batch, *((slot, -weight, time) for slot, weight, time in batch)]
    state = filled_state(undone, 9)
    assert state.exact(np.arange(ROWS), 31 * DAY_US) == pytest.approx(0.0, abs=1e-9)


def test_a_reading_is_never_negative() -> None:
    state = filled_state([(0, -1.0, 5)], 1)
    assert np.all(state.read(np.array([0]), 6) == 0.0)
    assert np.all(state.exact(np.array([0]), 6) < 0.0)


@given(events, st.integers(1, 40), st.integers(30 * DAY_US, 33 * DAY_US))
def test_window_counts_the_last_24_clock_hours(
    batch: list[tuple[int, float, int]], size: int, now: int
) -> None:
    hour = now // HOUR_US
    expected = np.zeros(ROWS)
    for slot, weight, time in batch:
        expected[slot] += weight * (hour - 24 < time // HOUR_US <= hour)
    read = window_of(batch, size).read(np.arange(ROWS), now)
    assert read == pytest.approx(np.maximum(expected, 0.0))


def test_counters_grow_and_keep_their_rows() -> None:
    state = filled_state([(3, 1.0, 10)], 1)
    state.ensure(1000)
    assert state.exact(np.array([3]), 10)[0, 3] == 1.0
    assert np.all(state.read(np.array([999]), 10) == 0.0)
