"""What the ranker is to predict: for impressions what followed each, otherwise what came next."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.clock import DAY_US
from contracts.events import EventType
from contracts.policy import ACTIONS, Action
from features.columns import Columns
from models.base import FloatArray, IntArray
from training.dataset import Dataset, Queries, spread

ATTRIBUTION_US: Final = DAY_US
"""An action counts for the person's newest impression of the post, at most this long before."""

EVENTS_OF: Final = {
    Action.CLICK: (EventType.CLICK,),
    Action.LIKE: (EventType.LIKE,),
    Action.COMMENT: (EventType.COMMENT,),
    Action.REPOST: (EventType.REPOST,),
    Action.SHARE: (EventType.SHARE,),
    Action.SAVE: (EventType.SAVE,),
    Action.FOLLOW_AUTHOR: (EventType.FOLLOW_AUTHOR,),
    Action.DWELL: (EventType.DWELL,),
    Action.HIDE: (EventType.HIDE, EventType.NOT_INTERESTED),
    Action.REPORT: (EventType.REPORT,),
}
"""Which events are a positive label of each head."""


@dataclass(frozen=True, slots=True)
class EventRows(Columns):
    """Log rows on posts, sorted by (viewer, time); every array is [n]."""

    viewer_ids: IntArray
    item_rows: IntArray
    times_us: IntArray
    types: NDArray[np.int8]
    values: FloatArray
    """Milliseconds for dwell."""
    feed_ids: IntArray
    """-1 where unknown."""


@dataclass(frozen=True, slots=True)
class Impressions(Columns):
    """What was shown to people who act, and what they did with it."""

    user_rows: IntArray
    """[n]."""
    item_rows: IntArray
    """[n]."""
    times_us: IntArray
    """[n]."""
    feed_ids: IntArray
    """[n]; -1 where unknown."""
    labels: FloatArray
    """[n, len(ACTIONS)]: 0 or 1; seconds for dwell."""


def make_impressions(rows: EventRows, viewer_ids: IntArray) -> Impressions:
    """Label each impression with the actions it led to; people who never act are left out."""
    shown = (rows.types == EventType.IMPRESSION) & np.isin(rows.viewer_ids, viewer_ids)
    width = int(rows.item_rows.max(initial=0)) + 1
    pairs = np.searchsorted(viewer_ids, rows.viewer_ids) * width + rows.item_rows
    moments, when = np.unique(rows.times_us, return_inverse=True)
    keys = pairs * len(moments) + when
    place = np.flatnonzero(shown)
    order = np.argsort(keys[place], kind="stable")
    sorted_keys = keys[place][order]
    labels = np.zeros((len(place), len(ACTIONS)), dtype=np.float32)
    for column, action in enumerate(ACTIONS):
        done = np.flatnonzero(
            np.isin(rows.types, EVENTS_OF[action]) & np.isin(rows.viewer_ids, viewer_ids)
        )
        if not len(done) or not len(place):
            continue
        at = np.searchsorted(sorted_keys, keys[done], side="right") - 1
        safe = np.maximum(at, 0)
        gap = rows.times_us[done] - rows.times_us[place[order[safe]]]
        credited = (at >= 0) & (sorted_keys[safe] // len(moments) == pairs[done])
        credited &= gap <= ATTRIBUTION_US
        target = order[safe[credited]]
        if action is Action.DWELL:
            np.add.at(labels[:, column], target, rows.values[done[credited]] / 1000.0)
        else:
            labels[target, column] = 1.0
    return Impressions(
        np.searchsorted(viewer_ids, rows.viewer_ids[place]),
        rows.item_rows[place],
        rows.times_us[place],
        rows.feed_ids[place],
        labels,
    )


def next_action_labels(data: Dataset, queries: Queries, rows: IntArray) -> FloatArray:
    """Label candidates [Q, C] by what each person does after the moment: [Q, C, A].

    Without impressions nobody knows what was ignored: a candidate without an action is a 0 for
    ranking, not a measured refusal. Dwell is unknown (NaN).
    """
    labels = np.zeros((*rows.shape, len(ACTIONS)), dtype=np.float32)
    labels[:, :, ACTIONS.index(Action.DWELL)] = np.nan
    ahead = spread(queries.cut, queries.stop)
    keys = ahead.owners * data.n_items + data.actions.item_rows[ahead.values]
    types = data.actions.types[ahead.values]
    asked = np.arange(len(rows))[:, None] * data.n_items + rows
    for column, action in enumerate(ACTIONS):
        mine = keys[np.isin(types, EVENTS_OF[action])]
        if len(mine) and action is not Action.DWELL:
            labels[:, :, column] = np.isin(asked, mine) & (rows >= 0)
    return labels
