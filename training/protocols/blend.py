"""One ensemble out of members: a weight each over standardised scores, chosen on validation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array

from models.base import BoolArray, FloatArray, IntArray
from training.metrics import distinct, hits, top_k
from training.protocols.exam import Known, blocks, taken
from training.protocols.members import Fitted
from training.protocols.split import Split

_STEPS: Final = (0.4, 0.2, 0.1)
_ENOUGH: Final = 1e-4
"""Least gain of a step that is taken."""
_LARGEST: Final = 2.0
"""Size of the largest weight where the climb begins: says what a step is of it."""
_PENALTY: Final = 1e-3
"""On the squared weights of the logit."""


@dataclass(frozen=True, slots=True)
class Blend:
    """Weights by member; a scale each makes weights comparable."""

    weights: Mapping[str, float]
    scales: Mapping[str, float]

    def scorer(
        self, split: Split, fitted: Mapping[str, Fitted]
    ) -> Callable[[IntArray], FloatArray]:
        """Bind the blend to fitted members."""
        known = Known(split)
        used = {name: fitted[name] for name, weight in self.weights.items() if weight}

        def score(people: IntArray) -> FloatArray:
            return self.parts(split, used, known.of(people), people)[0]

        return score

    def parts(
        self, split: Split, fitted: Mapping[str, Fitted], seen: csr_array, people: IntArray
    ) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Score all items, [Q, n_items]: the blend's sum, and each member on its scale."""
        total = np.zeros(seen.shape, dtype=np.float32)
        parts: dict[str, FloatArray] = {}
        for name, member in fitted.items():
            own = standardised(member.scores(split, people), seen)
            own /= np.float32(self.scales[name])
            total += np.float32(self.weights[name]) * own
            parts[name] = own
        return total, parts


def standardised(scores: FloatArray, seen: csr_array) -> FloatArray:
    """Give each row mean 0 and deviation 1 over the items not seen; seen ones become 0."""
    rows, columns = seen.nonzero()
    scores = scores.astype(np.float32, copy=True)
    scores[rows, columns] = 0.0
    count = scores.shape[1] - np.bincount(rows, minlength=len(scores))[:, None]
    mean = scores.sum(axis=1, keepdims=True, dtype=np.float64) / count
    square = np.einsum("qn,qn->q", scores, scores, dtype=np.float64)[:, None] / count
    spread = np.sqrt(np.maximum(square - mean**2, 0.0)) + 1e-9
    scores -= mean.astype(np.float32)
    scores /= spread.astype(np.float32)
    scores[rows, columns] = 0.0
    return scores


@dataclass(frozen=True, slots=True)
class Pool:
    """The best items of several members for each person, with every member's score."""

    features: FloatArray
    """[P, C, members]; 0 on padding."""
    there: BoolArray
    """[P, C]: not padding."""
    hit: BoolArray
    """[P, C]: the item is a target."""
    wanted: IntArray
    """[P]: how many targets there are."""


def objective(
    values: FloatArray, there: BoolArray, hit: BoolArray, wanted: IntArray, cuts: Sequence[int]
) -> float:
    """Rank lists [P, C] by values; give the sum of mean recall and mean NDCG at each cut."""
    k = max(cuts)
    best = top_k(np.where(there, values, -np.inf).astype(np.float32), k)
    found = np.take_along_axis(hit, np.maximum(best, 0), axis=1) & (best >= 0)
    gains = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(gains)
    total = 0.0
    for cut in cuts:
        total += float((found[:, :cut].sum(axis=1) / wanted).mean())
        reached = found[:, :cut] @ gains[:cut]
        total += float((reached / ideal[np.minimum(wanted, cut) - 1]).mean())
    return total


