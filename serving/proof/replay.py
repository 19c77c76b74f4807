"""Replay: a served feed rebuilt from its record, and counterfactuals over the recorded candidates.

What is recomputed: the ranker's predictions from the features as scored, the ledger from those, the
pool's order, the slate with every multiplier and propensity. On one CPU class all of it is equal to
the bit; on another, ids are equal and values within 1e-6 (Goldberg 1991: sums round in an order).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contracts.errors import InvalidInput
from contracts.policy import Policy
from contracts.record import RECORD_SCHEMA
from models.ranker import EnsembleRanker
from serving.records.codec import DIGEST, record_digest
from serving.stages.decision import Decision, checksum
from serving.stages.ledgers import Adjustments
from serving.stages.slate import Slate

Record = Mapping[str, Any]

TOLERANCE: Final = 1e-6
_CHANGED: Final = "digest: the record was changed after it was written"
_NO_RANKER: Final = "no ranker to predict with"
_NO_PREDICTIONS: Final = np.empty((0, 0), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Replayed:
    """One feed, recomputed."""

    feed_id: int
    identical: bool
    """Everything that replay recomputes has the recorded checksum."""
    within_tolerance: bool
    """Ids are equal, predictions (dwell relatively) and propensities within 1e-6: another CPU."""
    differences: tuple[str, ...]
    """What differs, in words; empty where identical."""


@dataclass(frozen=True, slots=True)
class Move:
    """One post's place in the served slate and in a counterfactual one; None: not in it."""

    post_id: int
    served: int | None
    otherwise: int | None


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """What another bundle or policy would have made of the recorded candidates.

    Only the recorded pool is ordered again: what others would have retrieved is not known.
    """

    feed_id: int
    served: NDArray[np.int64]
    """Post ids of the slate as served."""
    otherwise: NDArray[np.int64]
    moves: tuple[Move, ...]
    """Posts whose place changes, by their new place, those that leave behind."""


def replay(record: Record, ranker: EnsembleRanker | None, policy: Policy) -> Replayed:
    """Rebuild a feed from its record with the policy that it names and its bundle's ranker.

    Only feeds whose scorer is the ensemble need a ranker.
    """
    feed_id = int(record["feed_id"])
    if record_digest(record, RECORD_SCHEMA) != record[DIGEST]:
        return Replayed(feed_id, False, False, (_CHANGED,))
    decision = Decision.of(record)
    predicted = decision.probabilities
    if decision.needs_ranker:
        if ranker is None:
            return Replayed(feed_id, False, False, (_NO_RANKER,))
        predicted = ranker.predict(decision.features)
    order, pool = decision.pool(decision.ledger(policy, probabilities=predicted).value, predicted)
    slate = decision.select(pool, policy)
    found = checksum(predicted[order] if predicted.size else _NO_PREDICTIONS, pool.values, slate)
    wrong = _differences(decision, predicted, order, slate)
    near = not wrong
    if found != record["checksum"]:
        wrong.append("checksum of predictions, values, slate, multipliers and propensities")
    return Replayed(feed_id, not wrong, near, tuple(wrong))


def counterfactual(
    record: Record,
    policy: Policy,
    ranker: EnsembleRanker | None = None,
    adjustments: Adjustments | None = None,
) -> Counterfactual:
    """Order the recorded pool by another policy, bundle, or other wishes of the viewer.

    InvalidInput where the policy orders by something that the record does not hold, or a ranker is
    given for a feed that none has ranked.
    """
    decision = Decision.of(record)
    scorer = scorer_under(decision, policy)
    predicted = decision.probabilities
    if ranker is not None and not decision.needs_ranker:
        msg = f"no ranker took part in this feed: it was ordered by {decision.record['scorer']}"
        raise InvalidInput(msg, hint="name a policy in place of a bundle")
    if ranker is not None:
        predicted = ranker.predict(decision.features)
    values = decision.ledger(
        policy, probabilities=predicted, adjustments=adjustments, scorer=scorer
    ).value
    order, pool = decision.pool(values, predicted, adjustments)
    otherwise = decision.post_ids[order][decision.select(pool, policy).rows]
    served = decision.post_ids[decision.slate]
    return Counterfactual(int(record["feed_id"]), served, otherwise, _moves(served, otherwise))


def scorer_under(decision: Decision, policy: Policy) -> str:
    """Say what would have scored the recorded pool under a policy."""
    was = str(decision.record["scorer"])
    if policy.scorer == "popular" and was != "velocity":
        msg = f"the policy {policy.name} orders by velocity, which this record does not hold"
        raise InvalidInput(msg, hint="name a policy whose scorer is ensemble or fixed_blend")
    return "fixed_blend" if policy.scorer == "fixed_blend" and decision.needs_ranker else was


def _differences(
    decision: Decision, predicted: NDArray[np.float32], order: NDArray[np.int64], slate: Slate
) -> list[str]:
    record, wrong = decision.record, []
    if predicted.size:
        was = decision.probabilities
        gap = float((np.abs(predicted - was) / np.maximum(1.0, np.abs(was))).max(initial=0.0))
        if not gap <= TOLERANCE:
            wrong.append(f"predictions differ by up to {gap:.3g}")
    rows = order[slate.rows]
    if not np.array_equal(rows, decision.slate):
        pairs = zip_longest(rows.tolist(), decision.slate.tolist())
        at = next(place for place, (again, was) in enumerate(pairs) if again != was)
        wrong.append(f"the slate differs from place {at} on")
    drawn = np.asarray(record["propensities"], np.float32)
    again = slate.propensity[: len(drawn)].astype(np.float32)
    if len(again) != len(drawn) or not np.allclose(again, drawn, rtol=0.0, atol=TOLERANCE):
        wrong.append("propensities differ")
    return wrong


def _moves(served: NDArray[np.int64], otherwise: NDArray[np.int64]) -> tuple[Move, ...]:
    before = {post: place for place, post in enumerate(served.tolist())}
    after = {post: place for place, post in enumerate(otherwise.tolist())}
    moved = [
        Move(post, before.get(post), place)
        for post, place in after.items()
        if before.get(post) != place
    ]
    gone = [Move(post, place, None) for post, place in before.items() if post not in after]
    return (*moved, *gone)
