"""Replay over a home folder: one feed with its counterfactual, or a sample as the nightly check."""

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from contracts.errors import HeadwaterError, NotFound
from contracts.ids import feed_id_text
from serving.proof.replay import Record, replay
from serving.records.archive import DECISIONS, GROUP_ROWS, Part, RecordArchive, layout
from serving.records.codec import records_of, table_of
from serving.shelves import Shelves
from serving.stages.decision import Decision

OUTCOMES: Final = ("identical", "within_tolerance", "different", "fallback", "erased")
_EXAMPLES: Final = 5
_HOT_MEASURED: Final = 8 * GROUP_ROWS


class Checked(NamedTuple):
    """What replay says of one record."""

    outcome: str
    """One of OUTCOMES: a fallback was not ranked; erased names people who were erased since, and
    replays all the same. Either is `different` where it differs."""
    differences: tuple[str, ...] = ()


@dataclass(slots=True)
class Sampled:
    """What the nightly check found."""

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)
    bytes: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Of each record at hand: compressed Parquet bytes, the mean of its row group."""
    seconds: float = 0.0

    def add(self, where: str, found: Checked, rows: int = 1) -> None:
        """Count a record, and keep it as an example where it differs."""
        self.counts[found.outcome] += rows
        if found.outcome == "different" and len(self.examples) < _EXAMPLES:
            self.examples.append({"feed_id": where, "differences": list(found.differences)})

    def as_dict(self) -> dict[str, Any]:
        """Give the counts as the command prints them; `replayed` are the first three outcomes."""
        replayed = sum(self.counts[name] for name in OUTCOMES[:3])
        middle, high = np.percentile(self.bytes, (50, 95)) if len(self.bytes) else (0.0, 0.0)
        return {
            "records": self.counts.total(),
            "replayed": replayed,
            **{name: self.counts[name] for name in OUTCOMES},
            "record_bytes_p50": round(float(middle)),
            "record_bytes_p95": round(float(high)),
            "seconds": round(self.seconds, 3),
            "per_second": round(self.counts.total() / max(self.seconds, 1e-9), 1),
            "seed": self.seed,
            "examples": self.examples,
        }


def check(record: Record, shelves: Shelves) -> Checked:
    """Replay one record with what it names; what cannot be found differs."""
    decision = Decision.of(record)
    try:
        policy = shelves.policy(record["policy_hash"])
        ranker = shelves.ranker(record["bundle_id"]) if decision.needs_ranker else None
    except HeadwaterError as error:
        return Checked("different", (str(error),))
    found = replay(record, ranker, policy)
    if not found.within_tolerance:
        return Checked("different", found.differences)
    if record["blanked"]:
        return Checked("erased", found.differences)
    if not decision.ranked:
        return Checked("fallback", found.differences)
    return Checked("identical" if found.identical else "within_tolerance", found.differences)


def replay_sample(home: Path, count: int, seed: int, advance: Callable[[int], None]) -> Sampled:
    """Replay a seeded sample of a home folder's records, hot and sealed, in batches."""
    sampled, shelves = Sampled(seed), Shelves(home)
    with closing(RecordArchive(home / "records", read_only=True)) as archive:
        started = perf_counter()
        ids = np.unique(archive.ids())
        if not len(ids):
            msg = f"there are no decision records in {home / 'records'}"
            raise NotFound(msg, hint="serve feeds first, or name the folder with --home")
        chosen = np.random.default_rng(seed).choice(ids, min(count, len(ids)), replace=False)
        damaged: list[str] = []

        def note(part: Part, error: Exception) -> None:
            damaged.append(f"{part.name} cannot be read: {error}")

        with threadpool_limits(1):  # as where the feeds were served
            for table in archive.read(np.sort(chosen), damaged=note):
                for record in records_of(table):
                    sampled.add(feed_id_text(record["feed_id"]), check(record, shelves))
                advance(table.num_rows)
        if damaged:
            missing = len(chosen) - sampled.counts.total()
            sampled.add("unreadable", Checked("different", tuple(damaged)), missing)
        sampled.seconds = perf_counter() - started
        sampled.bytes = record_bytes(archive)
    return sampled


def record_bytes(archive: RecordArchive) -> NDArray[np.float64]:
    """Give the compressed bytes of each record, [n]: the mean of its row group, footer included.

    Hot records are measured by sealing a copy of the newest ones in memory.
    """
    sizes = [np.empty(0)]
    for part in archive.parts():
        found = pq.read_metadata(archive.folder / part.name)
        sizes.append(_group_bytes(found, part.bytes))
    hot = archive.ask(
        f"SELECT {DECISIONS.columns} FROM decisions ORDER BY now DESC LIMIT ?",  # noqa: S608
        (_HOT_MEASURED,),
    )
    if hot:
        copy = BytesIO()
        with pq.ParquetWriter(copy, **layout(DECISIONS)) as writer:
            writer.write_table(table_of(hot, DECISIONS.schema), row_group_size=GROUP_ROWS)
        mean = len(copy.getvalue()) / len(hot)
        sizes.append(np.full(archive.hot_rows(), mean))
    return np.concatenate(sizes)


def _group_bytes(found: pq.FileMetaData, file_bytes: int) -> NDArray[np.float64]:
    groups = [found.row_group(place) for place in range(found.num_row_groups)]
    packed = np.array(
        [sum(g.column(c).total_compressed_size for c in range(g.num_columns)) for g in groups]
    )
    rows = np.array([group.num_rows for group in groups])
    return np.repeat(packed * (file_bytes / packed.sum()) / rows, rows)
