"""Sums over the last feeds: one row of numbers a feed, in a ring, and totals since the start."""

import json
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DEGRADE_ORDER, DegradeLevel, DegradeReason, RemovalReason, SourceName
from contracts.funnel import (
    FEED,
    STAGE_BOUNDS_SECONDS,
    STAGES,
    FunnelReport,
    SinceStart,
    SourceFlow,
    StageTime,
)
from contracts.record import NO_SCORER
from serving.columns import SOURCES
from serving.pipeline import Ranked
from serving.snapshots import Snapshot

WINDOW: Final = 2000
PERSONAL: Final = (
    SourceName.IN_NETWORK,
    SourceName.COLLABORATIVE,
    SourceName.DEEP,
    SourceName.CONTENT,
    SourceName.ITEM_TO_ITEM,
)
"""Sources that know the viewer."""
_ALWAYS: Final = frozenset({SourceName.TRENDING, SourceName.FRESH})
_BY_FOLLOWS: Final = frozenset({SourceName.IN_NETWORK})
_BY_ACTIONS: Final = frozenset(PERSONAL) - _BY_FOLLOWS
_SOURCES: Final = tuple(SourceName)
_PERSONAL_BITS: Final = sum(source.bit for source in PERSONAL)
_BITS: Final = np.array([[source.bit] for source in SourceName], dtype=np.int32)
_REASONS: Final = tuple(DegradeReason)
_TIMED: Final = (*STAGES, FEED)
_BOUNDS_US: Final = [bound * 1e6 for bound in STAGE_BOUNDS_SECONDS]
_BY_SOURCE: Final = ("found", "reached", "asked", "empty")
_FACTS: Final = (
    "ranked", "duplicates", "candidates", "pool", "slate", "reserve", "personal", "followed",
    "kept_value", "warm",
)  # fmt: skip
_WIDTHS: Final = dict.fromkeys(_BY_SOURCE, len(SourceName)) | {
    "removed": max(RemovalReason) + 1,
    "levels": len(DEGRADE_ORDER),
    "reasons": len(_REASONS),
    "stages": len(_TIMED),
    "facts": len(_FACTS),
}
_COLUMNS: Final = sum(_WIDTHS.values())
_AT: Final = {
    name: slice(end - _WIDTHS[name], end)
    for name, end in zip(_WIDTHS, np.cumsum(list(_WIDTHS.values())).tolist(), strict=True)
}

RECORD_COLUMNS: Final = (
    "level", "reasons", "source_yield", "stage_us", "scorer", "pool_ids", "sources", "in_network",
    "slate", "reserve_ids", "removed_counts", "kept_value", "history_version",
)  # fmt: skip
"""What is read of a decision record."""

Row = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FeedFacts:
    """What the sums take of one feed."""

    level: DegradeLevel
    reasons: tuple[DegradeReason, ...]
    found: Mapping[str, int] | None = None
    """Source -> rows, and `duplicate`; None where the pipeline failed."""
    slate_sources: NDArray[np.int32] | None = None
    """[s] bit masks."""
    removed: NDArray[np.int64] | None = None
    """Rows by RemovalReason."""
    stage_us: Mapping[str, int] | None = None
    pool: int = 0
    reserve: int = 0
    followed: float = 0.0
    kept_value: float = 0.0
    warm: bool = False
    follows: bool = False

    @classmethod
    def of(cls, snapshot: Snapshot, ranked: Ranked | None) -> "FeedFacts":
        """Read a feed that was just served."""
        if ranked is None:
            return cls(snapshot.level, snapshot.degrade_reasons)
        context, selected = ranked.context, ranked.selected
        return cls(
            snapshot.level,
            snapshot.degrade_reasons,
            ranked.trace.source_yield,
            ranked.candidates[SOURCES][selected.slate],
            np.bincount(ranked.removed.reasons, minlength=_WIDTHS["removed"]),
            ranked.trace.stage_us,
            len(selected.pool_rows),
            len(selected.reserve),
            selected.followed_share,
            selected.chosen.kept_value,
            len(context.recent_slots) > 0,
            len(context.followees) > 0,
        )

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "FeedFacts":
        """Read `RECORD_COLUMNS` of a decision record; whom its viewer follows is not in it."""
        level = DegradeLevel(record["level"])
        reasons = tuple(DegradeReason(word) for word in record["reasons"])
        if record["scorer"] == NO_SCORER:
            return cls(level, reasons)
        found = json.loads(record["source_yield"])
        removed = np.zeros(_WIDTHS["removed"], dtype=np.int64)
        for word, rows in json.loads(record["removed_counts"]).items():
            removed[RemovalReason[word.upper()]] = rows
        slate = np.asarray(record["slate"], dtype=np.int64)
        in_network = np.asarray(record["in_network"], dtype=bool)[slate]
        return cls(
            level,
            reasons,
            found,
            np.asarray(record["sources"], dtype=np.int32)[slate],
            removed,
            json.loads(record["stage_us"]),
            len(record["pool_ids"]),
            len(record["reserve_ids"]),
            float(in_network.mean()) if len(slate) else 0.0,
            float(record["kept_value"]),
            record["history_version"] > 0,
            found.get(SourceName.IN_NETWORK, 0) > 0,
        )

    def row(self) -> Row:
        """Lay the facts out as one row [columns]."""
        row = np.zeros(_COLUMNS)
        row[_AT["levels"]][DEGRADE_ORDER.index(self.level)] = 1
        for reason in self.reasons:
            row[_AT["reasons"]][_REASONS.index(reason)] = 1
        if self.found is None or self.slate_sources is None or self.stage_us is None:
            return row
        found, masks, gives = self.found, self.slate_sources, self._gives()
        yields = [found.get(source, 0) for source in _SOURCES]
        asked = [source in found and source in gives for source in _SOURCES]
        row[_AT["found"]] = yields
        row[_AT["reached"]] = np.count_nonzero(masks & _BITS, axis=1)
        row[_AT["asked"]] = asked
        row[_AT["empty"]] = [a and not n for a, n in zip(asked, yields, strict=True)]
        row[_AT["removed"]] = 0 if self.removed is None else self.removed
        times = [self.stage_us.get(stage, 0) for stage in STAGES]
        row[_AT["stages"]] = [*times, sum(times)]
        duplicates = found.get("duplicate", 0)
        row[_AT["facts"]] = (
            1, duplicates, sum(yields) - duplicates, self.pool, len(masks),
            self.reserve, np.count_nonzero(masks & _PERSONAL_BITS), self.followed,
            self.kept_value, self.warm,
        )  # fmt: skip
        return row

    def _gives(self) -> frozenset[SourceName]:
        """Name the sources that have what they start from."""
        gives = _ALWAYS | _BY_ACTIONS if self.warm else _ALWAYS
        return gives | _BY_FOLLOWS if self.follows else gives


