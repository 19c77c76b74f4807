"""Scorers: the ensemble ranker, and the two that stand in when it cannot answer."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DegradeLevel, DegradeReason
from contracts.policy import Policy
from contracts.value import Ledger, action_terms, blend_terms, ledger
from serving.candidates import (
    FAMILY,
    IMPRESSIONS,
    IN_NETWORK,
    POST_ID,
    PROBABILITIES,
    SLOT,
    Candidates,
    Column,
)
from serving.candidates import (
    FEATURES as FEATURE_COLUMN,
)
from serving.components import Fault, OnError, Scored
from serving.context import QueryContext
from serving.ranker import RankerClient, RankRequest
from serving.runtime import Runtime

Mask = NDArray[np.bool_]


class EnsembleScorer:
    """The learned ranker: a probability an action, folded by the policy."""

    name: ClassVar[str] = "ensemble"
    fault: ClassVar[Fault] = Fault(
        OnError.DEGRADE, DegradeReason.RANKER_FAILED, DegradeLevel.FIXED_BLEND
    )
    reads: ClassVar[frozenset[str]] = frozenset({SLOT, POST_ID, FAMILY, IN_NETWORK, IMPRESSIONS})

    def __init__(self, client: RankerClient) -> None:
        self._client = client

    def level(self, policy: Policy) -> DegradeLevel | None:
        """See `Scorer`."""
        return DegradeLevel.FULL if policy.scorer == "ensemble" else None

    def score(self, context: QueryContext, candidates: Candidates) -> Scored:
        """Score with the ranker; its errors name their reason."""
        query = context.query
        request = RankRequest(
            query.viewer_id, query.now_us, context.log_seq, candidates[POST_ID], candidates[FAMILY]
        )
        answer = self._client.score(request, candidates[SLOT])
        cold = cold_start(candidates, context.policy)
        columns: dict[str, Column] = {
            FEATURE_COLUMN: answer.features,
            PROBABILITIES: answer.probabilities,
        }
        return Scored(
            columns,
            ensemble_ledger(answer.probabilities, candidates[IN_NETWORK], cold, context.policy),
        )


class FixedBlendScorer:
    """The case study's hand blend: the policy `fixed-blend`, and the ranker's stand-in."""

    name: ClassVar[str] = "fixed_blend"
    fault: ClassVar[Fault] = Fault(
        OnError.DEGRADE, DegradeReason.RANKER_FAILED, DegradeLevel.TRENDING
    )
    reads: ClassVar[frozenset[str]] = frozenset({FAMILY, IN_NETWORK})

    def level(self, policy: Policy) -> DegradeLevel | None:
        """See `Scorer`: full where the policy asks for it, a fallback for the ensemble."""
        if policy.scorer == "fixed_blend":
            return DegradeLevel.FULL
        return DegradeLevel.FIXED_BLEND if policy.scorer == "ensemble" else None

    def score(self, context: QueryContext, candidates: Candidates) -> Scored:
        """Weigh the normalised family scores; a candidate that no family knows gets 0."""
        family = candidates[FAMILY].astype(np.float32)
        folded = fixed_blend_ledger(family, candidates[IN_NETWORK], context.policy)
        return Scored({}, folded)


class VelocityScorer:
    """What is trending, in order of decayed positive actions: needs no model at all."""

    name: ClassVar[str] = "velocity"
    fault: ClassVar[Fault] = Fault(OnError.FAIL, DegradeReason.FEED_FAILED)
    reads: ClassVar[frozenset[str]] = frozenset({SLOT})

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def level(self, policy: Policy) -> DegradeLevel | None:
        """See `Scorer`."""
        return DegradeLevel.FULL if policy.scorer == "popular" else DegradeLevel.TRENDING

    def score(self, context: QueryContext, candidates: Candidates) -> Scored:
        """Order by velocity."""
        velocity = self._runtime.cache.velocity(context.query.now_us)[candidates[SLOT]]
        rank = np.empty(len(candidates))
        rank[np.argsort(-velocity, kind="stable")] = np.arange(len(candidates))
        terms = {"trend_rank": 1.0 / (1.0 + rank)}
        return Scored({}, ledger(terms, {}, {}))


def ensemble_ledger(
    probabilities: NDArray[np.float32], in_network: Mask, cold: Mask, policy: Policy
) -> Ledger:
    """Fold predictions [n, actions] by the policy."""
    lifts = {}
    if policy.cold_start_lift > 0.0:
        lifts["cold_start"] = np.where(cold, policy.cold_start_lift, 0.0)
    return ledger(action_terms(probabilities, policy), _multipliers(in_network, policy), lifts)


def fixed_blend_ledger(family: NDArray[np.float32], in_network: Mask, policy: Policy) -> Ledger:
    """Fold family scores [n, 3] by the policy's blend."""
    return ledger(blend_terms(family, policy), _multipliers(in_network, policy), {})


def cold_start(candidates: Candidates, policy: Policy) -> Mask:
    """Mark posts with fewer impressions than the policy calls a cold start."""
    young: Mask = candidates[IMPRESSIONS] < policy.cold_start_impressions
    return young


def _multipliers(in_network: Mask, policy: Policy) -> dict[str, NDArray[np.float64]]:
    return {"out_of_network": np.where(in_network, 1.0, policy.out_of_network)}
