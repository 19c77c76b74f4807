"""Decision records: queued after the response, kept hot in SQLite, sealed into Parquet.

A queue and one writing thread: a request pays for one `put`. The thread writes a transaction
at least every half second, so that a kill loses less than one second of records.
"""

from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from sqlite3 import Connection, connect
from threading import Event, Lock, Thread
from time import monotonic, sleep
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import structlog

from contracts.clock import now_us
from contracts.record import RECORD_SCHEMA
from features.storage import sync_file

Record = dict[str, Any]

_FLUSH_SECONDS: Final = 0.5
_HOT_ROWS: Final = 20_000
"""Records that stay in SQLite for look-ups and later pages before they are sealed."""
_SEAL_ROWS: Final = 250
_SEAL_REST_SECONDS: Final = 0.02
_LIST_DTYPES: Final = {
    "post_ids": np.int64,
    "sources": np.int32,
    "reason_refs": np.int64,
    "removed_ids": np.int64,
    "removed_reasons": np.int8,
}
_WORD_LISTS: Final = ("reasons", "reason_codes")
_COLUMNS: Final = ", ".join(f'"{name}"' for name in RECORD_SCHEMA.names)

_log = structlog.get_logger(__name__)


class RecordStore:
    """Writes decision records behind the request path, and finds them by feed id."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._queue: SimpleQueue[Callable[[], Record] | None] = SimpleQueue()
        self._lock = Lock()
        self._database = _open(folder / "hot.db")
        self._drained = Event()
        self._stop = False
        self._hot = int(self._database.execute("SELECT count(*) FROM decisions").fetchone()[0])
        self.written = 0
        self._thread = Thread(target=self._run, name="decision-records", daemon=True)
        self._thread.start()

    def put(self, make: Callable[[], Record]) -> None:
        """Queue a record to be made and written behind the response.

        Its columns are those of `RECORD_SCHEMA`, lists as NumPy arrays or words.
        """
        self._drained.clear()
        self._queue.put(make)

    def find(self, feed_id: int) -> Record | None:
        """Find a record by feed id, hot or sealed; None where there is none."""
        with self._lock:
            row = self._database.execute(
                f"SELECT {_COLUMNS} FROM decisions WHERE feed_id = ?",  # noqa: S608 - names come from the schema
                (feed_id,),
            ).fetchone()
        if row is not None:
            return _from_row(row)
        return self._find_sealed(feed_id)

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Wait until everything queued is written; False at the time-out."""
        self._queue.put(None)
        return self._drained.wait(timeout_seconds)

    def seal(self, keep: int = 0) -> int:
        """Move hot records, oldest first, into one Parquet file until `keep` are left.

        It works in chunks and rests between them: requests are served by the same process.
        """
        target = self._folder / f"part-{now_us()}.parquet"
        scratch = target.with_suffix(".tmp")
        moved: list[int] = []
        with pq.ParquetWriter(scratch, RECORD_SCHEMA, compression="zstd") as writer:
            while self._hot - len(moved) > keep:
                wanted = min(_SEAL_ROWS, self._hot - len(moved) - keep)
                with self._lock:
                    rows = self._database.execute(
                        f"SELECT {_COLUMNS} FROM decisions ORDER BY now LIMIT ? OFFSET ?",  # noqa: S608
                        (wanted, len(moved)),
                    ).fetchall()
                if not rows:
                    break
                writer.write_table(table_of(rows))
                moved.extend(row[RECORD_SCHEMA.names.index("feed_id")] for row in rows)
                sleep(_SEAL_REST_SECONDS)
        if not moved:
            scratch.unlink()
            return 0
        sync_file(scratch)
        scratch.rename(target)  # from here on a record may stand twice, never nowhere
        for start in range(0, len(moved), _SEAL_ROWS):
            with self._lock:
                self._database.executemany(
                    "DELETE FROM decisions WHERE feed_id = ?",
                    [(feed_id,) for feed_id in moved[start : start + _SEAL_ROWS]],
                )
                self._database.commit()
        self._hot -= len(moved)
        return len(moved)

    def close(self) -> None:
        """Write what is queued and stop the thread."""
        self._stop = True
        self._queue.put(None)
        self._thread.join(timeout=10)
        self._database.close()

    def _find_sealed(self, feed_id: int) -> Record | None:
        parts = sorted(self._folder.glob("part-*.parquet"))
        if not parts:
            return None
        dataset = ds.dataset(parts, schema=RECORD_SCHEMA)
        found = dataset.to_table(filter=pc.field("feed_id") == feed_id)
        if found.num_rows == 0:
            return None
        now = found.schema.get_field_index("now")
        found = found.set_column(now, "now", found.column("now").cast(pa.int64()))
        record = found.slice(0, 1).to_pylist()[0]
        for name, dtype in _LIST_DTYPES.items():
            record[name] = np.array(record[name], dtype=dtype)
        return dict(record)

    def _run(self) -> None:
        while not self._stop:
            batch = self._collect()
            if batch:
                self._write(batch)
            if self._queue.empty():
                self._drained.set()
            if self._hot > _HOT_ROWS:
                _log.info("records_sealed", rows=self.seal(keep=_HOT_ROWS * 3 // 4))
        rest = self._collect(0.0)
        if rest:
            self._write(rest)

    def _collect(self, patience_seconds: float = _FLUSH_SECONDS) -> list[Callable[[], Record]]:
        batch: list[Callable[[], Record]] = []
        deadline = monotonic() + patience_seconds
        while True:
            left = deadline - monotonic()
            if left <= 0 < patience_seconds:
                break
            try:
                make = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            except Empty:
                break
            if make is None:  # a flush, or the end
                break
            batch.append(make)
        return batch

    def _write(self, batch: list[Callable[[], Record]]) -> None:
        marks = ", ".join("?" * len(RECORD_SCHEMA.names))
        with self._lock:
            self._database.executemany(
                f"INSERT OR REPLACE INTO decisions ({_COLUMNS}) "  # noqa: S608
                f"VALUES ({marks})",
                [_to_row(make()) for make in batch],
            )
            self._database.commit()
        self._hot += len(batch)
        self.written += len(batch)


def _open(path: Path) -> Connection:
    database = connect(path, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    columns = ", ".join(
        "feed_id INTEGER PRIMARY KEY" if name == "feed_id" else f'"{name}"'
        for name in RECORD_SCHEMA.names
    )
    database.execute(f"CREATE TABLE IF NOT EXISTS decisions ({columns})")
    database.execute("CREATE INDEX IF NOT EXISTS by_time ON decisions (now)")
    database.commit()
    return database


def _to_row(record: Record) -> tuple[Any, ...]:
    return tuple(_to_cell(name, record[name]) for name in RECORD_SCHEMA.names)


def _to_cell(name: str, value: Any) -> Any:  # noqa: ANN401 - a cell is what SQLite takes
    if name in _LIST_DTYPES:
        return np.asarray(value, dtype=_LIST_DTYPES[name]).tobytes()
    if name in _WORD_LISTS:
        return " ".join(value)
    return value


def _from_row(row: tuple[Any, ...]) -> Record:
    record: Record = {}
    for name, cell in zip(RECORD_SCHEMA.names, row, strict=True):
        if name in _LIST_DTYPES:
            record[name] = np.frombuffer(cell, dtype=_LIST_DTYPES[name])
        elif name in _WORD_LISTS:
            record[name] = cell.split()
        else:
            record[name] = cell
    return record


def table_of(rows: list[tuple[Any, ...]]) -> pa.Table:
    """Turn rows of the hot store into RECORD_SCHEMA, a column at a time."""
    columns = dict(zip(RECORD_SCHEMA.names, zip(*rows, strict=True), strict=True))
    arrays = [_column(field, columns[field.name]) for field in RECORD_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=RECORD_SCHEMA)


def _column(field: pa.Field, cells: tuple[Any, ...]) -> pa.Array:
    if field.name in _LIST_DTYPES:
        dtype = np.dtype(_LIST_DTYPES[field.name])
        ends = np.cumsum([0, *(len(cell) // dtype.itemsize for cell in cells)])
        values = pa.array(np.frombuffer(b"".join(cells), dtype=dtype), field.type.value_type)
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values).cast(field.type)
    if field.name in _WORD_LISTS:
        return pa.array([cell.split() for cell in cells], field.type)
    return pa.array(cells, field.type)
