"""Which posts are new: by author and over all, newest first, bounded."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.slots import Bools, Ints, Slots, run_lengths, run_starts

PER_AUTHOR: Final = 50
NEWEST: Final = 5000


class RecentPosts:
    """Slots of recent posts; arrays are replaced, never written in place."""

    def __init__(self) -> None:
        self._by_author: dict[int, NDArray[np.int32]] = {}
        self.newest = np.zeros(0, np.int32)
        """Slots of the newest 5,000 posts, newest first."""

    def of_authors(self, authors: NDArray[np.int32], per_author: int = PER_AUTHOR) -> Slots:
        """Gather the newest posts of several authors, author by author: [m] slots."""
        parts = [self._by_author[a][:per_author] for a in authors.tolist() if a in self._by_author]
        return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)

    def add(self, slots: Slots, authors: NDArray[np.int32], created_us: Ints) -> None:
        """Add posts [m]; `authors` [m] and `created_us` of all posts by slot [n]."""
        self.newest = _newest_first(self.newest, slots, created_us, NEWEST)
        known = authors >= 0
        order = np.lexsort((-slots[known], -created_us[slots[known]], authors[known]))
        owners, posts = authors[known][order], slots[known][order]
        starts = run_starts(owners)
        stops = starts + run_lengths(starts, owners.shape[0])
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            owner = int(owners[start])
            fresh = posts[start : min(stop, start + PER_AUTHOR)]
            held = self._by_author.get(owner)
            self._by_author[owner] = (
                fresh.astype(np.int32)
                if held is None
                else _newest_first(held, fresh, created_us, PER_AUTHOR)
            )

    def remove(
        self, slots: Slots, authors: NDArray[np.int32], created_us: Ints, deleted: Bools
    ) -> None:
        """Remove deleted posts [m]; in lists that were full, older ones take their places.

        `authors`, `created_us` and `deleted` are of all posts by slot [n].
        """
        if slots.shape[0] == 0:
            return
        full = self.newest.shape[0] == NEWEST
        self.newest = self.newest[~np.isin(self.newest, slots)]
        if full and self.newest.shape[0] < NEWEST:
            left = np.flatnonzero(~deleted)
            self.newest = _newest_first(self.newest, left, created_us, NEWEST)
        for author in set(authors[slots].tolist()) & self._by_author.keys():
            held = self._by_author[author]
            kept = held[~np.isin(held, slots)]
            if held.shape[0] == PER_AUTHOR > kept.shape[0]:
                left = np.flatnonzero((authors == author) & ~deleted)
                kept = _newest_first(kept, left, created_us, PER_AUTHOR)
            self._by_author[author] = kept


def _newest_first(
    held: NDArray[np.int32], added: Slots, created_us: Ints, bound: int
) -> NDArray[np.int32]:
    """Merge slots, newest first, ties by the greater slot; the oldest beyond the bound go."""
    merged = np.unique(np.concatenate([held, added.astype(np.int32)]))[::-1]
    order = np.argsort(-created_us[merged], kind="stable")
    return merged[order][:bound]
