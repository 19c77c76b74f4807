"""How many records were lost, counted so that kill -9 cannot lose the count.

What is to be written is counted in a shared memory map, which outlives the process; what was
written is counted in the transaction that writes it. The next start compares the two.
"""

import fcntl
from contextlib import suppress
from os import fsync
from pathlib import Path
from secrets import token_hex
from sqlite3 import Connection
from threading import Lock
from typing import Final

import numpy as np
import structlog

from contracts.clock import now_us, to_datetime

_DUE, _ALIVE_US = 0, 1
_SIZE: Final = 2

_log = structlog.get_logger(__name__)


class DueCount:
    """Counts what this process has to write, and says when it was last alive."""

    def __init__(self, folder: Path) -> None:
        self.writer: Final = token_hex(8)
        self._path = folder / f"due-{self.writer}.count"
        scratch = self._path.with_suffix(".new")
        self._file = scratch.open("w+b")
        fcntl.flock(self._file, fcntl.LOCK_EX)  # before it has its name: an unlocked one is dead
        self._file.write(bytes(8 * _SIZE))
        self._file.flush()
        self._held = np.memmap(scratch, dtype=np.int64, mode="r+", shape=(_SIZE,))
        scratch.rename(self._path)
        self._lock = Lock()
        self.alive()

    @property
    def due(self) -> int:
        """Everything that was to be written."""
        return int(self._held[_DUE])

    def add(self) -> None:
        """Count one thing that is to be written."""
        with self._lock:
            self._held[_DUE] += 1

    def alive(self) -> None:
        """Note the time."""
        self._held[_ALIVE_US] = now_us()

    def sync(self) -> None:
        """Put the count on disk, so that it also outlives a power cut."""
        fsync(self._file.fileno())

    def close(self) -> None:
        """Remove the count: everything is written, or its loss is noted."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def note_written(database: Connection, writer: str, count: int) -> None:
    """Add to what a writer has written; in the transaction that writes it."""
    database.execute(
        "INSERT INTO writers VALUES (?, ?, NULL) "
        "ON CONFLICT (name) DO UPDATE SET written = written + excluded.written",
        (writer, count),
    )


def settle(database: Connection, writer: str, due: int) -> int:
    """Note for good what a writer has lost, once; commits, and gives what it was."""
    with database:
        note_written(database, writer, 0)
        written, known = database.execute(
            "SELECT written, lost FROM writers WHERE name = ?", (writer,)
        ).fetchone()
        lost = max(0, due - written) if known is None else 0
        if known is None:
            database.execute("UPDATE writers SET lost = ? WHERE name = ?", (lost, writer))
    return lost


def settle_dead(folder: Path, database: Connection) -> int:
    """Count and log what processes lost that ended without closing their store; give the sum."""
    total = 0
    for path in sorted(folder.glob("due-*.count")):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its process lives
            held = np.frombuffer(file.read(8 * _SIZE), dtype=np.int64)
            lost = settle(database, path.stem.removeprefix("due-"), int(held[_DUE]))
            path.unlink()
            total += lost
            if lost:
                alive = to_datetime(int(held[_ALIVE_US])).isoformat()
                _log.warning("records_lost", lost=lost, last_alive=alive)
    return total


def lost_so_far(database: Connection) -> int:
    """Sum what all writers have lost."""
    return int(database.execute("SELECT coalesce(sum(lost), 0) FROM writers").fetchone()[0])
