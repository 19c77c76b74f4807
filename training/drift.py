"""Drift: how what came since a bundle was trained differs from what it was tested on.

Both windows lie after all that the bundle has learned, so that no score in either is better for
having been trained on: the one before is its test, the one after what the log has gained since.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
from models.base import BoolArray
from models.bundle import Bundle
from training.champion import AlignedBundle
from training.ensemble import predict_values, shown_queries, shown_rows
from training.intervals import Interval, bootstrap_means, interval
from training.labels import Impressions
from training.reading import TrainingData
from training.recipes.ranker import RankerRows

PSI_SHIFTED: Final = 0.25
"""Population stability index from which a distribution counts as another (Siddiqi 2006)."""
SHIFTED_SHARE: Final = 0.2
"""A retrain is due when more than this share of the features has shifted."""
CALIBRATED: Final = (0.8, 1.25)
"""Observed over predicted: due where a head's whole interval lies outside."""
UNKNOWN_SHARE: Final = 0.3
"""Due when more than this share of what was shown lately is unknown to the bundle."""
FEWEST: Final = 300
"""Rows of a window below which nothing is concluded from it."""
MOST: Final = 20_000
"""Newest impressions of each window that are compared."""
VALUE: Final = "value of the ensemble"

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
    features: Sequence[Shift]
    """Worst first."""
    scores: Sequence[Shift]
    """Of each family, and of the ensemble's value."""
    scores_from: str
    calibration: dict[str, Interval]
    """Head -> observed over predicted on what came since; 1 is calibrated."""
    unknown: dict[str, float]
    """Share of people and of shown posts since that the bundle never learned of."""
    due: bool
    why: str


def drift(
    bundle: Bundle, data: TrainingData, served: tuple[Values, Values] | None = None
) -> DriftReport:
    """Compare the two windows. `served`: scores [n, 4] of the bundle's first and newest decision
    records (families, then value); without them the scores are those of what was shown."""
    shown = data.impressions or _acted(data)
    since = since_us(bundle, data)
    learned = bundle.manifest.data.last_us
    windows = (shown.times_us > learned) & (shown.times_us <= since), shown.times_us > since
    sizes = (int(windows[0].sum()), int(windows[1].sum()))
    days = (int(shown.times_us.max(initial=since)) - since) / DAY_US
    if min(sizes) < FEWEST:
        why = f"nothing can be said yet: {sizes[0]} and {sizes[1]} rows, {FEWEST} is the least"
        return DriftReport(bundle.bundle_id, sizes, days, [], [], "", {}, {}, False, why)
    aligned = AlignedBundle.of(bundle, data.dataset)
    before, after = (_rows(data, aligned, shown.take(window)) for window in windows)
    columns = zip(FEATURES, before.features.T, after.features.T, strict=True)
    features = sorted((shift(*column) for column in columns), key=lambda s: -s.psi)
    pair = served or (_scores(bundle, before), _scores(bundle, after))
    names = (*FAMILIES, VALUE)
    scores = [shift(n, *values) for n, *values in zip(names, *(p.T for p in pair), strict=True)]
    claimed = bundle.manifest.calibrated and data.impressions is not None
    calibration = calibration_of(bundle, after) if claimed else {}
    unknown = _unknown(bundle, data, shown, since)
    reasons = _reasons(features, scores, calibration, unknown)
    why = "; ".join(reasons) or "features, scores and calibration are as they were"
    return DriftReport(
        bundle.bundle_id, (len(before.labels), len(after.labels)), days, features, scores,
        "decision records" if served else "what was shown, scored again", calibration, unknown,
        bool(reasons), why,
    )  # fmt: skip


def since_us(bundle: Bundle, data: TrainingData) -> int:
    """Give the newest moment of the log as it was when the bundle was trained."""
    events = data.features.frames.events
    known = int_column(events, "seq") <= bundle.manifest.data.up_to_seq
    return int(int_column(events, "event_time")[known].max(initial=0))


def shift(name: str, before: NDArray[np.floating], after: NDArray[np.floating]) -> Shift:
    """Compare two samples, nulls (NaN) as a bin of their own."""
    one, other = before.astype(np.float64), after.astype(np.float64)
    means = (float(np.nanmean(v)) if np.isfinite(v).any() else float("nan") for v in (one, other))
    return Shift(name, psi(one, other), ks(one, other), *means)


def psi(before: Values, after: Values) -> float:
    """Sum (q - p) log(q / p) over tenths of `before`, shares at least 1e-4; 0 is no shift."""
    known = before[np.isfinite(before)]
    edges = np.unique(np.quantile(known, np.linspace(0.1, 0.9, 9))) if len(known) else known
    p, q = (_shares(values, edges) for values in (before, after))
    return float(((q - p) * np.log(q / p)).sum())


def _shares(values: Values, edges: Values) -> Values:
    missing = ~np.isfinite(values)
    bins = np.where(missing, len(edges) + 1, np.searchsorted(edges, values, side="left"))
    shares = np.bincount(bins, minlength=len(edges) + 2) / max(len(values), 1)
    return np.maximum(shares, 1e-4)


