"""Decision records: queued after the response, written a transaction at least every half second.

A queue and one writing thread: a request pays for one `put`. A kill loses less than one second of
records, and `lost` counts them. `serving.records.keeping` seals what is written.
"""

import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from sqlite3 import Error as DatabaseError
from threading import Event, Thread
from time import monotonic
from typing import Any, Final, NamedTuple

import numpy as np
import structlog

from contracts.errors import HeadwaterError
from serving.records.archive import DECISIONS, KINDS, PAGES, Kind, RecordArchive
from serving.records.codec import Record, records_of, to_row
from serving.records.counts import DueCount, note_written, settle, settle_dead

_FLUSH_SECONDS: Final = 0.5
_MOST_WAITING: Final = 5_000
"""Records that wait to be written; where the disk cannot follow, further ones count as lost."""
_UNWRITABLE: Final = (
    HeadwaterError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    struct.error,
)
"""What making a record may raise: that record is lost, the writer goes on."""

_log = structlog.get_logger(__name__)


class _Due(NamedTuple):
    kind: Kind
    make: Callable[[], Mapping[str, Any]]


class RecordStore:
    """Writes decision records behind the request path, and finds them by feed id."""

    def __init__(self, folder: Path) -> None:
        self.archive: Final = RecordArchive(folder)
        self._found_lost = settle_dead(folder, self.archive.database)
        self._count = DueCount(folder)
        self._dropped = 0
        self._queue: SimpleQueue[_Due | Event | None] = SimpleQueue()
        self._stop = False
        self.written = 0
        self._thread = Thread(target=self._run, name="decision-records", daemon=True)
        self._thread.start()

    @property
    def writing(self) -> bool:
        """Say whether the thread that writes lives."""
        return self._thread.is_alive()

    @property
    def lost(self) -> int:
        """Count the records and pages that this process dropped, or found lost after a crash.

        Each loss counts in one process alone; `lost_so_far` gives all of a home.
        """
        return self._found_lost + self._dropped

    def put(self, make: Callable[[], Mapping[str, Any]], kind: Kind = DECISIONS) -> None:
        """Queue a record to be made and written behind the response.

        Its columns are those of `RECORD_SCHEMA`, lists as NumPy arrays or words.
        """
        self._count.add()
        if self._queue.qsize() >= _MOST_WAITING:
            self._dropped += 1
            return
        self._queue.put(_Due(kind, make))

    def put_page(self, make: Callable[[], Mapping[str, Any]]) -> None:
        """Queue a page of a feed, columns of `PAGE_SCHEMA`, to be written beside its record."""
        self.put(make, PAGES)

    def find(self, feed_id: int) -> Record | None:
        """Find a record by feed id, hot or sealed, its pages beside it; None where there is none.

        `pages` are the records of PAGE_SCHEMA in the order in which they were read.
        """
        return find_record(self.archive, feed_id)

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Wait until everything queued is written; False at the time-out."""
        written = Event()
        self._queue.put(written)
        return written.wait(timeout_seconds)

    def close(self) -> None:
        """Write what is queued and stop the thread."""
        self._stop = True
        self._queue.put(None)
        self._thread.join(timeout=10)
        with self.archive.lock:
            settle(self.archive.database, self._count.writer, self._count.due)
        self._count.close()
        self.archive.close()

    def _run(self) -> None:
        while not self._stop:
            self._write(*self._collect())
        while not self._queue.empty():
            self._write(*self._collect(0.0))

    def _collect(self, patience_seconds: float = _FLUSH_SECONDS) -> tuple[list[_Due], Event | None]:
        """Gather what is queued, up to a flush, whose event is given, or to the end."""
        batch: list[_Due] = []
        deadline = monotonic() + patience_seconds
        with suppress(Empty):
            while (left := deadline - monotonic()) > 0 or not patience_seconds:
                due = self._queue.get(timeout=max(left, 0.0))
                if not isinstance(due, _Due):
                    return batch, due
                batch.append(due)
        return batch, None

    def _write(self, batch: list[_Due], flushed: Event | None) -> None:
        self._count.alive()
        if batch:
            self._write_rows(batch)
        if flushed is not None:
            flushed.set()

    def _write_rows(self, batch: list[_Due]) -> None:
        rows: dict[str, list[tuple[Any, ...]]] = {kind.name: [] for kind in KINDS}
        for kind, make in batch:
            try:
                rows[kind.name].append(to_row(make(), kind.schema))
            except _UNWRITABLE as error:
                self._lose(1, error)
        made = sum(map(len, rows.values()))
        archive = self.archive
        try:
            self._count.sync()
            with archive.lock, archive.database:
                for kind in KINDS:
                    marks = ", ".join("?" * len(kind.schema))
                    archive.database.executemany(
                        f"INSERT OR REPLACE INTO {kind.name} ({kind.columns}) "  # noqa: S608
                        f"VALUES ({marks})",
                        rows[kind.name],
                    )
                note_written(archive.database, self._count.writer, made)
        except (DatabaseError, OSError) as error:
            self._lose(made, error)
        else:
            self.written += made

    def _lose(self, count: int, error: Exception) -> None:
        self._dropped += count
        _log.error("records_not_written", count=count, cause=f"{type(error).__name__}: {error}")


def find_record(archive: RecordArchive, feed_id: int) -> Record | None:
    """Find a record and the pages that were read of it; None where there is no such feed."""
    wanted = np.array([feed_id])
    for table in archive.read(wanted):
        (record,) = records_of(table)
        pages = {
            page["digest"]: page
            for found in archive.read(wanted, PAGES)
            for page in records_of(found)
        }
        record["pages"] = sorted(pages.values(), key=lambda page: (page["now"], page["offset"]))
        return record
    return None
