"""The event log: durable, idempotent by event id; a SQLite outbox before partitioned Parquet.

An event is part of the log when its SQLite transaction has committed: as an outbox row, or as a row
of a segment registered there. Docs: `docs/event-log.md`.
"""

import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.errors import InvalidInput, SchemaMismatch
from contracts.events import EVENT_SCHEMA, LOG_SCHEMA, EventType
from features import log_reading
from features.compaction import merge_plan
from features.log_reading import Connection, Snapshot
from features.segments import (
    EventIdRuns,
    Segment,
    integers_of,
    read_segment,
    remove_orphans,
    write_segments,
)
from features.sqlite_rows import Words, fitted, stored_columns
from features.storage import Database

_WORDS: Final = Words(
    "events lack", "an event has", "event columns have other types than the log's"
)
_EVENT_NAMES: Final = EVENT_SCHEMA.names
_INSERT: Final = (
    f"INSERT INTO outbox (seq, {', '.join(_EVENT_NAMES)}) "  # noqa: S608 - names of our own schema
    f"VALUES ({', '.join('?' * (len(_EVENT_NAMES) + 1))})"
)


class Appended(NamedTuple):
    """What became of a batch; `last_seq` is the log's end after it."""

    accepted: int
    duplicates: int
    last_seq: int


class Compacted(NamedTuple):
    """What compaction did: outbox rows sealed, segment files before and after."""

    sealed_rows: int
    segments_before: int
    segments_after: int


