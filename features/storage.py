"""The SQLite database under the home folder: schema, connections, transactions, one writer."""

import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO, Final

from contracts.errors import Conflict, NotFound

LAYOUT_VERSION: Final = 1
"""Raised whenever the meaning of a file or table under the home folder changes."""

_BUSY_TIMEOUT_SECONDS: Final = 10.0


class WriterLock:
    """An exclusive lock on a home folder; the system frees it when the process dies."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            msg = f"process {holder} is writing to {path.parent}"
            hint = "stop it first, or name another folder with --home"
            raise Conflict(msg, hint=hint) from error
        os.ftruncate(self._fd, 0)
        os.write(self._fd, str(os.getpid()).encode())

    def release(self) -> None:
        """Give the lock back."""
        os.close(self._fd)


class Database:
    """One write connection behind a lock, and one read connection a thread.

    A transaction is durable when `write()` ends (WAL, synchronous=FULL). Nested `write()` of one
    thread joins the outer transaction. Readers, of any process, see committed states only.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self._lock = threading.RLock()
        self._depth = 0
        self._doomed = False
        self._after_commit: list[Callable[[], None]] = []
        self._local = threading.local()
        self._connections_lock = threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        self._writer: sqlite3.Connection | None = None
        if not read_only:
            self._writer = self._connect("rwc")
            self._writer.execute("PRAGMA journal_mode=WAL")
            self._writer.execute("PRAGMA synchronous=FULL")
            self._create()
        elif not path.exists():
            msg = f"{path} does not exist"
            raise NotFound(msg, hint="run `headwater ingest` first, or name the folder with --home")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Run one transaction; everything is on disk when the block has ended.

        Conflict where the block ended well although an inner one had failed: nothing is written.
        """
        if self._writer is None:
            msg = f"{self.path.parent} was opened for reading"
            raise Conflict(msg, hint="open the workspace with read_only=False")
        with self._lock:
            if self._depth == 0:
                self._writer.execute("BEGIN IMMEDIATE")
                self._doomed = False
            self._depth += 1
            done = False
            try:
                yield self._writer
                done = True
            finally:
                self._depth -= 1
                self._doomed = self._doomed or not done
                if self._depth == 0:
                    self._finish(self._writer)
            if self._depth == 0 and self._doomed:
                msg = "a part of this transaction failed, so that nothing of it was written"
                raise Conflict(msg, hint="let the failure of the part end the whole block")

    def after_commit(self, action: Callable[[], None]) -> None:
        """Run an action once the transaction is on disk, still under the write lock."""
        self._after_commit.append(action)

    @property
    def nested(self) -> bool:
        """Whether the open transaction has an outer one; for the thread that holds it."""
        return self._depth > 1

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Read one committed state with this thread's connection."""
        connection = self._reader()
        if connection.in_transaction:
            yield connection
            return
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close every connection; calls after this fail."""
        with self._lock, self._connections_lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
            self._writer = None
            self._local = threading.local()

    def _finish(self, writer: sqlite3.Connection) -> None:
        actions, self._after_commit = self._after_commit, []
        if self._doomed:
            # A failed statement may have rolled back already (full disk); then there is nothing.
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            return
        try:
            writer.execute("COMMIT")
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                writer.execute("ROLLBACK")
            raise
        for action in actions:
            action()

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect("rw")
            connection.execute("PRAGMA query_only=ON")
            self._local.connection = connection
        return connection

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",  # quoted: a path may hold #, ? and %
            uri=True,
            timeout=_BUSY_TIMEOUT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        # Not the write lock: whoever opens a reader may hold a lock that the writer waits for.
        with self._connections_lock:
            self._connections.append(connection)
        return connection

    def _create(self) -> None:
        with self.write() as connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] == LAYOUT_VERSION:
                return
            schema = files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
            for statement in schema.split(";"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version={LAYOUT_VERSION}")


def check_layout(home: Path, *, create: bool) -> None:
    """Hold `layout.json` to this code's layout version; write it in a new folder."""
    path = home / "layout.json"
    if not path.exists():
        if create:
            write_durably(path, json.dumps({"layout": LAYOUT_VERSION}).encode())
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["layout"]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path} is damaged: it should read {{'layout': {LAYOUT_VERSION}}}"
        raise Conflict(msg, hint="restore it, or ingest into a new folder") from error
    if found != LAYOUT_VERSION:
        msg = f"{home} has layout {found}, this version of Headwater reads {LAYOUT_VERSION}"
        raise Conflict(msg, hint="ingest into a new folder, or use the version that wrote it")


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file so that a crash leaves the old or the new content, never a part."""
    with durable_file(path) as file:
        file.write(data)


@contextmanager
def durable_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file that is on disk, whole and in its place, when the block has ended.

    A block that fails leaves what was there before.
    """
    part = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Bring a file that somebody else has written to disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
