"""Sealed parts of the event log: a Parquet file a month and batch, and sorted event id runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from contracts.events import LOG_SCHEMA
from features.slots import run_starts
from features.storage import durable_file, sync_folder

_ROW_GROUP: Final = 131_072


class Segment(NamedTuple):
    """One sealed file and its row; `path` is relative to the events folder, bounds inclusive."""

    path: str
    month: str
    rows: int
    min_seq: int
    max_seq: int
    min_us: int
    max_us: int


def integers_of(table: pa.Table, column: str) -> NDArray[np.int64]:
    """Give an integer or time column without nulls as int64 [n]; times are microseconds."""
    values: NDArray[Any] = table.column(column).cast(pa.int64()).to_numpy()
    return values.astype(np.int64, copy=False)


def sort_log(table: pa.Table) -> pa.Table:
    """Order log rows by event time, then by their place in the log."""
    order = np.lexsort((integers_of(table, "seq"), integers_of(table, "event_time")))
    return table.take(pa.array(order))


def write_segments(root: Path, rows: pa.Table) -> list[Segment]:
    """Write log rows, one file a month; on disk on return, part of the log when registered.

    A name holds the seq range and the row count, so that a merged file never takes the name of one
    of its parts.
    """
    ordered = sort_log(rows)
    months = integers_of(ordered, "event_time").astype("datetime64[us]").astype("datetime64[M]")
    starts = run_starts(months)
    ends = np.r_[starts[1:], len(months)]
    segments = [
        _write_one(root, str(months[start]), ordered.slice(start, end - start))
        for start, end in zip(starts, ends, strict=True)
    ]
    sync_folder(root)
    return segments


def _write_one(root: Path, month: str, rows: pa.Table) -> Segment:
    seqs = integers_of(rows, "seq")
    times = integers_of(rows, "event_time")
    low, high = int(seqs.min()), int(seqs.max())
    folder = root / f"month={month}"
    folder.mkdir(exist_ok=True)
    path = folder / f"seg-{low}-{high}-{len(seqs)}.parquet"
    with durable_file(path) as file:
        pq.write_table(rows, file, compression="zstd", row_group_size=_ROW_GROUP)
    relative = str(path.relative_to(root))
    return Segment(relative, month, len(seqs), low, high, int(times[0]), int(times[-1]))


def read_segment(root: Path, segment: Segment, columns: Sequence[str]) -> pa.Table:
    """Read columns of a sealed file; FileNotFoundError where compaction has replaced it."""
    with pq.ParquetFile(root / segment.path, memory_map=False) as file:
        table = file.read(columns=list(columns), use_threads=False)
    return table.select(list(columns)).cast(pa.schema([LOG_SCHEMA.field(c) for c in columns]))


class EventIdRuns:
    """Sorted files of the ids of all sealed events, merged geometrically: O(log n) files.

    The writer alone uses it, under the write lock; files are read through memory maps.
    """

    def __init__(self, root: Path, paths: Sequence[str]) -> None:
        self._root = root
        self._runs: dict[str, NDArray[np.int64]] = {p: _open_run(root / p) for p in paths}

    def contains(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell for each id [n] whether it is sealed already."""
        known = np.zeros(len(ids), dtype=np.bool_)
        for run in self._runs.values():
            places = np.searchsorted(run, ids)
            known |= run[np.minimum(places, len(run) - 1)] == ids
        return known

    def others(self, paths: Sequence[str]) -> "EventIdRuns":
        """Open those of some runs that are not adopted: an open transaction has written them."""
        return EventIdRuns(self._root, [path for path in paths if path not in self._runs])

    def merged_with(self, ids: NDArray[np.int64], name: str) -> tuple[str, int, list[str]]:
        """Write a run of new ids and of every run no larger than it; durable, not yet adopted.

        Gives the new file, its rows and the files that it replaces.
        """
        merged = np.sort(ids)
        replaced: list[str] = []
        for path, run in sorted(self._runs.items(), key=lambda item: len(item[1])):
            if len(run) > 2 * len(merged):
                break
            merged = np.concatenate((merged, run))
            merged.sort(kind="stable")
            replaced.append(path)
        path = f"ids-{name}-{len(merged)}.npy"
        with durable_file(self._root / path) as file:
            np.save(file, merged)
        return path, len(merged), replaced

    def adopt(self, path: str, replaced: Sequence[str]) -> None:
        """Use a new run from now on and remove the files that it replaces."""
        for old in replaced:
            self._runs.pop(old, None)
            (self._root / old).unlink(missing_ok=True)
        self._runs[path] = _open_run(self._root / path)


def _open_run(path: Path) -> NDArray[np.int64]:
    run: NDArray[np.int64] = np.load(path, mmap_mode="r")
    return run


def remove_orphans(root: Path, registered: set[str]) -> None:
    """Delete files that a crash left before they were registered."""
    for path in [*root.rglob("*.parquet"), *root.rglob("*.npy")]:
        if str(path.relative_to(root)) not in registered:
            path.unlink()