class EventLog:
    """Events in the order in which they were accepted, `seq` from 1."""

    def __init__(self, root: Path, database: Database) -> None:
        self._root = root
        self._database = database
        self._maintenance = threading.Lock()
        self._runs = EventIdRuns(root, [])
        if not database.read_only:
            with database.snapshot() as connection:
                segments = [row[0] for row in connection.execute("SELECT path FROM segments")]
                runs = [row[0] for row in connection.execute("SELECT path FROM event_id_runs")]
            remove_orphans(root, {*segments, *runs})
            self._runs = EventIdRuns(root, runs)

    @property
    def last_seq(self) -> int:
        """The place of the newest event; 0 in an empty log."""
        with self._database.snapshot() as connection:
            return log_reading.last_seq(connection)

    @property
    def outbox_rows(self) -> int:
        """How many events wait in the outbox for `compact`."""
        with self._database.snapshot() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM outbox").fetchone()[0])

    def append(self, events: pa.Table) -> Appended:
        """Add EVENT_SCHEMA rows through the outbox; on disk on return, known event ids skipped."""
        rows = conform(events)
        with self._database.write() as connection:
            last = log_reading.last_seq(connection)
            fresh = self._fresh(rows)
            if fresh.num_rows:
                columns = [range(last + 1, last + 1 + fresh.num_rows), *stored_columns(fresh)]
                connection.executemany(_INSERT, zip(*columns, strict=True))
        return Appended(fresh.num_rows, rows.num_rows - fresh.num_rows, last + fresh.num_rows)

    def append_bulk(self, events: pa.Table) -> Appended:
        """Add many EVENT_SCHEMA rows straight to sealed segments; the same promise as `append`."""
        rows = conform(events)
        with self._database.write() as connection:
            last = log_reading.last_seq(connection)
            fresh = self._fresh(rows)
            if fresh.num_rows:
                seqs = pa.array(np.arange(last + 1, last + 1 + fresh.num_rows))
                # In time order, so that each month's file holds one range of the log.
                ordered = fresh.sort_by("event_time").add_column(0, LOG_SCHEMA.field(0), seqs)
                self._register(connection, write_segments(self._root, ordered))
                self._add_run(connection, integers_of(ordered, "event_id"), last + 1)
        return Appended(fresh.num_rows, rows.num_rows - fresh.num_rows, last + fresh.num_rows)

    def takes(self, event_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which of some rows, by their event ids [n], `append` takes.

        The first row of each id that the log does not hold.
        """
        # Under the write lock: rows that compaction moves at this moment are in one place.
        with self._database.write() as connection:
            taken = np.zeros(len(event_ids), dtype=np.bool_)
            taken[np.unique(event_ids, return_index=True)[1]] = True
            taken &= ~self._runs.contains(event_ids)
            registered = [row[0] for row in connection.execute("SELECT path FROM event_id_runs")]
            taken &= ~self._runs.others(registered).contains(event_ids)
            return taken & ~log_reading.in_outbox(connection, event_ids)

    def scan(
        self,
        *,
        start_us: int | None = None,
        end_us: int | None = None,
        types: Collection[EventType] | None = None,
        columns: Sequence[str] | None = None,
        up_to_seq: int | None = None,
    ) -> pa.Table:
        """Read events of [start, end), ordered by (event time, seq), as LOG_SCHEMA columns."""
        wanted = log_reading.Wanted(start_us, end_us, types, columns, up_to_seq)
        return log_reading.retry_replaced(lambda: log_reading.scan(self._snapshot(), wanted))

    def tail(self, after_seq: int, limit: int = 100_000) -> pa.Table:
        """Read the first `limit` events after a place in the log, in log order, as LOG_SCHEMA."""
        return log_reading.retry_replaced(
            lambda: log_reading.tail(self._snapshot(after_seq, limit), after_seq, limit)
        )

    def compact(self) -> Compacted:
        """Seal the outbox into Parquet and merge small files of a month; safe to kill anywhere."""
        with self._maintenance:
            before = len(self._snapshot().segments)
            sealed = self._seal_outbox()
            for group in merge_plan(self._snapshot().segments):
                self._merge(group)
            return Compacted(sealed, before, len(self._snapshot().segments))

    def _snapshot(self, after_seq: int = 0, limit: int | None = None) -> Snapshot:
        with self._database.snapshot() as connection:
            return log_reading.take_snapshot(connection, self._root, after_seq, limit)

    def _fresh(self, rows: pa.Table) -> pa.Table:
        keep = self.takes(integers_of(rows, "event_id"))
        return rows if keep.all() else rows.filter(pa.array(keep))

    def _register(self, connection: Connection, segments: list[Segment]) -> None:
        connection.executemany("INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?)", segments)

    def _add_run(self, connection: Connection, ids: NDArray[np.int64], first_seq: int) -> None:
        path, count, replaced = self._runs.merged_with(ids, str(first_seq))
        connection.executemany("DELETE FROM event_id_runs WHERE path = ?", [(p,) for p in replaced])
        connection.execute("INSERT INTO event_id_runs VALUES (?, ?)", (path, count))
        self._database.after_commit(lambda: self._runs.adopt(path, replaced))

    def _seal_outbox(self) -> int:
        rows = self._snapshot().outbox
        if not rows.num_rows:
            return 0
        segments = write_segments(self._root, rows)
        seqs = integers_of(rows, "seq")
        # One transaction moves the rows: whoever looks finds each of them in exactly one place.
        with self._database.write() as connection:
            self._register(connection, segments)
            self._add_run(connection, integers_of(rows, "event_id"), int(seqs[0]))
            connection.execute("DELETE FROM outbox WHERE seq <= ?", (int(seqs[-1]),))
        return len(seqs)

    def _merge(self, group: list[Segment]) -> None:
        parts = [read_segment(self._root, segment, LOG_SCHEMA.names) for segment in group]
        merged = write_segments(self._root, pa.concat_tables(parts))
        with self._database.write() as connection:
            self._register(connection, merged)
            connection.executemany(
                "DELETE FROM segments WHERE path = ?", [(segment.path,) for segment in group]
            )
            self._database.after_commit(lambda: self._unlink(group))

    def _unlink(self, group: list[Segment]) -> None:
        for segment in group:
            (self._root / segment.path).unlink(missing_ok=True)


def conform(events: pa.Table) -> pa.Table:
    """Bring a table to EVENT_SCHEMA; SchemaMismatch names the column that does not fit."""
    rows = events if events.schema == EVENT_SCHEMA else fitted(events, EVENT_SCHEMA, _WORDS)
    for field in EVENT_SCHEMA:
        if not field.nullable and rows.column(field.name).null_count:
            raise SchemaMismatch(f"event column {field.name} has empty values")
    if rows.num_rows:
        types = integers_of(rows, "type")
        if types.min() < min(EventType) or types.max() > max(EventType):
            msg = f"an event type is outside {int(min(EventType))}..{int(max(EventType))}"
            raise InvalidInput(msg)
    return rows.combine_chunks()
