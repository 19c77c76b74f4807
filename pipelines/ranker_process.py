"""Starts the BentoML ranker beside the feed API, restarts it when it dies, ends it at the end."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

import httpx
import structlog

from contracts.errors import Unavailable
from contracts.settings import Settings

START_SECONDS: Final = 90.0
_STOP_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


@contextmanager
def ranker_running(settings: Settings) -> Iterator[None]:
    """Keep the ranker service running for the length of the block."""
    supervisor = _Supervisor(settings)
    supervisor.start()
    try:
        yield
    finally:
        supervisor.stop()


class _Supervisor:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = Event()
        self._process = self._spawn()
        self._watch = Thread(target=self._keep_alive, name="ranker-supervisor", daemon=True)

    def start(self) -> None:
        """Wait until the service is ready, then watch it."""
        deadline = monotonic() + START_SECONDS
        while not ranker_ready(self._settings.ranker_url):
            if self._process.poll() is not None or monotonic() > deadline:
                self.stop()
                msg = f"the ranker service did not start at {self._settings.ranker_url}"
                raise Unavailable(msg, hint="see its messages above; is the port free?")
            self._stopping.wait(0.2)
        self._watch.start()

    def stop(self) -> None:
        """End the service: ask, then kill."""
        self._stopping.set()
        end_process(self._process, _STOP_SECONDS)

    def _keep_alive(self) -> None:
        while not self._stopping.wait(_PAUSE_SECONDS):
            if self._process.poll() is not None and not self._stopping.is_set():
                _log.error("ranker_died", exit_code=self._process.returncode)
                self._process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        address = urlsplit(self._settings.ranker_url)
        environment = {
            **os.environ,
            "HEADWATER_HOME": str(self._settings.home),
            "BENTOML_DO_NOT_TRACK": "true",
            "OMP_NUM_THREADS": "1",
        }
        command = [
            sys.executable, "-m", "bentoml", "serve", "serving.rankers.service:RankerService",
            "--host", address.hostname or "127.0.0.1", "--port", str(address.port or 80),
        ]  # fmt: skip
        return subprocess.Popen(command, env=environment, stdout=sys.stderr)  # noqa: S603 - our own command


def ranker_ready(url: str, timeout_seconds: float = 1.0) -> bool:
    """Ask a ranker service whether it can rank."""
    try:
        answer = httpx.get(f"{url}/rank/ready", timeout=timeout_seconds)
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK


def end_process(process: "subprocess.Popen[bytes]", patience_seconds: float) -> None:
    """Ask a process to end; kill it where it does not."""
    process.terminate()
    try:
        process.wait(patience_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
