"""The value fold: probabilities and a policy to one value a candidate, with an exact ledger.

Fixed order, in float64: terms, net, squeeze, multipliers, lifts. A ledger reconciles exactly:
`Ledger.refold()` repeats the operations in the same order and gives the same bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.policy import ACTIONS, FAMILIES, Policy

FloatArray = NDArray[np.float64]

SQUEEZE_CEILING: Final = 1e-6
"""A candidate with a negative net is mapped into (0, 1e-12); one with a positive net is lifted by
1e-6. The gap is wider than any product of multipliers (1e-2 to 1e2 each), so that none lifts harm
over good."""
_NEGATIVE_SCALE: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Ledger:
    """Named parts of each candidate's value; every array is float64 of shape [n]."""

    terms: Mapping[str, FloatArray]
    multipliers: Mapping[str, FloatArray]
    lifts: Mapping[str, FloatArray]
    value: FloatArray

    def refold(self) -> FloatArray:
        """Fold the ledger again; equal to `value` bit for bit."""
        return fold_parts(self.terms, self.multipliers, self.lifts)

    def row(self, index: int) -> dict[str, float]:
        """Give one candidate's ledger as name -> number, in the order of the fold."""
        parts = {
            **{f"term.{k}": v for k, v in self.terms.items()},
            **{f"mult.{k}": v for k, v in self.multipliers.items()},
            **{f"lift.{k}": v for k, v in self.lifts.items()},
        }
        return {name: float(column[index]) for name, column in parts.items()}


def squeeze(net: FloatArray) -> FloatArray:
    """Map net values to positive ones, every negative net below every non-negative one.

    Shape [n] to [n]; order is kept. NaN sinks to 0.
    """
    harm = _NEGATIVE_SCALE / (1.0 - np.minimum(net, 0.0))
    squeezed = np.where(net >= 0.0, net + SQUEEZE_CEILING, harm)
    return np.where(np.isnan(net), 0.0, squeezed)


def fold_parts(
    terms: Mapping[str, FloatArray],
    multipliers: Mapping[str, FloatArray],
    lifts: Mapping[str, FloatArray],
) -> FloatArray:
    """Fold named parts in their given order; lifts count only where the net is not negative."""
    net = np.zeros_like(next(iter(terms.values())))
    for term in terms.values():
        net = net + term
    value = squeeze(net)
    for multiplier in multipliers.values():
        value = value * multiplier
    for lift in lifts.values():
        value = value + np.where(net >= 0.0, lift, 0.0)
    return value


def action_terms(probabilities: NDArray[np.float32], policy: Policy) -> dict[str, FloatArray]:
    """Weigh predictions [n, len(ACTIONS)] into one term an action, weights of 0 left out."""
    wide = probabilities.astype(np.float64)
    return {
        action.value: wide[:, column] * policy.weights[action]
        for column, action in enumerate(ACTIONS)
        if policy.weights.get(action, 0.0) != 0.0
    }


def blend_terms(family_scores: NDArray[np.float32], policy: Policy) -> dict[str, FloatArray]:
    """Weigh normalised family scores [n, len(FAMILIES)] by the blend; a missing one adds 0."""
    wide = np.nan_to_num(family_scores.astype(np.float64), nan=0.0)
    return {name: wide[:, k] * policy.blend.get(name, 0.0) for k, name in enumerate(FAMILIES)}


def ledger(
    terms: Mapping[str, FloatArray],
    multipliers: Mapping[str, FloatArray],
    lifts: Mapping[str, FloatArray],
) -> Ledger:
    """Fold parts and keep them beside the value."""
    return Ledger(terms, multipliers, lifts, fold_parts(terms, multipliers, lifts))


def sink_unusable(values: FloatArray) -> FloatArray:
    """Send NaN and both infinities to the bottom: -inf, below every usable value."""
    return np.where(np.isfinite(values), values, -np.inf)
