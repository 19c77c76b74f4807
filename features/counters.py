"""Counters that fold events: exponentially decayed ones, and one window of clock hours.

Both are sums, so the order in which events arrive never matters: a batch, a stream and a late
event give the same state. An undo adds a negative weight; a reading is floored at 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.clock import HOUR_US
from features.slots import Float32s, Float64s, Ints, Slots, grown, run_lengths, run_starts
from features.views import WINDOW_HOURS, View

_NEVER: Final = np.iinfo(np.int64).min // 4
"""Time of a row that has seen nothing: far back, yet safe to subtract."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Neighbouring columns of one half-life; None means that they do not decay."""

    columns: slice
    half_life_us: float | None


def _groups(half_lives_us: Sequence[float]) -> tuple[_Group, ...]:
    groups, start = [], 0
    for half_life, run in groupby(half_lives_us):
        stop = start + len(list(run))
        groups.append(_Group(slice(start, stop), half_life if np.isfinite(half_life) else None))
        start = stop
    return tuple(groups)


class CounterState:
    """Decayed counts: float64 values [n, K] as of each row's own last time [n].

    value(t) = sum over events of weight * 2 ** ((event time - t) / half-life).
    """

    def __init__(self, half_lives_us: Sequence[float], rows: int = 0) -> None:
        self._groups = _groups(half_lives_us)
        self.values: Float64s = np.zeros((rows, len(half_lives_us)))
        self.last_us: Ints = np.full(rows, _NEVER, np.int64)

    @classmethod
    def of(cls, view: View) -> "CounterState":
        """Make the empty state of a view."""
        return cls([c.half_life_us for c in view.counters])

    def ensure(self, rows: int) -> None:
        """Grow to at least this many rows."""
        self.values = grown(self.values, rows)
        self.last_us = grown(self.last_us, rows, fill=_NEVER)

    def update(self, slots: Slots, weights: Float64s, times_us: Ints) -> None:
        """Add events: slots [E], weights [K, E], times [E] in any order."""
        if slots.shape[0] == 0:
            return
        order = np.argsort(slots, kind="stable")
        slots, times_us = slots[order], times_us[order]
        starts = run_starts(slots)
        rows = slots[starts]
        old_us = self.last_us[rows]
        new_us = np.maximum(old_us, np.maximum.reduceat(times_us, starts))
        lengths = run_lengths(starts, slots.shape[0])
        added = self._decay(weights[:, order], np.repeat(new_us, lengths) - times_us)
        kept = self._decay(self.values[rows].T, new_us - old_us)
        self.values[rows] = (kept + np.add.reduceat(added, starts, axis=1)).T
        self.last_us[rows] = new_us

    def read(self, slots: NDArray[np.integer], now_us: int | Ints) -> Float32s:
        """Read counts as of now, floored at 0: slots [...], times that broadcast -> [K, ...].

        A row whose last event lies after `now_us` is read as of that event. Columns stand first,
        so that what follows runs over long contiguous rows.
        """
        taken = self.values.take(slots, axis=0)  # several times faster than indexing
        counts = np.ascontiguousarray(taken.reshape(-1, taken.shape[-1]).T, np.float32)
        elapsed = (now_us - self.last_us.take(slots)).reshape(-1).astype(np.float32)
        np.maximum(elapsed, np.float32(0.0), out=elapsed)
        for group in self._groups:
            if group.half_life_us is not None:
                rate = np.float32(-log(2.0) / group.half_life_us)
                counts[group.columns] *= np.exp(elapsed * rate)
        np.maximum(counts, np.float32(0.0), out=counts)
        return counts.reshape(len(counts), *slots.shape)

    def exact(self, slots: Slots, now_us: int) -> Float64s:
        """Give unfloored float64 values as of now, for storing: [N, K]."""
        return self._decay(self.values[slots].T, now_us - self.last_us[slots]).T

    def restore(self, slots: Slots, values: Float64s, as_of_us: Ints | int) -> None:
        """Set rows [N] to stored values [N, K], each as of its time."""
        self.values[slots] = values
        self.last_us[slots] = as_of_us

    def _decay(self, columns: Float64s, elapsed_us: Ints) -> Float64s:
        """Decay a copy of columns [K, N] by the time passed [N]; negative time passes as 0."""
        decayed = columns.copy()
        elapsed = np.maximum(elapsed_us, 0).astype(np.float64)
        for group in self._groups:
            if group.half_life_us is not None:
                decayed[group.columns] *= np.exp2(elapsed / -group.half_life_us)
        return decayed


class HourlyWindow:
    """Counts in the current and the 23 clock hours before it: a ring of 24 buckets a row."""

    def __init__(self, rows: int = 0) -> None:
        self.buckets: Float32s = np.zeros((rows, WINDOW_HOURS), np.float32)
        self.last_hour: NDArray[np.int32] = np.zeros(rows, np.int32)
        self._masks = _window_masks()

    def ensure(self, rows: int) -> None:
        """Grow to at least this many rows."""
        self.buckets = grown(self.buckets, rows)
        self.last_hour = grown(self.last_hour, rows)

    def update(self, slots: Slots, weights: Float64s, times_us: Ints) -> None:
        """Add events: slots, weights, times, all [E]; what is a day older than the row is lost."""
        if slots.shape[0] == 0:
            return
        hours = times_us // HOUR_US
        rows, inverse = np.unique(slots, return_inverse=True)
        last = self.last_hour[rows]
        newest = last.astype(np.int64)
        np.maximum.at(newest, inverse, hours)
        self.buckets[rows] *= self._alive(last, newest - last)
        self.last_hour[rows] = newest
        recent = hours > newest[inverse] - WINDOW_HOURS
        np.add.at(self.buckets, (slots[recent], hours[recent] % WINDOW_HOURS), weights[recent])

    def read(self, slots: NDArray[np.integer], now_us: int | Ints) -> Float32s:
        """Read counts as of now, floored at 0: slots [...], times that broadcast -> [...]."""
        last = self.last_hour.take(slots)
        passed = now_us // HOUR_US - last
        counts = np.zeros(slots.shape, np.float32)
        # Most posts have been quiet for a day: only the others are looked into.
        recent = passed < WINDOW_HOURS
        alive = self._alive(last[recent], np.maximum(passed[recent], 0))
        counts[recent] = np.vecdot(self.buckets.take(slots[recent], axis=0), alive)
        return np.maximum(counts, np.float32(0.0), out=counts)

    def _alive(self, last_hour: NDArray[np.int32], passed: Ints) -> Float32s:
        """Weigh buckets [N, 24] by 1 where inside the window `passed` hours later, else 0."""
        return self._masks[last_hour % WINDOW_HOURS, np.minimum(passed, WINDOW_HOURS)]


def _window_masks() -> Float32s:
    """Tabulate living buckets by (last hour mod 24, hours passed 0..24): [24, 25, 24].

    Bucket b of a row last touched in hour h holds hour h - (h - b) mod 24.
    """
    last = np.arange(WINDOW_HOURS)[:, None, None]
    passed = np.arange(WINDOW_HOURS + 1)[None, :, None]
    age = (last - np.arange(WINDOW_HOURS)[None, None, :]) % WINDOW_HOURS
    return (age + passed < WINDOW_HOURS).astype(np.float32)