def pooled(
    split: Split, fitted: Mapping[str, Fitted], people: IntArray, best: Mapping[str, int]
) -> Pool:
    """Take the `best` items of each member named there; every member scores their union."""
    known = Known(split)
    rows, features = [], []
    for block in blocks(people):
        seen = known.of(block)
        scores = {
            name: standardised(member.scores(split, block), seen) for name, member in fitted.items()
        }
        tops = [top_k(known.sink(scores[name].copy(), block), k) for name, k in best.items()]
        picked = distinct(np.concatenate(tops, axis=1))
        safe = np.maximum(picked, 0)
        columns = [np.take_along_axis(own, safe, axis=1) for own in scores.values()]
        own = np.stack(columns, axis=2)
        rows.append(picked)
        features.append(np.where((picked >= 0)[:, :, None], own, 0.0).astype(np.float32))
    items = np.concatenate(rows)
    targets = taken(split.targets, people)
    hit = hits(items, targets, split.n_items)
    return Pool(np.concatenate(features), items >= 0, hit, targets.lengths)


def stacked(pools: Sequence[Pool]) -> Pool:
    """Put pools of the same members, of several cuts, under each other."""
    widest = max(pool.there.shape[1] for pool in pools)

    def rows(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        padded = [
            np.pad(part, [(0, 0), (0, widest - part.shape[1])] + [(0, 0)] * (part.ndim - 2))
            for part in values
        ]
        return np.concatenate(padded)

    return Pool(
        rows([pool.features for pool in pools]),
        rows([pool.there for pool in pools]),
        rows([pool.hit for pool in pools]),
        np.concatenate([pool.wanted for pool in pools]),
    )


def choose(pool: Pool, names: Sequence[str], cuts: Sequence[int]) -> Blend:
    """Begin at a conditional logit's weights and climb, one weight at a time, while it pays.

    What is climbed is the objective on validation. Weights may be negative: popularity often is.
    """
    scales = np.maximum(pool.features[pool.there].std(axis=0), 1e-9)
    scaled = pool.features / scales
    weights = logit(scaled, pool)
    weights *= np.float32(_LARGEST / max(float(np.abs(weights).max()), 1e-9))

    def reached(tried: NDArray[np.float32]) -> float:
        return objective(scaled @ tried, pool.there, pool.hit, pool.wanted, cuts)

    best = reached(weights)
    for step in _STEPS:
        rising = True
        while rising:
            rising = False
            for column in range(len(names)):
                for move in (step, -step):
                    tried = weights.copy()
                    tried[column] += np.float32(move)
                    value = reached(tried)
                    if value > best + _ENOUGH:
                        best, weights, rising = value, tried, True
                        break
    return Blend(
        {name: round(float(w), 2) for name, w in zip(names, weights, strict=True)},
        {name: float(s) for name, s in zip(names, scales, strict=True)},
    )


def logit(features: FloatArray, pool: Pool) -> NDArray[np.float32]:
    """Fit the weights [members] of a softmax over each person's items to their targets.

    Conditional logit (McFadden, Frontiers in Econometrics, 1974): concave, so that there is one
    best point and few people move it little, where the ranking's own objective has many.
    `features` [P, C, members]; all ones where no target is in reach.
    """
    some = pool.hit.any(axis=1)
    if not some.any():
        return np.ones(features.shape[2], dtype=np.float32)
    x, away = features[some], ~pool.there[some]
    share = pool.hit[some] / pool.hit[some].sum(axis=1, keepdims=True)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        values = (x @ weights.astype(np.float32)).astype(np.float64)
        values[away] = -np.inf
        values -= values.max(axis=1, keepdims=True)
        total = np.log(np.exp(values).sum(axis=1, keepdims=True))
        chance = np.exp(values - total)
        values[away] = 0.0  # no target is there: its share is 0
        lost = (share * (total - values)).sum() / len(x)
        slope = np.tensordot(chance - share, x, axes=2) / len(x)
        return float(lost + _PENALTY * weights @ weights), slope + 2.0 * _PENALTY * weights

    found = minimize(loss, np.zeros(features.shape[2]), jac=True, method="L-BFGS-B")
    weights: NDArray[np.float32] = found.x.astype(np.float32)
    return weights
