"""Viewer state across requests: what was shown of an author or topic, and what was asked for.

Impressions write it (the client's exposure event), with a half-life; it is bounded to the last 48.
It fails open: without it a feed is ranked as if nothing had been shown.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from contracts.clock import HOUR_US
from contracts.degrade import DegradeReason
from contracts.events import AUTHOR_CONTROLS, TOPIC_CONTROLS, EventType
from serving.candidates import Candidates, Column
from serving.columns import AUTHOR, AUTHOR_SHOWN, CONTROL, TOPIC, TOPIC_SHOWN
from serving.components import Fault, OnError
from serving.context import QueryContext
from serving.runtime import Runtime

Codes = NDArray[np.integer]


class ViewerStateHydrator:
    """Decayed impressions of each candidate's author and topic, and the viewer's own wishes."""

    name: ClassVar[str] = "viewer_state"
    fault: ClassVar[Fault] = Fault(OnError.SKIP, DegradeReason.VIEWER_STATE_FAILED)
    reads: ClassVar[frozenset[str]] = frozenset({AUTHOR, TOPIC})
    writes: ClassVar[frozenset[str]] = frozenset({AUTHOR_SHOWN, TOPIC_SHOWN, CONTROL})

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def columns(self, context: QueryContext, candidates: Candidates) -> dict[str, Column]:
        """See `Hydrator`; impressions are rounded to float16, as the record keeps them."""
        histories, posts = self._runtime.cache.histories, self._runtime.cache.posts
        authors, topics = candidates[AUTHOR], candidates[TOPIC]
        shown, times_us = histories.shown_posts(context.viewer_slot)
        half_life_us = context.policy.fatigue.half_life_hours * HOUR_US
        elapsed = np.maximum(context.query.now_us - times_us, 0)
        weights = np.exp2(-elapsed / half_life_us)
        wished, types = histories.wishes(context.viewer_slot)
        by_author = latest_wishes(posts.author_slot[wished], types, AUTHOR_CONTROLS)
        by_topic = latest_wishes(posts.topics[wished, 0], types, TOPIC_CONTROLS)
        return {
            AUTHOR_SHOWN: summed(posts.author_slot[shown], weights, authors).astype(np.float16),
            TOPIC_SHOWN: summed(posts.topics[shown, 0], weights, topics).astype(np.float16),
            CONTROL: asked(by_author, by_topic, authors, topics),
        }

    def neutral(self, rows: int) -> dict[str, Column]:
        """Give the columns as if nothing had been shown or asked for."""
        return {
            AUTHOR_SHOWN: np.zeros(rows, np.float16),
            TOPIC_SHOWN: np.zeros(rows, np.float16),
            CONTROL: np.zeros(rows, np.int8),
        }


def summed(keys: Codes, weights: NDArray[np.float64], asked_keys: Codes) -> NDArray[np.float64]:
    """Sum weights [m] by key and look the sums up for asked keys [n]; 0 for -1 and the rest."""
    known = keys >= 0
    if not known.any() or not len(asked_keys):
        return np.zeros(len(asked_keys))
    keys, weights = keys[known], weights[known]
    unique, inverse = np.unique(keys, return_inverse=True)
    totals = np.bincount(inverse, weights=weights)
    place = np.minimum(np.searchsorted(unique, asked_keys), len(unique) - 1)
    return np.where(unique[place] == asked_keys, totals[place], 0.0)


def latest_wishes(
    keys: Codes, types: NDArray[np.int8], signs: Mapping[EventType, int]
) -> dict[int, int]:
    """Give key -> sign of the last wish of these types about it; oldest wishes come first."""
    wishes: dict[int, int] = {}
    for key, kind in zip(keys.tolist(), types.tolist(), strict=True):
        sign = signs.get(EventType(kind))
        if key >= 0 and sign is not None:
            wishes[key] = sign
    return wishes


def asked(
    by_author: dict[int, int], by_topic: dict[int, int], authors: Codes, topics: Codes
) -> NDArray[np.int8]:
    """Say for each candidate [n] what was asked for: fewer wins over more."""
    control = np.zeros(len(authors), np.int8)
    for wishes, keys in ((by_author, authors), (by_topic, topics)):
        for sign in (1, -1):
            wanted = [key for key, wish in wishes.items() if wish == sign]
            if wanted:
                control[np.isin(keys, wanted) & (control >= 0)] = sign
    return control
