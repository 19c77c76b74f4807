"""Drift: how what came since a bundle was trained differs from what it was tested on.

Both windows lie after all that the bundle has learned, so that no score in either is better for
having been trained on: the one before is its test, the one after what the log has gained since.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from contracts.clock import DAY_US
from contracts.policy import ACTIONS, FAMILIES, Action
from features.event_arrays import int_column
from features.views import FEATURES
from models.bundle import Bundle
from training.champion import AlignedBundle
from training.ensemble import predict_values, shown_queries, shown_rows
from training.intervals import Interval, bootstrap_means, interval
from training.labels import Impressions
from training.reading import TrainingData
from training.recipes.ranker import RankerRows

PSI_SHIFTED: Final = 0.25
"""Population stability index from which a distribution counts as another (Siddiqi 2006)."""
_COMMON: Final = 0.05
"""Share of the rows from which a value on an edge between tenths has a bin of its own."""
SHIFTED_SHARE: Final = 0.2
"""A retrain is due when more than this share of the features has shifted."""
LOW, HIGH = 0.8, 1.25
"""Observed over predicted: due where a head's whole interval lies outside."""
UNKNOWN_SHARE: Final = 0.3
"""Due when more than this share of what was shown lately is unknown to the bundle."""
FEWEST: Final = 300
"""Rows of a window below which nothing is concluded from it."""
MOST: Final = 20_000
"""Newest impressions of each window that are compared."""
SCORES: Final = (*FAMILIES, "value of the ensemble")

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shift:
    """How one distribution moved."""

    name: str
    psi: float
    ks: float
    before: float
    """Mean before."""
    after: float


@dataclass(frozen=True, slots=True)
class DriftReport:
    """What has changed since the bundle was trained, and whether that calls for another."""

    bundle_id: str
    rows: tuple[int, int]
    """Shown posts compared, before and after."""
    days: float
    """Time that the log has gained since."""
    due: bool = False
    why: str = ""
    features: Sequence[Shift] = ()
    """Worst first."""
    scores: Sequence[Shift] = ()
    """Of each family, and of the ensemble's value."""
    scores_from: str = "nothing"
    calibration: Mapping[str, Interval] = field(default_factory=dict)
    """Head -> observed over predicted on what came since; 1 is calibrated."""
    unknown: Mapping[str, float] = field(default_factory=dict)
    """Share of people and of shown posts since that the bundle never learned of."""


def drift_of(
    bundle: Bundle, data: TrainingData, served: tuple[Values, Values] | None = None
) -> DriftReport:
    """Compare two windows. `served`: scores [n, families + 1] of the first and newest decision
    records (families, then value); without them the scores are those of what was shown."""
    shown = data.impressions or _acted(data)
    since, late = since_us(bundle, data), shown.times_us > since_us(bundle, data)
    early = (shown.times_us > bundle.manifest.data.last_us) & ~late
    sizes = int(early.sum()), int(late.sum())
    days = (int(shown.times_us.max(initial=since)) - since) / DAY_US
    report = DriftReport(bundle.bundle_id, sizes, days)
    if min(sizes) < FEWEST:
        why = f"nothing can be said yet: {sizes[0]} and {sizes[1]} rows, {FEWEST} is the least"
        return replace(report, why=why)
    aligned = AlignedBundle.of(bundle, data.dataset)
    before, after = (_rows(data, aligned, shown[window]) for window in (early, late))
    shifts = shifts_of(FEATURES, before.features, after.features)
    scored = served or (_scores(bundle, before), _scores(bundle, after))
    claimed = bundle.manifest.calibrated and data.impressions is not None
    report = replace(
        report,
        rows=(len(before.labels), len(after.labels)),
        features=sorted(shifts, key=lambda s: -s.psi),
        scores=shifts_of(SCORES, *scored),
        scores_from="decision records" if served else "what was shown, scored again",
        calibration=calibration_of(bundle, after) if claimed else {},
        unknown=_unknown(bundle, data, shown[late], since),
    )
    reasons = list(_reasons(report))
    calm = "features, scores and calibration are as they were"
    return replace(report, due=bool(reasons), why="; ".join(reasons) or calm)


def since_us(bundle: Bundle, data: TrainingData) -> int:
    """Give the newest moment of the log as it was when the bundle was trained."""
    events = data.features.frames.events
    known = int_column(events, "seq") <= bundle.manifest.data.up_to_seq
    return int(int_column(events, "event_time")[known].max(initial=0))


def shifts_of(
    names: Sequence[str], before: NDArray[np.floating], after: NDArray[np.floating]
) -> list[Shift]:
    """Compare the columns of two samples [n, k] and [m, k]; nulls (NaN) are a bin of their own."""
    pairs = zip(before.T.astype(np.float64), after.T.astype(np.float64), strict=True)
    return [
        Shift(name, psi(one, other), ks(one, other), _mean(one), _mean(other))
        for name, (one, other) in zip(names, pairs, strict=True)
    ]


