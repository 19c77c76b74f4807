"""Snapshots: the order of a feed as it was ranked, kept so that later pages never move."""

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.clock import SECOND_US
from contracts.degrade import DEGRADE_ORDER, DegradeLevel, DegradeReason
from contracts.ids import UNKNOWN_ID

_MINUTE_US: Final = 60 * SECOND_US


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One feed's order, slate then reserve."""

    feed_id: int
    viewer_id: int
    now_us: int
    post_ids: NDArray[np.int64]
    reason_codes: tuple[str, ...]
    reason_refs: NDArray[np.int64]
    """-1 where the reason refers to nothing."""
    values: NDArray[np.float64]
    level: DegradeLevel
    degrade_reasons: tuple[DegradeReason, ...]
    policy_hash: str
    bundle_id: str
    followed_share: float


class SnapshotCache:
    """The newest snapshots in memory, bounded by count; older ones are in the records."""

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._by_feed: OrderedDict[int, Snapshot] = OrderedDict()
        self._latest: dict[int, int] = {}

    def put(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, dropping the oldest above the capacity."""
        self._by_feed[snapshot.feed_id] = snapshot
        fresh = DEGRADE_ORDER.index(snapshot.level) < DEGRADE_ORDER.index(DegradeLevel.CACHED)
        if fresh and snapshot.viewer_id != UNKNOWN_ID:  # strangers share one id
            self._latest[snapshot.viewer_id] = snapshot.feed_id  # a copy of a copy would not age
        while len(self._by_feed) > self._capacity:
            _, old = self._by_feed.popitem(last=False)
            if self._latest.get(old.viewer_id) == old.feed_id:
                del self._latest[old.viewer_id]

    def get(self, feed_id: int) -> Snapshot | None:
        """Find a snapshot by feed."""
        return self._by_feed.get(feed_id)

    def latest(self, viewer_id: int) -> Snapshot | None:
        """Find a viewer's newest snapshot."""
        return self._by_feed.get(self._latest.get(viewer_id, -1))


class ServedLog:
    """Which post slots were served to whom lately, bounded a viewer and in viewers."""

    def __init__(self, viewers: int = 50_000, pages: int = 25) -> None:
        self._viewers = viewers
        self._pages = pages
        self._served: OrderedDict[int, deque[tuple[int, NDArray[np.int64]]]] = OrderedDict()

    def add(self, viewer_id: int, now_us: int, slots: NDArray[np.int64]) -> None:
        """Note a page that was served; of strangers, who share one id, nothing."""
        if viewer_id == UNKNOWN_ID:
            return
        self._served.setdefault(viewer_id, deque(maxlen=self._pages)).append((now_us, slots))
        self._served.move_to_end(viewer_id)
        if len(self._served) > self._viewers:
            self._served.popitem(last=False)

    def within(self, viewer_id: int, now_us: int, minutes: float) -> NDArray[np.int64]:
        """Give the slots served to a viewer in the last minutes."""
        since = now_us - int(minutes * _MINUTE_US)
        pages = tuple(self._served.get(viewer_id, ()))  # in one step: requests add to it
        recent = [slots for at, slots in pages if at > since]
        return np.concatenate(recent) if recent else np.empty(0, dtype=np.int64)
