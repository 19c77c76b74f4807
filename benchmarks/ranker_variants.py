"""The ranker's trunk against others, its calibration, and what each group of features is worth.

`make bench NAME=ranker_variants ARGS="--data ml-100k=../shared/data/ml-100k"`: the simulated world,
and sets whose folder is given. Three fits a model, each with a seed of its own: fit k learns from
people outside fold k and is judged on those of fold k, later in time where impressions are known.
Changes are against the present ranker, with 95 % of 1,000 paired bootstrap resamples of people;
areas under the curve are resampled in linear form (Obuchowski, Biometrics 1997). The loss of dwell
is the Poisson deviance: least where the prediction is the mean of the seconds.
"""

import argparse
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import finish, percentiles
from benchmarks.ranker_networks import VARIANTS, Variant
from benchmarks.ranker_rows import Judging, rows_of
from contracts.policy import ACTIONS, Action, Policy
from features import views
from models.base import FloatArray
from models.ranker import EnsembleRanker
from training.ensemble import predict_values
from training.intervals import RESAMPLES, interval
from training.metrics import ranking_metrics
from training.recipes.ranker import RankerRows

FOLDS, BINS = 3, 15
HEAD_COLUMNS = (
    "data", "model", "head", "auc", "auc_change", "log_loss", "log_loss_change", "ece",
    "ece_change", "predicted/true",
)  # fmt: skip
SHOWN = (Action.CLICK, Action.LIKE, Action.COMMENT, Action.DWELL)
"""The heads whose log-loss the short table tells; it names the others where they changed."""
GROUPS = {
    "post age": views.POST_FEATURES[:1],
    "post counts": views.POST_FEATURES[1:-5],
    "post text": views.POST_FEATURES[-5:],
    "author": views.AUTHOR_FEATURES,
    "viewer": views.VIEWER_FEATURES,
    "follows the author": views.CROSS_FEATURES[:1],
    "history with the author": views.CROSS_FEATURES[1:4],
    "topics": views.CROSS_FEATURES[4:6],
    "language": views.CROSS_FEATURES[6:],
    "all family scores": views.FAMILY_FEATURES,
    **{feature.name: (feature,) for feature in views.FAMILY_FEATURES},
}
Floats = NDArray[np.float64]
Run = tuple[FloatArray, Floats, list[EnsembleRanker], float]
"""Predictions of the judged rows [n, A], NDCG@20 of lists [Q], a ranker a fold, seconds a fit."""


class Judge:
    """One set with its folds and its resamples of people."""

    def __init__(self, name: str, data: Judging) -> None:
        self.name, self.data, self.labels = name, data, data.labels[data.late]
        fold = np.random.default_rng(0).permutation(
            max(data.people.max(), data.list_people.max()) + 1
        )
        self.fold, self.asked, self.listed = (
            fold[people] % FOLDS
            for people in (data.people, data.people[data.late], data.list_people)
        )
        self.owner = np.unique(data.people[data.late], return_inverse=True)[1]
        self.draws, self.list_draws = (
            np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(float)
            for n in (self.owner.max() + 1, len(self.listed))
        )

    def rows(self, fold: int, hide: NDArray[np.bool_]) -> RankerRows:
        """Give what a fold's ranker learns from, some features hidden."""
        data, learn = self.data, self.data.early & (self.fold != fold)
        features = np.where(hide, np.float16(np.nan), data.features[learn])
        return RankerRows(features, data.labels[learn], data.people[learn])

    def run(self, variant: Variant, rate: float, hidden: tuple[views.Feature, ...] = ()) -> Run:
        """Fit and predict every fold."""
        data, hide = self.data, np.isin(views.FEATURES, [feature.name for feature in hidden])
        predicted, rankers, spent = np.full_like(self.labels, np.nan), [], 0.0
        values = np.full(data.list_rows.shape, -np.inf)
        for fold in range(FOLDS):
            rows, start = self.rows(fold, hide), perf_counter()
            ranker, _ = variant.fit(rows, rate, fold)
            spent += (perf_counter() - start) / FOLDS
            mine, lists = self.asked == fold, self.listed == fold
            asked = np.where(hide, np.float16(np.nan), data.features[data.late][mine])
            predicted[mine] = np.where(ranker.trained, ranker.predict(asked), np.nan)
            asked = np.where(hide, np.float16(np.nan), data.list_features[lists])
            there = data.list_rows[lists] >= 0
            values[lists] = predict_values(ranker, Policy(name="e"), asked, there)
            rankers.append(ranker)
        order = np.lexsort((data.list_rows, -np.nan_to_num(values, nan=-np.inf)), axis=1)[:, :50]
        hit = np.take_along_axis(data.list_hits, order, axis=1)
        return predicted, ranking_metrics(hit, data.list_targets)["ndcg@20"], rankers, spent

    def rows_against(self, model: str, run: Run, base: Run) -> list[dict[str, Any]]:
        """Judge lists and every head against those of `base`."""
        gain = run[1] - base[1]
        found: list[dict[str, Any]] = [{
            "head": "lists",
            "ndcg@20": run[1].mean(),
            "ndcg@20_change": _interval(gain.mean(), self.list_draws @ gain / len(gain)),
            "ndcg@20_change_by_seed": [gain[self.listed == k].mean() for k in range(FOLDS)],
        }]  # fmt: skip
        for column in np.flatnonzero(np.isfinite(run[0] * base[0] * self.labels).all(axis=0)):
            sums = [self._sums(predicted[:, column], column) for predicted in (run[0], base[0])]
            mine, other = (_metrics(s.sum(axis=0), s.sum(axis=0)) for s in sums)
            drawn = [_metrics(self.draws @ s, s.sum(axis=0)) for s in sums]
            changes = {
                f"{k}_change": _interval(mine[k] - other[k], drawn[0][k] - drawn[1][k])
                for k in mine
            }
            found.append({"head": ACTIONS[column].value, **mine, **changes})
        return [{"data": self.name, "model": model, **row} for row in found]

    def _sums(self, guess: FloatArray, column: int) -> Floats:
        """Sum what the metrics of a head are made of, a row a person: [people, 8 + BINS]."""
        p, y = guess.astype(float), self.labels[:, column].astype(float)
        yes, safe = y > 0, np.clip(guess.astype(float), 1e-7, None)
        losses, won, lost = -np.log(np.where(yes, safe, np.maximum(1 - p, 1e-7))), p * 0, p * 0
        if ACTIONS[column] is Action.DWELL:
            losses = 2 * (np.where(yes, y * np.log(np.maximum(y, 1e-7) / safe), 0) - y + safe)
        won[yes], lost[~yes] = _share_below(p[~yes], p[yes]), _share_below(-p[yes], -p[~yes])
        place = np.argsort(np.argsort(p, kind="stable")) * BINS // len(p)
        bins = [(p - y) * (place == k) for k in range(BINS)]
        parts = [losses, np.ones(len(p)), p, y, won, yes, lost, ~yes, *bins]
        return np.stack([np.bincount(self.owner, weights=part) for part in parts], axis=1)


