"""Work behind the response: one thread and a short queue; what does not fit is dropped.

After each piece the thread rests as long as it worked: requests come first. (A low priority of the
system would not do: a thread that holds the interpreter keeps every request waiting.)
"""

from collections.abc import Callable
from queue import Empty, Full, Queue
from sqlite3 import OperationalError
from threading import Event, Thread
from time import perf_counter
from typing import Final, Generic, TypeVar

import structlog

T = TypeVar("T")

_WAITING: Final = 16

_log = structlog.get_logger(__name__)


class Aside(Generic[T]):
    """Does one kind of work, piece by piece."""

    def __init__(self, name: str, work: Callable[[T], None]) -> None:
        self._work = work
        self._queue: Queue[T] = Queue(_WAITING)
        self._stopping = Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self.dropped = 0

    def start(self) -> None:
        """Start working."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the piece at hand; what waits is left."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def offer(self, piece: T) -> None:
        """Hand a piece over, or drop and count it."""
        try:
            self._queue.put_nowait(piece)
        except Full:
            self.dropped += 1

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._stopping.wait(self._next())

    def _next(self) -> float:
        """Do one piece, where one comes; give the seconds that it took."""
        try:
            piece = self._queue.get(timeout=0.5)
        except Empty:
            return 0.0
        started = perf_counter()
        try:
            self._work(piece)
        except (OSError, OperationalError) as error:  # a full disk, a database that is held
            cause = f"{type(error).__name__}: {error}"
            _log.error("work_failed", work=self._thread.name, cause=cause)
        return perf_counter() - started
