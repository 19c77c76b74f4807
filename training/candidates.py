"""The union of the families' best posts: what the ensemble ranker orders, here as in serving."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.base import Family, FloatArray, IntArray, ItemHistories, VectorModel
from models.blend import RetrievalBlend
from models.normalise import QuantileTable
from training.metrics import top_k
from training.scoring import MOST_SCORES, Exam, Scorer, chunks

Families = Mapping[Family, VectorModel]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Distinct candidates of Q queries, padded with -1 at the end."""

    rows: IntArray
    """[Q, C] item rows, ascending."""
    scores: FloatArray
    """[Q, C, 3]: normalised family scores, NaN where a family cannot score."""

    def take(self, index: IntArray) -> "Candidates":
        """Pick some queries."""
        return Candidates(self.rows[index], self.scores[index])


def union_candidates(
    exam: Exam,
    families: Mapping[Family, Scorer],
    normalisers: Mapping[Family, QuantileTable],
    best: int,
) -> Candidates:
    """Take the `best` posts of each family and the scores of all families on their union."""
    rows, scores = [], []
    for part in chunks(len(exam), exam.n_items):
        asked = exam.histories.take(part)
        raw = [families[family].score_all(asked) for family in Family]
        picked = distinct(
            np.concatenate([top_k(exam.mask(r.copy(), part), best) for r in raw], axis=1)
        )
        safe = np.maximum(picked, 0)
        columns = [
            normalisers[family].apply(np.take_along_axis(r, safe, axis=1))
            for family, r in zip(Family, raw, strict=True)
        ]
        rows.append(picked)
        scores.append(np.where((picked >= 0)[:, :, None], np.stack(columns, axis=2), np.nan))
    return _narrow(np.concatenate(rows), np.concatenate(scores).astype(np.float32))


def distinct(rows: IntArray) -> IntArray:
    """Sort each row and keep one of each value, -1 behind: [Q, C] to [Q, C]."""
    high = np.iinfo(np.int64).max
    ordered = np.sort(np.where(rows >= 0, rows, high), axis=1)
    again = np.zeros(ordered.shape, dtype=bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    kept = np.sort(np.where(again, high, ordered), axis=1)
    return np.where(kept == high, -1, kept)


def _narrow(rows: IntArray, scores: FloatArray) -> Candidates:
    width = max(int((rows >= 0).sum(axis=1).max(initial=1)), 1)
    return Candidates(rows[:, :width], scores[:, :width])


def pair_scores(
    families: Families,
    normalisers: Mapping[Family, QuantileTable],
    histories: ItemHistories,
    rows: IntArray,
) -> FloatArray:
    """Score given posts [Q, C] by every family, normalised: [Q, C, 3]; NaN on padding."""
    out = np.full((*rows.shape, len(Family)), np.nan, dtype=np.float32)
    for part in chunks(len(rows)):
        safe = np.maximum(rows[part], 0)
        for column, family in enumerate(Family):
            model = families[family]
            viewers = model.viewer_vectors(histories.take(part))
            raw = np.einsum("qd,qcd->qc", viewers, model.item_vectors()[safe])
            out[part, :, column] = normalisers[family].apply(raw)
    return np.where((rows >= 0)[:, :, None], out, np.float32(np.nan))


def fit_normalisers(
    families: Families, histories: ItemHistories, sample: int = 500
) -> dict[Family, QuantileTable]:
    """Fit a quantile table a family on raw scores of up to `sample` viewers and all posts.

    Fewer viewers where there are many posts: what is sorted is bounded.
    """
    n_items = len(next(iter(families.values())).item_vectors())
    sample = max(1, min(sample, 4 * MOST_SCORES // max(n_items, 1)))
    step = max(1, len(histories) // sample)
    asked = histories.take(np.arange(0, len(histories), step, dtype=np.int64))
    return {family: QuantileTable.fit(model.score_all(asked)) for family, model in families.items()}


def order_by(rows: IntArray, values: NDArray[np.floating], k: int) -> IntArray:
    """Order candidates [Q, C] by value, best first, ties by row: the first k, -1 padded."""
    ready = np.where((rows >= 0) & np.isfinite(values), values, -np.inf)
    order = np.lexsort((rows, -ready), axis=1)[:, :k]
    best = np.take_along_axis(rows, order, axis=1)
    best = np.where(np.take_along_axis(ready, order, axis=1) > -np.inf, best, -1)
    return np.pad(best, ((0, 0), (0, max(0, k - best.shape[1]))), constant_values=-1)


def blended(candidates: Candidates, weights: Mapping[Family, float]) -> FloatArray:
    """Blend normalised scores [Q, C, 3] linearly: [Q, C]; a missing one adds nothing."""
    vector = np.array([weights[family] for family in Family], dtype=np.float32)
    total: FloatArray = np.nan_to_num(candidates.scores, nan=0.0) @ vector
    return total


def choose_blend(
    exam: Exam, candidates: Candidates, normalisers: Mapping[Family, QuantileTable]
) -> RetrievalBlend:
    """Pick the weights, in steps of a tenth, with the best NDCG@20 on validation."""
    grid = [(a / 10, b / 10, (10 - a - b) / 10) for a in range(11) for b in range(11 - a)]
    scored = [(_ndcg(exam, candidates, dict(zip(Family, w, strict=True))), w) for w in grid]
    best = max(scored)[1]
    return RetrievalBlend(dict(zip(Family, best, strict=True)), normalisers)


def _ndcg(exam: Exam, candidates: Candidates, weights: Mapping[Family, float]) -> float:
    ranked = order_by(candidates.rows, blended(candidates, weights), 20)
    return exam.ndcg(ranked)
