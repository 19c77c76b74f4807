"""Follows the event log: one thread that applies what is new, at most 250 ms behind."""

from collections.abc import Callable
from sqlite3 import OperationalError
from threading import Condition, Event, Thread
from time import monotonic
from typing import Final

import pyarrow as pa
import structlog

from contracts.errors import Unavailable
from features.event_log import EventLog

POLL_SECONDS: Final = 0.05
_BATCH: Final = 20_000
_OUTBOX_ROWS: Final = 50_000
"""Events that may wait in the outbox before they are sealed into Parquet."""

_log = structlog.get_logger(__name__)


class LogFollower:
    """Tails a log and hands each batch to `apply`, in log order, on one thread."""

    def __init__(
        self,
        log: EventLog,
        applied_seq: int,
        apply: Callable[[pa.Table], None],
        *,
        compacts: bool = False,
    ) -> None:
        self._log = log
        self._compacts = compacts
        self._apply = apply
        self._applied = applied_seq
        self._moved = Condition()
        self._wake = Event()
        self._stopping = False
        self._thread = Thread(target=self._run, name="log-follower", daemon=True)

    @property
    def applied_seq(self) -> int:
        """The log position up to which everything is applied."""
        return self._applied

    @property
    def healthy(self) -> bool:
        """Say whether the log is followed, or was never to be; a dead thread serves stale feeds."""
        return self._thread.ident is None or self._thread.is_alive() or self._stopping

    def start(self) -> None:
        """Start following."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following; what is in the log stays there for the next start."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def wait_applied(self, seq: int, timeout_seconds: float) -> bool:
        """Wait until `seq` is applied; False at the time-out."""
        deadline = monotonic() + timeout_seconds
        self._wake.set()
        with self._moved:
            while self._applied < seq:
                left = deadline - monotonic()
                if left <= 0:
                    return False
                self._moved.wait(left)
        return True

    def catch_up(self) -> None:
        """Apply everything that is in the log now."""
        while (batch := self._log.tail(self._applied, _BATCH)).num_rows:
            self._take(batch)

    def _take(self, batch: pa.Table) -> None:
        self._apply(batch)
        with self._moved:
            self._applied = int(batch.column("seq")[-1].as_py())
            self._moved.notify_all()

    def _run(self) -> None:
        while not self._stopping:
            try:
                batch = self._log.tail(self._applied, _BATCH)
            except (OperationalError, Unavailable) as error:
                # The database may be held for a moment where another process has just died.
                _log.error("log_not_read", cause=f"{type(error).__name__}: {error}")
            else:
                if batch.num_rows:
                    self._take(batch)
                    self._compact()
                    continue
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()

    def _compact(self) -> None:
        """Seal a long outbox; where that fails, as on a full disk, the log is followed on."""
        if not self._compacts or self._log.outbox_rows <= _OUTBOX_ROWS:
            return
        try:
            _log.info("log_compacted", **self._log.compact()._asdict())
        except (OSError, OperationalError) as error:
            _log.error("log_not_compacted", cause=f"{type(error).__name__}: {error}")
        pa.default_memory_pool().release_unused()
