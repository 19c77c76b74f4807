"""Selection: the pool that is looked at, the slate chosen from it, and the reserve behind it."""

from collections.abc import Callable
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DegradeReason
from contracts.policy import Policy
from contracts.value import sink_unusable
from serving import columns as col
from serving.candidates import Candidates
from serving.components import Fault, OnError, Selected
from serving.context import QueryContext
from serving.stages.decision import promise_of
from serving.stages.scorers import cold_start
from serving.stages.slate import Pool, fill_slate

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_NONE: Final = np.empty((0, 0), dtype=np.float32)


class SlateSelector:
    """Chooses a slate slot by slot from the best rows; what is left follows by value."""

    name: ClassVar[str] = "slate"
    fault: ClassVar[Fault] = Fault(OnError.FAIL, DegradeReason.FEED_FAILED)
    reads: ClassVar[frozenset[str]] = frozenset(
        {
            col.SLOT,
            col.POST_ID,
            col.AUTHOR,
            col.TOPIC,
            col.IN_NETWORK,
            col.IMPRESSIONS,
            col.POSITIVES,
        }
    )

    def __init__(self, content_codes: Callable[[Rows], NDArray[np.uint64]]) -> None:
        self._codes = content_codes

    def select(self, context: QueryContext, candidates: Candidates, values: Floats) -> Selected:
        """Order candidates [n] by `values` [n] into a slate and a reserve."""
        policy, query = context.policy, context.query
        order = by_value(values, candidates[col.POST_ID])
        cold = cold_start(candidates, policy)
        rows = choose_pool(order, candidates[col.IN_NETWORK], cold, policy)
        pool = self._pool(candidates, values, cold, rows)
        slate = fill_slate(pool, policy, query.feed_id, query.viewer_id, query.limit)
        chosen = rows[slate.rows]
        left = np.ones(len(values), dtype=bool)
        left[chosen] = False
        reserve = order[left[order]][: policy.selection.reserve]
        followed = candidates[col.IN_NETWORK][chosen]
        share = float(followed.mean()) if len(chosen) else 0.0
        return Selected(chosen, reserve, slate.multiplier, share, rows, pool, slate)

    def _pool(self, candidates: Candidates, values: Floats, cold: Mask, rows: Rows) -> Pool:
        predicted = (
            candidates[col.PROBABILITIES][rows] if col.PROBABILITIES in candidates else _NONE
        )
        return Pool(
            candidates[col.POST_ID][rows],
            values[rows],
            candidates[col.AUTHOR][rows],
            candidates[col.TOPIC][rows].astype(np.int64),
            candidates[col.IN_NETWORK][rows],
            cold[rows],
            promise_of(predicted, len(rows)),
            candidates[col.IMPRESSIONS][rows],
            candidates[col.POSITIVES][rows],
            self._codes(candidates[col.SLOT][rows]),
        )


def by_value(values: Floats, post_ids: Rows) -> Rows:
    """Order rows by value, best first; ties by post id; unusable values left out."""
    usable = sink_unusable(values)
    order = np.lexsort((post_ids, -usable))
    return order[np.isfinite(usable[order])]


def choose_pool(order: Rows, followed: Mask, cold: Mask, policy: Policy) -> Rows:
    """Take the best rows, and as many followed, other and new ones as mix and trials ask for.

    `order` [n] is best first; gives at most `policy.selection.pool` rows, best first.
    """
    size = policy.selection.pool
    if len(order) <= size:
        return order
    mine, new = followed[order], cold[order]
    wanted = np.zeros(len(order), dtype=bool)
    wanted[np.flatnonzero(mine)[: int(np.ceil(policy.mix.followed_min * size))]] = True
    wanted[np.flatnonzero(~mine)[: int(np.ceil((1.0 - policy.mix.followed_max) * size))]] = True
    if policy.cold_start.slots:
        wanted[np.flatnonzero(new)[: policy.cold_start.candidates]] = True
    spare = size - int(wanted.sum())
    if spare > 0:
        wanted[np.flatnonzero(~wanted)[:spare]] = True
    return order[np.flatnonzero(wanted)[:size]]
