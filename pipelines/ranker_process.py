"""Starts the BentoML ranker beside the feed API, restarts it when it dies, ends it at the end."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic, sleep
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
    """Keep the ranker service running for the length of the block.

    It is started again where it dies; Unavailable where it does not start at all.
    """
    stopping = Event()
    process = _spawn(settings)

    def keep_alive() -> None:
        nonlocal process
        while not stopping.wait(_PAUSE_SECONDS):
            if process.poll() is not None and not stopping.is_set():
                _log.error("ranker_died", exit_code=process.returncode)
                process = _spawn(settings)

    try:
        _wait_ready(settings.ranker_url, process)
        Thread(target=keep_alive, name="ranker-supervisor", daemon=True).start()
        yield
    finally:
        stopping.set()
        end_process(process, _STOP_SECONDS)


def _wait_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = monotonic() + START_SECONDS
    while not ranker_ready(url):
        if process.poll() is not None or monotonic() > deadline:
            msg = f"the ranker service did not start at {url}"
            raise Unavailable(msg, hint="see its messages above; is the port free?")
        sleep(0.2)


def _spawn(settings: Settings) -> "subprocess.Popen[bytes]":
    address = urlsplit(settings.ranker_url)
    environment = {
        **os.environ,
        "HEADWATER_HOME": str(settings.home),
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