def ks(before: Values, after: Values) -> float:
    """Give the largest gap of the two distribution functions (Kolmogorov and Smirnov)."""
    one, other = (np.sort(values[np.isfinite(values)]) for values in (before, after))
    if not len(one) or not len(other):
        return 0.0
    grid = np.concatenate([one, other])
    parts = (np.searchsorted(v, grid, side="right") / len(v) for v in (one, other))
    return float(np.abs(next(parts) - next(parts)).max())


def calibration_of(bundle: Bundle, rows: RankerRows, seed: int = 0) -> dict[str, Interval]:
    """Divide what happened by what was predicted, a head, with a 95 % interval over people."""
    predicted = bundle.ranker.predict(rows.features)
    people, owner = np.unique(rows.groups, return_inverse=True)
    found: dict[str, Interval] = {}
    for column, action in enumerate(ACTIONS):
        if action is Action.DWELL or not bundle.ranker.trained[column]:
            continue
        pair = (rows.labels[:, column] > 0, predicted[:, column])
        sums = np.stack([np.bincount(owner, v, len(people)) for v in pair], axis=1)
        means = bootstrap_means(sums, seed)
        ratio = float(sums[:, 0].sum() / sums[:, 1].sum())
        found[action.value] = interval(ratio, means[:, 0] / means[:, 1])
    return found


def draw(report: DriftReport, path: Path) -> None:
    """Draw the ten features that moved most, and each head's calibration."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    worst = list(reversed([*report.features[:10]]))
    left.barh([s.name for s in worst], [s.psi for s in worst])
    left.axvline(PSI_SHIFTED, color="tab:red", linewidth=1)
    left.set_xlabel("population stability index")
    for place, found in enumerate(report.calibration.values()):
        right.plot([found.low, found.high], [place, place], color="tab:blue")
        right.plot(found.mean, place, "o", color="tab:blue")
    right.axvline(1.0, color="grey", linewidth=1)
    right.set_yticks(range(len(report.calibration)), list(report.calibration))
    right.set_xlabel("observed over predicted, 95 % interval")
    figure.suptitle(f"{report.bundle_id}: {'retrain' if report.due else 'no retrain'}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _acted(data: TrainingData) -> Impressions:
    """Take actions for impressions where none are known; their labels say nothing."""
    actions = data.dataset.actions
    labels = np.zeros((len(actions), len(ACTIONS)), dtype=np.float32)
    none = np.full(len(actions), -1, dtype=np.int64)
    return Impressions(actions.user_rows, actions.item_rows, actions.times_us, none, labels)


def _rows(data: TrainingData, aligned: AlignedBundle, shown: Impressions) -> RankerRows:
    asked = shown_queries(data.dataset, shown, MOST)
    scales = dict(aligned.bundle.normalisers)
    return shown_rows(data.dataset, data.features, asked, aligned.families, scales)


def _scores(bundle: Bundle, rows: RankerRows) -> Values:
    """Give the families' scores and the ensemble's value of each row, [n, 4]."""
    there: BoolArray = np.ones((len(rows.features), 1), dtype=bool)
    values = predict_values(bundle.ranker, bundle.policy, rows.features[:, None, :], there)
    return np.concatenate([rows.features[:, -len(FAMILIES) :].astype(np.float64), values], axis=1)


def _unknown(
    bundle: Bundle, data: TrainingData, shown: Impressions, since: int
) -> dict[str, float]:
    late = shown.times_us > since
    actions = data.dataset.actions
    old = np.unique(actions.user_rows[actions.times_us <= since])
    people = np.unique(shown.user_rows[late])
    posts = bundle.rows_of(data.dataset.post_ids)[shown.item_rows[late]]
    return {"people": float((~np.isin(people, old)).mean()), "posts": float((posts < 0).mean())}


def _reasons(
    features: Sequence[Shift],
    scores: Sequence[Shift],
    calibration: dict[str, Interval],
    unknown: dict[str, float],
) -> list[str]:
    """Say each thing that makes a retrain due."""
    moved = [s for s in features if s.psi > PSI_SHIFTED]
    reasons = []
    if len(moved) > SHIFTED_SHARE * len(features):
        worst = f"{moved[0].name} most (PSI {moved[0].psi:.2f})"
        reasons.append(f"{len(moved)} of {len(features)} features have shifted, {worst}")
    reasons += [
        f"scores have shifted: {s.name} (PSI {s.psi:.2f})" for s in scores if s.psi > PSI_SHIFTED
    ]
    low, high = CALIBRATED
    reasons += [
        f"{name} happens {found.text(2)} times as often as predicted"
        for name, found in calibration.items()
        if found.high < low or found.low > high
    ]
    reasons += [
        f"{share:.0%} of the {what} shown lately are unknown to the bundle"
        for what, share in unknown.items()
        if share > UNKNOWN_SHARE
    ]
    return reasons
