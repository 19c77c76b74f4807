"""Which event of two people is the newest: for files whose events come in no order."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.events import EventType
from features.event_log import EventLog
from features.segments import integers_of

PAIR_EVENTS: Final = {
    "follow": (EventType.FOLLOW, EventType.UNFOLLOW),
    "block": (EventType.BLOCK, EventType.UNBLOCK),
    "mute": (EventType.MUTE, EventType.UNMUTE),
}
"""What switches an edge between two people on and off."""
_COLUMNS: Final = ("type", "viewer_id", "target_id", "event_time")


class NewestOfPairs:
    """The time of the newest event of each pair and kind of edge; the log is read at first need."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._held: dict[str, dict[tuple[int, int], int]] = {}

    def advance(
        self, kind: str, pairs: NDArray[np.int64], times: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Note events of distinct pairs [n, 2] and tell which are the newest, ties included."""
        if kind not in self._held:
            self._held[kind] = self._read(kind)
        held, newest = self._held[kind], np.zeros(len(pairs), dtype=np.bool_)
        for at, (pair, time) in enumerate(
            zip(map(tuple, pairs.tolist()), times.tolist(), strict=True)
        ):
            if time >= held.get(pair, time):
                held[pair], newest[at] = time, True
        return newest

    def _read(self, kind: str) -> dict[tuple[int, int], int]:
        events = self._log.scan(types=PAIR_EVENTS[kind], columns=_COLUMNS)
        columns = (integers_of(events, name).tolist() for name in _COLUMNS[1:])
        # In the order of time, so that the last of each pair stays.
        return {(viewer, target): time for viewer, target, time in zip(*columns, strict=True)}
