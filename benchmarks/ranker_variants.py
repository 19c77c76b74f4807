"""The ranker's trunk against others, its calibration, and what each group of features is worth.

`make bench NAME=ranker_variants ARGS="--data ml-100k=../shared/data/ml-100k"`: the simulated world,
and MovieLens where its folder is given. Three fits a variant, each with a seed of its own: fit k
learns from people outside fold k and is judged on those of fold k, later in time where impressions
are known. Changes are against the present ranker, with 95 % of 1,000 paired bootstrap resamples of
people; the areas under the curve are resampled in linear form (Obuchowski, Biometrics 1997).
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from benchmarks.measure import finish, percentiles
from benchmarks.ranker_networks import VARIANTS, Variant
from benchmarks.ranker_rows import Judging
from contracts.policy import ACTIONS, Action, Policy
from contracts.value import action_terms
from features.views import (
    AUTHOR_FEATURES,
    FAMILY_FEATURES,
    FEATURES,
    POST_FEATURES,
    VIEWER_FEATURES,
)
from models.base import BoolArray, FloatArray, TrainingContext
from training.intervals import RESAMPLES, interval
from training.metrics import ranking_metrics
from training.recipes.ranker import (
    Members,
    RankerRecipeConfig,
    RankerRows,
    fit_members,
    held_people,
)

FOLDS, RATES, BINS = 3, (1e-3, 3e-3), 15
COLUMNS = ("data", "model", "rate", "parameters", "fit_s", "p50_ms", "p95_ms", "ndcg@20", "change")
HEADS = (
    "data", "model", "head", "auc", "auc_change", "log_loss", "log_loss_change", "ece",
    "ece_change", "predicted/true",
)  # fmt: skip
_DWELL = ACTIONS.index(Action.DWELL)
_POST, _VIEWER, _AUTHOR, _SCORES = (
    tuple(f.name for f in table)
    for table in (POST_FEATURES, VIEWER_FEATURES, AUTHOR_FEATURES, FAMILY_FEATURES)
)
GROUPS: dict[str, tuple[str, ...]] = {
    "post: age": ("post_age",),
    "post: counts": tuple(n for n in _POST if n.endswith(("_6h", "_24h", "_7d", "_all", "_rate"))),
    "post: text": ("post_text_length", "post_text_words", "post_topics", "post_has_question",
                   "post_has_url"),
    "author": _AUTHOR,
    "viewer": _VIEWER,
    "cross: follows the author": ("in_network",),
    "cross: history with the author": tuple(
        n for n in FEATURES if n in {"author_affinity", "author_hours_since", "author_seen_count"}
    ),
    "cross: topics": ("topic_affinity", "topic_share"),
    "cross: language": ("same_language",),
    "all family scores": _SCORES,
    **{name: (name,) for name in _SCORES},
}  # fmt: skip
Sums = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one variant predicted for people it had not seen."""

    predicted: FloatArray
    """[judged rows, A]; NaN where a head had too little data."""
    ndcg: Sums
    """[Q]."""
    members: list[Members]
    """One a fold."""
    seconds: float
    """Mean of a fit."""


