"""The shadow: a challenger ranks a share of the requests again, behind the response."""

import json
from collections import deque
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any, Final, NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from contracts.clock import now_us, to_datetime
from contracts.degrade import DegradeLevel
from contracts.errors import HeadwaterError
from experiments.assignment import BUCKETS, buckets
from serving.aside import Aside
from serving.columns import POST_ID
from serving.lineup import RankingBuilder, Trial
from serving.pipeline import FeedPipeline, Ranked, StageFailed
from serving.snapshots import ServedLog

REPORT_SUFFIX: Final = ".shadow.json"
TOP: Final = 20
_KEPT: Final = 10_000
_WRITE_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


class Difference(NamedTuple):
    """How far two orders of one request are apart; NaN where they have nothing in common."""

    overlap: float
    """Share of the first 20 posts of one that are among the first 20 of the other."""
    moved: float
    """Mean absolute change of position of the first 20 posts, where both ordered them."""
    correlation: float
    """Rank correlation (Spearman) of the values of the candidates that both valued."""


def difference(one: Ranked, other: Ranked) -> Difference:
    """Compare two rankings of one request, the first of them with what was served."""
    first, second = _order(one), _order(other)
    top = first[:TOP]
    _, places, others = np.intersect1d(top, second, assume_unique=True, return_indices=True)
    both = len(np.intersect1d(top, second[:TOP]))
    return Difference(
        both / max(1, min(TOP, max(len(first), len(second)))),
        float(np.abs(places - others).mean()) if len(places) else np.nan,
        _correlation(one, other),
    )


class Shadow:
    """Ranks with the challenger what the champion has ranked, and keeps the differences."""

    def __init__(self, builder: RankingBuilder, log_lock: Lock, reports: Path | None) -> None:
        self._builder = builder
        self._log_lock = log_lock
        self._reports = reports
        """Folder of the report; None where this process does not write one."""
        self._aside = Aside[Ranked]("shadow", self._compare)
        self._served = ServedLog(viewers=1, pages=1)
        self._reset(None, "")

    def start(self) -> None:
        """Start ranking what is offered."""
        self._aside.start()

    def stop(self) -> None:
        """Stop, and write the report."""
        self._aside.stop()
        self._write()

    def use(self, trial: Trial | None, champion_id: str) -> None:
        """Take another challenger or champion, with numbers from zero; under the log lock."""
        if (trial, champion_id) != (self._trial, self._champion_id):
            self._write()
            self._reset(trial, champion_id)

    def offer(self, ranked: Ranked) -> None:
        """Take a request of the champion that the viewer has the answer of, if it is its turn."""
        trial = self._trial
        if trial is None or ranked.trace.level is not DegradeLevel.FULL:
            return
        feed = np.array([ranked.context.query.feed_id], dtype=np.int64)
        if buckets(f"shadow:{trial.ranking.bundle_id}", feed)[0] < trial.share * BUCKETS:
            self._aside.offer(ranked)

    def report(self) -> dict[str, Any] | None:
        """Say how far the challenger is from the champion; None where there is no challenger."""
        trial = self._trial
        if trial is None:
            return None
        rows = np.array(self._differences or [(np.nan,) * 3])
        known = np.isfinite(rows)
        sums = np.where(known, rows, 0.0).sum(axis=0)
        means = [float(s / n) if n else None for s, n in zip(sums, known.sum(axis=0), strict=True)]
        return {
            "bundle_id": trial.ranking.bundle_id,
            "champion": self._champion_id,
            "share": trial.share,
            "since": to_datetime(self._since_us).isoformat(timespec="seconds"),
            "compared": self._compared,
            "dropped": self._aside.dropped,
            "failed": self._failed,
            "overlap_20": means[0],
            "mean_move_20": means[1],
            "value_correlation": means[2],
        }

    def _reset(self, trial: Trial | None, champion_id: str) -> None:
        self._trial, self._champion_id = trial, champion_id
        self._pipeline: FeedPipeline | None = None
        if trial is not None:
            runtime, ranker = trial.ranking.runtime, trial.ranking.ranker
            self._pipeline = self._builder.pipeline(runtime, ranker, self._served)
        self._differences: deque[Difference] = deque(maxlen=_KEPT)
        self._since_us = now_us()
        self._compared = self._failed = self._aside.dropped = 0
        self._written_at = monotonic()

    def _compare(self, ranked: Ranked) -> None:
        """Rank a request again as it was: the same clock, and what had been served before it."""
        context = ranked.context
        self._served.add(context.query.viewer_id, context.query.now_us, context.served)
        with self._log_lock:
            if self._trial is None or self._pipeline is None:
                return
            try:
                again = self._pipeline.run(context.query, self._trial.ranking.policy)
            except (StageFailed, HeadwaterError) as error:
                self._failed += 1
                _log.warning("shadow_failed", cause=str(error.__cause__ or error))
                return
            if again.trace.level is DegradeLevel.FULL:
                self._differences.append(difference(ranked, again))
                self._compared += 1  # last: a report's count never runs ahead of its means
            else:
                self._failed += 1
            if monotonic() - self._written_at > _WRITE_SECONDS:
                self._write()

    def _write(self) -> None:
        """Write the report for people and other programs, whole or not at all."""
        self._written_at = monotonic()
        report = self.report()
        if self._reports is None or report is None:
            return
        path = self._reports / f"{report['bundle_id']}{REPORT_SUFFIX}"
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        scratch.replace(path)


def _order(ranked: Ranked) -> NDArray[np.int64]:
    rows = np.concatenate([ranked.selected.slate, ranked.selected.reserve])
    ids: NDArray[np.int64] = ranked.candidates[POST_ID][rows]
    return ids


def _correlation(one: Ranked, other: Ranked) -> float:
    ids = one.candidates[POST_ID], other.candidates[POST_ID]
    _, mine, theirs = np.intersect1d(*ids, assume_unique=True, return_indices=True)
    values = np.stack([one.ledger.value[mine], other.ledger.value[theirs]])
    values = values[:, np.isfinite(values).all(axis=0)]
    if values.shape[1] < 2:
        return np.nan
    ranks = np.argsort(np.argsort(values, axis=1, kind="stable"), axis=1).astype(np.float64)
    return float(np.corrcoef(ranks[0], ranks[1])[0][1])
