"""Everything under one home folder: ids, event log, catalog, small settings of the data."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Final, Self, TypedDict, Unpack

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.clock import now_us
from contracts.errors import NotFound
from features.catalog import Catalog
from features.event_log import Appended, EventLog
from features.identity import IdMap
from features.segments import integers_of
from features.storage import Database, WriterLock, check_layout

_BULK_VERSION: Final = "bulk_version"
_DATABASE: Final = "headwater.db"


class EntityChanges(TypedDict, total=False):
    """What one write changes beside the log; tables as in `contracts.tables`."""

    posts: pa.Table | None
    deleted_posts: NDArray[np.int64] | Sequence[int] | None
    people: pa.Table | None
    erased_people: NDArray[np.int64] | Sequence[int] | None
    follows_added: pa.Table | None
    follows_removed: pa.Table | None
    """Columns follower_id, followee_id."""
    blocks_added: pa.Table | None
    blocks_removed: pa.Table | None
    """Columns blocker_id, blocked_id, kind."""


def require_data(home: Path) -> None:
    """Raise NotFound where there is nothing to read."""
    if not (home / _DATABASE).exists():
        msg = f"there is no data in {home}"
        hint = "run `headwater ingest` first, or name the folder with --home"
        raise NotFound(msg, hint=hint)


class Workspace:
    """One home folder; one process at a time may write to it, any number may read.

    Safe for threads. A reader opens with `read_only=True` and sees each commit of the writer.
    """

    def __init__(self, home: Path, database: Database, lock: WriterLock | None) -> None:
        self.home = home
        self._database = database
        self._lock = lock
        self.ids = IdMap(database)
        self.log = EventLog(home / "events", database)
        self.catalog = Catalog(database, self.ids)

    @classmethod
    def open(cls, home: Path, *, read_only: bool = False) -> "Workspace":
        """Open a home folder, made where it is absent.

        Conflict where another process writes to it or its layout is another version's; NotFound
        where there is nothing to read.
        """
        path = home / _DATABASE
        if read_only:
            require_data(home)
            check_layout(home, create=False)
            return cls(home, Database(path, read_only=True), None)
        (home / "events").mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            lock = WriterLock(home / "writer.lock")
            undo.callback(lock.release)
            check_layout(home, create=True)
            opened = cls(home, Database(path, read_only=False), lock)
            undo.pop_all()
        return opened

    def write(self, events: pa.Table | None, **changes: Unpack[EntityChanges]) -> Appended:
        """Change entities and append the events that tell of it, in one durable transaction.

        Ids must have been interned before. A deleted post's time is the newest event time of the
        batch, or now where there are no events.
        """
        with self._database.write():
            self._change_entities(changes, _batch_time(events))
            if events is not None:
                return self.log.append(events)
            self.note_bulk_load()
        return Appended(0, 0, self.log.last_seq)

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Make the writes of a block one durable transaction; ids cannot be interned in it."""
        with self._database.write():
            yield

    def meta_get(self, key: str) -> str | None:
        """Read a small setting of the data, by convention JSON; None where it is absent."""
        with self._database.snapshot() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def meta_set(self, key: str, value: str) -> None:
        """Write a small setting of the data."""
        with self._database.write() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @property
    def writable(self) -> bool:
        """Say whether this process is the one that may write."""
        return self._lock is not None

    @property
    def bulk_version(self) -> str:
        """Name the state of what bulk loads put into the catalog, of which no event tells."""
        return self.meta_get(_BULK_VERSION) or ""

    def note_bulk_load(self) -> None:
        """Say that the catalog changes, or has changed, without events."""
        self.meta_set(_BULK_VERSION, token_hex(8))

    def close(self) -> None:
        """Close the database and let another process write."""
        self._database.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _change_entities(self, changes: EntityChanges, at_us: int) -> None:
        catalog = self.catalog
        if (posts := changes.get("posts")) is not None:
            catalog.upsert_posts(posts)
        if (deleted := changes.get("deleted_posts")) is not None:
            catalog.delete_posts(deleted, at_us)
        if (people := changes.get("people")) is not None:
            catalog.upsert_people(people)
        if (follows := changes.get("follows_added")) is not None:
            catalog.set_follows(follows)
        if (unfollows := changes.get("follows_removed")) is not None:
            pairs = [integers_of(unfollows, name) for name in ("follower_id", "followee_id")]
            catalog.remove_follows(*pairs)
        if (blocks := changes.get("blocks_added")) is not None:
            catalog.set_blocks(blocks)
        if (unblocks := changes.get("blocks_removed")) is not None:
            blocker, blocked = (integers_of(unblocks, n) for n in ("blocker_id", "blocked_id"))
            kinds = np.array(unblocks.column("kind").to_pylist(), dtype=object)
            for kind in sorted(set(kinds)):
                catalog.remove_blocks(blocker[kinds == kind], blocked[kinds == kind], kind)
        if (erased := changes.get("erased_people")) is not None:
            catalog.erase_people(erased)


def _batch_time(events: pa.Table | None) -> int:
    if events is None or events.num_rows == 0:
        return now_us()
    return int(integers_of(events, "event_time").max())
