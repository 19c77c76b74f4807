"""From what was drawn to the events of a log file."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from contracts.clock import SECOND_US
from contracts.events import UTC_US, EventType
from contracts.seeds import stage_generator
from simulator.behaviour import DRAWN
from simulator.history import History
from simulator.population import IntArray, Posts

UNLIKE_SHARE: Final = 0.03
_ACTION_DELAY_US: Final = 3 * SECOND_US
_LATE_SHARE: Final = 0.01
_WORDS: Final = pa.array(
    [EventType(k).word if k in set(EventType) else "" for k in range(max(EventType) + 1)]
)


def event_table(history: History, posts: Posts, seed: int, end_us: int) -> pa.Table:
    """Write showings and actions as rows, by time: a view after 2 s, then dwell and actions."""
    rng = stage_generator(seed, "events")
    shown, outcome = history.shown, history.outcome
    at = shown.at_us
    everything = np.arange(len(history))
    viewed = np.flatnonzero(outcome.viewed)
    end_of_view = at + (outcome.dwell_ms * 1000).astype(np.int64)
    parts = [
        (EventType.IMPRESSION, everything, at),
        (EventType.VIEW, viewed, at[viewed] + 2 * SECOND_US),
        (EventType.DWELL, viewed, end_of_view[viewed]),
    ]
    for column, action in enumerate(DRAWN):
        rows = np.flatnonzero(outcome.acted[:, column])
        delay = rng.integers(SECOND_US // 2, _ACTION_DELAY_US, len(rows))
        parts.append((action, rows, at[rows] + SECOND_US + delay))
    liked = np.flatnonzero(outcome.acted[:, DRAWN.index(EventType.LIKE)])
    undone = liked[rng.random(len(liked)) < UNLIKE_SHARE]
    parts.append((EventType.UNLIKE, undone, at[undone] + 8 * SECOND_US))
    rows = np.concatenate([part[1] for part in parts])
    kinds = np.concatenate([np.full(len(p[1]), p[0].value, np.int8) for p in parts])
    times = np.minimum(np.concatenate([p[2] for p in parts]), end_us - 1)
    order = np.lexsort((kinds, times))
    return _rows(history, posts, rows[order], kinds[order], times[order], rng, end_us)


def _rows(
    history: History,
    posts: Posts,
    rows: IntArray,
    kinds: NDArray[np.int8],
    times: IntArray,
    rng: np.random.Generator,
    end_us: int,
) -> pa.Table:
    shown = history.shown
    late = rng.random(len(rows)) < _LATE_SHARE
    delay = np.where(late, rng.exponential(600.0, len(rows)), rng.exponential(0.2, len(rows)))
    known = np.minimum(times + (delay * SECOND_US).astype(np.int64), end_us)
    dwell = kinds == EventType.DWELL.value
    targeted = pa.array(kinds == EventType.FOLLOW_AUTHOR.value)
    post = shown.post[rows]
    return pa.table(
        {
            "viewer_id": external("p", shown.person[rows]),
            "post_id": external("post", post),
            "type": _WORDS.take(pa.array(kinds)),
            "event_time": pa.array(times, UTC_US),
            "known_time": pa.array(known, UTC_US),
            "value": pa.array(
                np.round(history.outcome.dwell_ms[rows]).astype(np.float32), mask=~dwell
            ),
            "position": pa.array(shown.position[rows].astype(np.int16)),
            "target_id": pc.if_else(targeted, external("p", posts.author[post]), None),
        }
    )


def external(prefix: str, rows: IntArray) -> pa.Array:
    """Write row numbers as the ids that the files show, e.g. `p17`."""
    unique, place = np.unique(rows, return_inverse=True)
    return pa.array([f"{prefix}{row}" for row in unique.tolist()]).take(pa.array(place))
