"""The funnel: what became of candidates, told while feeds are served; fed after the response."""

from threading import Lock
from time import monotonic

import pyarrow as pa

from contracts.clock import SECOND_US, Clock
from contracts.funnel import FunnelReport
from features.event_log import EventLog
from features.segments import integers_of
from serving.columns import POST_ID, PROBABILITIES
from serving.lineup import Ranking, RankingBuilder
from serving.pipeline import Ranked
from serving.snapshots import Snapshot
from serving.watching.calibration import CalibrationWatch
from serving.watching.feed_sums import FeedFacts, FeedSums
from serving.watching.recall import RecallProbe


class Funnel:
    """Sums over the last feeds, candidate recall, calibration, and how far the log is behind."""

    def __init__(self, builder: RankingBuilder, log: EventLog, log_lock: Lock) -> None:
        self._log = log
        self._clock = Clock(builder.settings.clock_offset_seconds * SECOND_US)
        self._sums = FeedSums()
        self._calibration = CalibrationWatch()
        self._recall = RecallProbe(builder, log_lock)
        self._applied_at = monotonic()
        self._newest_us: int | None = None

    def start(self) -> None:
        """Start searching sampled feeds exhaustively."""
        self._recall.aside.start()

    def stop(self) -> None:
        """Stop."""
        self._recall.aside.stop()

    def add(self, snapshot: Snapshot, ranked: Ranked | None, champion: Ranking) -> None:
        """Take a feed that was served; None where the pipeline failed.

        Where it ran and nothing was left, `ranked` has an empty slate.
        """
        failures = tuple(ranked.trace.failures) if ranked else ()
        self._sums.add(FeedFacts.of(snapshot, ranked), failures)
        if ranked is None or not snapshot.bundle_id == champion.bundle_id != "":
            return
        self._recall.offer(champion, ranked)
        if PROBABILITIES in ranked.candidates:
            query, slate = ranked.context.query, ranked.selected.slate
            self._calibration.serve(
                snapshot.bundle_id,
                (query.feed_id, query.now_us),
                ranked.candidates[POST_ID][slate],
                ranked.candidates[PROBABILITIES][slate],
            )

    def observe(self, events: pa.Table) -> None:
        """Take events (LOG_SCHEMA) that were just applied."""
        newest = int(integers_of(events, "event_time").max())
        self._newest_us = max(newest, self._newest_us or newest)
        self._applied_at = monotonic()
        self._calibration.observe(events)

    def report(self, champion: Ranking, applied_seq: int) -> FunnelReport:
        """Sum up."""
        bundle = champion.runtime.bundle
        calibration = self._calibration.report(bundle.manifest) if bundle else {}
        return self._sums.report().model_copy(
            update={
                "recall": self._recall.report(),
                "calibration": calibration,
                "lag_seconds": self._lag_seconds(applied_seq),
                "ahead_seconds": self._ahead_seconds(),
            }
        )

    def _ahead_seconds(self) -> float | None:
        newest = self._newest_us
        return None if newest is None else (newest - self._clock.now_us()) / SECOND_US

    def _lag_seconds(self, applied_seq: int) -> float:
        """Give the age of the oldest event that waits, at most the time since the last batch."""
        waiting = self._log.tail(applied_seq, 1)
        if not waiting.num_rows:
            return 0.0
        age = self._clock.now_us() - int(integers_of(waiting, "known_time")[0])
        return max(0.0, min(age / SECOND_US, monotonic() - self._applied_at))
