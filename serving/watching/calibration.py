"""Do predicted probabilities come true? Served posts are remembered until their window has closed.

Time is that of the queries: a feed counts once its window has passed, with the posts of it that
had an impression, and with the actions on those that named the feed.
"""

from collections.abc import Mapping
from threading import Lock
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.clock import SECOND_US
from contracts.events import EventType
from contracts.funnel import Calibration
from contracts.policy import ACTIONS, Action
from features.event_arrays import int_column
from models.manifest import Manifest

WINDOW_US: Final = 30 * 60 * SECOND_US
"""Most of what follows an impression follows within minutes."""
_EVENT_OF: Final = {Action.CLICK: EventType.CLICK, Action.LIKE: EventType.LIKE}
WATCHED: Final = tuple(_EVENT_OF)
_COLUMNS: Final = [ACTIONS.index(action) for action in WATCHED]
_NUMBERS: Final = np.array([EventType.IMPRESSION, *_EVENT_OF.values()])
_FREE: Final = -1


class CalibrationWatch:
    """Running sums of expected and observed actions, over the last feeds whose window closed."""

    def __init__(self, feeds: int = 2000, posts: int = 40) -> None:
        """Remember `feeds` open feeds with their first `posts` each, and sums of as many."""
        self._lock = Lock()
        self._feed = np.full(feeds, _FREE, dtype=np.int64)
        self._closes_us = np.zeros(feeds, dtype=np.int64)
        self._posts = np.full((feeds, posts), _FREE, dtype=np.int64)
        self._predicted = np.zeros((feeds, posts, len(WATCHED)), dtype=np.float32)
        self._happened = np.zeros((feeds, posts, len(_NUMBERS)), dtype=bool)
        """Impression, then each action watched."""
        self._sums = np.zeros((feeds, 1 + 2 * len(WATCHED)))
        """Impressions, expected and observed a closed feed; a ring."""
        self._closed = 0
        self._free = list(range(feeds))
        self._next_close_us = 0
        self._bundle_id = ""

    def serve(
        self, bundle_id: str, query: tuple[int, int], post_ids: NDArray[np.int64],
        probabilities: NDArray[np.float32],
    ) -> None:  # fmt: skip
        """Remember a feed: its (id, time), posts [s] and predictions [s, A].

        Another bundle starts anew. While all places are taken, feeds are let by.
        """
        feed_id, now_us = query
        with self._lock:
            if bundle_id != self._bundle_id:
                self._bundle_id, self._closed = bundle_id, 0
                self._feed[:], self._free = _FREE, list(range(len(self._feed)))
            if now_us >= self._next_close_us:
                self._close(now_us)
            if not self._free:
                return
            place = self._free.pop()
            self._next_close_us = min(self._next_close_us, now_us + WINDOW_US)
            n = min(len(post_ids), self._posts.shape[1])
            self._feed[place], self._closes_us[place] = feed_id, now_us + WINDOW_US
            self._posts[place] = _FREE
            self._posts[place, :n] = post_ids[:n]
            self._predicted[place, :n] = probabilities[:n, _COLUMNS]
            self._happened[place] = False

    def observe(self, events: pa.Table) -> None:
        """Note what events of LOG_SCHEMA say of remembered feeds."""
        feeds, types = int_column(events, "feed_id"), int_column(events, "type")
        of_use = np.flatnonzero((feeds >= 0) & np.isin(types, _NUMBERS))
        if not len(of_use):
            return
        feeds, types = feeds[of_use], types[of_use]
        posts = int_column(events, "post_id")[of_use]
        with self._lock:
            order = np.argsort(self._feed)
            near = np.searchsorted(self._feed, feeds, sorter=order)
            places = order[np.minimum(near, len(order) - 1)]
            here = (self._posts[places] == posts[:, None]) & (posts[:, None] >= 0)
            known = (self._feed[places] == feeds) & here.any(axis=1)
            which = np.argmax(types[:, None] == _NUMBERS, axis=1)
            self._happened[places[known], here.argmax(axis=1)[known], which[known]] = True

    def report(self, manifest: Manifest) -> dict[str, Calibration]:
        """Say how predictions came out; nothing where the bundle's are not calibrated."""
        if not manifest.calibrated:
            return {}
        with self._lock:
            rows = self._sums[: min(self._closed, len(self._sums))].sum(axis=0)
        impressions, (expected, observed) = rows[0], rows[1:].reshape(2, -1)
        return {
            action.value: Calibration(
                impressions=int(impressions),
                expected=float(expected[k]),
                observed=float(observed[k]),
                tolerance=_tolerance(manifest.ranker_metrics, action),
            )
            for k, action in enumerate(WATCHED)
        }

    def _close(self, now_us: int) -> None:
        """Sum up feeds whose window has passed, and free their places."""
        taken = self._feed != _FREE
        done = np.flatnonzero(taken & (self._closes_us <= now_us))
        left = self._closes_us[taken & (self._closes_us > now_us)]
        self._next_close_us = int(left.min(initial=np.iinfo(np.int64).max))
        if not len(done):
            return
        shown = self._happened[done, :, 0]
        expected = (self._predicted[done] * shown[:, :, None]).sum(axis=1)
        observed = (self._happened[done, :, 1:] & shown[:, :, None]).sum(axis=1)
        at = (self._closed + np.arange(len(done))) % len(self._sums)
        self._sums[at] = np.column_stack([shown.sum(axis=1), expected, observed])
        self._closed += len(done)
        self._feed[done] = _FREE
        self._free.extend(done.tolist())


def _tolerance(metrics: Mapping[str, float], action: Action) -> float:
    """Bound how far off the mean prediction was on held-out impressions, as a factor.

    The expected calibration error (ECE) is never below |mean prediction - rate|.
    """
    rate, error = metrics.get(f"{action}.rate", 0.0), metrics.get(f"{action}.ece", 0.0)
    return 1.0 + error / rate if rate > 0 else 1.0