class Judge:
    """One set with its folds and its resamples of people."""

    def __init__(self, name: str, data: Judging) -> None:
        self.name, self.data = name, data
        people = int(max(data.people.max(), data.list_people.max())) + 1
        self.fold = np.random.default_rng(0).permutation(people) % FOLDS
        self.late = np.flatnonzero(data.late)
        _, self.owner = np.unique(data.people[self.late], return_inverse=True)
        self.draws = _draws(int(self.owner.max()) + 1)
        self.list_draws = _draws(len(data.list_people))
        self.labels = data.labels[self.late]

    def fit(self, variant: Variant, rate: float, fold: int, hidden: BoolArray) -> Members:
        """Fit on the early rows of everybody outside a fold, some features hidden."""
        recipe = RankerRecipeConfig(learning_rate=rate)
        shape = recipe.shape.model_copy(update={"hidden": variant.hidden})
        config = recipe.model_copy(update={"shape": shape})
        return fit_members(self.rows(fold, hidden), config, TrainingContext(fold, 1), variant.build)

    def rows(self, fold: int, hidden: BoolArray) -> RankerRows:
        """Give what a fold's ranker learns from."""
        data = self.data
        learn = data.early & (self.fold[data.people] != fold)
        features = np.where(hidden, np.float16(np.nan), data.features[learn])
        return RankerRows(features, data.labels[learn], data.people[learn])

    def run(self, variant: Variant, rate: float, hidden: BoolArray) -> Outcome:
        """Fit and predict every fold."""
        data, members, spent = self.data, [], 0.0
        predicted = np.full(self.labels.shape, np.nan, dtype=np.float32)
        values = np.full(data.list_rows.shape, np.nan)
        for fold in range(FOLDS):
            start = perf_counter()
            members.append(self.fit(variant, rate, fold, hidden))
            spent += perf_counter() - start
            mine = self.fold[data.people[self.late]] == fold
            asked = np.where(hidden, np.float16(np.nan), data.features[self.late[mine]])
            guess = variant.predict(members[-1], asked)
            predicted[mine] = np.where(members[-1].trained, guess, np.nan)
            there = (data.list_rows >= 0) & (self.fold[data.list_people] == fold)[:, None]
            asked = np.where(hidden, np.float16(np.nan), data.list_features[there])
            terms = action_terms(variant.predict(members[-1], asked), Policy(name="e"))
            values[there] = np.sum(list(terms.values()), axis=0)
        return Outcome(predicted, self.ndcg(values), members, spent / FOLDS)

    def ndcg(self, values: Sums) -> Sums:
        """Judge lists of candidates by value [Q, C]: NDCG@20, [Q]."""
        ready = np.where(np.isfinite(values), values, -np.inf)
        order = np.lexsort((self.data.list_rows, -ready), axis=1)[:, :50]
        hit = np.take_along_axis(self.data.list_hits, order, axis=1)
        return ranking_metrics(hit, self.data.list_targets)["ndcg@20"]

    def heads(self, model: str, predicted: FloatArray, base: FloatArray) -> list[dict[str, Any]]:
        """Judge every head against the same head of `base`."""
        rows = []
        for column, action in enumerate(ACTIONS):
            sums, theirs = (self._sums(p[:, column], column) for p in (predicted, base))
            if sums is None or theirs is None:
                continue
            row: dict[str, Any] = {"data": self.name, "model": model, "head": action.value}
            mine, other = _fold(sums.sum(axis=0)), _fold(theirs.sum(axis=0))
            drawn = [_fold(self.draws @ s, s.sum(axis=0)) for s in (sums, theirs)]
            for metric, value in mine.items():
                row[metric] = float(value)
                change = interval(value - other[metric], drawn[0][metric] - drawn[1][metric])
                row[f"{metric}_change"] = _rounded(change)
            rows.append(row)
        return rows

    def _sums(self, guess: FloatArray, column: int) -> Sums | None:
        """Sum what the metrics of a head are made of, a row a person: [people, 8 + BINS]."""
        known = np.isfinite(guess) & np.isfinite(self.labels[:, column])
        if not known.all():
            return None
        p, y = guess.astype(np.float64), self.labels[:, column].astype(np.float64)
        positive = y > 0
        above, below = np.sort(p[~positive]), np.sort(p[positive])
        if column == _DWELL:
            loss = (np.log1p(p) - np.log1p(y)) ** 2
        else:
            clipped = np.clip(p, 1e-7, 1 - 1e-7)
            loss = -np.where(positive, np.log(clipped), np.log1p(-clipped))
        parts = [
            loss, np.ones(len(p)), p, y, _share_below(above, p) * positive, positive,
            (1.0 - _share_below(below, p)) * ~positive, ~positive,
        ]  # fmt: skip
        place = np.empty(len(p), dtype=np.int64)
        place[np.argsort(p, kind="stable")] = np.arange(len(p)) * BINS // len(p)
        parts += [np.where(place == k, p - y, 0.0) for k in range(BINS)]
        return np.stack([np.bincount(self.owner, weights=part) for part in parts], axis=1)


def _fold(sums: Sums, total: Sums | None = None) -> dict[str, Any]:
    """Turn sums [..., 8 + BINS] into metrics; resamples of the AUC are linear around `total`."""
    loss, n, p, y, won, positives, lost, negatives = np.moveaxis(sums[..., :8], -1, 0)
    around = sums if total is None else total
    auc = won / positives + lost / negatives - around[4] / around[5]
    ece = np.abs(sums[..., 8:]).sum(axis=-1) / n
    return {"auc": auc, "log_loss": loss / n, "ece": ece, "predicted/true": p / y}


def _share_below(ordered: Sums, values: Sums) -> Sums:
    """Give the share of sorted values below each value, ties at half."""
    left, right = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    share: Sums = (left + right) / (2.0 * max(len(ordered), 1))
    return share


def _draws(people: int) -> Sums:
    generator = np.random.default_rng(0)
    return generator.multinomial(people, np.full(people, 1 / people), RESAMPLES).astype(np.float64)


def _rounded(values: tuple[float, ...]) -> list[float]:
    return [round(float(value), 6) for value in values]


def _lists(judge: Judge, model: str, ndcg: Sums, base: Sums) -> dict[str, Any]:
    """Give NDCG@20 and its change, over all people and by fold."""
    gain, fold = ndcg - base, judge.fold[judge.data.list_people]
    change = interval(float(gain.mean()), judge.list_draws @ gain / len(gain))
    return {
        "data": judge.name,
        "model": model,
        "ndcg@20": float(ndcg.mean()),
        "change": _rounded(change),
        "change_by_seed": _rounded(tuple(gain[fold == k].mean() for k in range(FOLDS))),
    }


