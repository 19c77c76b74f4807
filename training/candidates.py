"""The union of the families' best posts: what the ensemble ranker orders, here as in serving."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.columns import Columns
from models.base import Family, FloatArray, IntArray, ItemHistories, Scorer
from models.base import pair_scores as score_pairs
from models.blend import RetrievalBlend
from models.normalise import QuantileTable
from training.metrics import distinct, hits, top_k
from training.scoring import MOST_SCORES, Exam, chunks

Families = Mapping[Family, Scorer]

RESAMPLES: Final = 200
"""Draws of people that the weights of the blend are averaged over."""


@dataclass(frozen=True, slots=True)
class Candidates(Columns):
    """Distinct candidates of Q queries, padded with -1 at the end."""

    rows: IntArray
    """[Q, C] item rows, ascending."""
    scores: FloatArray
    """[Q, C, F]: normalised family scores, NaN where a family cannot score."""


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


def _narrow(rows: IntArray, scores: FloatArray) -> Candidates:
    width = max(int((rows >= 0).sum(axis=1).max(initial=1)), 1)
    return Candidates(rows[:, :width], scores[:, :width])


def pair_scores(
    families: Families,
    normalisers: Mapping[Family, QuantileTable],
    histories: ItemHistories,
    rows: IntArray,
    n_items: int,
) -> FloatArray:
    """Score given posts [Q, C] by every family, normalised: [Q, C, F]; NaN on padding."""
    out = np.full((*rows.shape, len(Family)), np.nan, dtype=np.float32)
    for part in chunks(len(rows), n_items):
        safe, asked = np.maximum(rows[part], 0), histories.take(part)
        for column, family in enumerate(Family):
            raw = score_pairs(families[family], asked, safe)
            out[part, :, column] = normalisers[family].apply(raw)
    return np.where((rows >= 0)[:, :, None], out, np.float32(np.nan))


def fit_normalisers(
    families: Families, histories: ItemHistories, n_items: int, sample: int = 500
) -> dict[Family, QuantileTable]:
    """Fit a quantile table a family on raw scores of up to `sample` viewers and all posts.

    Fewer viewers where there are many posts: what is sorted is bounded.
    """
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


def choose_blend(
    exam: Exam,
    candidates: Candidates,
    normalisers: Mapping[Family, QuantileTable],
    seed: int = 0,
) -> RetrievalBlend:
    """Pick the weights by NDCG@20 on validation: the mean of the best of many resamples.

    Every weighting in steps of a tenth is tried. The best one of few people is mostly luck: so
    people are drawn again and again with replacement, the best weighting of each draw is found,
    and their mean is taken (bagging: Breiman, Machine Learning 24, 1996). Where people are many
    the draws agree.
    """
    tenths = [t for t in product(range(10, -1, -1), repeat=len(Family)) if sum(t) == 10]
    tried = np.array(tenths) / 10
    there, hit = candidates.rows >= 0, hits(candidates.rows, exam.targets, exam.n_items)
    scores = np.nan_to_num(candidates.scores, nan=0.0)

    def reached(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        best = top_k(np.where(there, scores @ weights.astype(np.float32), -np.inf), 20)
        return exam.ndcg_of_hits(np.take_along_axis(hit, np.maximum(best, 0), 1) & (best >= 0))

    values = np.stack([reached(weights) for weights in tried])
    people = values.shape[1]
    draws = np.random.Generator(np.random.PCG64(seed)).multinomial(
        people, np.full(people, 1.0 / people), RESAMPLES
    )
    mean = tried[(values @ draws.T).argmax(axis=0)].mean(axis=0)
    weights = {family: round(float(w), 4) for family, w in zip(Family, mean, strict=True)}
    return RetrievalBlend(weights, normalisers)
