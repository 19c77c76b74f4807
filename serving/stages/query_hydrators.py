"""Query hydration: who the viewer is, what they did last, and how each family sees them."""

from typing import Final

import numpy as np

from contracts.degrade import DegradeLevel, DegradeReason
from contracts.events import NEGATIVE_ACTIONS
from contracts.policy import Policy
from contracts.query import FeedQuery
from features.history import type_mask
from models.base import Family
from serving.components import Fault, OnError
from serving.context import QueryContext
from serving.runtime import Runtime
from serving.snapshots import ServedLog

_SKIP: Final = Fault(OnError.SKIP, DegradeReason.SOURCE_FAILED)
_DEEP_OUT: Final = Fault(OnError.DEGRADE, DegradeReason.DEEP_SOURCE_FAILED, DegradeLevel.NO_DEEP)
_IS_NEGATIVE: Final = type_mask(NEGATIVE_ACTIONS)


class ViewerHydrator:
    """Reads history, follows, blocks, seen and served posts of the viewer from the cache."""

    name = "viewer"
    fault = Fault(OnError.FAIL, DegradeReason.QUERY_HYDRATOR_FAILED)

    def __init__(self, runtime: Runtime, served: ServedLog) -> None:
        self._runtime = runtime
        self._served = served

    def context(self, query: FeedQuery, policy: Policy) -> QueryContext:
        """Make the context of a query; an unknown viewer has nothing but the query."""
        cache = self._runtime.cache
        viewer = cache.people.index.slot_of(query.viewer_id)
        blocked = np.concatenate([cache.graph.blocked(viewer), cache.graph.blocked_by(viewer)])
        seen, seen_types = cache.histories.seen_posts(viewer)
        language = int(cache.people.language[viewer]) if viewer >= 0 else -1
        return QueryContext(
            query=query,
            policy=policy,
            viewer_slot=viewer,
            log_seq=cache.applied_seq,
            histories=cache.histories.get(np.array([viewer])),
            history_version=cache.histories.version(viewer),
            followees=cache.graph.followees(viewer).astype(np.int64),
            blocked_authors=blocked.astype(np.int64),
            muted_authors=cache.graph.muted(viewer).astype(np.int64),
            seen=seen,
            disliked=seen[_IS_NEGATIVE[seen_types]],
            served=self._served.within(
                query.viewer_id, query.now_us, policy.filters.served_minutes
            ),
            language=language,
        )


class FamilyHydrator:
    """Folds the viewer's history into what one family is asked by."""

    def __init__(self, runtime: Runtime, family: Family) -> None:
        self.name = f"vector.{family.value}"
        self.fault = _DEEP_OUT if family is Family.DEEP else _SKIP
        self._runtime = runtime
        self._family = family

    def fold_in(self, context: QueryContext) -> None:
        """Add the family's vector to the context, where the history says anything to it."""
        bundle = self._runtime.bundle
        if bundle is None:
            return
        if context.item_histories is None:
            context.item_histories = self._runtime.item_histories(context)
        vector = self._runtime.families[self._family].fold_in(context.item_histories)
        if vector is not None:
            context.vectors[self._family] = vector