def compare(judge: Judge) -> tuple[Outcome, list[dict[str, Any]], list[dict[str, Any]]]:
    """Judge every variant; each may choose its learning rate by the people who stop its fit."""
    none, found, rates = np.zeros(len(FEATURES), dtype=bool), {}, {}
    for variant in VARIANTS:
        print(f"  {judge.name}: {variant.name}", flush=True)
        tried = {
            rate: np.mean([max(r.scores) for r in judge.fit(variant, rate, 0, none).reports])
            for rate in RATES
        }
        present = variant is VARIANTS[0]
        rates[variant.name] = RATES[-1] if present else max(RATES, key=lambda r: tried[r])
        found[variant.name] = judge.run(variant, rates[variant.name], none)
    base = found[VARIANTS[0].name]
    times = _latency({v: found[v.name].members[0] for v in VARIANTS}, judge.data.features[:1000])
    models, heads = [], []
    for variant in VARIANTS:
        mine = found[variant.name]
        sizes = (array.size for array in mine.members[0].weights.values())
        models.append({
            **_lists(judge, variant.name, mine.ndcg, base.ndcg),
            "rate": rates[variant.name],
            "parameters": sum(sizes),
            "fit_s": round(mine.seconds, 2),
            **times[variant.name],
        })  # fmt: skip
        heads += judge.heads(variant.name, mine.predicted, base.predicted)
    return base, models, heads


def _latency(fitted: dict[Variant, Members], rows: NDArray[np.float16]) -> dict[str, Any]:
    """Time variants in turn, so that a busy moment hits all of them."""
    spent: dict[str, list[float]] = {variant.name: [] for variant in fitted}
    for _ in range(300):
        for variant, members in fitted.items():
            start = perf_counter()
            variant.predict(members, rows)
            spent[variant.name].append(perf_counter() - start)
    return {name: percentiles(times[20:]) for name, times in spent.items()}


def calibrate(judge: Judge, base: Outcome) -> list[dict[str, Any]]:
    """Map the present ranker's numbers by what the people who stopped its fit did."""
    maps = {"Platt": _platt, "isotonic": _isotonic, "one factor": _factor}
    mapped = {name: base.predicted.copy() for name in maps}
    fold_of = judge.fold[judge.data.people[judge.late]]
    for fold, members in enumerate(base.members):
        rows = judge.rows(fold, np.zeros(len(FEATURES), dtype=bool))
        held = held_people(rows.groups, RankerRecipeConfig().held_share, fold)
        known = VARIANTS[0].predict(members, rows.features[held])
        for column in np.flatnonzero(members.trained):
            truth, mine = rows.labels[held, column], fold_of == fold
            for name, fit in maps.items():
                if (column == _DWELL and fit is not _factor) or not (truth > 0).any():
                    continue
                asked = base.predicted[mine, column]
                mapped[name][mine, column] = fit(known[:, column], truth, asked)
    return [
        row
        for name, predicted in {"as it is": base.predicted, **mapped}.items()
        for row in judge.heads(name, predicted, base.predicted)
    ]


def _platt(known: FloatArray, truth: FloatArray, asked: FloatArray) -> FloatArray:
    def logit(p: FloatArray) -> FloatArray:
        clipped = np.clip(p.astype(np.float64), 1e-7, 1 - 1e-7)
        return np.log(clipped / (1 - clipped))[:, None]

    model = LogisticRegression(C=1e6).fit(logit(known), truth > 0)
    return model.predict_proba(logit(asked))[:, 1]


def _isotonic(known: FloatArray, truth: FloatArray, asked: FloatArray) -> FloatArray:
    model = IsotonicRegression(y_min=1e-6, y_max=1 - 1e-6, out_of_bounds="clip")
    return model.fit(known, truth > 0).predict(asked)


def _factor(known: FloatArray, truth: FloatArray, asked: FloatArray) -> FloatArray:
    return asked * (truth.mean() / known.mean())


def ablate(judge: Judge, base: Outcome) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Fit the present ranker without each group of features."""
    lists, heads = [], []
    for name, group in GROUPS.items():
        print(f"  {judge.name}: without {name}", flush=True)
        mine = judge.run(VARIANTS[0], RATES[-1], np.isin(FEATURES, group))
        lists.append({**_lists(judge, name, mine.ndcg, base.ndcg), "features": len(group)})
        heads += judge.heads(name, mine.predicted, base.predicted)
    return lists, heads


def main() -> None:
    """Compare, calibrate and ablate on each set, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", action="append", default=[], help="name=folder of a further set")
    folders = {"world": None} | {
        name: Path(folder) for name, folder in (d.split("=") for d in parser.parse_args().data)
    }
    tables: dict[str, list[dict[str, Any]]] = {}
    for name, folder in folders.items():
        judge = Judge(name, Judging.of(name, folder))
        base, models, heads = compare(judge)
        without = ablate(judge, base)
        parts = (models, heads, calibrate(judge, base), *without)
        for table, rows in zip(
            ("", "_heads", "_calibration", "_ablation", "_ablation_heads"), parts, strict=True
        ):
            tables.setdefault(table, []).extend(rows)
    for table, rows in tables.items():
        columns = HEADS if "head" in rows[0] else COLUMNS
        finish(f"ranker_variants{table}", rows, columns)


if __name__ == "__main__":
    main()
