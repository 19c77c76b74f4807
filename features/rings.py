"""Rings of a viewer's last entries: fixed memory, append and undo without a loop over viewers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.slots import Bools, Ints, Slots, grown, run_lengths, run_starts


@dataclass(frozen=True, slots=True)
class RingEntries:
    """The entries of m viewers in a row, oldest first, to be stored."""

    counts: Ints
    """Entries ever appended, [m]."""
    lengths: Ints
    """Entries held, [m]."""
    posts: NDArray[np.int32]
    """Of all entries, -1 where undone; like types and times."""
    types: NDArray[np.int8]
    times_us: Ints
    """Empty where the ring keeps no times."""


class ActionRing:
    """The last `length` entries a viewer: post, type, time; an undone entry keeps its place."""

    def __init__(self, length: int, rows: int = 0, *, timed: bool = True) -> None:
        self.length = length
        self.posts: NDArray[np.int32] = np.zeros((rows, length), np.int32)
        self.types: NDArray[np.int8] = np.zeros((rows, length), np.int8)
        self.times_us: Ints | None = np.zeros((rows, length), np.int64) if timed else None
        self.counts: Ints = np.zeros(rows, np.int64)

    def ensure(self, rows: int) -> None:
        """Grow to at least this many viewers."""
        self.posts, self.types = grown(self.posts, rows), grown(self.types, rows)
        self.counts = grown(self.counts, rows)
        if self.times_us is not None:
            self.times_us = grown(self.times_us, rows)

    def append(self, viewers: Slots, posts: Slots, types: NDArray[np.int8], times: Ints) -> None:
        """Append entries [E] in their order; post -1 takes a place and shows nothing."""
        if viewers.shape[0] == 0:
            return
        order = np.argsort(viewers, kind="stable")
        ordered = viewers[order]
        starts = run_starts(ordered)
        lengths = run_lengths(starts, ordered.shape[0])
        rank = np.arange(ordered.shape[0]) - np.repeat(starts, lengths)
        kept = rank >= np.repeat(lengths, lengths) - self.length
        row, source = ordered[kept], order[kept]
        place = (self.counts[row] + rank[kept]) % self.length
        self.posts[row, place] = posts[source]
        self.types[row, place] = types[source]
        if self.times_us is not None:
            self.times_us[row, place] = times[source]
        self.counts[ordered[starts]] += lengths

    def remove(self, viewers: Slots, posts: Slots, types: NDArray[np.int8]) -> None:
        """Blank every entry of these (viewer, post, type) triples [E]."""
        if viewers.shape[0] == 0:
            return
        same = (self.posts[viewers] == posts[:, None]) & (self.types[viewers] == types[:, None])
        event, place = np.nonzero(same)
        self.posts[viewers[event], place] = -1

    def places(self, viewers: Slots) -> tuple[Ints, Bools]:
        """Give where entries [Q, length] stand, oldest first, and which of them hold a post.

        Viewer -1 has none; entries that a viewer lacks stand in front.
        """
        order = self.counts[viewers][:, None] + np.arange(-self.length, 0)
        places = order % self.length
        rows = viewers[:, None]
        return places, (order >= 0) & (rows >= 0) & (self.posts[rows, places] >= 0)

    def latest(self, viewer: int) -> tuple[Slots, NDArray[np.int8], Ints]:
        """Give posts, types and, where kept, times of one viewer's entries, oldest first."""
        if not 0 <= viewer < self.rows() or not self.counts[viewer]:
            return np.zeros(0, np.int64), np.zeros(0, np.int8), np.zeros(0, np.int64)
        places, valid = self.places(np.array([viewer]))
        at = (viewer, places[valid])
        times = self.counts[:0] if self.times_us is None else self.times_us[at]
        return self.posts[at].astype(np.int64), self.types[at], times

    def dump(self, viewers: int) -> RingEntries:
        """Copy out what the first viewers hold, oldest first."""
        counts = self.counts[:viewers].copy()
        lengths = np.minimum(counts, self.length)
        rows = np.repeat(np.arange(viewers), lengths)
        at = (rows, self._held_places(counts, lengths, rows))
        times = np.zeros(0, np.int64) if self.times_us is None else self.times_us[at]
        return RingEntries(counts, lengths, self.posts[at], self.types[at], times)

    def restore(self, viewers: Slots, entries: RingEntries) -> None:
        """Put what `dump` gave into the empty rows of viewers [m]."""
        self.counts[viewers] = entries.counts
        rows = np.repeat(viewers, entries.lengths)
        places = self._held_places(entries.counts, entries.lengths, rows)
        self.posts[rows, places] = entries.posts
        self.types[rows, places] = entries.types
        if self.times_us is not None:
            self.times_us[rows, places] = entries.times_us

    def _held_places(self, counts: Ints, lengths: Ints, rows: Slots) -> Ints:
        """Give the place of each entry held, viewer by viewer, oldest first; [sum of lengths]."""
        firsts = np.cumsum(lengths) - lengths
        rank = np.arange(rows.shape[0]) - np.repeat(firsts, lengths)
        return (np.repeat(counts - lengths, lengths) + rank) % self.length

    def forget(self, viewer: int) -> None:
        """Drop all entries of one viewer; the count of what was applied stays."""
        self.posts[viewer] = -1

    def rows(self) -> int:
        """Give the number of viewers that there is room for."""
        return int(self.counts.shape[0])
