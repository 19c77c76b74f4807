"""One ensemble out of members: a weight each over standardised scores, chosen on validation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.base import BoolArray, FloatArray, IntArray
from training.metrics import distinct, hits, top_k
from training.protocols.exam import Known, blocks, taken
from training.protocols.members import Fitted
from training.protocols.split import Split

_STEPS: Final = (0.4, 0.2, 0.1)
_ENOUGH: Final = 1e-4
"""Least gain of a step that is taken."""


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


def choose(
    pool: Pool, names: Sequence[str], start: Mapping[str, float], cuts: Sequence[int]
) -> tuple[Blend, float]:
    """Climb from `start`, a step of one weight at a time, while the objective on validation rises.

    Gives the blend and its objective. Weights may be negative: popularity often is.
    """
    scales = np.maximum(pool.features[pool.there].std(axis=0), 1e-9)
    scaled = pool.features / scales
    weights = np.array([start.get(name, 0.0) for name in names], dtype=np.float32)

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
    return (
        Blend(
            {name: round(float(w), 2) for name, w in zip(names, weights, strict=True)},
            {name: float(s) for name, s in zip(names, scales, strict=True)},
        ),
        best,
    )
