"""The ensemble ranker's side of training: its rows, its orders, and how good its numbers are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.policy import ACTIONS, Action, Policy
from contracts.value import action_terms
from models.base import BoolArray, Family, FloatArray, IntArray
from models.normalise import QuantileTable
from models.ranker import EnsembleRanker
from training.candidates import Candidates, Families, order_by, pair_scores
from training.dataset import Dataset, Queries, histories
from training.labels import Impressions, next_action_labels
from training.metrics import LONGEST, auc, calibration_error, log_loss
from training.reading import FeatureSource
from training.recipes.ranker import RankerRows


@dataclass(frozen=True, slots=True)
class Shown:
    """Impressions as queries: one a person and feed."""

    queries: Queries
    rows: IntArray
    """[Q, C], -1 padded."""
    labels: FloatArray
    """[Q, C, A]."""


def shown_queries(data: Dataset, impressions: Impressions, most: int) -> Shown:
    """Group the newest impressions by person and feed; the moment is the first of the group."""
    newest = np.argsort(impressions.times_us, kind="stable")[-most:]
    kept = impressions[np.sort(newest)]
    feed = np.where(kept.feed_ids >= 0, kept.feed_ids, kept.times_us)
    _, group = np.unique(np.stack([kept.user_rows, feed]), axis=1, return_inverse=True)
    order = np.lexsort((kept.times_us, group))
    group, kept = group[order], kept[order]
    first = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
    place = np.arange(len(group)) - first[group]
    width = int(place.max(initial=0)) + 1
    rows = np.full((len(first), width), -1, dtype=np.int64)
    labels = np.zeros((len(first), width, len(ACTIONS)), dtype=np.float32)
    rows[group, place] = kept.item_rows
    labels[group, place] = kept.labels
    return Shown(_moments(data, kept.user_rows[first], kept.times_us[first]), rows, labels)


def _moments(data: Dataset, users: IntArray, now_us: IntArray) -> Queries:
    """Find where each person's known actions end at a moment."""
    begin, end = data.user_bounds()
    times = np.unique(np.concatenate([data.actions.times_us, now_us]))
    width = len(times) + 1
    keys = data.actions.user_rows * width + np.searchsorted(times, data.actions.times_us)
    cut = np.searchsorted(keys, users * width + np.searchsorted(times, now_us))
    return Queries(users, now_us, begin[users], cut, end[users])


def ask_features(
    data: Dataset, source: FeatureSource, queries: Queries, rows: IntArray, scores: FloatArray
) -> NDArray[np.float16]:
    """Compute the features of candidates [Q, C] as of each query: [Q, C, F]."""
    post_ids = np.where(rows >= 0, data.post_ids[np.maximum(rows, 0)], -1)
    viewers = data.viewer_ids[queries.user_rows]
    return source(viewers, queries.now_us, post_ids, scores)


def candidate_rows(
    data: Dataset, queries: Queries, candidates: Candidates, features: NDArray[np.float16]
) -> RankerRows:
    """Lay candidates of queries out as rows, labelled by what comes next."""
    labels = next_action_labels(data, queries, candidates.rows)
    return _flat(queries, candidates.rows, labels, features)


def shown_rows(
    data: Dataset,
    source: FeatureSource,
    shown: Shown,
    families: Families,
    normalisers: dict[Family, QuantileTable],
) -> RankerRows:
    """Lay impressions out as rows, labelled by what followed them."""
    scores = pair_scores(
        families, normalisers, histories(data, shown.queries), shown.rows, data.n_items
    )
    features = ask_features(data, source, shown.queries, shown.rows, scores)
    return _flat(shown.queries, shown.rows, shown.labels, features)


def _flat(
    queries: Queries, rows: IntArray, labels: FloatArray, features: NDArray[np.float16]
) -> RankerRows:
    there = rows >= 0
    groups = np.broadcast_to(queries.user_rows[:, None], rows.shape)
    return RankerRows(features[there], labels[there], groups[there])


def predict_values(
    ranker: EnsembleRanker, policy: Policy, features: NDArray[np.float16], there: BoolArray
) -> NDArray[np.float64]:
    """Fold predictions of features [Q, C, F] into one value a candidate, [Q, C]; NaN on padding."""
    values = np.full(there.shape, np.nan)
    flat = ranker.predict(features[there])
    values[there] = np.sum(list(action_terms(flat, policy).values()), axis=0)
    return values


def ensemble_lists(
    candidates: Candidates, values: NDArray[np.float64], rest: IntArray, k: int = LONGEST
) -> IntArray:
    """Order the union by value, then everything else as the blend has it: [Q, k].

    `rest` [Q, m]: the blend's own lists, long enough to fill up.
    """
    best = order_by(candidates.rows, values, k)
    short = np.flatnonzero((best < 0).any(axis=1))
    for query in short:
        have = best[query][best[query] >= 0]
        more = rest[query][(rest[query] >= 0) & ~np.isin(rest[query], candidates.rows[query])]
        filled = np.concatenate([have, more])[:k]
        best[query, : len(filled)] = filled
    return best


def prediction_metrics(ranker: EnsembleRanker, rows: RankerRows) -> dict[str, float]:
    """Judge each trained head on rows: AUC, log-loss, ECE; for dwell its error and bias."""
    predicted = ranker.predict(rows.features)
    found: dict[str, float] = {}
    for column, action in enumerate(ACTIONS):
        known = np.isfinite(rows.labels[:, column])
        if not ranker.trained[column] or not known.any():
            continue
        truth, guess = rows.labels[known, column], predicted[known, column]
        if action is Action.DWELL:
            found["dwell.mae_seconds"] = float(np.abs(truth - guess).mean())
            found["dwell.predicted_over_true"] = float(guess.mean() / max(truth.mean(), 1e-9))
            continue
        found[f"{action}.auc"] = auc(truth > 0, guess)
        found[f"{action}.log_loss"] = log_loss(truth > 0, guess)
        found[f"{action}.ece"] = calibration_error(truth > 0, guess)
        found[f"{action}.rate"] = float((truth > 0).mean())
    return found
