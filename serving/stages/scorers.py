"""Scorers: the ensemble ranker, and the two that stand in when it cannot answer."""

from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DegradeLevel, DegradeReason
from contracts.policy import Policy
from serving import columns as col
from serving.candidates import Candidates
from serving.components import Fault, OnError, Scored
from serving.context import QueryContext
from serving.rankers.base import RankerClient, RankRequest
from serving.runtime import Runtime
from serving.stages.ledgers import Adjustments, ensemble_ledger, fixed_blend_ledger, trending_ledger

Mask = NDArray[np.bool_]

_ADJUSTING: Final = frozenset(
    {col.IN_NETWORK, col.IMPRESSIONS, col.POSITIVES, col.AUTHOR_SHOWN, col.TOPIC_SHOWN, col.CONTROL}
)


class EnsembleScorer:
    """The learned ranker: a probability an action, folded by the policy."""

    name: ClassVar[str] = "ensemble"
    fault: ClassVar[Fault] = Fault(
        OnError.DEGRADE, DegradeReason.RANKER_FAILED, DegradeLevel.FIXED_BLEND
    )
    reads: ClassVar[frozenset[str]] = frozenset({col.SLOT, col.POST_ID, col.FAMILY}) | _ADJUSTING

    def __init__(self, client: RankerClient) -> None:
        self._client = client

    def level(self, policy: Policy) -> DegradeLevel | None:
        """See `Scorer`."""
        return DegradeLevel.FULL if policy.scorer == "ensemble" else None

    def score(self, context: QueryContext, candidates: Candidates) -> Scored:
        """Score with the ranker; its errors name their reason."""
        query = context.query
        request = RankRequest(
            query.viewer_id,
            query.now_us,
            context.log_seq,
            candidates[col.POST_ID],
            candidates[col.FAMILY],
        )
        answer = self._client.score(request, candidates[col.SLOT])
        predicted, policy = answer.probabilities, context.policy
        folded = ensemble_ledger(predicted, adjustments(candidates, policy), policy)
        return Scored({col.FEATURES: answer.features, col.PROBABILITIES: predicted}, folded)


class FixedBlendScorer:
    """The case study's hand blend: the policy `fixed-blend`, and the ranker's stand-in."""

    name: ClassVar[str] = "fixed_blend"
    fault: ClassVar[Fault] = Fault(
        OnError.DEGRADE, DegradeReason.RANKER_FAILED, DegradeLevel.TRENDING
    )
    reads: ClassVar[frozenset[str]] = frozenset({col.FAMILY}) | _ADJUSTING

    def level(self, policy: Policy) -> DegradeLevel | None:
        """See `Scorer`: full where the policy asks for it, a fallback for the ensemble."""
        if policy.scorer == "fixed_blend":
            return DegradeLevel.FULL
        return DegradeLevel.FIXED_BLEND if policy.scorer == "ensemble" else None

    def score(self, context: QueryContext, candidates: Candidates) -> Scored:
        """Weigh the normalised family scores; a candidate that no family knows gets 0."""
        family = candidates[col.FAMILY].astype(np.float32)
        adjusted = adjustments(candidates, context.policy)
        return Scored({}, fixed_blend_ledger(family, adjusted, context.policy))


class VelocityScorer:
    """What is trending, in order of decayed positive actions: needs no model at all."""

    name: ClassVar[str] = "velocity"
    fault: ClassVar[Fault] = Fault(OnError.FAIL, DegradeReason.FEED_FAILED)
    reads: ClassVar[frozenset[str]] = frozenset({col.SLOT})

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def level(self, policy: Policy) -> DegradeLevel | None:
        """See `Scorer`."""
        return DegradeLevel.FULL if policy.scorer == "popular" else DegradeLevel.TRENDING

    def score(self, context: QueryContext, candidates: Candidates) -> Scored:
        """Order by velocity."""
        velocity = self._runtime.cache.velocity(context.query.now_us)[candidates[col.SLOT]]
        rank = np.empty(len(candidates), dtype=np.int64)
        rank[np.argsort(-velocity, kind="stable")] = np.arange(len(candidates))
        return Scored({}, trending_ledger(rank))


def adjustments(candidates: Candidates, policy: Policy) -> Adjustments:
    """Gather what multiplies and lifts the values of candidates."""
    return Adjustments(
        candidates[col.IN_NETWORK],
        cold_start(candidates, policy),
        candidates[col.AUTHOR_SHOWN],
        candidates[col.TOPIC_SHOWN],
        candidates[col.CONTROL],
    )


def cold_start(candidates: Candidates, policy: Policy) -> Mask:
    """Mark new posts: few impressions, and few actions where impressions are not recorded."""
    known = np.maximum(candidates[col.IMPRESSIONS], candidates[col.POSITIVES])
    return known < policy.cold_start.impressions