def _metrics(sums: Floats, around: Floats) -> dict[str, Any]:
    """Turn sums [..., 8 + BINS] into metrics; the AUC is linear around that of all people."""
    loss, n, p, y, won, yes, lost, no = np.moveaxis(sums[..., :8], -1, 0)
    auc = won / yes + lost / no - around[4] / around[5]
    ece = np.abs(sums[..., 8:]).sum(axis=-1) / n
    return {"auc": auc, "log_loss": loss / n, "ece": ece, "predicted/true": p / y}


def _share_below(those: Floats, values: Floats) -> Floats:
    """Give the share of `those` below each value, ties at half."""
    left, right = (np.searchsorted(np.sort(those), values, side=s) for s in ("left", "right"))
    return (left + right) / (2.0 * len(those))


def _interval(change: float, drawn: Floats) -> list[float]:
    return [round(float(value), 6) for value in interval(change, drawn)]


def compare(judge: Judge) -> tuple[Run, list[dict[str, Any]]]:
    """Judge every variant; where it has two rates, the people who stop its fit choose."""
    runs: dict[Variant, tuple[float, Run]] = {}
    rows = judge.rows(0, np.zeros(len(views.FEATURES), dtype=bool))
    for variant in VARIANTS:
        print(f"  {judge.name}: {variant.name}", flush=True)
        tried = variant.rates[1:] and {
            variant.fit(rows, rate, 0)[1]: rate for rate in variant.rates
        }
        rate = tried[max(tried)] if tried else variant.rates[0]
        runs[variant] = rate, judge.run(variant, rate)
    base, spent = runs[VARIANTS[0]][1], {variant: list[float]() for variant in VARIANTS}
    for variant in VARIANTS * 300:  # in turn, so that a busy moment hits all of them
        start = perf_counter()
        runs[variant][1][2][0].predict(judge.data.features[:1000])
        spent[variant].append(perf_counter() - start)
    found = []
    for variant, (rate, run) in runs.items():
        lists, *heads = judge.rows_against(variant.name, run, base)
        size = sum(array.size for array in run[2][0].weights.values())
        cost = {"parameters": size, "rate": rate, "fit_s": run[3], **percentiles(spent[variant])}
        found += [{**lists, **cost}, *heads]
    return base, found


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tell a model in one row: its lists, its heads' log-loss, its cost; changes as text."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        data, model, head = row["data"], row["model"], row["head"]
        blank: dict[str, Any] = {"data": data, "model": model, "better": [], "worse": []}
        mine = found.setdefault((data, model), blank)
        if head == "lists":
            mine |= {"ndcg@20": row["ndcg@20"], "its change": _told(row["ndcg@20_change"])}
            mine |= {name: row.get(name) for name in ("parameters", "p50_ms", "p95_ms", "fit_s")}
        else:
            _, low, high = row["log_loss_change"]
            if head in SHOWN:
                mine[f"log-loss: {head}"] = _told(row["log_loss_change"])
            if low > 0 or high < 0:
                mine["worse" if low > 0 else "better"].append(head)
    for row in found.values():  # last in the table
        row |= {f"heads {name}": ", ".join(row.pop(name)) for name in ("better", "worse")}
    return list(found.values())


def _told(change: list[float]) -> str:
    """Write a change with its interval; bold where that excludes 0, nothing for no change."""
    if not any(change):
        return ""
    text = "{:+.4f} [{:.4f}, {:.4f}]".format(*change)
    return f"**{text}**" if change[1] > 0 or change[2] < 0 else text


def main() -> None:
    """Compare and ablate on each set, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", action="append", default=[], help="name=folder of a further set")
    sets = [("world", None), *(d.split("=") for d in parser.parse_args().data)]
    rows: list[dict[str, Any]] = []
    for name, folder in sets:
        judge = Judge(name, rows_of(name, folder and Path(folder)))
        base, found = compare(judge)
        rows += found
        for group, features in GROUPS.items():
            print(f"  {name}: without {group}", flush=True)
            run = judge.run(VARIANTS[0], VARIANTS[0].rates[0], features)
            rows += judge.rows_against(f"without {group}", run, base)
    finish("ranker_variants", [row for row in rows if row["head"] != "lists"], HEAD_COLUMNS)
    finish("ranker", short := summary(rows), tuple(dict.fromkeys(k for row in short for k in row)))


if __name__ == "__main__":
    main()
