"""Where decision records lie: the newest in SQLite, older ones in Parquet, one list of both.

A row stands in exactly one place in every committed state of the database: a file counts from the
transaction that lists it and takes its rows out of the hot tables, or other files out of the list.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection, connect
from threading import RLock
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from contracts.clock import now_us
from contracts.errors import Conflict, HeadwaterError, NotFound
from contracts.record import PAGE_SCHEMA, RECORD_SCHEMA, RECORD_VERSION
from features.storage import durable_file
from serving.records.codec import Row, table_of

Ids = NDArray[np.int64]

GROUP_ROWS: Final = 250
"""Rows of a Parquet row group: what has to be read for one record."""
_ZSTD_LEVEL: Final = 3
_POST_IDS: Final = ("pool_ids", "reserve_ids", "removed_ids", "posts")
_BUSY_SECONDS: Final = 10.0
_LOOKS: Final = 5
"""How often rows are looked for whose file is replaced while they are read."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of row: its hot table, its files, its columns."""

    name: str
    schema: pa.Schema
    many: bool
    """A feed may have several rows."""

    @property
    def columns(self) -> str:
        """Name the columns for SQL, in the order of the schema."""
        return ", ".join(f'"{name}"' for name in self.schema.names)


DECISIONS: Final = Kind("decisions", RECORD_SCHEMA, many=False)
PAGES: Final = Kind("pages", PAGE_SCHEMA, many=True)
KINDS: Final = (DECISIONS, PAGES)


class Part(NamedTuple):
    """One sealed file; its rows are of one day (UTC) of `now`."""

    name: str
    kind: str
    day: str
    rows: int
    bytes: int


class RecordsDamaged(HeadwaterError):
    type: ClassVar[str] = "records-damaged"
    title: ClassVar[str] = "Decision records are damaged"


