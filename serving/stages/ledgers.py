"""Ledgers: predictions or family scores, and what is known of viewer and post, to values.

Serving and replay both fold here, so that a record refolds to the same bits.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.policy import Policy
from contracts.value import FloatArray, Ledger, action_terms, blend_terms, ledger

Mask = NDArray[np.bool_]


class Adjustments(NamedTuple):
    """What multiplies and lifts values; all [n]."""

    in_network: Mask
    cold: Mask
    """The post is new: it may be lifted, and tried in a cold-start slot."""
    author_shown: NDArray[np.float16]
    """Decayed impressions of the author by this viewer."""
    topic_shown: NDArray[np.float16]
    control: NDArray[np.int8]
    """1 where the viewer asked for more of author or topic, -1 for fewer."""


def ensemble_ledger(
    probabilities: NDArray[np.float32], adjustments: Adjustments, policy: Policy
) -> Ledger:
    """Fold predictions [n, actions] by the policy."""
    lifts = {}
    if policy.cold_start.lift > 0.0:
        lifts["cold_start"] = np.where(adjustments.cold, policy.cold_start.lift, 0.0)
    return ledger(action_terms(probabilities, policy), multipliers(adjustments, policy), lifts)


def fixed_blend_ledger(
    family: NDArray[np.float32], adjustments: Adjustments, policy: Policy
) -> Ledger:
    """Fold family scores [n, 4] by the policy's blend; a candidate that none knows gets 0."""
    return ledger(blend_terms(family, policy), multipliers(adjustments, policy), {})


def trending_ledger(ranks: NDArray[np.integer]) -> Ledger:
    """Value each row by its place [n] in the order of velocity."""
    return ledger({"trend_rank": 1.0 / (1.0 + ranks.astype(np.float64))}, {}, {})


def multipliers(adjustments: Adjustments, policy: Policy) -> dict[str, FloatArray]:
    """Give every multiplier [n] that the policy asks for."""
    rules, fatigue = policy.controls, policy.fatigue
    found = {"out_of_network": np.where(adjustments.in_network, 1.0, policy.out_of_network)}
    if fatigue.author_strength > 0.0:
        found["author_fatigue"] = fatigued(
            adjustments.author_shown, fatigue.author_strength, fatigue.author_floor
        )
    if fatigue.topic_strength > 0.0:
        found["topic_fatigue"] = fatigued(
            adjustments.topic_shown, fatigue.topic_strength, fatigue.topic_floor
        )
    if adjustments.control.any():
        by_sign = np.array([rules.fewer, 1.0, rules.more])
        found["viewer_control"] = by_sign[adjustments.control.astype(np.int64) + 1]
    return found


def fatigued(shown: NDArray[np.float16], strength: float, floor: float) -> FloatArray:
    """Give the multiplier of decayed impressions [n]: 1 at none, falling towards the floor."""
    return floor + (1.0 - floor) / (1.0 + strength * shown.astype(np.float64))
