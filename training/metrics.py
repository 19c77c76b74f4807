"""Metrics of ranked lists and of predicted probabilities: a value a query first, means later.

Definitions as in Järvelin and Kekäläinen (TOIS 2002) for NDCG with binary gain, and as in
Ge, Delgado, Jannach (RecSys 2010) for coverage; Gini over exposure as in Fleder and Hosanagar
(Management Science 2009).
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.base import BoolArray, FloatArray, IntArray
from training.dataset import Ragged

KS: Final = (5, 10, 20, 50)
LONGEST: Final = max(KS)

Values = NDArray[np.float64]


def top_k(scores: FloatArray, k: int) -> IntArray:
    """Pick the k best columns of [Q, n], best first, ties by column; -1 where none is left.

    NaN and -inf are never picked.
    """
    usable = np.where(np.isfinite(scores), scores, -np.inf)
    width = min(k, scores.shape[1])
    part = _best_columns(usable, width)
    values = np.take_along_axis(usable, part, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    best = np.take_along_axis(part, order, axis=1)
    best = np.where(np.take_along_axis(values, order, axis=1) > -np.inf, best, -1)
    if width < k:
        best = np.pad(best, ((0, 0), (0, k - width)), constant_values=-1)
    return best.astype(np.int64)


def _best_columns(values: FloatArray, k: int) -> IntArray:
    """Give the k best columns of [Q, n], ascending; the first of those level at the k-th."""
    rows, n = values.shape
    if k >= n or k == 0:
        return np.tile(np.arange(k), (rows, 1))
    best = np.argpartition(-values, k - 1, axis=1)[:, :k]
    kept = np.take_along_axis(values, best, axis=1)
    edge = kept.min(axis=1, keepdims=True)
    many = (values == edge).sum(axis=1) > (kept == edge).sum(axis=1)
    many &= edge[:, 0] > -np.inf  # what can not be picked need not be told apart
    if many.any():  # more are level than there is room for, and argpartition kept any of them
        above, level = values[many] > edge[many], values[many] == edge[many]
        room = k - above.sum(axis=1, keepdims=True)
        chosen = above | (level & (np.cumsum(level, axis=1) <= room))
        best[many] = np.nonzero(chosen)[1].reshape(-1, k)
    return np.sort(best, axis=1)


def distinct(rows: IntArray) -> IntArray:
    """Sort each row and keep one of each value, -1 behind: [Q, C] to [Q, C]."""
    high = np.iinfo(np.int64).max
    ordered = np.sort(np.where(rows >= 0, rows, high), axis=1)
    again = np.zeros(ordered.shape, dtype=bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    kept = np.sort(np.where(again, high, ordered), axis=1)
    return np.where(kept == high, -1, kept)


def hits(ranked: IntArray, targets: Ragged, n_items: int) -> BoolArray:
    """Say which places of the lists [Q, k] hold a target."""
    keys = np.arange(len(ranked))[:, None] * n_items + ranked
    wanted = targets.owners * n_items + targets.values
    return np.isin(keys, wanted) & (ranked >= 0)


def ranking_metrics(hit: BoolArray, counts: IntArray) -> dict[str, Values]:
    """Compute Recall, NDCG, HR and MRR at each k from hits [Q, >= 50] and target counts [Q].

    Every value has shape [Q]; NaN where a query has no target.
    """
    gains = 1.0 / np.log2(np.arange(2, hit.shape[1] + 2))
    ideal = np.concatenate([[0.0], np.cumsum(gains)])
    wanted = np.where(counts > 0, counts, np.nan)
    values: dict[str, Values] = {}
    for k in KS:
        top = hit[:, :k]
        found = top.sum(axis=1)
        best = ideal[np.minimum(counts, k)]
        first = np.where(found > 0, top.argmax(axis=1) + 1.0, np.inf)
        there = np.where(counts > 0, 1.0, np.nan)
        values[f"recall@{k}"] = found / wanted
        values[f"ndcg@{k}"] = (top @ gains[:k]) / np.where(counts > 0, best, np.nan)
        values[f"hr@{k}"] = (found > 0) * there
        values[f"mrr@{k}"] = (1.0 / first) * there
    return values


def list_metrics(ranked: IntArray, popularity: FloatArray) -> dict[str, float]:
    """Compute coverage, novelty, popularity bias and Gini at each k from lists [Q, >= 50].

    `popularity` [n]: people who acted on each item in training. Novelty is the mean of
    -log2(share of actions), in bits; popularity bias is the mean popularity of what is shown over
    the mean over all items (1 is none); Gini is 0 where every item is shown equally often.
    """
    n = len(popularity)
    share = (popularity.astype(np.float64) + 1.0) / (float(popularity.sum()) + n)
    average = max(float(popularity.mean()), 1e-12) if n else 1.0
    values: dict[str, float] = {}
    for k in KS:
        shown = ranked[:, :k][ranked[:, :k] >= 0]
        exposure = np.bincount(shown, minlength=n)
        values[f"coverage@{k}"] = float((exposure > 0).mean()) if n else 0.0
        values[f"gini@{k}"] = gini(exposure.astype(np.float64))
        if len(shown):
            values[f"novelty@{k}"] = float(-np.log2(share[shown]).mean())
            values[f"popularity_bias@{k}"] = float(popularity[shown].mean()) / average
    return values


def gini(exposure: Values) -> float:
    """Measure how unequal exposure [n] is: 0 equal, towards 1 all on one item."""
    total = float(exposure.sum())
    n = len(exposure)
    if total <= 0.0:
        return 0.0
    ranked = np.sort(exposure)
    return float((2.0 * np.arange(1, n + 1) - n - 1.0) @ ranked / (n * total))


def per_user(values: Mapping[str, Values], user_rows: IntArray) -> dict[str, Values]:
    """Average the queries of each person; a person without a value is NaN: [people]."""
    people, owner = np.unique(user_rows, return_inverse=True)
    averaged: dict[str, Values] = {}
    for name, column in values.items():
        there = np.isfinite(column)
        total = np.bincount(owner[there], weights=column[there], minlength=len(people))
        count = np.bincount(owner[there], minlength=len(people))
        averaged[name] = np.divide(total, count, out=np.full(len(people), np.nan), where=count > 0)
    return averaged


def auc(labels: BoolArray, scores: FloatArray) -> float:
    """Compute the area under the ROC curve by ranks, ties at half; NaN with one class only."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2.0
    above = float(rank[place][labels].sum()) - positives * (positives + 1) / 2.0
    return above / (positives * negatives)


def log_loss(labels: BoolArray, probabilities: FloatArray) -> float:
    """Compute the mean negative log likelihood, probabilities clipped to [1e-7, 1 - 1e-7]."""
    if not len(labels):
        return float("nan")
    p = np.clip(probabilities.astype(np.float64), 1e-7, 1.0 - 1e-7)
    return float(-np.where(labels, np.log(p), np.log1p(-p)).mean())


def calibration_error(labels: BoolArray, probabilities: FloatArray, bins: int = 15) -> float:
    """Compute the expected calibration error over equally filled bins (Nixon et al., 2019).

    The mean over bins of |mean probability - share of positives|, weighted by size.
    """
    if not len(labels):
        return float("nan")
    order = np.argsort(probabilities, kind="stable")
    edges = np.linspace(0, len(order), min(bins, len(order)) + 1).astype(np.int64)
    error = 0.0
    for low, high in pairwise(edges.tolist()):
        part = order[low:high]
        gap = float(probabilities[part].mean(dtype=np.float64)) - float(labels[part].mean())
        error += abs(gap) * len(part)
    return error / len(order)
