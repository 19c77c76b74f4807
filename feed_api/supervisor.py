"""The parent of several workers: binds the public socket, starts them, starts them again, ends."""

import os
import signal
import socket
from importlib import import_module
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any, Final, NamedTuple

import structlog

from contracts.errors import InvalidInput, Unavailable
from feed_api.seats import DRAIN_SECONDS, WRITER, Seat
from feed_api.signals import Ending, signals_lead_to

_STOP_SECONDS: Final = DRAIN_SECONDS + 1.5
"""Twice this, for the writer ends last, is the longest that an end takes."""
_TICK_SECONDS: Final = 0.1
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_HEALTHY_SECONDS: Final = 30.0
"""A worker that lived so long is started again without a pause."""
_LONGEST_PATH: Final = 100
"""Bytes that a unix socket's path can have, less a margin."""

_SPAWN: Final = get_context("spawn")  # the parent has threads: a fork would copy their locks
_log = structlog.get_logger(__name__)


class Work(NamedTuple):
    """What each worker runs, by name: the parent need not import it."""

    target: str
    """`module:function`; it is called with the arguments and a Post."""
    arguments: tuple[Any, ...]
    """Picklable."""


class Post(NamedTuple):
    """What a worker gets from its parent."""

    seat: Seat
    public: socket.socket
    """Bound, not yet listening."""
    ready: Connection
    """To be told once when requests can be answered."""
    prepared: Event
    """Set by the writer when every database is there."""


def run_workers(count: int, home: Path, address: tuple[str, int], work: Work) -> None:
    """Serve with several workers until SIGTERM or SIGINT; call it in the main thread.

    Unavailable where the address is taken or a worker does not start.
    """
    folder = _run_folder(home)
    ending = Ending()
    stops = signals_lead_to(ending.note, signal.SIGINT, signal.SIGTERM)
    with bind_public(*address) as public, stops:
        seats = [Seat(k, count, folder) for k in range(count)]
        prepared = _SPAWN.Event()
        workers = [_Worker(seat, public, prepared, work) for seat in seats]
        try:
            for worker in workers:
                worker.start()
            _await_all(workers, ending)
            _keep_alive(workers, ending)
        finally:
            _stop(workers)
            for seat in seats:
                seat.socket_path(seat.index).unlink(missing_ok=True)


class _Worker:
    """One worker's process, or the wait for the next one."""

    def __init__(self, seat: Seat, public: socket.socket, prepared: Event, work: Work) -> None:
        self.seat = seat
        self.ready = False
        self.started = False
        """Whether it has been ready once: what dies after that is started again."""
        self.failed = False
        """Whether it died without ever having been ready."""
        self.process: BaseProcess | None = None
        self._public, self._prepared, self._work = public, prepared, work
        self._pipe: Connection | None = None
        self._pause_seconds = 0.0
        self._started_at = 0.0
        self._due_at = 0.0

    def start(self) -> None:
        """Start a process; it does not see Ctrl-C, which is the parent's to pass on."""
        self._pipe, child_end = _SPAWN.Pipe(duplex=False)
        post = Post(self.seat, self._public, child_end, self._prepared)
        self.process = _SPAWN.Process(
            target=_run, args=(self._work, post), name=f"worker-{self.seat.index}"
        )
        with signals_lead_to(signal.SIG_IGN, signal.SIGINT):
            self.process.start()
        child_end.close()
        self.ready = False
        self._started_at = monotonic()

    def look(self) -> None:
        """Note that it is ready, and that it died after that; start it again when that is due."""
        if self.process is None:
            if monotonic() >= self._due_at:
                self.start()
            return
        exit_code = self.process.exitcode  # first: what it said before it died is in the pipe
        if not self.ready and self._pipe is not None and self._pipe.poll():
            self._note_ready(self._pipe)
        self.failed = exit_code is not None and not self.started
        if exit_code is not None and self.started:
            self._note_death(exit_code)

    def end(self, deadline: float) -> None:
        """Wait for a process that was told to end; kill it at the deadline."""
        if self.process is None:
            return
        self.process.join(max(0.0, deadline - monotonic()))
        if self.process.exitcode is None:
            _log.error("worker_killed", worker=self.seat.index)
            self.process.kill()
            self.process.join()

    def _note_ready(self, pipe: Connection) -> None:
        try:
            pipe.recv_bytes()
        except EOFError:  # it is dying: its exit code comes next
            return
        self.ready = self.started = True
        seconds = round(monotonic() - self._started_at, 3)
        _log.info("worker_ready", worker=self.seat.index, seconds=seconds)

    def _note_death(self, exit_code: int) -> None:
        lived = monotonic() - self._started_at
        longer = min(_LONGEST_PAUSE_SECONDS, 2 * self._pause_seconds or _FIRST_PAUSE_SECONDS)
        self._pause_seconds = 0.0 if lived >= _HEALTHY_SECONDS else longer
        self._due_at = monotonic() + self._pause_seconds
        self.process, self.ready = None, False
        _log.error(
            "worker_died",
            worker=self.seat.index,
            exit_code=exit_code,
            lived_seconds=round(lived, 3),
            again_in_seconds=self._pause_seconds,
        )


def _run(work: Work, post: Post) -> None:
    """Run in the new process, which does not outlive its parent."""
    Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    module, function = work.target.split(":")
    getattr(import_module(module), function)(*work.arguments, post)


def _end_with_parent() -> None:
    """End as if killed: whoever comes in the parent's place needs the address and the lock."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def bind_public(host: str, port: int) -> socket.socket:
    """Take the public address; the workers listen on it when they are ready."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        msg = f"{host}:{port} cannot be listened on: {error.strerror or error}"
        raise Unavailable(msg, hint="is another server running? name another --port") from error
    return listener


def _run_folder(home: Path) -> Path:
    folder = (home / "run").resolve()
    longest = folder / "worker-999.sock"
    if len(str(longest).encode()) > _LONGEST_PATH:
        msg = f"{folder} is too long a path for the workers' sockets"
        raise InvalidInput(msg, hint="name a shorter home folder, or serve with --workers 1")
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    return folder


def _await_all(workers: list[_Worker], ending: Ending) -> None:
    """Wait until every worker has been ready once; Unavailable where one dies before that."""
    while not ending.told() and not all(worker.started for worker in workers):
        for worker in workers:
            worker.look()
            if worker.failed:
                msg = f"worker {worker.seat.index} did not start"
                raise Unavailable(msg, hint="see its messages above")
        _rest(workers)


def _keep_alive(workers: list[_Worker], ending: Ending) -> None:
    while not ending.told():
        for worker in workers:
            worker.look()
        _rest(workers)


def _rest(workers: list[_Worker]) -> None:
    """Wait a moment, or until one dies."""
    connection.wait([w.process.sentinel for w in workers if w.process], _TICK_SECONDS)


def _stop(workers: list[_Worker]) -> None:
    """End the readers, then the writer: what the readers have begun may need it."""
    readers = [worker for worker in workers if worker.seat.index != WRITER]
    for group in (readers, [worker for worker in workers if worker.seat.index == WRITER]):
        deadline = monotonic() + _STOP_SECONDS
        for worker in group:
            if worker.process is not None:
                worker.process.terminate()
        for worker in group:
            worker.end(deadline)