class FeedSums:
    """The sums; safe for threads, of fixed size."""

    def __init__(self, window: int = WINDOW) -> None:
        self._ring = np.zeros((window, _COLUMNS))
        self._totals = np.zeros(_COLUMNS)
        self._counts = np.zeros((len(_TIMED), len(STAGE_BOUNDS_SECONDS) + 1), dtype=np.int64)
        self._failed: deque[tuple[str, ...]] = deque(maxlen=window)
        self._feeds = 0
        self._lock = Lock()

    def add(self, facts: FeedFacts, failures: tuple[str, ...] = ()) -> None:
        """Take one feed; `failures` begin with the component's name and a colon."""
        row = facts.row()
        bins = [bisect_left(_BOUNDS_US, us) for us in row[_AT["stages"]].tolist()]
        with self._lock:
            self._ring[self._feeds % len(self._ring)] = row
            self._totals += row
            self._failed.append(tuple({text.partition(":")[0] for text in failures}))
            if facts.found is not None:
                for stage, place in enumerate(bins):
                    self._counts[stage, place] += 1
            self._feeds += 1

    def report(self) -> FunnelReport:
        """Sum the window up."""
        with self._lock:
            rows = self._ring[: min(self._feeds, len(self._ring))].copy()
            feeds, totals, counts = self._feeds, self._totals.copy(), self._counts.copy()
            failed = Counter(chain.from_iterable(self._failed))
        sums = rows.sum(axis=0)
        facts = dict(zip(_FACTS, sums[_AT["facts"]].tolist(), strict=True))
        ranked = int(facts["ranked"])
        mean = {name: value / max(ranked, 1) for name, value in facts.items()}
        by_source = {n: sums[_AT[n]] for n in _BY_SOURCE}
        return FunnelReport(
            feeds=len(rows),
            ranked=ranked,
            levels=_named(DEGRADE_ORDER, sums[_AT["levels"]]),
            reasons=_named(_REASONS, sums[_AT["reasons"]]),
            failed=dict(failed),
            sources={
                source.value: SourceFlow(
                    found=by_source["found"][place] / max(ranked, 1),
                    reached=by_source["reached"][place] / max(ranked, 1),
                    asked=int(by_source["asked"][place]),
                    empty=int(by_source["empty"][place]),
                )
                for place, source in enumerate(SourceName)
                if source is not SourceName.CALLER
            },
            duplicates=mean["duplicates"],
            candidates=mean["candidates"],
            removed={w: n / max(ranked, 1) for w, n in _removed(sums[_AT["removed"]]).items()},
            pool=mean["pool"],
            slate=mean["slate"],
            reserve=mean["reserve"],
            personalised=facts["personal"] / facts["slate"] if facts["slate"] else None,
            warm=mean["warm"] if ranked else None,
            followed=mean["followed"] if ranked else None,
            kept_value=mean["kept_value"] if ranked else None,
            stages=_times(rows),
            since_start=SinceStart(
                feeds=feeds,
                reached=_named(tuple(SourceName), totals[_AT["reached"]]),
                removed=_removed(totals[_AT["removed"]]),
                stage_counts=dict(zip(_TIMED, counts.tolist(), strict=True)),
                stage_seconds=dict(
                    zip(_TIMED, (totals[_AT["stages"]] / 1e6).tolist(), strict=True)
                ),
            ),
        )


def _named(words: tuple[str, ...], counts: Row) -> dict[str, int]:
    return {str(word): int(n) for word, n in zip(words, counts.tolist(), strict=True) if n > 0}


def _removed(counts: Row) -> dict[str, int]:
    return {reason.word: int(counts[reason]) for reason in RemovalReason if counts[reason] > 0}


def _times(rows: NDArray[np.float64]) -> dict[str, StageTime]:
    times = rows[rows[:, _AT["facts"]][:, 0] > 0][:, _AT["stages"]]
    if not len(times):
        return {}
    p50, p95 = np.percentile(times, (50, 95), axis=0)
    return {
        stage: StageTime(p50_us=float(p50[k]), p95_us=float(p95[k]))
        for k, stage in enumerate(_TIMED)
    }