class RecordArchive:
    """Reads records wherever they lie; a writable one also takes and moves them. For threads."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder = folder
        self.lock: Final = RLock()
        path = folder / f"hot-v{RECORD_VERSION}.db"
        if read_only and not path.exists():
            msg = f"there are no decision records in {folder}"
            raise NotFound(msg, hint="serve feeds first, or name the folder with --home")
        folder.mkdir(parents=True, exist_ok=True)
        self.database: Final = _open(path, read_only=read_only)
        self.database.text_factory = _text
        self._ids: dict[str, Ids] = {}

    def close(self) -> None:
        """Close the database."""
        with self.lock:
            self.database.close()

    def hot_rows(self, kind: Kind = DECISIONS) -> int:
        """Count the rows that wait to be sealed."""
        return int(self.ask(f"SELECT count(*) FROM {kind.name}")[0][0])  # noqa: S608 - our own names

    def parts(self, kind: Kind = DECISIONS) -> list[Part]:
        """List the sealed files, oldest day first."""
        found = self.ask("SELECT * FROM parts WHERE kind = ? ORDER BY day, name", (kind.name,))
        return [Part(*row) for row in found]

    def ids(self, kind: Kind = DECISIONS) -> Ids:
        """Give the feed ids of all rows, hot and sealed, in no order."""
        for _ in range(_LOOKS):
            hot = self.ask(f"SELECT feed_id FROM {kind.name}")  # noqa: S608
            with suppress(FileNotFoundError):  # compaction replaced a file: look again
                sealed = [self.part_ids(part) for part in self.parts(kind)]
                return np.concatenate([np.array([row[0] for row in hot], np.int64), *sealed])
        msg = f"the files of {self.folder} change faster than they can be read"
        raise Conflict(msg, hint="try again")

    def part_ids(self, part: Part) -> Ids:
        """Give the feed id of each row of a file; kept, since files never change."""
        if part.name not in self._ids:
            try:
                with _reading(self.folder / part.name) as file:
                    column = file.read(columns=["feed_id"]).column("feed_id")
            except FileNotFoundError:
                raise
            except (OSError, pa.ArrowException) as error:
                raise self._damage(part, error) from error
            self._ids[part.name] = column.to_numpy()
        return self._ids[part.name]

    def read(
        self,
        ids: Ids,
        kind: Kind = DECISIONS,
        damaged: Callable[[Part, Exception], None] | None = None,
    ) -> Iterator[pa.Table]:
        """Read the rows of some feeds in batches, in no order; what is nowhere is left out.

        A row of several a feed may come twice where it is moved meanwhile. Where a file cannot be
        read `damaged` is told and the rest goes on; without it RecordsDamaged is raised.
        """
        left = ids
        for _ in range(_LOOKS):
            moved = False
            for table in self._hot(left, kind):
                left = left if kind.many else _without(left, table)
                yield table
            for part in self.parts(kind):
                try:
                    for table in self._sealed(part, left):
                        left = left if kind.many else _without(left, table)
                        yield table
                except FileNotFoundError:  # compaction replaced it
                    moved = True
                except (OSError, pa.ArrowException) as error:
                    if damaged is None:
                        raise self._damage(part, error) from error
                    damaged(part, error)
            if not moved:
                return

    def write_part(self, kind: Kind, day: str, tables: Iterable[pa.Table]) -> Part | None:
        """Write a sealed file of batches, durable but not yet listed; None where all are empty."""
        target = self.folder / f"{kind.name}-v{RECORD_VERSION}-{day}-{now_us()}.parquet"
        rows = 0
        with durable_file(target) as sink, pq.ParquetWriter(sink, **layout(kind)) as writer:
            for table in _regrouped(tables):
                writer.write_table(table, row_group_size=GROUP_ROWS)
                rows += table.num_rows
        if not rows:
            target.unlink()
            return None
        return Part(target.name, kind.name, day, rows, target.stat().st_size)

    def swap(
        self,
        new: Part | None,
        old: Sequence[Part] = (),
        taken: tuple[Kind, Sequence[int]] | None = None,
    ) -> None:
        """List a file in the place of others, or of hot rows (`rowid`s), in one transaction."""
        with self.lock, self.database:
            if new is not None:
                self.database.execute("INSERT INTO parts VALUES (?, ?, ?, ?, ?)", new)
            gone = [(part.name,) for part in old]
            self.database.executemany("DELETE FROM parts WHERE name = ?", gone)
            if taken is not None:
                self.database.executemany(
                    f"DELETE FROM {taken[0].name} WHERE rowid = ?",  # noqa: S608
                    [(row,) for row in taken[1]],
                )
        for part in old:
            (self.folder / part.name).unlink(missing_ok=True)
            self._ids.pop(part.name, None)

    def part_tables(self, part: Part) -> Iterator[pa.Table]:
        """Read a file a row group at a time."""
        with _reading(self.folder / part.name) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, use_threads=False)

    def ask(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """Run one statement and give its rows; a change is committed."""
        with self.lock, self.database:
            return self.database.execute(statement, values).fetchall()

    def _damage(self, part: Part, error: Exception) -> RecordsDamaged:
        msg = f"{self.folder / part.name} cannot be read: {error}"
        return RecordsDamaged(msg, hint="restore it from a backup")

    def _hot(self, ids: Ids, kind: Kind) -> Iterator[pa.Table]:
        for start in range(0, len(ids), GROUP_ROWS):
            some = ids[start : start + GROUP_ROWS].tolist()
            marks = ", ".join("?" * len(some))
            found = self.ask(
                f"SELECT {kind.columns} FROM {kind.name} WHERE feed_id IN ({marks})",  # noqa: S608
                some,
            )
            if found:
                yield table_of(found, kind.schema)

    def _sealed(self, part: Part, ids: Ids) -> Iterator[pa.Table]:
        rows = np.flatnonzero(np.isin(self.part_ids(part), ids))
        if not len(rows):
            return
        with _reading(self.folder / part.name) as file:
            sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
            ends = np.cumsum(sizes)
            groups = np.searchsorted(ends, rows, side="right")
            for group in np.unique(groups).tolist():
                places = rows[groups == group] - (ends[group] - sizes[group])
                yield file.read_row_group(group, use_threads=False).take(places)

    def tidy(self) -> None:
        """List the files of a folder whose database is new; else remove what was never listed.

        For the one process that writes files, before it writes any.
        """
        for pattern in (".tmp-*.parquet", f"*-v{RECORD_VERSION}-*.tmp"):
            for scratch in self.folder.glob(pattern):
                scratch.unlink()
        listed = {row[0] for row in self.ask("SELECT name FROM parts")}
        new = not listed and not self.hot_rows()
        for kind in KINDS:
            for path in self.folder.glob(f"{kind.name}-v{RECORD_VERSION}-*.parquet"):
                if new:
                    rows, day = pq.read_metadata(path).num_rows, path.stem.split("-")[2]
                    self.swap(Part(path.name, kind.name, day, rows, path.stat().st_size))
                elif path.name not in listed:
                    path.unlink()


def layout(kind: Kind) -> dict[str, Any]:
    """Say how a file is encoded: floats and post ids byte by byte apart, then compressed.

    Post ids repeat too seldom for a dictionary where there are many posts; people repeat more.
    """
    split = [f.name for f in kind.schema if _of_floats(f) or f.name in _POST_IDS]
    return {
        "schema": kind.schema,
        "compression": "zstd",
        "compression_level": _ZSTD_LEVEL,
        "use_dictionary": [
            f"{f.name}.list.element" if pa.types.is_list(f.type) else f.name
            for f in kind.schema
            if f.name not in split
        ],
        "column_encoding": {f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in split},
        "write_page_checksum": True,
        "write_statistics": ["feed_id", "viewer_id", "now"],
    }


def _text(raw: bytes) -> str:
    """Read a text whatever its bytes: the digest tells whether they are the ones written."""
    return raw.decode(errors="replace")


def _of_floats(field: pa.Field) -> bool:
    return bool(pa.types.is_list(field.type) and pa.types.is_floating(field.type.value_type))


def _open(path: Path, *, read_only: bool) -> Connection:
    if read_only:
        return connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=_BUSY_SECONDS,
            check_same_thread=False,
        )
    database = connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    for kind in KINDS:
        key = "feed_id INTEGER PRIMARY KEY" if not kind.many else "feed_id INTEGER"
        columns = ", ".join(key if n == "feed_id" else f'"{n}"' for n in kind.schema.names)
        database.execute(f"CREATE TABLE IF NOT EXISTS {kind.name} ({columns})")
        database.execute(f"CREATE INDEX IF NOT EXISTS {kind.name}_time ON {kind.name} (now)")
    database.execute("CREATE INDEX IF NOT EXISTS pages_feed ON pages (feed_id)")
    database.execute(
        "CREATE TABLE IF NOT EXISTS parts (name TEXT PRIMARY KEY, kind TEXT, day TEXT, "
        "rows INTEGER, bytes INTEGER)"
    )
    database.execute(
        "CREATE TABLE IF NOT EXISTS writers (name TEXT PRIMARY KEY, written INTEGER, lost INTEGER)"
    )
    database.execute("CREATE TABLE IF NOT EXISTS erased (up_to_seq INTEGER)")
    database.commit()
    return database


def _reading(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, memory_map=False, page_checksum_verification=True)


def _without(ids: Ids, table: pa.Table) -> Ids:
    return ids[~np.isin(ids, table.column("feed_id").to_numpy())]


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut batches of any length into row groups."""
    held: pa.Table | None = None
    for table in tables:
        held = table if held is None else pa.concat_tables([held, table])
        while held.num_rows >= GROUP_ROWS:
            yield held.slice(0, GROUP_ROWS)
            held = held.slice(GROUP_ROWS)
    if held is not None and held.num_rows:
        yield held
