"""Keeps the decision records: seals them, lets old ones go, merges small files, erases people.

One thread of the process that may write to the home folder. It works in small steps and rests
between them: requests are served by the same process.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from sqlite3 import Error as DatabaseError
from threading import Event, Thread
from time import monotonic, sleep
from typing import Final

import pyarrow as pa
import structlog

from contracts.clock import DAY_US, Clock, to_datetime
from contracts.errors import HeadwaterError
from features.event_log import EventLog
from serving.records.archive import DECISIONS, GROUP_ROWS, KINDS, PAGES, Kind, Part
from serving.records.codec import table_of
from serving.records.erasure import Erasures
from serving.records.writer import RecordStore

_HOT_ROWS: Final = 10_000
"""Records that stay in SQLite for look-ups and later pages before the older half is sealed."""
_SMALL_ROWS: Final = 2_500
_SMALL_PARTS: Final = 4
"""So many files of a day under so many rows are merged into one."""
_TICK_SECONDS: Final = 5.0
_HOUSEKEEPING_SECONDS: Final = 3600.0
_REST_SECONDS: Final = 0.02
_OTHERS_SECONDS: Final = 1.0
"""What another process may take to write what it has in its queue."""
_LOOSE: Final = "feed_id NOT IN (SELECT feed_id FROM decisions)"
"""Pages whose record is sealed follow it."""
_TROUBLE: Final = (HeadwaterError, DatabaseError, OSError, pa.ArrowException)

_log = structlog.get_logger(__name__)


class RecordKeeper:
    """Does the housekeeping of one folder of records."""

    def __init__(self, store: RecordStore, log: EventLog, days: int, clock: Clock) -> None:
        self._store, self._archive, self._log = store, store.archive, log
        self._days, self._clock = days, clock
        self._wake = Event()
        self._stopping = False
        self._tidied_at = -_HOUSEKEEPING_SECONDS
        self._thread = Thread(target=self._run, name="record-keeper", daemon=True)

    def start(self) -> None:
        """Start keeping."""
        self._thread.start()

    def wake(self) -> None:
        """Say that somebody was erased: it is seen to now rather than at the next round."""
        self._wake.set()

    def stop(self) -> None:
        """Stop; what was begun is done again by the next start."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def seal(self, keep: int = 0) -> int:
        """Move hot records, oldest first, into Parquet until `keep` are left; give their number."""
        sealed = self._seal(DECISIONS, "true", self._archive.hot_rows() - keep)
        loose = self._archive.ask(f"SELECT count(*) FROM pages WHERE {_LOOSE}")[0][0]  # noqa: S608
        self._seal(PAGES, _LOOSE, loose)
        return sealed

    def purge(self) -> int:
        """Remove the records of days that are over by more than the days that records are kept."""
        oldest = (to_datetime(self._clock.now_us()) - timedelta(days=self._days)).date()
        midnight_us = int(datetime.combine(oldest, datetime.min.time(), UTC).timestamp() * 1e6)
        gone = 0
        for kind in KINDS:
            old = [part for part in self._archive.parts(kind) if part.day < f"{oldest:%Y%m%d}"]
            self._archive.swap(None, old)
            hot = self._archive.ask(
                f"DELETE FROM {kind.name} WHERE now < ? RETURNING 1",  # noqa: S608
                (midnight_us,),
            )
            if kind is DECISIONS:
                gone = sum(part.rows for part in old) + len(hot)
        return gone

    def compact(self) -> int:
        """Merge the small files of each day; give how many files there are less."""
        merged = 0
        for kind in KINDS:
            small = [part for part in self._archive.parts(kind) if part.rows < _SMALL_ROWS]
            for day, found in groupby(small, key=lambda part: part.day):
                parts = list(found)
                if len(parts) >= _SMALL_PARTS:
                    tables = (table for part in parts for table in self._rested(part))
                    self._archive.swap(self._archive.write_part(kind, day, tables), parts)
                    merged += len(parts) - 1
        return merged

    def erase(self) -> int:
        """Take people who were erased since the last time out of all records; give their number."""
        done = self._archive.ask("SELECT max(up_to_seq) FROM erased")[0][0]
        end = self._log.last_seq
        if done is None and not self._archive.parts() and not self._archive.hot_rows():
            done = end  # there is nothing yet that could name anybody
        erased = Erasures.after(self._log, done or 0, end)
        if len(erased.people):
            self._store.flush()
            sleep(_OTHERS_SECONDS)
            self.seal()
            for kind in KINDS:
                for part in self._archive.parts(kind):
                    if erased.touches(self._archive.folder / part.name, kind):
                        tables = (erased.taken_out(t, kind) for t in self._rested(part))
                        self._archive.swap(self._archive.write_part(kind, part.day, tables), [part])
            late = self._archive.ask(
                "SELECT count(*) FROM decisions WHERE log_seq < ?", (int(erased.seqs.max()),)
            )
            if late[0][0]:
                return 0  # once more at the next round
        if done != end:
            self._archive.ask("DELETE FROM erased")
            self._archive.ask("INSERT INTO erased VALUES (?)", (end,))
        return len(erased.people)

    def round(self) -> None:
        """Do what is due."""
        if self._archive.hot_rows() > _HOT_ROWS:
            _log.info("records_sealed", rows=self.seal(keep=_HOT_ROWS // 2))
        if people := self.erase():
            _log.info("records_erased", people=people)
        if monotonic() - self._tidied_at >= _HOUSEKEEPING_SECONDS:
            _log.info("records_kept", purged=self.purge(), files_merged=self.compact())
            self._tidied_at = monotonic()
            pa.default_memory_pool().release_unused()

    def _run(self) -> None:
        tidied = False
        while not self._stopping:
            try:
                if not tidied:
                    self._archive.tidy()
                    tidied = True
                self.round()
            except _TROUBLE as error:
                _log.error("records_not_kept", cause=f"{type(error).__name__}: {error}")
            self._wake.wait(_TICK_SECONDS)
            self._wake.clear()

    def _seal(self, kind: Kind, which: str, rows: int) -> int:
        done = 0
        while done < rows and not self._stopping:
            oldest = self._archive.ask(f"SELECT min(now) FROM {kind.name} WHERE {which}")[0][0]  # noqa: S608
            if oldest is None:
                break
            day = f"{to_datetime(oldest):%Y%m%d}"
            end_us = (oldest // DAY_US + 1) * DAY_US
            moved: list[int] = []
            batches = self._oldest(kind, f"{which} AND now < {end_us}", rows - done, moved)
            self._archive.swap(self._archive.write_part(kind, day, batches), taken=(kind, moved))
            if not moved:
                break
            done += len(moved)
        return done

    def _oldest(self, kind: Kind, which: str, rows: int, moved: list[int]) -> Iterator[pa.Table]:
        """Read hot rows, oldest first, noting each one's `rowid` in `moved`."""
        at = (-1, -1)
        while len(moved) < rows:
            found = self._archive.ask(
                f"SELECT now, rowid, {kind.columns} FROM {kind.name} "  # noqa: S608
                f"WHERE {which} AND (now, rowid) > (?, ?) ORDER BY now, rowid LIMIT ?",
                (*at, min(GROUP_ROWS, rows - len(moved))),
            )
            if not found:
                return
            at = found[-1][:2]
            moved.extend(row[1] for row in found)
            yield table_of([row[2:] for row in found], kind.schema)
            sleep(_REST_SECONDS)

    def _rested(self, part: Part) -> Iterator[pa.Table]:
        for table in self._archive.part_tables(part):
            yield table
            sleep(_REST_SECONDS)
