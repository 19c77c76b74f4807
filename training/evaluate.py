"""From judged lists to a table with intervals, and the gate between challenger and champion."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from contracts.policy import FAMILIES
from models.base import BoolArray
from training.intervals import Interval, bootstrap_means, interval
from training.metrics import per_user
from training.scoring import Exam, Judged

DECIDING: Final = "ndcg@20"
SINGLES: Final = FAMILIES
COLD_BELOW: Final = 10
HEAVY_FROM: Final = 100
NEW_BELOW: Final = 5


class ModelRow(BaseModel):
    """One line of the table: a model on one set, protocol and split."""

    model_config = ConfigDict(frozen=True)

    set: str
    protocol: str
    model: str
    people: int
    metrics: dict[str, Interval]
    """Mean over people and its 95 % interval."""
    over_popularity: Interval
    """Paired difference in NDCG@20."""
    over_best_single: Interval
    """Paired difference in NDCG@20 from the best single family."""
    lists: dict[str, float]
    slices: dict[str, Interval]
    """Recall@20 of cold, regular, heavy people; of new and old posts."""


def table(
    name: str, protocol: str, judged: Sequence[Judged], exam: Exam, seed: int
) -> list[ModelRow]:
    """Make the rows of all models, resampling the same people for each."""
    columns = list(judged[0].values)
    resampled = {
        j.model: bootstrap_means(np.stack([j.values[c] for c in columns], axis=1), seed)
        for j in judged
    }
    means = {j.model: float(np.nanmean(j.values[DECIDING])) for j in judged}
    single = max((m for m in SINGLES if m in means), key=means.__getitem__, default=None)
    at = columns.index(DECIDING)
    known = _known_actions(exam)

    def over(model: str, other: str | None) -> Interval:
        if other is None or other not in means:
            return Interval(float("nan"), float("nan"), float("nan"))
        gap = resampled[model][:, at] - resampled[other][:, at]
        return interval(means[model] - means[other], gap)

    return [
        ModelRow(
            set=name,
            protocol=protocol,
            model=j.model,
            people=int(np.isfinite(j.values[DECIDING]).sum()),
            metrics={
                c: interval(float(np.nanmean(j.values[c])), resampled[j.model][:, k])
                for k, c in enumerate(columns)
            },
            over_popularity=over(j.model, "popularity"),
            over_best_single=over(j.model, single),
            lists=j.lists,
            slices=_slices(j, known, seed),
        )
        for j in judged
    ]


def target_slices(exam: Exam) -> dict[str, BoolArray]:
    """Split targets into new posts (fewer than 5 people before the cut) and old ones."""
    new: BoolArray = exam.popularity[exam.targets.values] < NEW_BELOW
    return {"new_posts": new, "old_posts": ~new}


def _known_actions(exam: Exam) -> np.ndarray:
    """Count what is known of each person at the first moment, [people]."""
    counts = per_user({"known": exam.seen.lengths.astype(np.float64)}, exam.queries.user_rows)
    return counts["known"]


def _slices(judged: Judged, known: np.ndarray, seed: int) -> dict[str, Interval]:
    recall = judged.values["recall@20"]
    parts = {
        "cold": np.where(known < COLD_BELOW, recall, np.nan),
        "regular": np.where((known >= COLD_BELOW) & (known < HEAVY_FROM), recall, np.nan),
        "heavy": np.where(known >= HEAVY_FROM, recall, np.nan),
        **judged.slices,
    }
    found: dict[str, Interval] = {}
    for name, values in parts.items():
        kept = values[np.isfinite(values)]
        if len(kept):
            resampled = bootstrap_means(kept[:, None], seed)[:, 0]
            found[name] = interval(float(kept.mean()), resampled)
    return found


class Verdict(NamedTuple):
    """What the gate says."""

    promote: bool
    why: str


def gate(challenger: Judged, popularity: Judged, champion: Judged | None, seed: int) -> Verdict:
    """Decide whether a challenger may become champion, by paired NDCG@20 on the same people.

    It must beat popularity, and must not be worse than the champion: an interval wholly below 0
    refuses it.
    """
    floor = _paired(challenger, popularity, seed)
    if floor.low <= 0.0:
        return Verdict(
            False, f"refused: NDCG@20 over popularity is {floor.text()}, not above 0 for certain"
        )
    if champion is None:
        return Verdict(
            True, f"promoted: the first bundle; NDCG@20 over popularity is {floor.text()}"
        )
    gap = _paired(challenger, champion, seed)
    if gap.high < 0.0:
        return Verdict(False, f"refused: NDCG@20 against the champion is {gap.text()}, worse")
    word = "better" if gap.low > 0.0 else "no worse for certain"
    return Verdict(True, f"promoted: NDCG@20 against the champion is {gap.text()}, {word}")


def _paired(one: Judged, other: Judged, seed: int) -> Interval:
    both = np.stack([one.values[DECIDING], other.values[DECIDING]], axis=1)
    resampled = bootstrap_means(both, seed)
    means = np.nanmean(both, axis=0)
    return interval(float(means[0] - means[1]), resampled[:, 0] - resampled[:, 1])
