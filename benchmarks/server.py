"""Starts a server as a child, waits until it is ready, and reads what it costs."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

import httpx
import psutil


@dataclass(slots=True)
class Server:
    """A running child: where it answers, how long it took to be ready."""

    url: str
    process: psutil.Process
    ready_seconds: float

    def cpu_seconds(self) -> float:
        """CPU time of the child and all its children so far."""
        family = [self.process, *self.process.children(recursive=True)]
        times = [member.cpu_times() for member in family]
        return sum(t.user + t.system for t in times)

    def resident_mb(self) -> float:
        """Resident memory of the child and all its children."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(member.memory_info().rss for member in family) / 2**20


def free_port() -> int:
    """Find a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str], port: int, ready: str, log: Path, limit_seconds: float = 120.0
) -> Iterator[Server]:
    """Run a server for the length of the block; its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    url = f"http://127.0.0.1:{port}"
    started = perf_counter()
    with log.open("wb") as sink:
        child = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink)
        try:
            while not _ready(url + ready):
                if child.poll() is not None or perf_counter() - started > limit_seconds:
                    tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
                    sys.exit(f"the server did not become ready:\n{tail}")
                sleep(0.05)
            yield Server(url, psutil.Process(child.pid), perf_counter() - started)
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()


def _ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1.0).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