def psi(before: Values, after: Values) -> float:
    """Sum (q - p) log(q / p) over tenths of `before`, shares at least 1e-4; 0 is no shift.

    An edge that many share is a bin of its own, or it would hide what falls below it.
    """
    known = before[np.isfinite(before)]
    edges = np.unique(np.quantile(known, np.arange(1, 10) / 10)) if len(known) else known
    common = np.array([*(np.mean(known == edge) >= _COMMON for edge in edges), False])

    def shares(values: Values) -> Values:
        left, right = (np.searchsorted(edges, values, side) for side in ("left", "right"))
        bins = np.where(np.isnan(values), 2 * len(edges) + 1, 2 * left)
        bins += (right > left) & common[left]
        return np.maximum(np.bincount(bins, minlength=2 * len(edges) + 2) / len(values), 1e-4)

    p, q = shares(before), shares(after)
    return float(((q - p) * np.log(q / p)).sum())


def ks(before: Values, after: Values) -> float:
    """Give the largest gap of the two distribution functions (Kolmogorov and Smirnov).

    1 where only one of them has a value.
    """
    one, other = (np.sort(values[np.isfinite(values)]) for values in (before, after))
    grid = np.concatenate([one, other])
    p, q = (np.searchsorted(v, grid, side="right") / max(len(v), 1) for v in (one, other))
    return float(np.abs(p - q).max(initial=0.0))


def calibration_of(bundle: Bundle, rows: RankerRows, seed: int = 0) -> dict[str, Interval]:
    """Divide what happened by what was predicted, a head, with a 95 % interval over people."""
    predicted = bundle.ranker.predict(rows.features)
    people, owner = np.unique(rows.groups, return_inverse=True)
    found: dict[str, Interval] = {}
    for column, action in enumerate(ACTIONS):
        if action is Action.DWELL or not bundle.ranker.trained[column]:
            continue
        pair = (rows.labels[:, column] > 0, predicted[:, column])
        each = [np.bincount(owner, v.astype(np.float64), len(people)) for v in pair]
        sums: Values = np.stack(each, axis=1).astype(np.float64)
        happened, expected = bootstrap_means(sums, seed).T
        ratio = float(sums[:, 0].sum() / sums[:, 1].sum())
        found[action.value] = interval(ratio, happened / expected)
    return found


def draw(report: DriftReport, path: Path) -> None:
    """Draw the ten features that moved most, and each head's calibration."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    worst = [*report.features[:10]][::-1]
    left.barh([s.name for s in worst], [s.psi for s in worst])
    left.axvline(PSI_SHIFTED, color="tab:red", linewidth=1)
    left.set_xlabel("population stability index")
    for name, found in report.calibration.items():
        right.plot([found.low, found.mean, found.high], [name] * 3, "|-", color="tab:blue")
    right.axvline(1.0, color="grey", linewidth=1)
    right.set_xlabel("observed over predicted, 95 % interval")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _acted(data: TrainingData) -> Impressions:
    """Take actions for impressions where none are known; their labels say nothing."""
    actions = data.dataset.actions
    labels = np.zeros((len(actions), len(ACTIONS)), dtype=np.float32)
    none = np.full(len(actions), -1, dtype=np.int64)
    return Impressions(actions.user_rows, actions.item_rows, actions.times_us, none, labels)


def _rows(data: TrainingData, aligned: AlignedBundle, shown: Impressions) -> RankerRows:
    asked, scales = shown_queries(data.dataset, shown, MOST), dict(aligned.bundle.normalisers)
    return shown_rows(data.dataset, data.features, asked, aligned.families, scales)


def _scores(bundle: Bundle, rows: RankerRows) -> NDArray[np.floating]:
    """Give the families' scores and the ensemble's value of each row, [n, families + 1]."""
    there = np.ones((len(rows.features), 1), dtype=np.bool_)
    values = predict_values(bundle.ranker, bundle.policy, rows.features[:, None, :], there)
    return np.concatenate([rows.features[:, -len(FAMILIES) :], values], axis=1)


def _unknown(
    bundle: Bundle, data: TrainingData, shown: Impressions, since: int
) -> dict[str, float]:
    actions = data.dataset.actions
    strange = ~np.isin(np.unique(shown.user_rows), actions.user_rows[actions.times_us <= since])
    posts = bundle.rows_of(data.dataset.post_ids)[shown.item_rows]
    return {"people": float(strange.mean()), "posts": float((posts < 0).mean())}


def _mean(values: Values) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _reasons(report: DriftReport) -> Iterator[str]:
    """Say each thing that makes a retrain due."""
    moved = [s for s in report.features if s.psi > PSI_SHIFTED]
    if len(moved) > SHIFTED_SHARE * len(report.features):
        worst = f"{moved[0].name} most (PSI {moved[0].psi:.2f})"
        yield f"{len(moved)} of {len(report.features)} features have shifted, {worst}"
    for score in report.scores:
        if score.psi > PSI_SHIFTED:
            yield f"scores have shifted: {score.name} (PSI {score.psi:.2f})"
    for name, found in report.calibration.items():
        if found.high < LOW or found.low > HIGH:
            yield f"{name} happens {found.text(2)} times as often as predicted"
    for what, share in report.unknown.items():
        if share > UNKNOWN_SHARE:
            yield f"{share:.0%} of the {what} shown lately are unknown to the bundle"
